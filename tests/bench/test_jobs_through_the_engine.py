"""A few jobs through the engine in virtual time, worked out by hand."""

from __future__ import annotations

import pytest

from bench.replay import Replay, cluster
from bench.traces import Job

ONE_NODE_EACH = {"a": 1, "b": 1}


def starts(jobs: list[tuple[int, int, int, str]], replay: Replay) -> list[int]:
    replay.run(Job(*each, number) for number, each in enumerate(jobs))
    return [replay.starts[number] for number in range(len(jobs))]


def test_lent_nodes_come_back_to_the_guarantee_first() -> None:
    jobs = [
        (0, 100, 8, "a"),
        (1, 100, 8, "a"),  # borrows the node of b
        (2, 100, 8, "b"),  # its guarantee is lent until the first job ends
        (3, 100, 8, "a"),  # whoever is below its guarantee goes first
    ]
    shared = Replay(cluster(ONE_NODE_EACH, borrowing=True))
    assert starts(jobs, shared) == [0, 1, 100, 101]
    assert shared.releases == len(jobs)
    apart = Replay(cluster(ONE_NODE_EACH, borrowing=False))
    assert starts(jobs, apart) == [0, 100, 2, 200]


def test_a_gang_starts_whole_or_not_at_all() -> None:
    jobs = [
        (0, 50, 1, "a"),
        (1, 20, 16, "a"),  # two nodes, one of which is free at once
        (2, 10, 8, "a"),  # may have it in the meantime
    ]
    replay = Replay(cluster({"a": 2}, borrowing=True))
    assert starts(jobs, replay) == [0, 50, 2]
    assert replay.releases == 4


def test_an_aged_gang_keeps_nodes_that_become_free() -> None:
    jobs = [
        (0, 50, 1, "a"),
        (1, 20, 16, "a"),
        (2, 10, 8, "a"),  # the free node is kept for the gang
    ]
    replay = Replay(cluster({"a": 2}, borrowing=True), patience=0)
    assert starts(jobs, replay) == [0, 50, 70]
    assert not any(node.taints for node in replay.engine.nodes.values())


def test_a_gang_within_its_guarantee_goes_before_an_older_one_that_borrows() -> None:
    jobs = [
        (0, 10, 16, "a"),
        (0, 10, 16, "b"),
        (1, 10, 24, "a"),  # three nodes, one of them borrowed
        (2, 10, 16, "b"),  # starts when all four become free
    ]
    replay = Replay(cluster({"a": 2, "b": 2}, borrowing=True), patience=0)
    assert starts(jobs, replay)[3] == 10


def test_a_gang_larger_than_its_tenant_may_hold_never_starts() -> None:
    replay = Replay(cluster(ONE_NODE_EACH, borrowing=False))
    with pytest.raises(ValueError, match="1 jobs never started"):
        starts([(0, 10, 16, "a")], replay)

from __future__ import annotations

from dataclasses import replace

import pytest

from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.fairshare import MILLION, ONE, Capacity, History
from sovereign_gpu.core.model import Resources, Share
from tests.core.build import engine, munich, node, pod, policy, put, tenant

ACME = tenant("acme", shares=(Share("munich", 0, borrowing_limit=8),))
HOUR = 3600.0


def half_borrowed() -> Engine:
    made = engine(node(), tenants=(ACME,))
    made.history.half_life = HOUR
    put(made, *(pod(1) for _ in range(4)))
    made.advance(0.0)
    return made


def test_the_average_comes_half_way_closer_with_every_half_life() -> None:
    made = half_borrowed()
    for hours, parts in ((1, 4), (2, 8), (3, 16)):
        made.advance(hours * HOUR)
        assert made.history.average["acme"] == pytest.approx(ONE / 2 - ONE / parts, abs=2)
    assert made.history.millionths("acme") == 437_500
    for uid in tuple(made.pods):
        made.remove_pod(uid)
    made.advance(4 * HOUR)
    assert made.history.average["acme"] == pytest.approx(ONE * 7 / 32, abs=2)


def test_how_often_it_looks_does_not_matter() -> None:
    once, often = half_borrowed(), half_borrowed()
    once.advance(HOUR)
    for second in range(0, 3601, 10):
        often.advance(float(second))
    assert often.history.average["acme"] == pytest.approx(once.history.average["acme"], rel=1e-6)


def test_a_clock_that_goes_backwards_changes_nothing() -> None:
    made = half_borrowed()
    made.advance(HOUR)
    before = dict(made.history.average)
    made.advance(0.5 * HOUR)
    made.advance(HOUR + 0.5)
    assert made.history.average == before


def test_what_was_stored_is_faded_and_taken_over_once() -> None:
    made = Engine(history=History(HOUR))
    made.advance(10 * HOUR)
    stored = replace(ACME, history=(400_000, 9 * HOUR))
    made.configure([munich()], [stored], [policy()])
    assert made.history.millionths("acme") == pytest.approx(200_000, abs=1)
    made.advance(11 * HOUR)
    made.configure([munich()], [stored], [policy()])
    assert made.history.millionths("acme") == pytest.approx(100_000, abs=1)
    made.configure([munich()], [], [policy()])
    assert not made.history.average


@pytest.mark.parametrize(
    ("stored", "expected"),
    [((2 * MILLION, 0.0), MILLION), ((0, 0.0), 0), ((500_000, 9e9), 500_000)],
)
def test_odd_stored_values_do_no_harm(stored: tuple[int, float], expected: int) -> None:
    history = History(HOUR)
    history.restore("acme", stored)
    assert history.millionths("acme") == expected
    history.advance(HOUR, (), lambda _: 0)
    history.restore("acme", (500_000, 9e9))
    assert history.millionths("acme") == 500_000


def test_capacity_follows_nodes_and_pools() -> None:
    capacity = Capacity()
    size = Resources(8, 100, 1000)
    capacity.put("n1", "munich", size)
    capacity.put("n2", "munich", size)
    capacity.put("n3", "munich", Resources(0, 100, 1000))  # a companion has no GPUs to share
    assert capacity.of == {"munich": Resources(16, 200, 2000)}
    capacity.put("n2", "paris", size)
    assert capacity.of == {"munich": size, "paris": size}
    assert capacity.total == Resources(16, 200, 2000)
    capacity.put("n1", "", Resources())
    capacity.put("n2", "", Resources())
    assert (capacity.of, capacity.total) == ({}, Resources())


def test_who_takes_over_goes_on_from_what_was_stored() -> None:
    stored = replace(ACME, history=(250_000, HOUR))
    made = engine(node(), tenants=(ACME,))
    made.history.half_life = HOUR
    made.advance(0.0)
    # The leader writes it into the status, which does not count as news while it stands by.
    made.tenants = {"acme": stored, "bolt": tenant("bolt")}
    made.resume()
    assert made.history.millionths("acme") == 250_000
    assert made.history.millionths("bolt") == 0

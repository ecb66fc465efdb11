"""What is sent for pods in violation, and how often."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sovereign_gpu import names
from sovereign_gpu.cluster.errors import ApiError, UncertainError
from sovereign_gpu.cluster.writer import Lane, Write
from sovereign_gpu.controller.drift import Drift
from sovereign_gpu.controller.events import Events
from sovereign_gpu.controller.evictions import Evictions
from sovereign_gpu.core.drift import Judge
from sovereign_gpu.core.model import Pod, Policy, Pool
from tests.core.build import engine, munich, node, pod, policy, tenant

EPOCH = 1_800_000_000.0
BLOCKED = ApiError(429, "would violate the budget")
BLOCKED.budget = True


def evicting(**fields: object) -> Policy:
    given: dict[str, object] = {"evicts": True, "grace": 0, "generation": 1, "confirmed": 1}
    return policy("eu", "DE", **{**given, **fields})


class Desk:
    """A `Drift` with pods abroad, and what it sent."""

    def __init__(self, guilty: int = 1) -> None:
        self.now, self.backlog = 0.0, 0
        self.sent: list[Write] = []
        self.engine = engine(
            node("abroad", pool="ohio", labels={names.REGION_LABEL: "us-1"}),
            pools=(munich(), Pool("ohio", "US", "us-1")),
            policies=(evicting(),),
            tenants=(tenant(),),
        )
        self.pods = [pod(0, gates=(), node="abroad", pool="ohio", cpu=1) for _ in range(guilty)]
        for each in self.pods:
            self.engine.put_pod(each)
        events = Events(self, "holder")  # type: ignore[arg-type]
        evictions = Evictions(self.engine, self, events, clock=lambda: self.now)  # type: ignore[arg-type]
        self.drift = Drift(Judge(self.engine), evictions, clock=lambda: self.now)

    def submit(self, write: Write) -> None:
        self.sent.append(write)

    def queued(self, lane: Lane) -> int:
        assert lane is Lane.STATE
        return self.backlog

    def look(self, seconds: float = 1.0) -> list[Write]:
        """Look after some seconds; return the notices and evictions sent."""
        self.now += seconds
        self.sent.clear()
        self.drift.look(EPOCH + self.now)
        return [write for write in self.sent if "/events" not in write.path]

    def told(self) -> list[str]:
        return [write.body["reason"] for write in self.sent if write.path.endswith("/events")]

    def show(self, each: Pod, text: str) -> None:
        self.engine.put_pod(replace(each, notice=text))
        self.drift.judge.pod(each.uid)

    def announced(self) -> None:
        """Let every pod carry the notice that it is sent."""
        while writes := self.look():
            for write in writes:
                write.done(None)
                (found,) = [each for each in self.pods if write.path.endswith(each.name)]
                self.show(found, write.body["metadata"]["annotations"][names.DRIFT_NOTICE])

    def policy(self, made: Policy) -> None:
        """Replace the policy."""
        self.engine.configure(self.engine.pools.values(), [tenant()], [made])
        self.drift.judge.everything()


def test_a_notice_is_written_once_and_told_when_it_is_accepted() -> None:
    desk = Desk()
    (write,) = desk.look()
    assert write.lane is Lane.STATE
    said = json.loads(write.body["metadata"]["annotations"][names.DRIFT_NOTICE])
    assert said["since"] == said["evictAfter"]
    assert desk.told() == []
    write.done(None)
    assert desk.told() == ["EvictionAnnounced"]
    assert desk.look() == []  # the watch is behind


@pytest.mark.parametrize("answer", [ApiError(409, "conflict"), UncertainError("no answer")])
def test_a_notice_that_was_not_accepted_is_sent_again(answer: ApiError | UncertainError) -> None:
    desk = Desk()
    (write,) = desk.look()
    write.done(answer)
    assert desk.told() == []
    assert desk.look() == []
    assert len(desk.look(10)) == 1


def test_a_notice_that_the_watch_never_shows_is_sent_again() -> None:
    desk = Desk()
    (write,) = desk.look()
    write.done(None)
    assert desk.look(28) == []
    assert len(desk.look(2)) == 1


def test_decisions_are_made_once_a_second_and_verdicts_at_once() -> None:
    desk = Desk()
    desk.look()
    more = pod(0, gates=(), node="abroad", pool="ohio", cpu=1)
    desk.engine.put_pod(more)
    desk.drift.judge.pod(more.uid)
    assert desk.look(0.5) == []
    assert desk.drift.judge.affected() == {"eu": 2}
    assert len(desk.look(0.5)) == 1


def test_many_notices_leave_the_writer_room_for_others() -> None:
    desk = Desk(guilty=100)
    desk.backlog = 60
    assert len(desk.look()) == 4
    desk.backlog = 64
    assert desk.look() == []


def test_a_withdrawal_is_told_and_until_it_is_shown_nobody_is_evicted() -> None:
    desk = Desk()
    desk.policy(policy("eu", "DE", "US"))
    desk.look()
    desk.look(61)  # the first minute without evictions is over
    desk.policy(evicting(grace=20))
    desk.announced()
    desk.policy(policy("eu", "DE", "US"))
    (write,) = desk.look()
    assert write.body["metadata"]["annotations"] == {names.DRIFT_NOTICE: None}
    desk.policy(evicting(grace=20))
    assert desk.look(25) == []
    write.done(None)
    assert desk.told() == ["EvictionWithdrawn"]
    desk.show(desk.pods[0], "")
    (again,) = desk.look()
    assert again.body["metadata"]["annotations"][names.DRIFT_NOTICE]


def test_evictions_begin_a_minute_after_the_start_and_keep_the_brake() -> None:
    desk = Desk(guilty=25)
    desk.announced()
    desk.now = 50.0
    assert desk.look() == []
    assert desk.drift.decision.held == {"eu": 25}
    writes = desk.look(15)
    assert len(writes) == 10
    assert all(write.path.endswith("/eviction") for write in writes)
    assert desk.look(30) == []
    assert len(desk.look(30)) == 10


def test_what_a_budget_blocks_does_not_keep_others_from_their_turn() -> None:
    desk = Desk(guilty=25)
    desk.announced()
    desk.now = 70.0
    seen = set()
    for _ in range(3):
        for write in desk.look():
            seen.add(write.path)
            write.done(BLOCKED)
    assert len(seen) == 25
    assert desk.drift.outcomes == {("eu", "blocked"): 25}
    assert desk.drift.evicted("eu") == 0


def test_an_unknown_answer_counts_against_the_brake_and_an_acceptance_for_the_policy() -> None:
    desk = Desk(guilty=11)
    desk.announced()
    desk.now = 70.0
    first, *others = desk.look()
    first.done(UncertainError("no answer"))
    for write in others:
        write.done(None)
    assert "EvictedForResidency" in desk.told()
    assert desk.look(3) == []
    assert desk.drift.evicted("eu") == 9
    assert desk.drift.outcomes["eu", "unknown"] == 1

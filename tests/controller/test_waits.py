"""A waiting pod is told why, once per reason: at once if waiting cannot help, else in seconds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sovereign_gpu.cluster.errors import ApiError
from sovereign_gpu.cluster.writer import Lane, Write
from sovereign_gpu.controller import waits as module
from sovereign_gpu.controller.waits import Waits
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import (
    Constraints,
    Namespace,
    Pod,
    Policy,
    Pool,
    Resources,
    Share,
    Tenant,
)
from sovereign_gpu.names import GATE

if TYPE_CHECKING:
    from collections.abc import Iterable

POOL = Pool("munich", "DE", "eu-de-muc")
POLICY = Policy("eu-only", frozenset({"DE"}))
ACME = Tenant("acme", ("acme",), ("eu-only",), (Share("munich", 1),))
"""Its pods of one GPU wait for a node (PoolFull); larger ones never fit."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Desk:
    """Queue and notices of an operator, and what it sent."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.sent: list[Write] = []
        self.backlog = 0
        self.engine = Engine()
        self.engine.put_namespace(Namespace("acme", tenant="acme"))
        self.waits = Waits(self.engine, self)  # type: ignore[arg-type]
        self.tenants([ACME])

    def tenants(self, tenants: Iterable[Tenant]) -> None:
        self.engine.configure([POOL], tenants, [POLICY])
        self.engine.plan(10)

    def submit(self, write: Write) -> None:
        self.sent.append(write)

    def queued(self, lane: Lane) -> int:
        assert lane is Lane.REPORT
        return self.backlog

    def pod(
        self,
        uid: str = "one",
        *,
        gpus: int = 1,
        message: str = "",
        gates: tuple[str, ...] = (),
    ) -> None:
        self.engine.put_pod(
            Pod(
                uid,
                "acme",
                uid,
                0.0,
                Resources(gpus=gpus),
                Constraints(),
                gates=(GATE, *gates),
                message=message,
            )
        )
        self.engine.plan(10)

    def after(self, seconds: float) -> list[str]:
        """Look after some time; return the messages sent."""
        self.clock.now += seconds
        self.sent.clear()
        self.waits.look()
        return self._messages()

    def hurry(self, *uids: str) -> list[str]:
        """Say that pods changed; return the messages sent."""
        self.sent.clear()
        self.waits.hurry(uids)
        return self._messages()

    def _messages(self) -> list[str]:
        return [write.body["status"]["conditions"][0]["message"] for write in self.sent]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return Desk(clock)


def test_a_reason_is_told_once_after_it_has_lasted(desk: Desk) -> None:
    desk.pod()
    assert desk.after(0) == []
    assert desk.after(1.4) == []
    (message,) = desk.after(0.2)
    assert message.startswith("PoolFull: ")
    assert desk.sent[0].path == "/api/v1/namespaces/acme/pods/one/status"
    assert desk.sent[0].body["metadata"] == {"uid": "one"}
    assert desk.after(600) == []


def test_another_reason_is_told_when_it_has_lasted_longer(desk: Desk) -> None:
    desk.pod()
    desk.after(0)
    desk.after(3)
    desk.tenants([])
    assert desk.after(0) == []
    assert desk.after(59) == []
    (message,) = desk.after(2)
    assert message.startswith("TenantQuotaMissing: ")


def test_a_reason_that_comes_and_goes_is_not_told(desk: Desk) -> None:
    desk.pod()
    desk.after(0)
    desk.after(3)
    for _ in range(5):
        desk.tenants([])
        assert desk.after(30) == []
        desk.tenants([ACME])
        assert desk.after(31) == []


def test_what_the_pod_shows_from_an_earlier_operator_is_not_told_again(desk: Desk) -> None:
    desk.pod(message="PoolFull: asks for 1 GPUs")
    assert [desk.after(10), desk.after(100)] == [[], []]


def test_kubernetes_own_message_is_no_reason_of_ours(desk: Desk) -> None:
    desk.pod(message="Scheduling is blocked due to non-empty scheduling gates")
    desk.after(0)
    assert len(desk.after(3)) == 1


def test_a_refused_notice_is_sent_again(desk: Desk) -> None:
    desk.pod()
    desk.after(0)
    desk.after(3)
    desk.sent[0].done(ApiError(409, "conflict"))
    assert len(desk.after(0)) == 1
    desk.sent[0].done(None)
    assert desk.after(100) == []


def test_the_answer_about_a_pod_that_is_gone_is_nobodys_business(desk: Desk) -> None:
    desk.pod()
    desk.after(0)
    desk.after(3)
    (write,) = desk.sent
    desk.engine.remove_pod("one")
    assert desk.after(0) == []
    write.done(ApiError(404, "not found"))
    assert desk.after(100) == []


def test_a_pod_that_is_held_by_the_gate_of_another_is_told_so(desk: Desk) -> None:
    desk.pod(gates=("example.com/data",))
    desk.after(0)
    (message,) = desk.after(3)
    assert message == "Held: waits for the scheduling gates of others: example.com/data"


def test_what_cannot_pass_by_itself_is_told_at_once(desk: Desk) -> None:
    desk.pod(gpus=9)
    desk.pod("two")
    (message,) = desk.hurry("one", "two", "unknown")
    assert message.startswith("NeverFits: ")
    assert desk.hurry("one") == []
    assert desk.after(0) == []


def test_a_missing_quota_is_told_at_once_too(desk: Desk) -> None:
    desk.tenants([])
    desk.pod()
    (message,) = desk.hurry("one")
    assert message.startswith("TenantQuotaMissing: ")


def test_a_pod_that_is_released_is_told_nothing(desk: Desk) -> None:
    desk.pod(gpus=9)
    desk.engine.put_pod(replace(desk.engine.pods["one"], gates=()))
    assert desk.hurry("one") == []


def test_notices_leave_room_for_other_writes(desk: Desk) -> None:
    for number in range(10):
        desk.pod(f"pod-{number}")
    desk.after(0)
    desk.backlog = 60
    assert len(desk.after(3)) == 4
    desk.backlog = 64
    assert desk.after(0) == []
    desk.backlog = 0
    assert len(desk.after(0)) == 6


def test_the_next_notices_follow_as_the_first_are_answered(desk: Desk) -> None:
    for number in range(100):
        desk.pod(f"pod-{number}")
    desk.after(0)
    assert len(desk.after(3)) == 64
    for write in desk.sent[:64]:
        write.done(None)
    assert len({write.key for write in desk.sent}) == 100


def test_what_cannot_pass_does_not_stand_behind_the_crowd(desk: Desk) -> None:
    for number in range(200):
        desk.pod(f"pod-{number}")
    desk.after(0)
    assert len(desk.after(3)) == 64
    answered = list(desk.sent)
    desk.backlog = 64
    desk.pod("huge", gpus=9)
    assert desk.hurry("huge") == []
    desk.backlog = 63
    answered[0].done(None)
    assert [write.key for write in desk.sent] == ["pod/huge"]
    desk.backlog = 64
    desk.pod("larger", gpus=9)
    assert desk.after(0) == []
    desk.backlog = 63
    answered[1].done(None)
    assert [write.key for write in desk.sent] == ["pod/larger"]


def test_what_was_released_meanwhile_is_left_out(desk: Desk) -> None:
    for number in range(65):
        desk.pod(f"pod-{number}")
    desk.after(0)
    desk.after(3)
    desk.engine.remove_pod("pod-64")
    desk.sent[0].done(None)
    assert len(desk.sent) == 64

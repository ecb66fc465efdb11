"""Evictions: by uid, through the subresource that budgets guard, and told to the owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from sovereign_gpu.cluster.backoff import Backoff
from sovereign_gpu.cluster.errors import ApiError, UncertainError
from sovereign_gpu.cluster.session import MERGE_PATCH, Api
from sovereign_gpu.cluster.writer import Writer
from sovereign_gpu.controller.events import Events
from sovereign_gpu.controller.evictions import Evictions, Outcome
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Constraints, Owner, Pod, Resources
from sovereign_gpu.names import DRIFT_NOTICE
from tests.contract.fake_api import Answer, FakeApi, Seen

POD = Pod(
    "uid-1",
    "acme",
    "train-0",
    0.0,
    Resources(gpus=1),
    Constraints(),
    node="n1",
    owner=Owner("batch/v1", "Job", "train", "job-uid"),
)
PATH = "/api/v1/namespaces/acme/pods/train-0"
BUDGET = Answer(status=429, message="would violate the budget", causes=("DisruptionBudget",))


class Desk:
    """Evictions on a clock that is set by hand, and what came of them."""

    def __init__(self, fake: FakeApi, writer: Writer) -> None:
        self.fake, self.writer, self.now = fake, writer, 1000.0
        self.engine = Engine()
        self.engine.put_pod(POD)
        events = Events(writer, "holder")
        self.evictions = Evictions(self.engine, writer, events, clock=lambda: self.now)
        self.outcomes: list[Outcome] = []
        self._changed = asyncio.Event()

    def evict(self, pod: Pod = POD) -> bool:
        return self.evictions.evict(pod, "Drifted", "ran abroad", self.done)

    def done(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def evicted(self, pod: Pod = POD) -> Outcome:
        count = len(self.outcomes)
        assert self.evict(pod)
        await self.until(lambda: len(self.outcomes) > count)
        return self.outcomes[-1]

    def sent(self, end: str) -> list[Seen]:
        return [seen for seen in self.fake.writes() if seen.path.endswith(end)]

    async def events(self, count: int) -> list[Seen]:
        await self.fake.until(lambda: len(self.sent("/events")) >= count)
        return self.sent("/events")


@pytest.fixture
async def desk(fake: FakeApi, api: Api) -> AsyncIterator[Desk]:
    writer = Writer(api, most=4, retry=Backoff(0.002, 0.02))
    yield Desk(fake, writer)
    await writer.close(0.0)


async def test_a_pod_is_evicted_by_its_uid_and_its_owner_is_told(desk: Desk) -> None:
    assert await desk.evicted() is Outcome.GONE
    (seen,) = desk.sent("/eviction")
    assert (seen.method, seen.path) == ("POST", f"{PATH}/eviction")
    assert (seen.body["apiVersion"], seen.body["kind"]) == ("policy/v1", "Eviction")
    assert seen.body["metadata"] == {"name": "train-0", "namespace": "acme"}
    assert seen.body["deleteOptions"] == {"preconditions": {"uid": "uid-1"}}
    (event,) = await desk.events(1)
    assert event.path == "/api/v1/namespaces/acme/events"
    assert event.body["involvedObject"] == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": "train",
        "uid": "job-uid",
        "namespace": "acme",
    }
    assert (event.body["type"], event.body["reason"]) == ("Warning", "Drifted")
    assert event.body["message"] == "ran abroad"


async def test_a_disruption_budget_blocks_and_slows_nobody_else_down(desk: Desk) -> None:
    desk.fake.answers["POST", PATH].append(BUDGET)
    assert await desk.evicted() is Outcome.BLOCKED
    assert desk.writer.counters.throttled == 0
    assert desk.writer.limit == 4
    assert desk.writer.retrying == 0
    assert desk.sent("/events") == []


async def test_429_of_an_overloaded_server_is_not_taken_for_a_budget(desk: Desk) -> None:
    desk.fake.answers["POST", PATH].append(Answer(status=429))
    assert await desk.evicted() is Outcome.GONE
    assert desk.writer.counters.throttled == 1
    assert len(desk.sent("/eviction")) == 2


async def test_what_was_not_evicted_is_tried_again_later_and_later(desk: Desk) -> None:
    desk.fake.answers["POST", PATH].extend([BUDGET] * 4)
    for pause in (5.0, 10.0, 20.0, 40.0):
        assert await desk.evicted() is Outcome.BLOCKED
        desk.now += pause - 0.1
        assert not desk.evict()
        desk.now += 0.1
    assert await desk.evicted() is Outcome.GONE


async def test_an_eviction_that_is_not_wanted_any_more_is_not_sent(desk: Desk) -> None:
    assert desk.evictions.evict(POD, "Drifted", "ran abroad", desk.done, lambda: False)
    await desk.until(lambda: desk.outcomes == [Outcome.REFUSED])
    assert desk.fake.writes() == []


async def test_one_pod_is_asked_about_once_at_a_time(desk: Desk) -> None:
    gate = asyncio.Event()
    desk.fake.answers["POST", PATH].append(Answer(until=gate))
    assert desk.evict()
    desk.now += 3600
    assert not desk.evict()
    gate.set()
    await desk.until(lambda: desk.outcomes == [Outcome.GONE])


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(status=404), Outcome.GONE),
        (Answer(status=409, message="Precondition failed: UID in precondition"), Outcome.GONE),
        (Answer(status=409, message="the object has been modified"), Outcome.REFUSED),
        (Answer(status=403, causes=("Other",)), Outcome.REFUSED),
        (Answer(status=500, message="more than one PodDisruptionBudget"), Outcome.UNKNOWN),
        (Answer(cut=True), Outcome.UNKNOWN),
    ],
)
async def test_every_answer_has_one_meaning(desk: Desk, answer: Answer, outcome: Outcome) -> None:
    desk.fake.answers["POST", PATH].append(answer)
    assert await desk.evicted() is outcome
    assert len(desk.sent("/eviction")) == 1
    assert desk.sent("/events") == []


async def test_a_pod_that_is_gone_is_forgotten(desk: Desk) -> None:
    desk.fake.answers["POST", PATH].append(BUDGET)
    await desk.evicted()
    desk.engine.remove_pod("uid-1")
    desk.now += 61
    assert await desk.evicted(replace(POD, uid="uid-2", name="train-1")) is Outcome.GONE
    desk.engine.put_pod(POD)
    desk.fake.answers["POST", PATH].extend([BUDGET] * 2)
    await desk.evicted()
    desk.now += 5  # as long as after a first time
    assert await desk.evicted() is Outcome.BLOCKED


class TestNews:
    """Whom it is told, and how often."""

    async def test_an_owner_of_many_pods_hears_one_thing_once_a_minute(self, desk: Desk) -> None:
        for number in range(5):
            desk.evictions.tell(replace(POD, uid=f"p{number}"), "Announced", f"pod {number}")
        desk.evictions.tell(POD, "Other", "else")
        desk.now += 60
        desk.evictions.tell(POD, "Announced", "again")
        told = await desk.events(3)
        assert sorted(seen.body["message"] for seen in told) == ["again", "else", "pod 0"]

    @pytest.mark.parametrize("owner", [None, Owner("v1", "Node", "n1", "node-uid")])
    async def test_a_pod_without_an_owner_in_its_namespace_hears_it_itself(
        self, desk: Desk, owner: Owner | None
    ) -> None:
        desk.evictions.tell(replace(POD, owner=owner), "Announced", "soon")
        (seen,) = await desk.events(1)
        assert seen.body["involvedObject"]["kind"] == "Pod"
        assert seen.body["involvedObject"]["uid"] == "uid-1"
        assert seen.path == "/api/v1/namespaces/acme/events"

    async def test_the_name_of_an_event_is_valid_however_long_the_owners(self, desk: Desk) -> None:
        owner = Owner("v1", "ReplicationController", "x" * 219 + "-" + "y" * 33, "rc")
        desk.evictions.tell(replace(POD, owner=owner), "Announced", "m" * 2000)
        (seen,) = await desk.events(1)
        assert len(seen.body["metadata"]["name"]) <= 253
        assert "-." not in seen.body["metadata"]["name"]
        assert len(seen.body["message"]) == 1024


async def test_an_annotation_is_set_and_removed_by_uid(desk: Desk) -> None:
    answers: list[ApiError | UncertainError | None] = []
    desk.evictions.annotate(POD, DRIFT_NOTICE, "{}", answers.append)
    await desk.fake.until(lambda: len(desk.sent("train-0")) == 1)
    desk.evictions.annotate(POD, DRIFT_NOTICE, None, answers.append)
    await desk.fake.until(lambda: len(desk.sent("train-0")) == 2)
    assert [seen.body["metadata"] for seen in desk.sent("train-0")] == [
        {"annotations": {DRIFT_NOTICE: "{}"}, "uid": "uid-1"},
        {"annotations": {DRIFT_NOTICE: None}, "uid": "uid-1"},
    ]
    assert {seen.headers["Content-Type"] for seen in desk.sent("train-0")} == {MERGE_PATCH}

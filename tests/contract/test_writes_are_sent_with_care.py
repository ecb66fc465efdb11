"""The writer: how much at once, in which order, and what an answer means."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from sovereign_gpu.cluster.errors import ApiError, UnwantedError
from sovereign_gpu.cluster.session import JSON_PATCH, METADATA_ONLY, Api
from sovereign_gpu.cluster.writer import Lane, Writer
from tests.contract.fake_api import Answer, FakeApi, Seen
from tests.contract.writing import QUICK, Desk


async def test_a_write_is_sent_and_its_acceptance_told(desk: Desk) -> None:
    desk.submit("a", [1])
    await desk.answered(1)
    assert desk.done == [("a", None)]
    (seen,) = desk.fake.writes()
    assert (seen.method, seen.path, seen.body) == ("PATCH", "/pods/a", [1])
    assert seen.headers["Content-Type"] == JSON_PATCH
    assert seen.headers["Accept"] == METADATA_ONLY
    assert desk.writer.counters.accepted == {"state": 1}


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
async def test_a_refusal_is_told_and_not_tried_again(desk: Desk, status: int) -> None:
    desk.fake.answers["PATCH", "/pods"].append(Answer(status=status))
    desk.submit("a", lane=Lane.RELEASE, persist=True)
    await desk.answered(1)
    (_, outcome) = desk.done[0]
    assert isinstance(outcome, ApiError)
    assert outcome.status == status
    assert len(desk.fake.writes()) == 1
    assert desk.writer.counters.refused == {"release": 1}


async def test_no_more_than_allowed_is_in_flight(desk: Desk, gate: asyncio.Event) -> None:
    for i in range(20):
        desk.submit(f"o{i}")
    await desk.fake.until(lambda: desk.fake.open_writes == 4)
    assert (desk.writer.in_flight, desk.writer.queued(Lane.STATE)) == (4, 16)
    gate.set()
    await desk.answered(20)
    assert desk.fake.most_open_writes == 4


async def test_what_is_not_wanted_any_more_is_not_sent(desk: Desk) -> None:
    wanted = [True, False]
    desk.fake.answers["PATCH", "/pods"].append(Answer(status=429))
    desk.submit("a", wanted=lambda: wanted.pop(0))
    await desk.answered(1)
    assert isinstance(desk.done[0][1], UnwantedError)
    assert len(desk.fake.writes()) == 1
    assert desk.writer.counters.refused == {}
    desk.submit("a")
    await desk.answered(2)
    assert desk.done[1] == ("a", None)


class TestOrder:
    """Per object one after the other, over objects the important first."""

    async def test_two_writes_of_one_object_never_overlap(
        self, desk: Desk, gate: asyncio.Event
    ) -> None:
        desk.submit("a", "first", lane=Lane.RELEASE)
        await desk.fake.until(lambda: desk.fake.open_writes == 1)
        desk.submit("a", "second")
        desk.submit("b", "other")
        await desk.fake.until(lambda: desk.fake.open_writes == 2)
        assert desk.sent() == ["first", "other"]
        gate.set()
        await desk.answered(3)
        assert desk.sent() == ["first", "other", "second"]

    async def test_the_next_write_of_an_object_waits_for_what_is_done_with_the_answer(
        self, desk: Desk
    ) -> None:
        looked = asyncio.Event()

        async def look() -> None:
            await looked.wait()

        desk.submit("a", "first", then=look)
        await desk.answered(1)
        desk.submit("a", "second")
        desk.submit("b", "other")
        await desk.answered(2)
        assert desk.sent() == ["first", "other"]
        looked.set()
        await desk.answered(3)

    async def test_what_is_done_with_answers_takes_nobodys_place(self, desk: Desk) -> None:
        never = asyncio.Event()

        async def hang() -> None:
            await never.wait()

        for i in range(8):
            desk.submit(f"h{i}", then=hang)
        desk.submit("z")
        await desk.answered(9)
        assert desk.done[-1] == ("z", None)

    async def test_a_queued_write_is_replaced_by_a_newer_one(
        self, desk: Desk, gate: asyncio.Event
    ) -> None:
        desk.submit("a", 1)
        await desk.fake.until(lambda: desk.fake.open_writes == 1)
        for i in range(2, 6):
            desk.submit("a", i)
        gate.set()
        await desk.answered(2)
        assert desk.sent() == [1, 5]
        assert desk.writer.queued(Lane.STATE) == 0

    async def test_releases_go_first(self, desk: Desk, gate: asyncio.Event) -> None:
        for i in range(4):
            desk.submit(f"s{i}")
        await desk.fake.until(lambda: desk.fake.open_writes == 4)
        desk.submit("report", lane=Lane.REPORT)
        desk.submit("state", lane=Lane.STATE)
        desk.submit("release", lane=Lane.RELEASE)
        gate.set()
        await desk.answered(7)
        assert desk.sent()[4:] == ["release", "state", "report"]

    async def test_a_burst_of_releases_lets_labels_and_status_through(self, desk: Desk) -> None:
        for i in range(64):
            desk.submit(f"r{i}", lane=Lane.RELEASE)
        desk.submit("state", lane=Lane.STATE)
        desk.submit("report", lane=Lane.REPORT)
        await desk.answered(66)
        assert desk.sent().index("state") < 20
        assert desk.sent().index("report") < 40

    async def test_reports_leave_half_of_the_places_free(
        self, desk: Desk, gate: asyncio.Event
    ) -> None:
        for i in range(8):
            desk.submit(f"r{i}", lane=Lane.REPORT)
        await desk.fake.until(lambda: desk.fake.open_writes == 2)
        desk.submit("release", lane=Lane.RELEASE)
        await desk.fake.until(lambda: desk.fake.open_writes == 3)
        assert desk.sent()[-1] == "release"
        gate.set()
        await desk.answered(9)

    async def test_a_release_silences_what_was_still_to_be_said_about_its_pod(
        self, desk: Desk, gate: asyncio.Event
    ) -> None:
        desk.submit("p", "why it waits", lane=Lane.REPORT)
        await desk.fake.until(lambda: desk.fake.open_writes == 1)
        desk.submit("p", "why it waits now", lane=Lane.REPORT)
        desk.submit("p", "go", lane=Lane.RELEASE)
        gate.set()
        await desk.until(lambda: len(desk.done) == 2 and desk.writer.in_flight == 0)
        assert desk.sent() == ["why it waits", "go"]


async def test_nothing_is_sent_while_it_is_not_allowed(fake: FakeApi, api: Api) -> None:
    leading = True
    desk = Desk(fake, Writer(api, most=1, retry=QUICK, allowed=lambda: leading))
    gate = asyncio.Event()
    fake.always = lambda _: Answer(until=gate)
    for i in range(5):
        desk.submit(f"o{i}")
    await fake.until(lambda: fake.open_writes == 1)
    leading = False
    gate.set()
    await desk.answered(1)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(desk.sent()) == 1
    await desk.writer.close(0.0)


async def test_a_mistake_in_handling_an_answer_is_logged_and_stops_nothing(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise ValueError("a mistake of ours")

    desk.submit("a", then=fail)
    await desk.answered(1)
    desk.submit("a")
    await desk.answered(2)
    assert "a mistake of ours" in caplog.text


@pytest.mark.parametrize("seed", range(5))
async def test_every_write_of_a_long_mixed_day_ends_once(
    fake: FakeApi, api: Api, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sovereign_gpu.cluster.writer._STORM", 0.005)
    chance = random.Random(seed)  # noqa: S311
    bad = [Answer(status=500), Answer(cut=True), Answer(status=429), Answer(status=422)]

    def judge(_: Seen) -> Answer | None:
        return chance.choice(bad) if chance.random() < 0.3 else None

    fake.always = judge
    desk = Desk(fake, Writer(api, most=chance.randrange(1, 9), retry=QUICK))
    keys = [f"k{i}" for i in range(60)]
    for key in keys:
        desk.submit(key, lane=chance.choice(list(Lane)), persist=True)
        if chance.random() < 0.2:
            await asyncio.sleep(0)
    await desk.answered(60)
    assert Counter(key for key, _ in desk.done) == Counter(keys)
    assert fake.most_open_writes <= 8
    assert await desk.writer.close(1.0)

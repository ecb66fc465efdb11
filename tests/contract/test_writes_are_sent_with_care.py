"""The writer: how much at once, in which order, and what an answer means."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sovereign_gpu.cluster.backoff import Backoff
from sovereign_gpu.cluster.errors import ApiError, UncertainError, UnwantedError
from sovereign_gpu.cluster.session import JSON_PATCH, METADATA_ONLY, Api
from sovereign_gpu.cluster.writer import Lane, Write, Writer
from tests.contract.fake_api import Answer, FakeApi, Seen

QUICK = Backoff(0.002, 0.02)
Outcome = ApiError | UncertainError | None


class Desk:
    """Submits writes and collects what becomes of them."""

    def __init__(self, fake: FakeApi, writer: Writer) -> None:
        self.fake = fake
        self.writer = writer
        self.done: list[tuple[str, Outcome]] = []
        self._changed = asyncio.Event()

    def submit(
        self,
        key: str,
        body: Any = None,
        *,
        lane: Lane = Lane.STATE,
        then: Callable[[], Awaitable[None]] | None = None,
        **more: Any,
    ) -> None:
        def note(outcome: Outcome) -> Awaitable[None] | None:
            self.done.append((key, outcome))
            self._changed.set()
            return then() if then else None

        self.writer.submit(
            Write(lane, key, "PATCH", f"/pods/{key}", body or key, JSON_PATCH, note, **more)
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def answered(self, count: int) -> None:
        await self.until(lambda: len(self.done) >= count)

    def sent(self) -> list[Any]:
        return [seen.body for seen in self.fake.writes()]


@pytest.fixture
async def desk(fake: FakeApi, api: Api) -> AsyncIterator[Desk]:
    writer = Writer(api, most=4, retry=QUICK)
    yield Desk(fake, writer)
    await writer.close(0.0)


@pytest.fixture
def gate(fake: FakeApi) -> asyncio.Event:
    """Writes wait for it."""
    event = asyncio.Event()
    fake.always = lambda seen: None if seen.method == "GET" else Answer(until=event)
    return event


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


class TestUnknownAnswers:
    """A release may have landed, so it is sent until somebody says what became of it."""

    @pytest.mark.parametrize(
        "bad", [Answer(status=500), Answer(cut=True), Answer(cut=True, applied=True)]
    )
    async def test_a_release_is_sent_again_until_answered(self, desk: Desk, bad: Answer) -> None:
        desk.fake.answers["PATCH", "/pods"].extend([bad] * 5)
        desk.submit("a", lane=Lane.RELEASE, persist=True)
        await desk.answered(1)
        assert desk.done == [("a", None)]
        assert desk.sent() == ["a"] * 6
        assert desk.writer.counters.unknown == {"release": 5}

    async def test_a_release_that_had_landed_ends_with_the_refusal(self, desk: Desk) -> None:
        desk.fake.answers["PATCH", "/pods"].extend([Answer(cut=True), Answer(status=422)])
        desk.submit("a", lane=Lane.RELEASE, persist=True)
        await desk.answered(1)
        assert isinstance(desk.done[0][1], ApiError)

    async def test_a_late_answer_is_no_answer(self, desk: Desk) -> None:
        never = asyncio.Event()
        desk.fake.answers["PATCH", "/pods"].append(Answer(until=never))
        desk.submit("a", lane=Lane.RELEASE, persist=True, timeout=0.05)
        await desk.answered(1)
        assert desk.sent() == ["a", "a"]
        never.set()

    async def test_other_writes_are_given_up(self, desk: Desk) -> None:
        desk.fake.answers["PATCH", "/pods"].append(Answer(status=503))
        desk.submit("a")
        await desk.answered(1)
        assert isinstance(desk.done[0][1], UncertainError)
        assert desk.sent() == ["a"]

    async def test_a_surprise_while_sending_is_an_unknown_answer(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        request = desk.writer._api.request  # noqa: SLF001
        tries = itertools.count()

        async def surprising(*arguments: Any, **more: Any) -> bytes:
            if next(tries) == 0:
                raise RuntimeError("session is closed")
            return await request(*arguments, **more)

        monkeypatch.setattr(desk.writer._api, "request", surprising)  # noqa: SLF001
        desk.submit("a", lane=Lane.RELEASE, persist=True)
        await desk.answered(1)
        assert desk.done == [("a", None)]
        assert "session is closed" in caplog.text

    async def test_one_object_nobody_can_write_does_not_stop_the_others(self, desk: Desk) -> None:
        desk.fake.always = lambda seen: (
            Answer(status=500) if seen.path.startswith("/pods/bad") else None
        )
        for i in range(6):
            desk.submit(f"bad{i}", lane=Lane.RELEASE, persist=True)
        for i in range(200):
            desk.submit(f"good{i}", lane=Lane.RELEASE, persist=True)
        await desk.answered(200)
        assert desk.writer.limit >= 2
        assert desk.writer.in_flight + desk.writer.retrying == 6
        desk.fake.always = lambda _: None
        await desk.answered(206)

    async def test_retries_that_hang_leave_half_of_the_places_to_others(self, desk: Desk) -> None:
        hang = asyncio.Event()
        tried: Counter[str] = Counter()

        def judge(seen: Seen) -> Answer | None:
            tried[seen.path] += 1
            if not seen.path.startswith("/pods/bad"):
                return None
            return Answer(status=500) if tried[seen.path] == 1 else Answer(until=hang)

        desk.fake.always = judge
        for i in range(4):
            desk.submit(f"bad{i}", lane=Lane.RELEASE, persist=True)
        for i in range(40):
            desk.submit(f"good{i}", lane=Lane.RELEASE, persist=True)
        await desk.answered(40)
        hang.set()
        await desk.answered(44)

    async def test_a_storm_raises_neither_what_is_in_flight_nor_is_anything_lost(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sovereign_gpu.cluster.writer._STORM", 0.005)
        storm = [Answer(status=500), Answer(cut=True), Answer(status=503), Answer(status=429)]
        answers = itertools.cycle(storm)
        desk.fake.always = lambda _: next(answers)
        for i in range(40):
            desk.submit(f"o{i}", lane=Lane.RELEASE, persist=True)
        await desk.fake.until(lambda: len(desk.fake.writes()) > 100)
        assert desk.done == []
        desk.fake.always = lambda _: None
        await desk.answered(40)
        assert desk.fake.most_open_writes <= 4
        assert {key for key, outcome in desk.done if outcome is None} == {
            f"o{i}" for i in range(40)
        }

    async def test_in_a_storm_few_new_writes_are_tried(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sovereign_gpu.cluster.writer._STORM", 0.05)
        desk.fake.always = lambda _: Answer(status=500)
        for i in range(40):
            desk.submit(f"o{i}", lane=Lane.RELEASE, persist=True)
        await desk.fake.until(lambda: len(desk.fake.writes()) > 30)
        assert len(set(desk.sent())) < 25
        assert desk.writer.limit <= 2


class TestThrottling:
    """The server says when it is too much."""

    async def test_every_write_is_sent_again_after_429(self, desk: Desk) -> None:
        desk.fake.answers["PATCH", "/pods"].extend([Answer(status=429)] * 3)
        desk.submit("a", lane=Lane.REPORT)
        await desk.answered(1)
        assert desk.done == [("a", None)]
        assert desk.sent() == ["a"] * 4
        assert desk.writer.counters.throttled == 3
        assert desk.writer.counters.refused == {}

    async def test_a_newer_write_takes_the_place_of_a_throttled_one(self, desk: Desk) -> None:
        gate = asyncio.Event()
        desk.fake.answers["PATCH", "/pods"].append(Answer(status=429, until=gate))
        desk.submit("a", "old")
        await desk.fake.until(lambda: desk.fake.open_writes == 1)
        desk.submit("a", "new")
        gate.set()
        await desk.answered(1)
        assert desk.sent() == ["old", "new"]
        assert desk.writer.in_flight == desk.writer.retrying == 0

    async def test_the_limit_halves_once_per_overload_and_grows_with_success(
        self, desk: Desk
    ) -> None:
        desk.fake.answers["PATCH", "/pods"].extend([Answer(status=429)] * 4)
        for i in range(4):
            desk.submit(f"a{i}")
        await desk.until(lambda: len(desk.done) == 4)
        assert 2.0 <= desk.writer.limit < 4
        for i in range(30):
            desk.submit(f"b{i}")
        await desk.answered(34)
        assert desk.writer.limit == 4

    async def test_many_answers_to_one_overload_are_one_sign_of_it(
        self, fake: FakeApi, api: Api
    ) -> None:
        desk = Desk(fake, Writer(api, most=32, retry=QUICK))
        fake.answers["PATCH", "/pods"].extend([Answer(status=429)] * 32)
        for i in range(32):
            desk.submit(f"a{i}")
        await desk.answered(32)
        assert desk.writer.counters.throttled == 32
        assert desk.writer.limit >= 16
        await desk.writer.close(0.0)

    async def test_all_writes_pause_for_as_long_as_the_server_asks(
        self, fake: FakeApi, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sovereign_gpu.cluster.writer._MOST_PAUSE", 0.05)
        desk = Desk(fake, Writer(api, most=1, retry=QUICK))
        fake.answers["PATCH", "/pods"].append(Answer(status=429, headers={"Retry-After": "60"}))
        loop = asyncio.get_running_loop()
        arrived: dict[str, float] = {}

        def note(seen: Seen) -> None:
            arrived.setdefault(f"{len(fake.writes())}{seen.body}", loop.time())

        fake.always = note
        desk.submit("a")
        desk.submit("b")
        await desk.answered(2)
        first, *later = arrived.values()
        assert min(later) - first >= 0.05
        await desk.writer.close(0.0)


class TestEnding:
    """What is in flight ends; nothing is sent afterwards."""

    async def test_writes_in_flight_end_and_queued_ones_are_dropped(
        self, desk: Desk, gate: asyncio.Event
    ) -> None:
        for i in range(10):
            desk.submit(f"o{i}", lane=Lane.RELEASE, persist=True)
        await desk.fake.until(lambda: desk.fake.open_writes == 4)
        closing = asyncio.create_task(desk.writer.close(10.0))
        await asyncio.sleep(0)
        assert not closing.done()
        desk.submit("late")
        gate.set()
        assert await closing
        assert [outcome for _, outcome in desk.done] == [None] * 4
        assert len(desk.sent()) == 4

    async def test_nothing_is_sent_after_it(self, desk: Desk) -> None:
        desk.fake.always = lambda _: Answer(status=429, headers={"Retry-After": "0"})
        for i in range(8):
            desk.submit(f"o{i}", lane=Lane.RELEASE, persist=True)
        await desk.fake.until(lambda: len(desk.fake.writes()) > 20)
        assert await desk.writer.close(10.0)  # 429 means that nothing was written
        sent = len(desk.sent())
        desk.submit("more")
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(desk.sent()) == sent
        assert desk.writer.in_flight == desk.writer.retrying == 0

    async def test_a_release_without_an_answer_is_reported(self, desk: Desk) -> None:
        desk.fake.always = lambda _: Answer(cut=True)
        desk.submit("a", lane=Lane.RELEASE, persist=True)
        await desk.fake.until(lambda: len(desk.fake.writes()) > 2)
        assert not await desk.writer.close(10.0)

    async def test_a_release_that_waits_for_its_next_try_is_reported(
        self, fake: FakeApi, api: Api
    ) -> None:
        desk = Desk(fake, Writer(api, retry=Backoff(3600.0, 3600.0)))
        fake.always = lambda _: Answer(cut=True, applied=True)
        desk.submit("a", lane=Lane.RELEASE, persist=True)
        await fake.until(lambda: len(fake.writes()) == 1)
        async with asyncio.timeout(10):
            while not desk.writer.retrying:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert not await desk.writer.close(10.0)

    async def test_a_release_whose_last_try_gets_no_answer_is_reported(
        self, desk: Desk, gate: asyncio.Event
    ) -> None:
        desk.submit("a", lane=Lane.RELEASE, persist=True, timeout=0.1)
        await desk.fake.until(lambda: desk.fake.open_writes == 1)
        assert not await desk.writer.close(10.0)
        gate.set()

    async def test_a_release_in_flight_after_the_grace_is_reported(
        self, desk: Desk, gate: asyncio.Event
    ) -> None:
        desk.submit("a", lane=Lane.RELEASE, persist=True)
        desk.submit("b", lane=Lane.REPORT)
        await desk.fake.until(lambda: desk.fake.open_writes == 2)
        assert not await desk.writer.close(0.01)
        gate.set()

    async def test_a_report_in_flight_after_the_grace_matters_to_nobody(
        self, desk: Desk, gate: asyncio.Event
    ) -> None:
        desk.submit("b", lane=Lane.REPORT)
        await desk.fake.until(lambda: desk.fake.open_writes == 1)
        assert await desk.writer.close(0.01)
        gate.set()

    async def test_an_idle_writer_ends_at_once(self, desk: Desk) -> None:
        assert await desk.writer.close(10.0)


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

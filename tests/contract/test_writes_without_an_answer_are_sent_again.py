"""Writes without an answer: which are sent again, and what that leaves to the others."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import Any

import pytest

from sovereign_gpu.cluster.errors import ApiError, UncertainError
from sovereign_gpu.cluster.writer import Lane
from tests.contract.fake_api import Answer, Seen
from tests.contract.writing import Desk


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

"""The server says when it is too much; the writer slows down and loses nothing."""

from __future__ import annotations

import asyncio

import pytest

from sovereign_gpu.cluster.session import Api
from sovereign_gpu.cluster.writer import Lane, Writer
from tests.contract.fake_api import Answer, FakeApi, Seen
from tests.contract.writing import QUICK, Desk


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

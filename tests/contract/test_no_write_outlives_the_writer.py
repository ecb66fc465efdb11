"""At the end writes in flight are waited for, none is sent afterwards, and the doubt is told."""

from __future__ import annotations

import asyncio

from sovereign_gpu.cluster.backoff import Backoff
from sovereign_gpu.cluster.session import Api
from sovereign_gpu.cluster.writer import Lane, Writer
from tests.contract.fake_api import Answer, FakeApi
from tests.contract.writing import Desk


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

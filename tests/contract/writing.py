"""A writer to the fake API server, and what became of what it was given."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sovereign_gpu.cluster.backoff import Backoff
from sovereign_gpu.cluster.errors import ApiError, UncertainError
from sovereign_gpu.cluster.session import JSON_PATCH
from sovereign_gpu.cluster.writer import Lane, Write, Writer
from tests.contract.fake_api import FakeApi

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

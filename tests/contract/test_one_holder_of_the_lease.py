"""At no moment do two processes believe that they may write."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

import pytest

from sovereign_gpu.cluster.errors import ApiError, UncertainError
from sovereign_gpu.cluster.lease import Lease, LeaseLostError
from tests.contract.leases import MemoryApi, lease, now
from tests.contract.virtual_time import run


class BadDay:
    """Several processes that live, hang, die and come back, at an API server that fails often."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311
        # Either durations differ, or the lease is deleted at times: a newcomer cannot know how
        # long a lease was that it never saw.
        self._durations = (15.0,) if seed % 2 else (5.0, 15.0, 30.0)
        self._deletes = bool(seed % 2)
        self.leases: list[Lease] = []
        self.terms: list[str] = []
        self.api = MemoryApi()
        self.api.fault = self._fault
        self.api.before = self.api.after = self._latency

    def _fault(self, _: str) -> Exception | None:
        faults = [UncertainError("cut"), ApiError(403, "x"), ApiError(429, "x")]
        return self._chance.choice(faults) if self._chance.random() < 0.25 else None

    def _latency(self) -> float:
        return self._chance.choice([0.0, 0.01, 0.01, 0.5, 3.0, 4.9, 20.0])

    async def _live(self, name: str) -> None:
        for life in range(1000):
            mine = lease(self.api, f"{name}{life}", self._chance.choice(self._durations))
            self.leases.append(mine)
            await mine.acquire()
            self.terms.append(mine.token)
            with contextlib.suppress(TimeoutError, LeaseLostError):
                async with asyncio.timeout(self._chance.uniform(1, 200)):
                    await mine.hold()
            if self._chance.random() < 0.5:
                await mine.give_back()
            # Else it is killed, and counts as writing on until its own time is over.

    async def pass_by(self, steps: int) -> None:
        lives = [asyncio.create_task(self._live(name)) for name in "abc"]
        deleted = now()
        for _ in range(steps):
            await asyncio.sleep(self._chance.uniform(0.0, 0.4))
            assert sum(each.valid for each in self.leases[-20:]) <= 1
            self.api.lands = self._chance.random() < 0.5
            if self._deletes and now() > deleted + 100 and self._chance.random() < 0.003:
                self.api.stored, deleted = None, now()
        for task in lives:
            assert not task.done()
            task.cancel()


@pytest.mark.parametrize("seed", range(12))
def test_of_many_contenders_on_a_bad_day_one_at_most_is_valid(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    random.seed(seed)  # the jitter
    day = BadDay(seed)
    run(day.pass_by(20_000))
    assert len(day.terms) > 10
    assert len(set(day.terms)) == len(day.terms)

"""Pods on the fake API server, an informer of them, and what it should know."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sovereign_gpu.cluster import decode, wire
from sovereign_gpu.cluster.backoff import Backoff
from sovereign_gpu.cluster.informer import Informer
from sovereign_gpu.cluster.kinds import PODS
from sovereign_gpu.cluster.session import Api
from sovereign_gpu.cluster.store import Store
from sovereign_gpu.core.model import Pod
from tests.cluster.pods import pod
from tests.contract.fake_api import FakeApi

PATH = PODS.path
QUICK = Backoff(0.001, 0.01)


def fill(fake: FakeApi, count: int, *, start: int = 0) -> None:
    """Put waiting pods on the server."""
    for i in range(start, start + count):
        fake.put(PATH, f"p{i}", pod(f"p{i}"))


async def watching(fake: FakeApi, number: int = 1) -> None:
    """Wait until pods were asked to be watched that many times and are watched."""
    await fake.until(lambda: len(fake.watches) > 0 and len(fake.watched(PATH)) >= number)


@dataclass(slots=True)
class Follower:
    """A running informer with a reader that takes the changes, as the controller does."""

    fake: FakeApi
    store: Store[Pod]
    informer: Informer[Pod]
    wake: asyncio.Event
    known: dict[str, Pod] = field(default_factory=dict)
    """What a reader of the changes alone believes."""

    def drain(self, limit: int = 1000) -> None:
        """Take changes in."""
        for key, item in self.store.drain(limit).items():
            if item is None:
                self.known.pop(key, None)  # it may have come and gone between two looks
            else:
                self.known[key] = item

    def truth(self) -> dict[str, Pod]:
        """Return the unfinished pods of the server."""
        found = self.fake.objects[PATH].values()
        return {
            item["metadata"]["uid"]: decode.pod(wire.POD.validate_python(item))
            for item in found
            if item["status"]["phase"] not in decode.TERMINAL
        }

    def equal(self) -> bool:
        """Whether store and reader agree with the server."""
        self.drain()
        truth = self.truth()
        return self.known == truth and {k: self.store.get(k) for k in truth} == truth

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until a condition on store or informer holds."""
        async with asyncio.timeout(seconds):
            while not condition():
                self.wake.clear()
                with contextlib.suppress(TimeoutError):
                    # Not every condition ends with a change: look again now and then.
                    await asyncio.wait_for(self.wake.wait(), 0.005)

    async def until_equal(self) -> None:
        """Wait until store and reader agree with the server."""
        try:
            await self.until(self.equal)
        except TimeoutError:
            assert self.known == self.truth()
            raise


@asynccontextmanager
async def following(
    fake: FakeApi, api: Api, *, silence: float = 5.0, backoff: Backoff = QUICK
) -> AsyncIterator[Follower]:
    """Run an informer of pods."""
    wake = asyncio.Event()
    store: Store[Pod] = Store(wake)
    informer = Informer(api, PODS, store, silence=silence, backoff=backoff)
    fake.objects[PATH]  # the collection exists, though empty
    task = asyncio.create_task(informer.run())
    try:
        yield Follower(fake, store, informer, wake)
    finally:
        running = not task.done()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert running, "an informer never ends by itself"

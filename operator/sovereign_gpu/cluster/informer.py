"""List, then watch, for ever: keeps one store equal to the API server.

Not kopf's watching: that loses deletions in a gap, gives up after a minute of errors and costs
1.7 ms per event. Here a gap is closed by a relist that is compared with the store, errors are
retried with jitter for as long as they last, and silence is an error too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import aiohttp

from sovereign_gpu.cluster.backoff import Backoff, jittered
from sovereign_gpu.cluster.errors import GONE, ApiError, ClusterError, UncertainError
from sovereign_gpu.cluster.listing import pages
from sovereign_gpu.cluster.reading import GoneError, Kind, Reader
from sovereign_gpu.cluster.session import Api
from sovereign_gpu.cluster.store import Store

__all__ = ["Health", "Informer", "Kind"]

log = logging.getLogger(__name__)

T = TypeVar("T")
_YIELD_EVERY = 64
_CATCH_UP = 0.5
"""Seconds that a watch has to pass the server's version before everything is listed again."""
_BOOKMARKS = 75.0
"""Seconds within which a quiet watch tells its version: bookmarks come every minute."""
_SHORT = 1.0
"""Seconds; a watch that ends sooner and brought nothing is a failure, not the server's habit."""


@dataclass(slots=True)
class Health:
    """How the watch is doing, for metrics and readiness."""

    synced: asyncio.Event = field(default_factory=asyncio.Event)
    last_contact: float = field(default_factory=time.monotonic)
    """Monotonic time of the last word from the server."""
    events: int = 0
    relists: int = 0
    failures: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    """Objects that exist and are not understood: key -> sentence."""


class Informer(Generic[T]):
    """Keeps `store` equal to the API server's objects of one kind."""

    def __init__(
        self,
        api: Api,
        kind: Kind[T],
        store: Store[T],
        *,
        silence: float = 90.0,
        backoff: Backoff = Backoff(0.2, 30.0),  # noqa: B008 – immutable
    ) -> None:
        """`silence` seconds without a whole line (bookmarks come every minute) end a watch."""
        self._api = api
        self._kind = kind
        self.store = store
        self._silence = silence
        self._backoff = backoff
        self._reader = Reader(kind)
        self._version = ""
        """Newest resource version seen, where watches go on; empty: list first."""
        self._asked = self._answered = 0
        """Lists that `confirm` asked for, and those that were made since."""
        self._listed = asyncio.Event()
        """Set by each list."""
        self._listed_from = float("-inf")
        """Monotonic time at which the last complete list was begun."""
        self._response: aiohttp.ClientResponse | None = None
        self.name = kind.path.rsplit("/", 1)[-1]
        self.health = Health(unreadable=self._reader.unreadable)

    async def run(self) -> None:
        """List and watch until cancelled."""
        delay = self._backoff.first
        while True:
            before, began = self.health.events, time.monotonic()
            wait, self._response = 0.0, None
            try:
                if self._must_list() or not self._version:
                    await self._list()
                    if self._must_list():
                        continue
                await self._watch()
                if self._must_list():
                    continue
                if self.health.events > before or time.monotonic() - began > _SHORT:
                    delay = self._backoff.first
                    continue  # servers end watches every few minutes
                problem = "it ended at once"
            except GoneError:
                self._version = ""
                problem = "its version is too old; listing again"
            except (ClusterError, aiohttp.ClientError, TimeoutError, OSError) as error:
                wait = getattr(error, "retry_after", None) or 0.0
                problem = str(error) or type(error).__name__
                if self._ended_by_us():
                    continue
            log.warning("watch of %s: %s", self._kind.path, problem)
            self.health.failures += 1
            if self.health.events > before:
                delay = self._backoff.first
            pause = max(delay, min(wait, self._backoff.most))
            await asyncio.sleep(jittered(pause))
            delay = self._backoff.next(delay)

    async def confirm(self, since: float = float("inf")) -> None:
        """Return when the store shows everything that was written before this was called.

        If it is enough to know what was written before `since` (monotonic time), a list that was
        begun later has shown it. Otherwise the server is asked for its present version; a busy
        watch passes it within moments. A quiet one would not hear of it for a minute, so then
        everything is listed again.
        """
        if self._listed_from >= since:
            return
        while True:
            try:
                wanted = await self._newest()
                break
            except (ClusterError, aiohttp.ClientError, TimeoutError, OSError) as error:
                log.warning("asking for the version of %s: %s", self._kind.path, error)
                await asyncio.sleep(jittered(self._backoff.first))
        if await self.passed(wanted, _CATCH_UP):
            return
        self._asked += 1
        mine = self._asked
        if self._response is not None:
            self._response.close()
        while self._answered < mine:
            self._listed.clear()
            await self._listed.wait()

    async def passed(self, version: int, patience: float = _BOOKMARKS) -> bool:
        """Wait until the store shows a resource version; False when patience (seconds) ends."""
        end = time.monotonic() + patience
        while not (self._version.isdecimal() and int(self._version) >= version):
            if time.monotonic() >= end:
                return False
            await asyncio.sleep(min(patience / 10, 0.2))
        return True

    def _must_list(self) -> bool:
        return self._answered < self._asked

    def _ended_by_us(self) -> bool:
        return self._must_list() and self._response is not None

    async def _newest(self) -> int:
        query = self._kind.query(limit="1")
        page = self._reader.page(await self._api.request("GET", self._kind.path, query=query))
        if not page.version.isdecimal():
            raise UncertainError(f"a resource version that is no number: {page.version!r}")
        return int(page.version)

    async def _list(self) -> None:
        """Replace the store by a current list (no resource version: read by quorum)."""
        asked, began = self._asked, time.monotonic()
        items: dict[str, T] = {}
        unreadable: dict[str, str] = {}
        version = ""
        async with contextlib.aclosing(pages(self._api, self._kind, self._reader)) as listed:
            async for page in listed:
                self._touch()
                items.update(page.items)
                unreadable.update(page.unreadable)
                version = page.version
        if not version:
            raise UncertainError("the list has no resource version")
        for key in self._reader.unreadable.keys() - unreadable.keys():
            del self._reader.unreadable[key]
        for key, sentence in unreadable.items():
            self._reader.note(key, sentence)
        self.store.replace(items, keep=unreadable)
        self._version, self._listed_from = version, began
        self.health.relists += 1
        self.health.synced.set()
        self._answered = asked
        self._listed.set()

    async def _watch(self) -> None:
        """Follow changes until the server ends the watch."""
        query = self._kind.query(
            watch="1",
            allowWatchBookmarks="true",
            resourceVersion=self._version,
            timeoutSeconds=str(random.randint(290, 590)),  # noqa: S311 – spread reconnects
        )
        try:
            async with (
                self._api.stream(self._kind.path, query, idle=self._silence) as response,
                contextlib.aclosing(self._lines(response)) as lines,
            ):
                self._response = response
                if self._must_list():  # asked for while the connection was being made
                    return
                async for line in lines:
                    self._apply(line)
        except ApiError as error:
            if error.status == GONE:
                raise GoneError from error
            raise

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        rest = b""
        count = 0
        self._touch()
        async for chunk in response.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                self._touch()
            elif time.monotonic() - self.health.last_contact > self._silence:
                raise UncertainError("the server drips bytes and no line ever ends")
            for line in lines:
                if line:
                    yield line
                count += 1
                if count % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)
        if rest:
            raise UncertainError("the connection ended in the middle of a line")

    def _apply(self, line: bytes) -> None:
        event = self._reader.event(line)
        if event.type == "DELETED":
            self.store.remove(event.key)
        elif event.item is not None:
            self.store.put(event.key, event.item)
        self._version = event.version or self._version
        self.health.events += 1

    def _touch(self) -> None:
        self.health.last_contact = time.monotonic()

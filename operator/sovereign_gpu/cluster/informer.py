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
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import aiohttp
from pydantic import TypeAdapter, ValidationError

from sovereign_gpu.cluster import wire
from sovereign_gpu.cluster.errors import GONE, ApiError, ClusterError, UncertainError
from sovereign_gpu.cluster.session import Api
from sovereign_gpu.cluster.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")
_PAGE = 500
_YIELD_EVERY = 64
_BACKOFF_FIRST, _BACKOFF_MOST = 0.2, 30.0


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What to watch, and how its objects are read."""

    path: str
    lists: TypeAdapter[Any]
    events: TypeAdapter[Any]
    decode: Callable[[Any], T]
    key: Callable[[Any], str]
    field_selector: str = ""

    def query(self, **more: str) -> dict[str, str]:
        """Return the query of a request for this kind."""
        return {**({"fieldSelector": self.field_selector} if self.field_selector else {}), **more}


@dataclass(slots=True)
class Health:
    """How the watch is doing, for metrics and readiness."""

    synced: asyncio.Event = field(default_factory=asyncio.Event)
    last_contact: float = 0.0
    """Monotonic time of the last byte from the server."""
    events: int = 0
    relists: int = 0
    failures: int = 0


class GoneError(Exception):
    """The server no longer has the changes since our resource version: list again."""


class Informer(Generic[T]):
    """Keeps `store` equal to the API server's objects of one kind."""

    def __init__(self, api: Api, kind: Kind[T], store: Store[T], *, silence: float = 90.0) -> None:
        """`silence` seconds without a byte (bookmarks come every minute) end a watch."""
        self._api = api
        self._kind = kind
        self._store = store
        self._silence = silence
        self.name = kind.path.rsplit("/", 1)[-1]
        self.health = Health()

    async def run(self) -> None:
        """List and watch until cancelled."""
        version = ""
        delay = _BACKOFF_FIRST
        while True:
            before = self.health.events
            try:
                if not version:
                    version = await self._list()
                version = await self._watch(version)
                delay = _BACKOFF_FIRST
                continue
            except GoneError:
                version = ""
                log.info("watch of %s is too old; listing again", self._kind.path)
            except (ClusterError, aiohttp.ClientError, TimeoutError, OSError) as error:
                version = self._resume
                log.warning("watch of %s broke: %s", self._kind.path, error or type(error).__name__)
            except ValidationError as error:
                # Cut off in the middle of a line, or not what Kubernetes sends: start over.
                version = ""
                log.warning("watch of %s sent what cannot be read: %s", self._kind.path, error)
            self.health.failures += 1
            if self.health.events > before:
                delay = _BACKOFF_FIRST
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 – jitter
            delay = min(delay * 2, _BACKOFF_MOST)

    _resume = ""
    """Newest resource version seen; watches continue from here."""

    async def _list(self) -> str:
        """Replace the store by a current list (no resource version: read by quorum)."""
        items: dict[str, T] = {}
        more = ""
        while True:
            query = self._kind.query(limit=str(_PAGE), **({"continue": more} if more else {}))
            try:
                content = await self._api.request("GET", self._kind.path, query=query)
            except ApiError as error:
                if error.status == GONE:
                    raise GoneError from error
                raise
            self._touch()
            page = self._kind.lists.validate_json(content)
            for item in page["items"]:
                items[self._kind.key(item)] = self._kind.decode(item)
            more = page["metadata"].get("continue", "")
            await asyncio.sleep(0)
            if not more:
                break
        self._store.replace(items)
        self._resume = str(page["metadata"]["resourceVersion"])
        self.health.relists += 1
        self.health.synced.set()
        return self._resume

    async def _watch(self, version: str) -> str:
        """Follow changes until the server ends the watch; return where to continue."""
        self._resume = version
        query = self._kind.query(
            watch="1",
            allowWatchBookmarks="true",
            resourceVersion=version,
            timeoutSeconds=str(random.randint(290, 590)),  # noqa: S311 – spread reconnects
        )
        try:
            async with (
                self._api.stream(self._kind.path, query, idle=self._silence) as response,
                contextlib.aclosing(self._lines(response)) as lines,
            ):
                async for line in lines:
                    self._apply(line)
        except ApiError as error:
            if error.status == GONE:
                raise GoneError from error
            raise
        return self._resume

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        rest = b""
        count = 0
        async for chunk in response.content.iter_any():
            self._touch()
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line
                count += 1
                if count % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)
        if rest:
            raise UncertainError("the connection ended in the middle of a line")

    def _apply(self, line: bytes) -> None:
        if line.startswith(b'{"type":"ERROR"'):
            status = wire.ERROR_EVENT.validate_json(line)["object"]
            if status.get("code") == GONE:
                raise GoneError
            raise UncertainError(f"watch error: {status.get('message')}")
        event = self._kind.events.validate_json(line)
        item = event["object"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._store.put(self._kind.key(item), self._kind.decode(item))
            case "DELETED":
                self._store.remove(self._kind.key(item))
        self._resume = item["metadata"]["resourceVersion"]
        self.health.events += 1

    def _touch(self) -> None:
        self.health.last_contact = time.monotonic()

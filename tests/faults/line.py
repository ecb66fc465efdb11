"""The line between one process of the operator and the API server, on a bad day.

What is sent arrives, late or not at all, whatever became of its sender; what is answered may get
lost; watches fall silent, repeat themselves, are cut in the middle of a line. What cannot happen
is what TCP and the API server rule out: within one watch nothing overtakes, nothing is left out,
and no request takes effect after its sender's time-out.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp

from sovereign_gpu.cluster.errors import ApiError, UncertainError
from sovereign_gpu.cluster.session import Api, Credentials
from tests.faults.server import Change, Json, RefusedError, Server, line, told

REFUSED = {"storm": 429, "unauthorized": 401}
"""Weathers in which requests are refused before they reach anything."""


@dataclass(slots=True)
class Weather:
    """What may happen to a request; all are chances from 0 to 1."""

    name: str = "fine"
    refuse: float = 0.0
    """Refused with a status of `REFUSED`, and nothing happens."""
    fail: float = 0.0
    """Answered 500, and nothing happens."""
    lose: float = 0.0
    """The answer is lost, or is an error, and it has happened."""
    swallow: float = 0.0
    """It never arrives and the connection says nothing."""
    slow: float = 0.005
    """Largest seconds on each way."""


WEATHERS = {
    each.name: each
    for each in (
        Weather(),
        Weather("slow", slow=2.0),
        Weather("storm", refuse=0.7),
        Weather("unauthorized", refuse=1.0),
        Weather("errors", fail=0.5, lose=0.2),
        Weather("uncertain", lose=0.6, slow=0.5),
        Weather("stall", swallow=0.4, slow=1.0),
        Weather("partition", swallow=1.0),
    )
}


@dataclass(slots=True, eq=False)
class Wire:
    """One open watch."""

    collection: str
    selector: str
    lag: float
    """Seconds that everything comes late."""
    chunks: deque[tuple[float, bytes | None]] = field(default_factory=deque)
    """When, and what: None ends it properly, b"" breaks it."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    told: list[bytes] = field(default_factory=list)
    silent_until: float = 0.0

    def say(self, content: bytes | None) -> None:
        """Send something, after everything that was sent before."""
        due = asyncio.get_running_loop().time() + self.lag
        self.chunks.append((max(due, self.chunks[-1][0] if self.chunks else due), content))
        if content:
            self.told.append(content)
        self.news.set()

    # What the operator uses of an aiohttp response.
    @property
    def content(self) -> Wire:
        """Return the body."""
        return self

    def close(self) -> None:
        """End it from the operator's side."""
        self.chunks.appendleft((0.0, b""))
        self.news.set()

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Yield what arrives."""
        loop = asyncio.get_running_loop()
        while True:
            while not self.chunks:
                self.news.clear()
                await self.news.wait()
            due, content = self.chunks[0]
            wait = max(due, self.silent_until if content != b"" else 0.0) - loop.time()
            if wait > 0:
                self.news.clear()
                try:
                    async with asyncio.timeout(wait):
                        await self.news.wait()
                except TimeoutError:
                    pass
                continue
            self.chunks.popleft()
            if content is None:
                return
            if content == b"":
                raise aiohttp.ClientPayloadError("cut")
            yield content


class _Question(NamedTuple):
    """A request on its way, as text: its sender may change its objects afterwards."""

    method: str
    path: str
    content: str
    query: dict[str, str]
    content_type: str


class Line(Api):
    """The operator's client, whose requests go to `Server` through a weather."""

    def __init__(self, server: Server, chance: random.Random) -> None:
        self.credentials = Credentials("http://server")
        self._server, self._chance = server, chance
        self.weather = WEATHERS["fine"]
        self.lag = 0.0
        """Seconds that watches opened from now on are late, at most."""
        self.dead = False
        """The process was killed: it sends nothing more, and hears nothing."""
        self.leases_apart = False
        """Requests for leases are not refused: they have a priority level of their own."""
        self.wires: set[Wire] = set()
        server.listeners.append(self._publish)

    async def close(self) -> None:
        """Nothing is open."""

    def kill(self) -> None:
        """Let nothing more through; what is on its way arrives."""
        if not self.dead:
            self.dead = True
            self._server.listeners.remove(self._publish)

    # --- requests -------------------------------------------------------------------------------
    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",  # noqa: ARG002 – answers are whole
        timeout: float = 30.0,  # noqa: ASYNC109 – the limit belongs to the request
    ) -> bytes:
        """Answer as `Api.request` does."""
        if self.dead:
            raise UncertainError("the process is dead")
        loop, weather, chance = asyncio.get_running_loop(), self.weather, self._chance
        answer: asyncio.Future[Json] = loop.create_future()
        there, back = (chance.uniform(0, weather.slow) for _ in "ab")
        question = _Question(method, path, json.dumps(body), dict(query or {}), content_type)
        try:
            async with asyncio.timeout(timeout):
                if not (self.leases_apart and "/leases" in path):
                    await self._turned_away(weather, back)
                if chance.random() < weather.swallow:
                    await asyncio.Event().wait()
                loop.call_later(min(there, timeout * 0.9), self._arrive, answer, question)
                found = await asyncio.shield(answer)
                await asyncio.sleep(back)
        except TimeoutError as error:
            raise UncertainError(f"{method} {path}: no answer") from error
        if self.dead or chance.random() < weather.lose:
            raise UncertainError(f"{method} {path}: the answer got lost")
        return json.dumps(found).encode()

    async def _turned_away(self, weather: Weather, back: float) -> None:
        """Raise what is answered before anything has happened, if it is."""
        if self._chance.random() < weather.refuse:
            await asyncio.sleep(back)
            pause = 1.0 if self._chance.random() < 0.5 else None
            raise ApiError(REFUSED[weather.name], "scripted", pause)
        if self._chance.random() < weather.fail:
            await asyncio.sleep(back)
            raise UncertainError("500: scripted")

    def _arrive(self, answer: asyncio.Future[Json], question: _Question) -> None:
        try:
            found = self._answer(question)
        except RefusedError as error:
            if not answer.done():
                answer.set_exception(ApiError(error.status, error.message))
                answer.exception()  # the sender may be gone
        else:
            if not answer.done():
                answer.set_result(found)

    def _answer(self, asked: _Question) -> Json:
        if asked.method == "GET" and _is_list(asked.path):
            limit = int(asked.query.get("limit", "500"))
            selector, token = (asked.query.get(key, "") for key in ("fieldSelector", "continue"))
            return self._server.page(asked.path, selector, token, limit)
        body = json.loads(asked.content)
        return self._server.ask(asked.method, asked.path, body, asked.content_type)

    # --- watches --------------------------------------------------------------------------------
    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], *, idle: float
    ) -> AsyncIterator[Any]:
        """Open a watch as `Api.stream` does; silence for `idle` seconds ends it."""
        await asyncio.sleep(self._chance.uniform(0, self.weather.slow))
        if self.dead or self._chance.random() < self.weather.swallow:
            await asyncio.sleep(10.0)
            raise TimeoutError
        if self._chance.random() < self.weather.refuse:
            raise ApiError(REFUSED[self.weather.name], "scripted")
        if self._chance.random() < self.weather.fail:
            raise UncertainError("500: scripted")
        since = int(query["resourceVersion"])
        if since < self._server.oldest:
            raise ApiError(410, "too old resource version")
        lag = self._chance.uniform(0, self.lag)
        wire = Wire(path, query.get("fieldSelector", ""), lag)
        for change in self._server.history[path]:
            if change.version > since:
                self._tell(wire, change)
        self.wires.add(wire)
        watchdog = asyncio.create_task(self._bookmarks(wire, idle))
        try:
            yield wire
        finally:
            watchdog.cancel()
            self.wires.discard(wire)

    async def _bookmarks(self, wire: Wire, idle: float) -> None:
        """Send a bookmark every minute, unless it is silent: then break off as the client would."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(60.0, idle))
            if wire.silent_until > loop.time():
                await asyncio.sleep(max(0.0, idle - 60.0))
                wire.chunks.appendleft((0.0, b""))
                wire.news.set()
                return
            version = {"metadata": {"resourceVersion": str(self._server.version)}}
            wire.say(line("BOOKMARK", version))

    def _publish(self, collection: str, change: Change) -> None:
        for wire in self.wires:
            if wire.collection == collection:
                self._tell(wire, change)

    def _tell(self, wire: Wire, change: Change) -> None:
        content = told(wire.selector, change)
        if content is not None:
            wire.say(content)

    # --- bad days of watches ----------------------------------------------------------------------
    def cut(self) -> None:
        """Break every watch in the middle of a line that repeats what it said last."""
        for wire in self.wires:
            if wire.told:
                wire.say(wire.told[-1][: len(wire.told[-1]) // 2])
            wire.say(b"")

    def end(self) -> None:
        """End every watch properly."""
        for wire in self.wires:
            wire.say(None)

    def expire(self) -> None:
        """End every watch as the server does when its version is too old."""
        self._server.oldest = self._server.version
        for wire in self.wires:
            wire.say(line("ERROR", {"kind": "Status", "code": 410, "message": "too old"}))

    def repeat(self, count: int) -> None:
        """Say the last lines of every watch again, in their order."""
        for wire in self.wires:
            for content in wire.told[-count:]:
                wire.say(content)

    def silence(self, seconds: float) -> None:
        """Let every watch say nothing for a while."""
        until = asyncio.get_running_loop().time() + seconds
        for wire in self.wires:
            wire.silent_until = max(wire.silent_until, until)


def _is_list(path: str) -> bool:
    last = path.rsplit("/", 1)[-1]
    return last in _COLLECTIONS


_COLLECTIONS = {
    "pods",
    "nodes",
    "namespaces",
    "networkpolicies",
    "gpupools",
    "tenantquotas",
    "dataresidencypolicies",
}

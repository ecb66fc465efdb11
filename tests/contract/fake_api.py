"""An API server that misbehaves on command, on a real socket.

It keeps objects and their history as the real one does (one version counter, lists by page,
watches that replay from a version) and adds what the real one does on a bad day: expired
versions, half lines, cut connections, silence, refusals, answers that never come.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import web

Json = dict[str, Any]


@dataclass(slots=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(slots=True)
class Answer:
    """What happens to one write instead of success."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "scripted"
    causes: tuple[str, ...] = ()
    """Reasons of `details.causes` in the body."""
    applied: bool = False
    """The write takes effect, whatever is answered."""
    cut: bool = False
    """The connection ends without an answer."""
    until: asyncio.Event | None = None
    """The answer waits for this."""


@dataclass(slots=True)
class Change:
    """One entry of the history."""

    version: int
    before: Json | None
    after: Json | None


@dataclass(slots=True, eq=False)
class Watch:
    """One open watch."""

    path: str
    query: dict[str, str]
    chunks: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    """Bytes to send; None ends the response properly."""
    transport: asyncio.Transport | None = None


class FakeApi:
    """See the module. Objects live under `<collection path>/<name>`."""

    def __init__(self) -> None:
        self.url = ""
        self.page = 500
        self.version = 10
        self.oldest = 0
        """Watches and pages from before this version are answered 410."""
        self.objects: dict[str, dict[str, Json]] = defaultdict(dict)
        self.history: dict[str, list[Change]] = defaultdict(list)
        self.watches: set[Watch] = set()
        self.seen: list[Seen] = []
        self.answers: defaultdict[tuple[str, str], deque[Answer]] = defaultdict(deque)
        """Scripted answers by (method, start of path), used up one by one."""
        self.always: Callable[[Seen], Answer | None] = lambda _: None
        """Asked before `answers`, for scripts that never end."""
        self.open_writes = 0
        self.most_open_writes = 0
        self.chop = 0
        """Send watch events in pieces of that many bytes; 0 for whole lines."""
        self.arrived = asyncio.Condition()

    # --- the cluster changes --------------------------------------------------------------
    def put(self, collection: str, name: str, body: Json, key: str | None = None) -> Json:
        """Write an object and tell the watches; `key` tells namespaces apart."""
        key = key or name
        before = self.objects[collection].get(key)
        self.version += 1
        after = copy.deepcopy(body)
        meta = after.setdefault("metadata", {})
        meta["name"], meta["resourceVersion"] = name, str(self.version)
        self.objects[collection][key] = after
        self._publish(collection, Change(self.version, before, after))
        return after

    def remove(self, collection: str, key: str) -> None:
        """Delete an object and tell the watches."""
        before = self.objects[collection].pop(key)
        self.version += 1
        self._publish(collection, Change(self.version, before, None))

    def _publish(self, collection: str, change: Change) -> None:
        self.history[collection].append(change)
        for watch in self.watches:
            if watch.path == collection:
                self._tell(watch, change)

    # --- bad days -------------------------------------------------------------------------
    def compact(self) -> None:
        """Forget all history."""
        self.oldest = self.version

    def say(self, line: bytes) -> None:
        """Send bytes on every open watch."""
        for watch in self.watches:
            watch.chunks.put_nowait(line)

    def bookmark(self, collection: str) -> None:
        """Tell the watches of a collection the present version."""
        body = {"metadata": {"resourceVersion": str(self.version)}}
        for watch in self.watches:
            if watch.path == collection:
                watch.chunks.put_nowait(_line("BOOKMARK", body))

    def expire(self) -> None:
        """End every open watch as the server does when its version is too old."""
        self.compact()
        self.say(_line("ERROR", {"kind": "Status", "code": 410, "message": "too old"}))
        self.end()

    def end(self) -> None:
        """End every open watch properly."""
        for watch in self.watches:
            watch.chunks.put_nowait(None)

    def cut(self) -> None:
        """Break every open watch's connection."""
        for watch in self.watches:
            if watch.transport is not None:
                watch.transport.abort()

    # --- what was asked -------------------------------------------------------------------
    def lists(self, collection: str) -> list[Seen]:
        """Return first pages of lists so far."""
        return [
            seen
            for seen in self.seen
            if seen.path == collection
            and seen.method == "GET"
            and "watch" not in seen.query
            and "continue" not in seen.query
        ]

    def watched(self, collection: str) -> list[Seen]:
        """Return watches asked for so far."""
        return [s for s in self.seen if s.path == collection and "watch" in s.query]

    def writes(self) -> list[Seen]:
        """Return everything but reads."""
        return [seen for seen in self.seen if seen.method != "GET"]

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until a condition on what arrived holds."""
        async with asyncio.timeout(seconds), self.arrived:
            await self.arrived.wait_for(condition)

    # --- serving --------------------------------------------------------------------------
    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request."""
        raw = await request.read()
        seen = Seen(
            request.method,
            request.path,
            dict(request.query),
            dict(request.headers),
            json.loads(raw) if raw else None,
        )
        self.seen.append(seen)
        async with self.arrived:
            self.arrived.notify_all()
        answer = self._scripted(seen)
        if request.method != "GET":
            return await self._counted(request, seen, answer)
        if answer is not None:
            return await self._misbehave(request, seen, answer)
        if "watch" in seen.query:
            return await self._watch(request, seen)
        if seen.path in self.objects or "limit" in seen.query:
            return self._list(seen)
        return self._get(seen)

    def _scripted(self, seen: Seen) -> Answer | None:
        always = self.always(seen)
        if always is not None:
            return always
        for (method, start), answers in self.answers.items():
            if seen.method == method and seen.path.startswith(start) and answers:
                return answers.popleft()
        return None

    async def _counted(
        self, request: web.Request, seen: Seen, answer: Answer | None
    ) -> web.StreamResponse:
        self.open_writes += 1
        self.most_open_writes = max(self.most_open_writes, self.open_writes)
        try:
            if answer is not None:
                return await self._misbehave(request, seen, answer)
            return self._write(seen)
        finally:
            self.open_writes -= 1

    async def _misbehave(
        self, request: web.Request, seen: Seen, answer: Answer
    ) -> web.StreamResponse:
        result = self._write(seen) if answer.applied and request.method != "GET" else None
        if answer.until is not None:
            await answer.until.wait()
        if answer.cut and request.transport is not None:
            request.transport.abort()
            return web.Response()
        if answer.status < 300:  # only late
            if request.method == "GET":
                return self._get(seen)
            return result or self._write(seen)
        return _status(answer.status, answer.message, answer.headers, answer.causes)

    def _list(self, seen: Seen) -> web.Response:
        start, at = 0, self.version
        if "continue" in seen.query:
            start, at = map(int, seen.query["continue"].split("@"))
            if at < self.oldest:
                return _status(410, "the continue token is too old")
        items = [
            item
            for item in self._at(seen.path, at)
            if _selected(seen.query.get("fieldSelector", ""), item)
        ]
        limit = min(self.page, int(seen.query.get("limit", self.page)))
        meta = {"resourceVersion": str(at)}
        if start + limit < len(items):
            meta["continue"] = f"{start + limit}@{at}"
        page = {"metadata": meta, "items": items[start : start + limit]}
        return web.json_response(page, dumps=partial(json.dumps, separators=(",", ":")))

    def _at(self, collection: str, version: int) -> list[Json]:
        """Return the objects as they were at a version, as etcd does for continued lists."""
        found = {_identity(o): o for o in self.objects[collection].values()}
        for change in reversed(self.history[collection]):
            if change.version <= version:
                break
            if change.after is not None:
                found.pop(_identity(change.after), None)
            if change.before is not None:
                found[_identity(change.before)] = change.before
        # In an order that does not change while somebody turns the pages.
        return [found[key] for key in sorted(found)]

    async def _watch(self, request: web.Request, seen: Seen) -> web.StreamResponse:
        since = int(seen.query["resourceVersion"])
        if since < self.oldest:
            return _status(410, "too old resource version")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        watch = Watch(seen.path, seen.query, transport=request.transport)
        for change in self.history[seen.path]:
            if change.version > since:
                self._tell(watch, change)
        self.watches.add(watch)
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await self._stream(watch, response)
        self.watches.discard(watch)
        return response

    async def _stream(self, watch: Watch, response: web.StreamResponse) -> None:
        async with self.arrived:
            self.arrived.notify_all()
        while (chunk := await watch.chunks.get()) is not None:
            size = self.chop or len(chunk)
            for at in range(0, len(chunk), size):
                await response.write(chunk[at : at + size])
                if self.chop:
                    await asyncio.sleep(0)
        await response.write_eof()

    def _tell(self, watch: Watch, change: Change) -> None:
        selector = watch.query.get("fieldSelector", "")
        was = change.before is not None and _selected(selector, change.before)
        is_now = change.after is not None and _selected(selector, change.after)
        if not was and not is_now:
            return
        body = copy.deepcopy(change.after or change.before or {})
        body["metadata"]["resourceVersion"] = str(change.version)
        kind = "DELETED" if not is_now else "MODIFIED" if was else "ADDED"
        watch.chunks.put_nowait(_line(kind, body))

    def _get(self, seen: Seen) -> web.Response:
        collection, _, name = seen.path.rpartition("/")
        found = self.objects[collection].get(name)
        return web.json_response(found) if found else _status(404, f"{name} not found")

    def _write(self, seen: Seen) -> web.Response:
        if seen.method == "POST":
            name = seen.body["metadata"]["name"]
            if name in self.objects[seen.path]:
                return _status(409, f"{name} already exists")
            return web.json_response(self.put(seen.path, name, seen.body), status=201)
        collection, _, name = seen.path.rpartition("/")
        if seen.method == "PUT":
            stored = self.objects[collection].get(name)
            if stored is None:
                return _status(404, f"{name} not found")
            if seen.body["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"]:
                return _status(409, "the object has been modified")
            return web.json_response(self.put(collection, name, seen.body))
        return self._patch(seen, collection, name)

    def _patch(self, seen: Seen, collection: str, name: str) -> web.Response:
        """Apply merge patches of objects that are there; others are accepted and forgotten."""
        stored = self.objects[collection].get(name)
        if stored is None or "merge" not in seen.headers.get("Content-Type", ""):
            return web.json_response({"metadata": {"name": name}})
        wanted = seen.body["metadata"].pop("resourceVersion", None)
        if wanted not in (None, stored["metadata"]["resourceVersion"]):
            return _status(409, "the object has been modified")
        return web.json_response(self.put(collection, name, _merged(stored, seen.body)))


def _merged(old: Json, patch: Json) -> Json:
    """Return the result of a merge patch (RFC 7396)."""
    new = dict(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            new[key] = _merged(old.get(key) or {}, value)
        else:
            new[key] = value
    return new


def _line(kind: str, body: Json) -> bytes:
    return json.dumps({"type": kind, "object": body}, separators=(",", ":")).encode() + b"\n"


def _identity(item: Json) -> str:
    return str(item["metadata"].get("uid") or item["metadata"]["name"])


def _selected(selector: str, item: Json) -> bool:
    phase = item.get("status", {}).get("phase", "")
    return all(part != f"status.phase!={phase}" for part in selector.split(",") if part)


def _status(
    code: int,
    message: str,
    headers: dict[str, str] | None = None,
    causes: tuple[str, ...] = (),
) -> web.Response:
    body: Json = {"kind": "Status", "status": "Failure", "code": code, "message": message}
    if causes:
        body["details"] = {"causes": [{"reason": reason} for reason in causes]}
    return web.json_response(body, status=code, headers=headers)


@asynccontextmanager
async def serving() -> AsyncIterator[FakeApi]:
    """Serve a fresh fake on a free port."""
    fake = FakeApi()
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", fake.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        fake.cut()
        await runner.cleanup()

"""An API server that knows who has which token and which right, and a read API that asks it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from sovereign_gpu import names
from sovereign_gpu.cluster.session import Api, Credentials
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.readapi.reviews import Reviews
from sovereign_gpu.readapi.server import ReadApi

EVERYTHING = frozenset({("pods", ""), ("tenantquotas", ""), ("nodes", "")})
Right = tuple[str, str]
"""Resource that may be listed, and where; an empty namespace: everywhere."""


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Registrar:
    """Answers reviews; what was asked is counted."""

    people: dict[str, set[Right]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    at_a_time: int = 0
    most_at_a_time: int = 0
    broken: int = 0
    """Status of every answer, if not 0."""
    gate: asyncio.Event | None = None
    """Answers wait for this."""
    crowded: asyncio.Event = field(default_factory=asyncio.Event)
    """Sixteen wait at a time."""

    async def serve(self) -> tuple[web.AppRunner, str]:
        app = web.Application()
        app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", self._token)
        app.router.add_post("/apis/authorization.k8s.io/v1/subjectaccessreviews", self._access)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        return runner, f"http://{host}:{port}"

    async def _token(self, request: web.Request) -> web.Response:
        body = await self._hear("token", request)
        token = body["spec"]["token"]
        if token not in self.people:
            return self._say({"authenticated": False})
        user = {"username": f"user-of-{token}", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}}
        return self._say({"authenticated": True, "user": user})

    async def _access(self, request: web.Request) -> web.Response:
        spec = (await self._hear("access", request))["spec"]
        assert (spec["groups"], spec["uid"], spec["extra"]) == (["g"], "1", {"k": ["v"]})
        wanted = spec["resourceAttributes"]
        assert wanted["verb"] == "list"
        assert wanted["group"] == (names.GROUP if wanted["resource"] == "tenantquotas" else "")
        rights = self.people[spec["user"].removeprefix("user-of-")]
        resource, namespace = wanted["resource"], wanted["namespace"]
        return self._say({"allowed": bool(rights & {(resource, namespace), (resource, "")})})

    async def _hear(self, what: str, request: web.Request) -> Any:
        self.asked[what] += 1
        self.at_a_time += 1
        self.most_at_a_time = max(self.most_at_a_time, self.at_a_time)
        if self.at_a_time == 16:
            self.crowded.set()
        if self.gate is not None:
            await self.gate.wait()
        self.at_a_time -= 1
        return await request.json()

    def _say(self, status: dict[str, Any]) -> web.Response:
        if self.broken:
            return web.json_response({"message": "scripted"}, status=self.broken)
        return web.json_response({"status": status})


@dataclass
class Desk:
    """The read API of an engine, and what people are told."""

    engine: Engine
    registrar: Registrar
    clock: Clock
    session: aiohttp.ClientSession
    url: str
    leading: bool = True

    async def ask(
        self, path: str, who: str | None = "all", headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Return status and document of an answer."""
        sent = dict(headers or {})
        if who is not None:
            sent[names.CALLER_HEADER] = who
        async with self.session.get(self.url + path, headers=sent, ssl=False) as answer:
            assert answer.content_type == "application/json"
            assert answer.headers["Cache-Control"] == "no-store"
            return answer.status, await answer.json()


@asynccontextmanager
async def desk(engine: Engine) -> AsyncIterator[Desk]:
    """Open a read API over real sockets; `all` may see everything."""
    registrar, clock = Registrar({"all": set(EVERYTHING)}), Clock()
    reviewer, server = await registrar.serve()
    api = Api(Credentials(server=server), user_agent="test")
    session = aiohttp.ClientSession()
    made = Desk(engine, registrar, clock, session, "")
    read = ReadApi(engine, Reviews(api, clock), lambda: made.leading)
    runner = await read.serve("127.0.0.1", 0)
    made.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await session.close()
        await runner.cleanup()
        await api.close()
        await reviewer.cleanup()

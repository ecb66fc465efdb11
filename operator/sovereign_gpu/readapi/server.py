"""GET /v1/why/NAMESPACE/POD, /v1/queue, /v1/top and /v1/nodes, over TLS on a port of their own.

Reached through the API server's service proxy, which takes the Authorization header away: so the
token comes in a header of ours. Answers are read from the leader's books in one go, between two
turns of its loop, and are bounded in number, size and time.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web

from sovereign_gpu import names
from sovereign_gpu.cluster.errors import ClusterError
from sovereign_gpu.core import inventory, views, why
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.readapi.access import Access, ForbiddenError
from sovereign_gpu.readapi.certificate import server_context
from sovereign_gpu.readapi.door import Door, quiet
from sovereign_gpu.readapi.reviews import Reviews

log = logging.getLogger(__name__)

_PAGE, _LARGEST_PAGE = 500, 1000
"""Rows of an answer, unless and at most; a page of 1,000 takes the loop some 20 ms."""
_AT_A_TIME = 64
"""Requests worked on at a time."""
_SECONDS = 15.0
"""For one answer, waiting for reviews included."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LONGEST_TOKEN = 16_384

_R = TypeVar("_R")


class _Refused(Exception):  # noqa: N818 – it is an answer
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class ReadApi:
    """Answers questions about the engine's books."""

    engine: Engine
    reviews: Reviews
    leading: Callable[[], bool]
    """Whether the books are kept by this process, and complete."""
    _busy: set[object] = field(default_factory=set)
    """Transports on which an answer is under way."""

    async def serve(self, host: str, port: int) -> web.AppRunner:
        """Start serving; `cleanup` of the returned runner ends it.

        Raises:
            OSError: the address cannot be listened on.
        """
        app = web.Application(middlewares=[self._answer], client_max_size=1024)
        app.router.add_get("/v1/why/{namespace}/{pod}", self._why)
        app.router.add_get("/v1/queue", self._queue)
        app.router.add_get("/v1/top", self._top)
        app.router.add_get("/v1/nodes", self._nodes)
        runner = web.AppRunner(app, access_log=None, logger=quiet, shutdown_timeout=2)
        await runner.setup()
        try:
            await Door(runner, host, port, server_context(), self._busy).start()
        except OSError:
            await runner.cleanup()
            raise
        return runner

    # --- what is asked ------------------------------------------------------------------------
    async def _why(self, request: web.Request) -> Any:
        namespace, name = _named(request.match_info["namespace"]), request.match_info["pod"]
        access = await self._access(request)
        await access.pods(namespace)
        pod = why.find(self.engine, namespace, _named(name))
        if pod is None:
            raise _Refused(404, f"no unfinished pod {name} in namespace {namespace}")
        return views.document(why.why(self.engine, pod, time.time()))

    async def _queue(self, request: web.Request) -> Any:
        access = await self._access(request)
        sight = await access.pods(_namespace(request))
        after = _unpacked(request, views.Place)
        page = views.queue_page(self.engine, sight, time.time(), limit=_limit(request), after=after)
        return {
            "items": [views.document(row) for row in page.rows],
            "others": views.document(page.others),
            "continue": _packed(page.more),
        }

    async def _top(self, request: web.Request) -> Any:
        access = await self._access(request)
        found = inventory.top(self.engine, await access.tenants(_namespace(request)))
        rows, more = _part(request, found.rows, lambda row: (row.tenant, row.pool))
        return {
            "items": [views.document(row) for row in rows],
            "others": [views.document(row) for row in found.others],
            "totals": views.document(found.totals),
            "continue": more,
        }

    async def _nodes(self, request: web.Request) -> Any:
        access = await self._access(request)
        single = request.query.get("by") == "node"
        if single:
            await access.must_see_nodes()
        pools = await access.pools(_namespace(request))
        nodes = inventory.node_rows(self.engine, pools)
        if not single:
            return {"items": [views.document(row) for row in inventory.pool_rows(nodes)]}
        rows, more = _part(request, nodes, lambda row: (row.pool, row.node))
        return {"items": [views.document(row) for row in rows], "continue": more}

    async def _access(self, request: web.Request) -> Access:
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        token = request.headers.get(names.CALLER_HEADER) or (
            bearer if scheme.lower() == "bearer" else ""
        )
        if not token or len(token) > _LONGEST_TOKEN or not token.isascii():
            raise _Refused(401, f"no bearer token in {names.CALLER_HEADER} or Authorization")
        who = await self.reviews.who(token)
        if who is None:
            raise _Refused(401, "the API server does not accept the token")
        return Access(self.reviews, self.engine, who)

    # --- how it is answered -------------------------------------------------------------------
    @web.middleware
    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[Any]]
    ) -> web.Response:
        connection = request.transport  # the request forgets it when the other side hangs up
        self._busy.add(connection)
        try:
            self._check()
            async with asyncio.timeout(_SECONDS):
                return _json(200, await handler(request))
        except Exception as error:  # noqa: BLE001 – every one becomes an answer
            status, message = _refusal(error)
            return _json(status, {"status": status, "message": message})
        finally:
            self._busy.discard(connection)

    def _check(self) -> None:
        if len(self._busy) > _AT_A_TIME:
            raise _Refused(503, "too many questions at a time; ask again")
        if not self.leading():
            raise _Refused(503, "this process does not lead, so it keeps no books; ask again")


def _refusal(error: Exception) -> tuple[int, str]:
    match error:
        case _Refused():
            return error.status, str(error)
        case ForbiddenError():
            return 403, str(error)
        case ClusterError():
            log.warning("asking the API server about who asks: %s", error)
            return 503, "the API server did not say who you are or what you may see"
        case TimeoutError():
            return 503, f"no answer within {_SECONDS:.0f} s"
        case web.HTTPException():
            return error.status, error.reason
    log.error("answering", exc_info=error)
    return 500, "the question could not be answered; the operator's log says more"


def _json(status: int, content: Any) -> web.Response:
    body = json.dumps(content, separators=(",", ":")).encode()
    headers = {"Cache-Control": "no-store"}
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _named(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise _Refused(400, f"no name as Kubernetes has them: {text[:80]!r}")
    return text


def _namespace(request: web.Request) -> str:
    text = request.query.get("namespace", "")
    return _named(text) if text else ""


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(_PAGE))
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= _LARGEST_PAGE:
        raise _Refused(400, f"limit: found {text[:80]!r}, allowed 1 to {_LARGEST_PAGE}")
    return int(text)


# --- pages ------------------------------------------------------------------------------------
def _packed(place: Sequence[Any] | None) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode() if place else ""


def _unpacked(request: web.Request, kind: Callable[..., _R]) -> _R | None:
    text = request.query.get("continue", "")
    if not text:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(text))
        return _typed(kind, found)
    except (ValueError, TypeError, RecursionError):
        raise _Refused(400, "continue: found no value of an earlier answer") from None


def _typed(kind: Callable[..., _R], found: Any) -> _R:
    # What does not compare with our own places would fail in the middle of the books.
    wanted: tuple[Any, ...] = (str, str)
    if kind is views.Place:
        wanted = (str, int, int, int | float, str)
    if len(found) != len(wanted) or not all(
        isinstance(f, w) for f, w in zip(found, wanted, strict=True)
    ):
        raise ValueError("not a place")
    return kind(*found)


def _part(
    request: web.Request, rows: Sequence[_R], key: Callable[[_R], tuple[str, str]]
) -> tuple[Sequence[_R], str]:
    """Return the rows of one page, which are in the order of their keys, and where to go on."""
    limit, after = _limit(request), _unpacked(request, lambda *parts: parts)
    left = [row for row in rows if after is None or key(row) > after]
    return left[:limit], _packed(key(left[limit - 1])) if len(left) > limit else ""

"""The small web server of each part: /healthz and /readyz for the kubelet, more for others."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

OK: Final = 200
UNAVAILABLE: Final = 503
EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"


def probe(holds: Callable[[], bool]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return a handler that answers 200 as long as something holds, else 503."""

    async def answer(request: web.Request) -> web.Response:
        del request
        good = holds()
        return web.Response(text="ok" if good else "no", status=OK if good else UNAVAILABLE)

    return answer


def page(write: Callable[[], Awaitable[str]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return a handler that answers with metrics."""

    async def answer(request: web.Request) -> web.Response:
        del request
        body = (await write()).encode()
        return web.Response(body=body, headers={"Content-Type": EXPOSITION})

    return answer


@contextlib.asynccontextmanager
async def serve(
    host: str, port: int, paths: dict[str, Callable[[web.Request], Awaitable[web.Response]]]
) -> AsyncIterator[int]:
    """Serve paths inside the block; yields the port, which matters when 0 was asked for."""
    application = web.Application()
    application.add_routes([web.get(path, handler) for path, handler in paths.items()])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        addresses: list[tuple[str, int]] = list(runner.addresses)
        yield addresses[0][1]
    finally:
        await runner.cleanup()

"""/livez, /readyz and /metrics on one port.

Alive: the loop turned lately. Ready: everything was read and the watches speak, of the leader and
of standbys alike: a standby is of use because it knows everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from sovereign_gpu.telemetry.metrics import Metrics

Check = Callable[[], str]
"""Returns what is wrong; empty if nothing is."""


@dataclass(frozen=True, slots=True)
class Checks:
    """What the probes ask."""

    alive: Check
    ready: Check


async def serve(host: str, port: int, checks: Checks, metrics: Metrics) -> web.AppRunner:
    """Start serving; `cleanup` of the returned runner ends it.

    Raises:
        OSError: the address cannot be listened on.
    """

    def probe(check: Check) -> Callable[[web.Request], object]:
        async def answer(_: web.Request) -> web.Response:
            wrong = check()
            return web.Response(status=503 if wrong else 200, text=f"{wrong or 'ok'}\n")

        return answer

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(metrics.registry),
            headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4},
        )

    app = web.Application()
    app.router.add_get("/livez", probe(checks.alive))  # type: ignore[arg-type]
    app.router.add_get("/readyz", probe(checks.ready))  # type: ignore[arg-type]
    app.router.add_get("/metrics", scrape)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner

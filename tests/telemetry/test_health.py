"""The three pages of the operator."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from sovereign_gpu.core.engine import Engine
from sovereign_gpu.telemetry import health
from sovereign_gpu.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Probes:
    def __init__(self) -> None:
        self.alive = ""
        self.ready = "not the leader"

    def checks(self) -> health.Checks:
        return health.Checks(lambda: self.alive, lambda: self.ready)


@pytest.fixture
def probes() -> Probes:
    return Probes()


@pytest.fixture
async def url(probes: Probes) -> AsyncIterator[str]:
    runner = await health.serve("127.0.0.1", 0, probes.checks(), Metrics(Engine()))
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


async def read(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_a_standby_is_alive_and_not_ready_and_says_why(url: str) -> None:
    assert await read(f"{url}/livez") == (200, "ok\n")
    assert await read(f"{url}/readyz") == (503, "not the leader\n")


async def test_a_stuck_loop_is_not_alive(url: str, probes: Probes) -> None:
    probes.alive, probes.ready = "the loop last turned 31 s ago", ""
    assert await read(f"{url}/livez") == (503, "the loop last turned 31 s ago\n")
    assert await read(f"{url}/readyz") == (200, "ok\n")


async def test_metrics_are_text_that_prometheus_reads(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "sovereign_gpu_build_info{" in await answer.text()


async def test_an_address_that_is_taken_is_an_error_and_leaves_nothing_open(
    url: str, probes: Probes
) -> None:
    port = int(url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        await health.serve("127.0.0.1", port, probes.checks(), Metrics(Engine()))
    assert len(asyncio.all_tasks()) >= 1

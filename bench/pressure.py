"""What the operator does to an API server that cannot keep up: in virtual time, second by second.

`python -m bench.pressure` plays the operator as it is against an API server in memory that refuses
seven of ten requests (429), then fails (500) or loses the answers of most, then takes up to four
seconds for each, with quiet times between. Pods come at a steady pace. Requests and accepted
releases are counted every five seconds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

from sovereign_gpu.cluster.kinds import NODES
from tests.contract import virtual_time
from tests.faults.line import WEATHERS, Line
from tests.faults.oracle import Oracle
from tests.faults.process import Process
from tests.faults.server import Server
from tests.faults.world import QUOTAS, TENANT_OF, World

RESULTS = Path(__file__).parent / "results"
STAGES = ("fine", "storm", "fine", "errors", "fine", "slow", "fine")
_SECONDS = 30
"""Of each stage."""
_BUCKET = 5
_PODS_A_SECOND = 20
_NODES = 60


def main() -> None:
    """Play, print, and store."""
    logging.disable(logging.CRITICAL)
    random.seed(1)
    rows = virtual_time.run(_play())
    print(f"{'second':>7}{'weather':>10}{'requests/s':>12}{'releases/s':>12}{'limit':>7}")
    for row in rows:
        print(
            f"{row['at']:>7}{row['weather']:>10}{row['requests']:>12.1f}{row['releases']:>12.1f}"
            f"{row['limit']:>7.0f}"
        )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "pressure.json").write_text(json.dumps(rows, indent=1) + "\n")


async def _play() -> list[dict[str, Any]]:
    loop, chance = asyncio.get_running_loop(), random.Random(1)  # noqa: S311 – repeatable
    counts: Counter[str] = Counter()
    asked = Line.request

    async def counted(line: Line, *words: Any, **more: Any) -> bytes:
        counts["requests"] += 1
        return await asked(line, *words, **more)

    with (
        mock.patch.object(time, "monotonic", loop.time),
        mock.patch.object(Line, "request", counted),
    ):
        server = Server(loop.time)
        world = World(server, chance)
        _furnish(world)
        oracle = Oracle(server, TENANT_OF)

        def released(_: Any) -> None:
            counts["releases"] += 1

        server.on_release = released
        keeper = _Keeper(server, chance, oracle)
        scheduler = asyncio.create_task(world.schedule())
        rows: list[dict[str, Any]] = []
        for weather in ("", *STAGES):
            keeper.weather = weather or "fine"
            for _ in range(_SECONDS // _BUCKET):
                before = Counter(counts)
                for _ in range(_BUCKET):
                    keeper.look()
                    for _ in range(_PODS_A_SECOND):
                        world.create("alpha-train", 1, owned=True, priority=0)
                    world.finish(1.0)
                    await asyncio.sleep(1.0)
                if weather:  # the first minute is its start
                    row = {k: (counts[k] - before[k]) / _BUCKET for k in ("requests", "releases")}
                    at = len(rows) * _BUCKET
                    rows.append({"at": at, "weather": weather, **row, "limit": keeper.limit})
        keeper.process.kill()
        scheduler.cancel()
        await asyncio.gather(keeper.process.task, scheduler, return_exceptions=True)
    return rows


class _Keeper:
    """Keeps one process running, as a kubelet does: without its lease it ends, and begins anew."""

    def __init__(self, server: Server, chance: random.Random, oracle: Oracle) -> None:
        self._parts = server, chance, oracle, lambda _: None
        self._number = 0
        self.weather = "fine"
        self.process = self._start()

    @property
    def limit(self) -> float:
        """Requests that the writer allows itself at a time."""
        return self.process._controller.writer.limit  # noqa: SLF001 – what is shown

    def look(self) -> None:
        """Start anew if it has ended, and let it feel the weather."""
        if self.process.task.done():
            self.process.line.kill()
            self.process = self._start()
        self.process.line.weather = WEATHERS[self.weather]
        self.process.line.leases_apart = self.weather == "storm"  # the chart's flow schemas

    def _start(self) -> Process:
        self._number += 1
        return Process(f"op{self._number}", *self._parts)


def _furnish(world: World) -> None:
    world.furnish()
    usual = world.nodes["munich-0"]
    for number in range(_NODES):
        name = f"munich-{number}"
        world.server.put(
            NODES.path, name, {**usual, "metadata": {**usual["metadata"], "name": name}}
        )
    stored = world.server.objects[QUOTAS]["alpha"]
    pools = [{"name": "munich", "guaranteed": 8 * _NODES}]
    body = {**stored, "spec": {**stored["spec"], "pools": pools}}
    world.server.put(QUOTAS, "alpha", body)


if __name__ == "__main__":
    main()

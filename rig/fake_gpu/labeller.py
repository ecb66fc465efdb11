"""Writes the labels of one node, and writes them again when somebody changes them.

Server-side apply, under the names of those who do it on a real node: a label that is no longer
wanted goes away by itself, and who owns what can be read from the node.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from rig.fake_gpu import labels
from rig.fake_gpu.api import APPLY, MERGE, Api, ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from rig.fake_gpu.scenario import Scenario

AGAIN_SECONDS: Final = 2.0
ENABLED: Final = {"nvidia.com/gpu-driver-upgrade-enabled": "true"}
log = logging.getLogger(__name__)


class Labeller:
    """Keeps the labels of one node as its scenario says.

    Args:
        api: the API server.
        node: name of the node.
        started: when GPU feature discovery started, epoch seconds.
    """

    def __init__(self, api: Api, node: str, started: int) -> None:
        self._api = api
        self._node = node
        self._path = f"/api/v1/nodes/{node}"
        self._started = started
        self._scenario: Scenario | None = None
        self._applied: Scenario | None = None
        self._found: dict[str, Any] | None = None
        self._wake = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether the scenario's labels have been written."""
        return self._scenario is not None and self._applied == self._scenario

    async def run(self, scenarios: AsyncIterable[Scenario]) -> None:
        """Follow the scenarios and the node until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_scenarios(scenarios))
            group.create_task(self._follow_node())
            group.create_task(self._write())

    async def _follow_scenarios(self, scenarios: AsyncIterable[Scenario]) -> None:
        async for scenario in scenarios:
            self._scenario = scenario
            self._wake.set()

    async def _follow_node(self) -> None:
        async for found in self._api.follow("/api/v1/nodes", f"metadata.name={self._node}"):
            self._found = next(iter(found.values()), None)
            self._wake.set()

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._settle()
            except (aiohttp.ClientError, ApiError, OSError, TimeoutError) as error:
                log.warning("node %s not labelled: %s", self._node, error or type(error).__name__)
                await asyncio.sleep(AGAIN_SECONDS)
                self._wake.set()

    async def _settle(self) -> None:
        scenario, found = self._scenario, self._found
        if scenario is None or found is None:
            return
        wanted = labels.wanted(scenario, scenario.machine(self._node), self._started)
        present = found["metadata"].get("labels", {})
        if self._applied != scenario or not wanted.items() <= present.items():
            await self._apply(wanted)
            self._applied = scenario
        # Another's label of the same name stays behind when ours goes.
        if surplus := [each for each, value in scenario.labels.items() if value is None]:
            await self._remove([each for each in surplus if each in present])

    async def _apply(self, wanted: dict[str, str]) -> None:
        for writer, owned in labels.by_writer(wanted).items():
            feature_discovery = writer == "nfd-master"
            body = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": self._node,
                    "labels": owned,
                    "annotations": labels.feature_annotations(wanted)
                    if feature_discovery
                    else ENABLED,
                },
            }
            found = await self._api.patch(
                self._path, body, APPLY, fieldManager=writer, force="true"
            )
        self._found = found
        log.info("node %s has its %d labels", self._node, len(wanted))

    async def _remove(self, surplus: list[str]) -> None:
        if surplus:
            gone = {"metadata": {"labels": dict.fromkeys(surplus)}}
            self._found = await self._api.patch(self._path, gone, MERGE)
            log.info("node %s has lost %s", self._node, ", ".join(surplus))

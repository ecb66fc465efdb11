"""A node's directories, and the plugin on them, told what to be."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from rig.fake_gpu.device_plugin import NodePlugin
from rig.fake_gpu.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NODE = "dgx-0"


class Running:
    """A device plugin at work."""

    def __init__(self, directory: Path, cdi: Path, scenario: Scenario) -> None:
        self.plugin = NodePlugin(NODE, directory, cdi)
        self._scenarios: asyncio.Queue[Scenario] = asyncio.Queue()
        self._scenarios.put_nowait(scenario)
        self.task = asyncio.create_task(self.plugin.run(self._follow()))

    async def _follow(self) -> AsyncIterator[Scenario]:
        while True:
            yield await self._scenarios.get()

    def tell(self, **fields: object) -> None:
        """Make the node what the fields say; the rest as by default."""
        self._scenarios.put_nowait(Scenario.model_validate(fields))

    async def end(self) -> None:
        """As at SIGTERM; safe to call twice."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


class Node:
    """The directories of a node."""

    def __init__(self, root: Path) -> None:
        self.plugins, self.cdi = root / "p", root / "cdi"
        self.pod_resources = root / "pods.sock"
        self.plugins.mkdir()

    @contextlib.asynccontextmanager
    async def plugin(self, **fields: object) -> AsyncIterator[Running]:
        """Run the device plugin inside the block."""
        running = Running(self.plugins, self.cdi, Scenario.model_validate(fields))
        try:
            yield running
        finally:
            await running.end()


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    # Not tmp_path: the path of a socket has 107 characters at most.
    return Node(tmp_path_factory.mktemp("n"))

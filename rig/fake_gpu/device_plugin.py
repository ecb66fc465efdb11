"""The device plugin of one node: one served and registered resource for each kind of device."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from typing import TYPE_CHECKING, Final

from rig.fake_gpu import cdi
from rig.fake_gpu.plugin import DevicePlugin
from rig.fake_gpu.server import SOCKET_PREFIX, ResourceServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator
    from pathlib import Path

    from rig.fake_gpu.scenario import Scenario

CRASHED: Final = 70
STALLED_SECONDS: Final = 60.0
"""Longer than a kubelet that hangs can keep one look at the sockets waiting."""
LOCK_SECONDS: Final = 0.2
log = logging.getLogger(__name__)


class NodePlugin:
    """All resources of one node.

    Args:
        node: its name, from which devices have their identities.
        directory: the kubelet's directory for device plugins.
        cdi_directory: where container runtimes look devices up.
    """

    def __init__(self, node: str, directory: Path, cdi_directory: Path) -> None:
        self._node = node
        self._directory = directory
        self._cdi_directory = cdi_directory
        self._crash_word: str | None = None
        self._running: dict[str, tuple[ResourceServer, asyncio.Task[None]]] = {}

    # --- health, as the endpoints report it -------------------------------------------------
    @property
    def alive(self) -> bool:
        """Whether sockets are still being looked after."""
        now = asyncio.get_running_loop().time()
        return all(now - server.looked < STALLED_SECONDS for server, _ in self._running.values())

    @property
    def ready(self) -> bool:
        """Whether the kubelet listens to every resource."""
        servers = [server for server, _ in self._running.values()]
        return bool(servers) and all(server.registered for server in servers)

    # --- work -------------------------------------------------------------------------------
    async def run(self, scenarios: AsyncIterable[Scenario]) -> None:
        """Follow scenarios until cancelled; takes everything down in order then."""
        async with _alone(self._directory), asyncio.TaskGroup() as group:
            for stale in self._directory.glob(f"{SOCKET_PREFIX}*.sock"):
                stale.unlink()
            async for scenario in scenarios:
                self._apply(scenario, group)

    def _apply(self, scenario: Scenario, group: asyncio.TaskGroup) -> None:
        self._maybe_crash(scenario.crash)
        machine = scenario.machine(self._node)
        # Before the kubelet hears of a device, runtimes can look it up.
        cdi.write(machine, self._cdi_directory)
        resources = machine.resources()
        for resource in set(self._running) - set(resources):
            _, task = self._running.pop(resource)
            task.cancel()
        for resource, devices in resources.items():
            if resource not in self._running:
                server = ResourceServer(DevicePlugin(resource), self._directory)
                server.plugin.update(devices, scenario.broken)
                self._running[resource] = server, group.create_task(server.run())
            else:
                self._running[resource][0].plugin.update(devices, scenario.broken)

    def _maybe_crash(self, word: str) -> None:
        """Die at a new word; the one found at the start was for an earlier life."""
        if self._crash_word not in {None, word}:
            log.error("crash as told: %s", word)
            # No clean-up of any kind, as if killed; the first process of a container cannot kill
            # itself with a signal.
            os._exit(CRASHED)
        self._crash_word = word


@contextlib.asynccontextmanager
async def _alone(directory: Path) -> AsyncIterator[None]:
    """Wait until no other plugin of ours works in the directory.

    Two would take each other's socket away for ever. The directory itself is locked: a kubelet
    that starts deletes files.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        told = False
        while not _locked(descriptor):
            if not told:
                log.warning("%s: another plugin is at work; waiting for its end", directory)
                told = True
            await asyncio.sleep(LOCK_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

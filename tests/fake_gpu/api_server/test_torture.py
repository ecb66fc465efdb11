"""Fault after fault, on the kubelet's side and on the plugin's, in an order drawn by lot.

A dozen by default; `make device-plugin-torture` asks for two hundred.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
from http import HTTPStatus
from typing import TYPE_CHECKING

from tests.fake_gpu.kubelet import GPU, Kubelet, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.fake_gpu.api_server.stack import Part, Stack
    from tests.fake_gpu.conftest import Node

FAULTS = int(os.environ.get("DEVICE_PLUGIN_FAULTS", "12"))
RIGHT_SECONDS = 10.0
START_SECONDS = 60.0
SEED = 20
log = logging.getLogger(__name__)


class Torture:
    """A node under fire: its kubelet, its plugin, and what its allocatable should be."""

    def __init__(self, stack: Stack, name: str, node: Node, start: Callable[[], Part]) -> None:
        self._stack, self._name, self._node, self._start = stack, name, node, start
        self._random = random.Random(SEED)  # noqa: S311 - an order, not a secret
        self.kubelet = Kubelet(node.plugins)
        self.plugin = start()
        self.healthy = 8
        self._crash = ""
        self.faults: list[Callable[[], Awaitable[None]]] = [
            self.kubelet_restarts,
            self.kubelet_dies_and_its_socket_stays,
            self.kubelet_refuses_at_first,
            self.plugin_is_killed,
            self.plugin_is_ended,
            self.plugin_crashes,
            self.socket_is_deleted,
            self.gpus_flap,
        ]

    async def next(self) -> str:
        """Do one harm; return what it was."""
        fault = self._random.choice(self.faults)
        await fault()
        return fault.__name__

    async def kubelet_restarts(self) -> None:
        await self.kubelet.die()
        self.kubelet = await Kubelet(self._node.plugins).__aenter__()

    async def kubelet_dies_and_its_socket_stays(self) -> None:
        kept = self._node.plugins / "kept"
        kept.hardlink_to(self.kubelet.socket)
        await self.kubelet.die()
        kept.rename(self.kubelet.socket)
        self.kubelet = await Kubelet(self._node.plugins).__aenter__()

    async def kubelet_refuses_at_first(self) -> None:
        await self.kubelet.die()
        self.kubelet = Kubelet(self._node.plugins)
        self.kubelet.refuse = self._random.randint(1, 3)
        await self.kubelet.__aenter__()

    async def plugin_is_killed(self) -> None:
        await self._replace(lambda: self.plugin.end(signal.SIGKILL))

    async def plugin_is_ended(self) -> None:
        await self._replace(self.plugin.end)

    async def plugin_crashes(self) -> None:
        self._crash = str(self._random.random())
        self._write()
        await until(lambda: self.plugin.exit_code is not None, "the crash")
        await self._replace(self.plugin.end)

    async def _replace(self, end: Callable[[], int]) -> None:
        # In another thread, as the plugin takes leave of the kubelet, which lives in this one.
        await asyncio.to_thread(end)
        await until(lambda: not self.kubelet.allocatable(), "the kubelet to see the end")
        self.plugin = self._start()
        # How long a busy machine takes to start Python says nothing about the plugin.
        async with asyncio.timeout(START_SECONDS):
            while (await asyncio.to_thread(self.plugin.page, "/healthz"))[0] != HTTPStatus.OK:
                assert self.plugin.exit_code is None, self.plugin.log.read_text()

    async def socket_is_deleted(self) -> None:
        registered = len(self.kubelet.registrations)
        for socket in self._node.plugins.glob("fake-*"):
            socket.unlink()
        await until(lambda: len(self.kubelet.registrations) > registered, "a new socket")

    async def gpus_flap(self) -> None:
        for _ in range(5):
            self.healthy = self._random.randint(3, 8)
            self._write()

    def _write(self) -> None:
        faults = [{"gpu": each} for each in range(8 - self.healthy)]
        self._stack.tell(self._name, faults=faults, crash=self._crash)


async def test_after_every_fault_the_kubelet_counts_right_and_pods_keep_their_gpus(
    stack: Stack, name: str, node: Node, start_plugin: Callable[[], Part]
) -> None:
    under = Torture(stack, name, node, start_plugin)
    slowest = 0.0
    loop = asyncio.get_running_loop()
    async with under.kubelet:
        await until(lambda: under.kubelet.allocatable() == 8, "8 GPUs", START_SECONDS)
        ids = list(under.kubelet.devices())
        await under.kubelet.admit("a/pod", 3)
        held = under.kubelet.held
    under.kubelet = await Kubelet(node.plugins).__aenter__()
    try:
        for number in range(FAULTS):
            what = await under.next()
            began = loop.time()
            await until(
                lambda: under.kubelet.allocatable() == under.healthy,
                f"{under.healthy} GPUs after fault {number}, {what}",
                RIGHT_SECONDS,
            )
            seconds = loop.time() - began
            slowest = max(slowest, seconds)
            log.info("fault %d, %s: right after %.1f s", number, what, seconds)
            assert list(under.kubelet.devices()) == ids
            assert under.kubelet.held == held
    finally:
        await under.kubelet.die()
    log.info("%d faults, the slowest was right after %.1f s", FAULTS, slowest)
    assert set(held["a/pod"][GPU]) <= set(ids)

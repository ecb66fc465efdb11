"""The device plugin service of one resource: what a kubelet asks, and the answers.

State only; sockets and registration are the business of `server.py`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Never

import grpc

from rig.fake_gpu import allocation, names
from rig.fake_gpu.wire import deviceplugin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from rig.fake_gpu.machine import Device

HEALTHY = "Healthy"
UNHEALTHY = "Unhealthy"
VISIBLE_DEVICES = "NVIDIA_VISIBLE_DEVICES"
log = logging.getLogger(__name__)


class DevicePlugin:
    """Answers for one resource; survives any number of servers and streams.

    Args:
        resource: its name, such as `nvidia.com/gpu`.
    """

    def __init__(self, resource: str) -> None:
        self.resource = resource
        self._devices: dict[str, Device] = {}
        self._broken: frozenset[str] = frozenset()
        # Replaced by a new one at every change; whoever waits on the old one wakes up.
        self._changed = asyncio.Event()
        self._closed = False
        self._streams = 0

    @property
    def streams(self) -> int:
        """How many kubelets listen: 1 when all is well."""
        return self._streams

    def update(self, devices: Iterable[Device], broken: frozenset[int]) -> None:
        """Replace the devices, and tell whoever listens if that changes anything.

        Args:
            devices: all of the resource.
            broken: indexes of GPUs that cannot be used.
        """
        by_id = {each.id: each for each in devices}
        unhealthy = frozenset(each.id for each in by_id.values() if each.gpu in broken)
        if (by_id, unhealthy) == (self._devices, self._broken):
            return
        self._devices, self._broken = by_id, unhealthy
        healthy = len(by_id) - len(unhealthy)
        log.info("%s: %d devices, %d healthy", self.resource, len(by_id), healthy)
        self._wake()

    def close(self) -> None:
        """End all streams, which tells the kubelet that the devices are gone."""
        self._closed = True
        self._wake()

    def reopen(self) -> None:
        """Allow streams again, for a new server."""
        self._closed = False

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # --- the service; the names are those of the protocol -----------------------------------
    async def GetDevicePluginOptions(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Say what this plugin can do."""
        del request, context
        return options()

    async def ListAndWatch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Send all devices at once, and all of them again after every change."""
        del request, context
        self._streams += 1
        try:
            while not self._closed:
                # Taken before the list is made: a change in between is not missed.
                changed = self._changed
                yield self._list()
                await changed.wait()
        finally:
            self._streams -= 1

    def _list(self) -> Any:
        return deviceplugin.ListAndWatchResponse(
            devices=[
                deviceplugin.Device(
                    ID=each.id,
                    health=UNHEALTHY if each.id in self._broken else HEALTHY,
                    topology=deviceplugin.TopologyInfo(nodes=[deviceplugin.NUMANode(ID=each.numa)]),
                )
                for each in self._devices.values()
            ]
        )

    async def GetPreferredAllocation(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Choose among free devices, for each container."""
        try:
            chosen = [
                allocation.preferred(
                    self._devices,
                    each.available_deviceIDs,
                    each.must_include_deviceIDs,
                    each.allocation_size,
                )
                for each in request.container_requests
            ]
        except ValueError as error:
            await self._refuse(context, error)
        make = deviceplugin.ContainerPreferredAllocationResponse
        return deviceplugin.PreferredAllocationResponse(
            container_responses=[make(deviceIDs=ids) for ids in chosen]
        )

    async def Allocate(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Say how each container gets to see its devices.

        Unhealthy devices are not refused: a kubelet asks for them when a container restarts that
        has held them all along.
        """
        wanted = [list(each.devices_ids) for each in request.container_requests]
        try:
            allocation.check(self._devices, (each for ids in wanted for each in ids))
        except ValueError as error:
            await self._refuse(context, error)
        log.info("%s: allocated %s", self.resource, wanted)
        return deviceplugin.AllocateResponse(
            container_responses=[_allocated(ids) for ids in wanted]
        )

    async def PreStartContainer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Nothing is to be done, and kubelets are told so; a call is answered all the same."""
        del request, context
        return deviceplugin.PreStartContainerResponse()

    async def _refuse(self, context: Any, error: ValueError) -> Never:
        log.warning("%s: refused: %s", self.resource, error)
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{self.resource}: {error}")
        raise AssertionError("abort raises")


def options() -> Any:
    """Return what the plugins of this stack can do."""
    return deviceplugin.DevicePluginOptions(get_preferred_allocation_available=True)


def _allocated(ids: list[str]) -> Any:
    return deviceplugin.ContainerAllocateResponse(
        envs={VISIBLE_DEVICES: ",".join(ids)},
        cdi_devices=[deviceplugin.CDIDevice(name=f"{names.CDI_KIND}={each}") for each in ids],
    )

"""A kubelet reduced to its dealings with device plugins, over real sockets.

It does what the device manager of a kubelet does, in the same order: deletes all sockets of the
directory when it starts, calls a plugin back before it answers its registration, lists and watches
in the background, lets the newest registration win, takes the end of a stream for the end of the
devices, and remembers in a checkpoint file who holds what. It also answers who holds what.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import grpc

from rig.fake_gpu.names import KUBELET_SOCKET
from rig.fake_gpu.wire import (
    channel,
    deviceplugin,
    plugin_services,
    pod_services,
    podresources,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

CHECKPOINT = "kubelet_internal_checkpoint"
DIAL_SECONDS = 10.0
GPU = "nvidia.com/gpu"


async def until(condition: Callable[[], Any], what: str, seconds: float = 10.0) -> None:
    """Wait until something holds; fails after that many seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        await asyncio.sleep(0.01)


class UnexpectedAdmissionError(Exception):
    """The pod is refused on the node, and nobody tries again."""


@dataclass
class Endpoint:
    """A plugin that has registered."""

    channel: grpc.aio.Channel
    stub: Any
    options: Any
    devices: dict[str, Any] = field(default_factory=dict)
    lists: int = 0
    watching: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self.watching is not None:
            self.watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.watching
        await self.channel.close()


class Kubelet:
    """One life of a kubelet; a restart is another object on the same directories."""

    def __init__(self, directory: Path, pod_resources: Path | None = None) -> None:
        self.directory = directory
        self.socket = directory / KUBELET_SOCKET
        self.endpoints: dict[str, Endpoint] = {}
        self.registrations: list[str] = []
        self.refuse = 0
        self.held: dict[str, dict[str, list[str]]] = {}
        self._pod_resources = pod_resources
        self._servers: list[grpc.aio.Server] = []

    # --- life -------------------------------------------------------------------------------
    async def __aenter__(self) -> Self:
        for found in self.directory.iterdir():
            if found.is_socket():
                found.unlink()
        checkpoint = self.directory / CHECKPOINT
        if checkpoint.exists():
            self.held = json.loads(checkpoint.read_text())
        await self._serve(self.socket, plugin_services.add_RegistrationServicer_to_server)
        if self._pod_resources is not None:
            self._pod_resources.unlink(missing_ok=True)
            add = pod_services.add_PodResourcesListerServicer_to_server
            await self._serve(self._pod_resources, add)
        return self

    async def _serve(self, socket: Path, add: Any) -> None:
        server = grpc.aio.server()
        add(self, server)
        server.add_insecure_port(f"unix://{socket}")
        await server.start()
        self._servers.append(server)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.die()

    async def die(self) -> None:
        """End without a word to the plugins; safe to call twice."""
        servers, self._servers = self._servers, []
        for server in servers:
            await server.stop(None)
        for endpoint in self.endpoints.values():
            await endpoint.close()

    # --- what plugins call ------------------------------------------------------------------
    async def Register(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.registrations.append(request.resource_name)
        if self.refuse:
            self.refuse -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        if request.version != "v1beta1":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, request.version)
        connection = channel(self.directory / request.endpoint)
        stub = plugin_services.DevicePluginStub(connection)
        # A plugin that registers before it serves, or that waits for the answer to its
        # registration in the thread that serves, is caught here.
        options = await stub.GetDevicePluginOptions(deviceplugin.Empty(), timeout=DIAL_SECONDS)
        old = self.endpoints.get(request.resource_name)
        endpoint = Endpoint(connection, stub, options)
        self.endpoints[request.resource_name] = endpoint
        if old is not None:
            await old.close()
        endpoint.watching = asyncio.create_task(self._watch(endpoint))
        return deviceplugin.Empty()

    async def _watch(self, endpoint: Endpoint) -> None:
        try:
            async for answer in endpoint.stub.ListAndWatch(deviceplugin.Empty()):
                endpoint.devices = {each.ID: each for each in answer.devices}
                endpoint.lists += 1
        except grpc.aio.AioRpcError:
            pass
        finally:
            for device in endpoint.devices.values():
                device.health = "Unhealthy"

    # --- what the rest of the cluster sees --------------------------------------------------
    def devices(self, resource: str = GPU) -> dict[str, Any]:
        """Return the devices as last listed."""
        endpoint = self.endpoints.get(resource)
        return endpoint.devices if endpoint else {}

    def capacity(self, resource: str = GPU) -> int:
        return len(self.devices(resource))

    def allocatable(self, resource: str = GPU) -> int:
        return sum(each.health == "Healthy" for each in self.devices(resource).values())

    async def admit(self, pod: str, count: int, resource: str = GPU) -> Any:
        """Start a pod with one container; return what the plugin says about its devices."""
        taken = {
            device for holding in self.held.values() for ids in holding.values() for device in ids
        }
        free = [
            identity
            for identity, device in self.devices(resource).items()
            if device.health == "Healthy" and identity not in taken
        ]
        if len(free) < count:
            raise UnexpectedAdmissionError(f"{pod}: {len(free)} of {count} {resource}")
        endpoint = self.endpoints[resource]
        chosen = await self._prefer(endpoint, free, count)
        request = deviceplugin.ContainerAllocateRequest(devices_ids=chosen)
        answer = await endpoint.stub.Allocate(
            deviceplugin.AllocateRequest(container_requests=[request]), timeout=DIAL_SECONDS
        )
        self.held[pod] = {resource: chosen}
        (self.directory / CHECKPOINT).write_text(json.dumps(self.held))
        return answer.container_responses[0]

    async def _prefer(self, endpoint: Endpoint, free: list[str], count: int) -> list[str]:
        assert endpoint.options.get_preferred_allocation_available
        request = deviceplugin.ContainerPreferredAllocationRequest(
            available_deviceIDs=free, allocation_size=count
        )
        answer = await endpoint.stub.GetPreferredAllocation(
            deviceplugin.PreferredAllocationRequest(container_requests=[request]),
            timeout=DIAL_SECONDS,
        )
        chosen = list(answer.container_responses[0].deviceIDs)
        assert len(set(chosen)) == count
        assert set(chosen) <= set(free)
        return chosen

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802
        del request, context
        return podresources.ListPodResourcesResponse(
            pod_resources=[
                podresources.PodResources(
                    namespace=pod.partition("/")[0],
                    name=pod.partition("/")[2],
                    containers=[
                        podresources.ContainerResources(
                            name="main",
                            devices=[
                                podresources.ContainerDevices(resource_name=each, device_ids=[one])
                                for each, ids in holding.items()
                                for one in ids
                            ],
                        )
                    ],
                )
                for pod, holding in self.held.items()
            ]
        )

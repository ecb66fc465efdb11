"""Keeps one resource registered with the kubelet, whatever happens to either side.

What can happen, and is seen within a second, because both sockets are looked at that often:

- the kubelet restarts: it deletes all sockets of the directory and makes its own anew. Ours is
  served again first, then registered;
- our socket is deleted or replaced: the same;
- the kubelet is away or refuses: tried again, less often with time;
- the kubelet is there but does not listen (it dropped the stream, or never opened it): registered
  again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

import grpc

from rig.fake_gpu import names
from rig.fake_gpu.plugin import DevicePlugin, options
from rig.fake_gpu.wire import channel, deviceplugin, plugin_services

if TYPE_CHECKING:
    from pathlib import Path

LOOK_SECONDS: Final = 0.5
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 4.0
REGISTER_SECONDS: Final = 15.0
"""The kubelet dials back, for ten seconds at most, before it answers."""
STREAM_SECONDS: Final = 10.0
"""How long a kubelet may take to listen, or to listen again, before it is asked anew."""
STOP_SECONDS: Final = 2.0
SOCKET_PREFIX: Final = "fake-nvidia-"
log = logging.getLogger(__name__)

Identity = tuple[int, int]


def identity(socket: Path) -> Identity | None:
    """Return what tells a socket from a later one at the same path; None if there is none.

    File systems in memory use inode numbers again at once, hence the time as well.
    """
    try:
        found = socket.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns


class ResourceServer:
    """Serves and registers one resource until it is closed.

    Args:
        plugin: the service.
        directory: the kubelet's directory for device plugins.
    """

    def __init__(self, plugin: DevicePlugin, directory: Path) -> None:
        self.plugin = plugin
        self._kubelet = directory / names.KUBELET_SOCKET
        short = plugin.resource.removeprefix(names.NVIDIA)
        self.socket = directory / f"{SOCKET_PREFIX}{short}.sock"
        self._server: grpc.aio.Server | None = None
        self._served: Identity | None = None
        self._registered: Identity | None = None
        self._refused_by: Identity | None = None
        self._deaf_since: float | None = None
        self._pause = FIRST_PAUSE_SECONDS
        self._not_before = 0.0
        self.looked = _now()
        """Time of the loop at which the sockets were last looked at."""

    @property
    def registered(self) -> bool:
        """Whether the kubelet that is there now listens to us."""
        current = identity(self._kubelet)
        return current is not None and current == self._registered and self.plugin.streams > 0

    async def run(self) -> None:
        """Keep the resource registered; ends by cancellation only, and takes it down then."""
        try:
            while True:
                await self._look()
                self.looked = _now()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self._stop()

    async def _look(self) -> None:
        current = identity(self._kubelet)
        if current is None:
            self._registered = None
        if self._server is None or identity(self.socket) != self._served:
            await self._serve()
        if current is None or (current == self._refused_by and _now() < self._not_before):
            return
        if current != self._registered or self._unheard():
            await self._register(current)

    def _unheard(self) -> bool:
        if self.plugin.streams:
            self._deaf_since = None
            return False
        if self._deaf_since is None:
            self._deaf_since = _now()
        return _now() - self._deaf_since > STREAM_SECONDS

    async def _serve(self) -> None:
        # In this order: a server that ends may unlink its path, whoever listens there by then.
        await self._stop()
        with contextlib.suppress(FileNotFoundError):
            self.socket.unlink()
        server = grpc.aio.server()
        plugin_services.add_DevicePluginServicer_to_server(self.plugin, server)
        server.add_insecure_port(f"unix://{self.socket}")
        self.plugin.reopen()
        self._server = server
        await server.start()
        self._served, self._registered = identity(self.socket), None
        log.info("%s: served at %s", self.plugin.resource, self.socket)

    async def _register(self, kubelet: Identity) -> None:
        request = deviceplugin.RegisterRequest(
            version=names.PLUGIN_API,
            endpoint=self.socket.name,
            resource_name=self.plugin.resource,
            options=options(),
        )
        try:
            # A kubelet that cannot reach us answers with an error of its own; asking ourselves
            # first tells the two apart in the log.
            await _call(self.socket, plugin_services.DevicePluginStub, "GetDevicePluginOptions")
            await _call(self._kubelet, plugin_services.RegistrationStub, "Register", request)
        except grpc.aio.AioRpcError as error:
            if kubelet != self._refused_by:
                # What an earlier kubelet refused says nothing about this one.
                self._pause = FIRST_PAUSE_SECONDS
            self._refused_by, self._not_before = kubelet, _now() + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
            log.warning("%s: not registered: %s", self.plugin.resource, error.details())
            return
        self._registered, self._refused_by, self._deaf_since = kubelet, None, _now()
        log.info("%s: registered", self.plugin.resource)

    async def _stop(self) -> None:
        if self._server is None:
            return
        server, self._server = self._server, None
        self.plugin.close()
        await server.stop(STOP_SECONDS)
        if identity(self.socket) == self._served:
            with contextlib.suppress(FileNotFoundError):
                self.socket.unlink()


async def _call(socket: Path, stub: Any, method: str, request: Any = None) -> Any:
    async with channel(socket) as connection:
        call = getattr(stub(connection), method)
        return await call(request or deviceplugin.Empty(), timeout=REGISTER_SECONDS)


def _now() -> float:
    return asyncio.get_running_loop().time()

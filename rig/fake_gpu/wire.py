"""Messages and stubs of the kubelet's two services, made from the .proto files when imported.

Nothing generated is kept in the tree: grpcio-tools compiles the files in memory. They are looked
up on the module path, below which this package lies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc

if TYPE_CHECKING:
    from pathlib import Path

deviceplugin: Any
plugin_services: Any
podresources: Any
pod_services: Any
deviceplugin, plugin_services = grpc.protos_and_services("rig/fake_gpu/deviceplugin.proto")
podresources, pod_services = grpc.protos_and_services("rig/fake_gpu/podresources.proto")

CHANNEL: Final = (
    # Proxies of the environment have no say about a socket of this machine.
    ("grpc.enable_http_proxy", 0),
    # Two channels to one path may mean two sockets, before and after a restart of the kubelet.
    ("grpc.use_local_subchannel_pool", 1),
    # Servers written in Go refuse an authority that is a path.
    ("grpc.default_authority", "localhost"),
)


def channel(socket: Path) -> grpc.aio.Channel:
    """Return a channel to a unix socket; connects at the first call."""
    return grpc.aio.insecure_channel(f"unix://{socket}", options=CHANNEL)

"""What hardware a node pretends to have: GPUs, their partitions, and stable identities for both.

Identities are derived, never drawn: a kubelet remembers in its checkpoint which device a running
pod holds, so a device that came back with another name after a restart would be lost to that pod.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rig.fake_gpu import names
from rig.fake_gpu.mig import Profile, partition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rig.catalogue import Product

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_DNS, names.PREFIX.rstrip("/"))
SOCKETS: Final = 2
"""CPU sockets, each with a NUMA node and half of the GPUs, as in a DGX B200."""
FIRST_INSTANCE: Final = 1
_BUS: Final = (0x1B, 0x43, 0x52, 0x61, 0x9D, 0xC3, 0xD1, 0xDF)
"""PCI buses of the GPUs; more than eight go on behind the last."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A partition of a GPU.

    Attributes:
        uuid: `MIG-…`.
        number: id of the GPU instance on its GPU.
        profile: its size.
    """

    uuid: str
    number: int
    profile: Profile


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.

    Attributes:
        index: as the driver counts, from 0.
        uuid: `GPU-…`.
        numa: NUMA node it hangs on.
        pci_bus_id: PCI address.
        instances: its partitions; none when it is used whole.
    """

    index: int
    uuid: str
    numa: int
    pci_bus_id: str
    instances: tuple[Instance, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """What a kubelet hands out: a GPU or a partition.

    Attributes:
        id: its identity.
        gpu: index of the GPU that it is, or is on.
        numa: NUMA node.
    """

    id: str
    gpu: int
    numa: int


@dataclass(frozen=True, slots=True)
class Machine:
    """The GPUs of one node.

    Attributes:
        node: name of the node.
        product: what its GPUs are.
        gpus: by index.
    """

    node: str
    product: Product
    gpus: tuple[Gpu, ...]

    def resources(self) -> dict[str, tuple[Device, ...]]:
        """Return devices by resource name, as the strategy `mixed` names them.

        Whole GPUs are `nvidia.com/gpu`, also when there are none left; every size of partition is
        a resource of its own.
        """
        found: dict[str, list[Device]] = {names.GPU_RESOURCE: []}
        for gpu in self.gpus:
            if not gpu.instances:
                found[names.GPU_RESOURCE].append(Device(gpu.uuid, gpu.index, gpu.numa))
            for each in gpu.instances:
                resource = f"{names.MIG_RESOURCE}{each.profile.resource_name}"
                device = Device(each.uuid, gpu.index, gpu.numa)
                found.setdefault(resource, []).append(device)
        return {resource: tuple(devices) for resource, devices in found.items()}


def build(
    node: str, product: Product, gpus: int, partitions: Mapping[int, Mapping[str, int]]
) -> Machine:
    """Return the machine of a node.

    Args:
        node: name of the node.
        product: of its GPUs.
        gpus: how many.
        partitions: number of instances by profile name, by index of the GPU.

    Raises:
        ValueError: a GPU cannot be partitioned like that.
    """
    return Machine(
        node,
        product,
        tuple(
            _gpu(node, index, gpus, partition(product, partitions.get(index, {})))
            for index in range(gpus)
        ),
    )


def _gpu(node: str, index: int, gpus: int, profiles: tuple[Profile, ...]) -> Gpu:
    bus = _BUS[index] if index < len(_BUS) else _BUS[-1] + 1 + index - len(_BUS)
    instances = (
        Instance(_identity("MIG", f"{node}/{index}/{number}/{profile.name}"), number, profile)
        for number, profile in enumerate(profiles, FIRST_INSTANCE)
    )
    return Gpu(
        index,
        _identity("GPU", f"{node}/{index}"),
        index * SOCKETS // gpus,
        f"00000000:{bus:02X}:00.0",
        tuple(instances),
    )


def _identity(kind: str, what: str) -> str:
    return f"{kind}-{uuid.uuid5(_NAMESPACE, what)}"

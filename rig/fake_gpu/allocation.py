"""Which devices a container should get, and which requests for devices make no sense."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rig.fake_gpu.machine import Device


def preferred(
    devices: Mapping[str, Device],
    available: Sequence[str],
    required: Sequence[str],
    size: int,
) -> list[str]:
    """Choose devices that are close together.

    The NUMA node that is needed least otherwise is kept whole: of the nodes that can hold all that
    is missing, the one with the fewest free devices is taken; if none can, the largest first. On
    one node, GPUs go by index, so that partitions of one GPU are used up before the next one's.

    Args:
        devices: all devices of the resource, by id.
        available: ids to choose from; includes the required ones.
        required: ids that have to be among the chosen.
        size: how many ids to return.

    Returns:
        The required ids, then the chosen ones.

    Raises:
        ValueError: the request cannot be met.
    """
    check(devices, available)
    check(devices, required)
    if not set(required) <= set(available):
        raise ValueError("devices that must be included are not available")
    if not len(required) <= size <= len(available):
        raise ValueError(
            f"{size} devices asked for, {len(required)} required, {len(available)} available"
        )
    free = [devices[each] for each in available if each not in set(required)]
    on_node = Counter(device.numa for device in free)
    near = Counter(devices[each].numa for each in required)
    missing = size - len(required)

    def rank(device: Device) -> tuple[int, bool, int, int, int, str]:
        count = on_node[device.numa]
        holds_all = count >= missing
        closest = -near[device.numa]
        return closest, not holds_all, count if holds_all else -count, device.numa, *_order(device)

    return [*required, *(device.id for device in sorted(free, key=rank)[:missing])]


def _order(device: Device) -> tuple[int, str]:
    return device.gpu, device.id


def check(devices: Mapping[str, Device], ids: Iterable[str]) -> None:
    """Refuse ids that do not exist or that are named twice.

    Raises:
        ValueError: with the ids that are wrong.
    """
    counts = Counter(ids)
    if unknown := sorted(set(counts) - set(devices)):
        raise ValueError(f"unknown device: {', '.join(unknown)}")
    if twice := sorted(each for each, count in counts.items() if count > 1):
        raise ValueError(f"device named twice: {', '.join(twice)}")

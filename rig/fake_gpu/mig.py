"""Partitions of GPUs: what one profile takes of a GPU and what is allowed together.

Names, fractions of memory and copy engines are those of NVIDIA's MIG user guide (tables of GPU
instance profiles). Streaming multiprocessors are per compute slice, and memory is the fraction of
the whole: real GPUs keep some per cent of it back, and give a 3g instance a few more processors.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rig.catalogue import Product

COMPUTE_SLICES: Final = 7
MEMORY_SLICES: Final = 8


@dataclass(frozen=True, slots=True)
class Profile:
    """One size of partition.

    Attributes:
        name: as the driver prints it, such as `1g.23gb` or `1g.23gb+me`.
        compute: sevenths of the GPU's processors.
        memory: eighths of the GPU's memory.
        at_most: how many fit on one GPU.
        multiprocessors: streaming multiprocessors.
        copy: copy engines.
        decoders: video decoders, and as many JPEG engines.
        flow: optical flow accelerators.
    """

    name: str
    compute: int
    memory: int
    at_most: int
    multiprocessors: int
    copy: int
    decoders: int
    flow: int

    @property
    def resource_name(self) -> str:
        """Name in resources and labels, where a plus sign is not allowed."""
        return self.name.replace("+", ".")


_SIZES: Final = (
    # compute, memory, at most, media extensions
    (1, 1, 7, False),
    (1, 1, 1, True),
    (1, 2, 4, False),
    (2, 2, 3, False),
    (3, 4, 2, False),
    (4, 4, 1, False),
    (7, 8, 1, False),
)
# Suffix by eighths of memory; processors per slice and in all; copy engines per size.
_GPUS: Final = {
    "NVIDIA-B200": ({1: 23, 2: 45, 4: 90, 8: 180}, 18, 148, (2, 2, 2, 3, 6, 8, 16)),
    "NVIDIA-H200": ({1: 18, 2: 35, 4: 71, 8: 141}, 16, 132, (1, 1, 1, 2, 3, 4, 8)),
    "NVIDIA-H100-80GB-HBM3": ({1: 10, 2: 20, 4: 40, 8: 80}, 16, 132, (1, 1, 1, 2, 3, 4, 8)),
}


def _profiles(product: str) -> dict[str, Profile]:
    memory_names, per_slice, whole, copies = _GPUS[product]
    made = {}
    for (compute, memory, at_most, media), copy in zip(_SIZES, copies, strict=True):
        name = f"{compute}g.{memory_names[memory]}gb{'+me' if media else ''}"
        # A Hopper slice has decoders of its own; on Blackwell an instance has one, whatever its
        # size.
        decoders = 1 if product == "NVIDIA-B200" else compute
        made[name] = Profile(
            name,
            compute,
            memory,
            at_most,
            whole if compute == COMPUTE_SLICES else per_slice * compute,
            copy,
            decoders,
            int(media or compute == COMPUTE_SLICES),
        )
    return made


PROFILES: Final = {product: _profiles(product) for product in _GPUS}
"""By product, then by name."""


def partition(product: Product, wanted: Mapping[str, int]) -> tuple[Profile, ...]:
    """Return the instances of one GPU, largest first, as mig-parted makes them.

    Args:
        product: of the GPU.
        wanted: number of instances by profile name.

    Raises:
        ValueError: the product has no such profile, or they do not fit together.
    """
    known = PROFILES.get(product.name, {})
    if unknown := sorted(set(wanted) - set(known)):
        offered = ", ".join(known) or "none"
        raise ValueError(
            f"{product.name} has no MIG profile {', '.join(unknown)}; it has {offered}"
        )
    made = Counter({known[name]: count for name, count in wanted.items()})
    for profile, count in made.items():
        if count > profile.at_most:
            raise ValueError(f"{count} x {profile.name}: a GPU holds {profile.at_most} at most")
    compute = sum(profile.compute * count for profile, count in made.items())
    memory = sum(profile.memory * count for profile, count in made.items())
    if compute > COMPUTE_SLICES or memory > MEMORY_SLICES:
        raise ValueError(
            f"{dict(wanted)} takes {compute}/{COMPUTE_SLICES} of the processors and "
            f"{memory}/{MEMORY_SLICES} of the memory of a GPU"
        )
    return tuple(sorted(made.elements(), key=lambda each: (-each.memory, -each.compute, each.name)))

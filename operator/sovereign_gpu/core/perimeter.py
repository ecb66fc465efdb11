"""On which ways data may leave a tenant's namespaces, and how the API server is told; pure.

Several policies hold for a namespace at once, and each has a list of its own. What is a plain set
is intersected here. What is matched by beginnings is handed on policy by policy, and the admission
policies ask for a match in every list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from sovereign_gpu import names

OPENINGS: Final = ("Endpoints", "ExternalIPs", "ExternalName", "LoadBalancer")
"""Ways out that a Service can open."""

_Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Perimeter:
    """What one policy allows; None: it does not care."""

    registries: frozenset[str] | None = None
    """Beginnings of image names."""
    classes: frozenset[str] | None = None
    """StorageClasses."""
    attributes_classes: frozenset[str] | None = None
    """VolumeAttributesClasses."""
    snapshot_classes: frozenset[str] | None = None
    """VolumeSnapshotClasses."""
    drivers: frozenset[str] | None = None
    """CSI drivers of volumes in a pod."""
    openings: frozenset[str] = frozenset()
    """Ways out of Services, of `OPENINGS`."""
    networks: frozenset[str] | None = None
    """Networks that packets may go to, besides pods of the tenant; None: anywhere."""
    reachable: frozenset[str] = frozenset()
    """Namespaces outside the tenant that packets may go to."""
    access: frozenset[str] | None = None
    """Countries of users who may look into pods."""


OPEN: Final = Perimeter(openings=frozenset(OPENINGS))
"""Of a policy that cares for no way out."""


CLOSED: Final = Perimeter(
    registries=frozenset(),
    classes=frozenset(),
    attributes_classes=frozenset(),
    snapshot_classes=frozenset(),
    drivers=frozenset(),
    networks=frozenset(),
    access=frozenset(),
)
"""Of a policy that does not exist: what it would allow nobody knows."""


@dataclass(frozen=True, slots=True)
class Egress:
    """Where packets of a tenant's pods may go, besides pods of the tenant."""

    networks: tuple[str, ...]
    namespaces: tuple[str, ...]


_LISTS: Final[dict[str, Callable[[Perimeter], frozenset[str] | None]]] = {
    names.REGISTRIES: lambda each: each.registries,
    names.STORAGE_CLASSES: lambda each: each.classes,
    names.ATTRIBUTES_CLASSES: lambda each: each.attributes_classes,
    names.SNAPSHOT_CLASSES: lambda each: each.snapshot_classes,
    names.VOLUME_DRIVERS: lambda each: each.drivers,
    names.ACCESS: lambda each: each.access,
}
_OF_PODS: Final = (names.REGISTRIES, names.VOLUME_DRIVERS)
"""What pods are judged by."""


def told(perimeters: Sequence[Perimeter]) -> dict[str, str]:
    """Return what a namespace is told: lists of words, one list per policy that has one.

    Words are separated by commas and lists by semicolons. An annotation that is missing allows
    everything, one that is empty nothing.
    """
    found = {}
    for key, of in _LISTS.items():
        lists = {",".join(sorted(words)) for each in perimeters if (words := of(each)) is not None}
        if lists:
            found[key] = ";".join(sorted(lists))
    if perimeters:
        allowed = reduce(frozenset.__and__, (each.openings for each in perimeters))
        if allowed != frozenset(OPENINGS):
            found[names.SERVICES] = ",".join(sorted(allowed))
    reach = egress(perimeters)
    if reach is not None:
        found[names.NETWORKS] = ",".join(reach.networks)
        found[names.REACHABLE] = ",".join(reach.namespaces)
    return found


def restricts_pods(marks: Iterable[str]) -> bool:
    """Whether pods have to be judged by what a namespace is told."""
    return any(key in _OF_PODS for key in marks)


def egress(perimeters: Iterable[Perimeter]) -> Egress | None:
    """Return where packets may go, None: anywhere.

    A network is allowed where every policy that has a list allows it.
    """
    closed = [each for each in perimeters if each.networks is not None]
    if not closed:
        return None
    networks = _parsed(closed[0].networks or ())
    reachable = closed[0].reachable
    for each in closed[1:]:
        networks = _common(networks, _parsed(each.networks or ()))
        reachable &= each.reachable
    ordered = sorted(networks, key=lambda net: (net.version, net))
    return Egress(tuple(map(str, ordered)), tuple(sorted(reachable)))


def _parsed(networks: Iterable[str]) -> set[_Network]:
    return {ip_network(each) for each in networks}


def _common(some: set[_Network], others: set[_Network]) -> set[_Network]:
    # Two networks are one within the other or have nothing in common.
    smaller = {each for each in some if any(_within(each, other) for other in others)}
    return smaller | {each for each in others if any(_within(each, other) for other in some)}


def _within(inner: _Network, outer: _Network) -> bool:
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network):
        return inner.subnet_of(outer)
    return False

"""What a policy says of the ways on which data leaves a tenant's namespaces."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import Field

from sovereign_gpu.api.base import ObjectName, Spec
from sovereign_gpu.api.countrylist import Countries
from sovereign_gpu.api.rules import Rule, Unique

REGISTRY = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)+(:[0-9]{1,5})?"
    r"|localhost(:[0-9]{1,5})?|[a-z0-9]([-a-z0-9]*[a-z0-9])?:[0-9]{1,5})"
    r"/([a-z0-9]+([._-]+[a-z0-9]+)*/)*$"
)
CLASS = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"

Opening = Literal["Endpoints", "ExternalIPs", "ExternalName", "LoadBalancer"]


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return "/" in text


RegistryPrefix = Annotated[str, Field(min_length=2, max_length=253, pattern=REGISTRY)]
ClassName = Annotated[str, Field(min_length=1, max_length=253, pattern=CLASS)]
Network = Annotated[
    str,
    Field(max_length=43),
    Rule(
        cel="isCIDR(self) && cidr(self) == cidr(self).masked()",
        holds=_is_network,
        allowed="a network such as 192.0.2.0/24 or 2001:db8::/32, with no bit set behind the mask",
    ),
]


class Registries(Spec):
    """From where images may come."""

    allowed: Annotated[
        tuple[RegistryPrefix, ...],
        Field(
            min_length=1,
            max_length=32,
            description=(
                "Beginnings of image names that are allowed: a registry with its slash, such as "
                "registry.example.eu/, or a part of one, such as registry.example.eu/acme/. Names "
                "without a registry count as docker.io/, and as docker.io/library/ without a "
                "slash. Images of containers, init and ephemeral containers and image volumes."
            ),
        ),
        Unique(),
    ]


class Storage(Spec):
    """Where volumes may lie."""

    classes: Annotated[
        tuple[ClassName, ...],
        Field(
            max_length=32,
            description=(
                "StorageClasses that PersistentVolumeClaims and ephemeral volumes may name. A "
                "claim without a class is allowed none; what the cluster's default fills in counts."
            ),
        ),
        Unique(),
    ] = ()
    attributes_classes: Annotated[
        tuple[ClassName, ...],
        Field(max_length=32, description="VolumeAttributesClasses that claims may name."),
        Unique(),
    ] = ()
    snapshot_classes: Annotated[
        tuple[ClassName, ...],
        Field(max_length=32, description="VolumeSnapshotClasses that VolumeSnapshots may name."),
        Unique(),
    ] = ()
    drivers: Annotated[
        tuple[ClassName, ...],
        Field(
            max_length=32,
            description=(
                "CSI drivers of volumes that stand in the pod itself. Volumes that name a server "
                "on the network in the pod itself (nfs, iscsi and kin) are refused in any case."
            ),
        ),
        Unique(),
    ] = ()


class Services(Spec):
    """Which ways out a Service may open."""

    allow: Annotated[
        tuple[Opening, ...],
        Field(
            max_length=4,
            description=(
                "Ways that are open; none of them is unless it is named. LoadBalancer: Services "
                "of that type. ExternalName: Services that are an alias of a name outside. "
                "ExternalIPs: Services with spec.externalIPs. Endpoints: Endpoints and "
                "EndpointSlices written by others than the cluster's own controllers."
            ),
        ),
        Unique(),
    ] = ()


class Egress(Spec):
    """Where packets may go."""

    networks: Annotated[
        tuple[Network, ...],
        Field(
            max_length=64,
            description=(
                "Networks that pods may reach besides each other; none if empty. A network says "
                "nothing about a country: whoever lists it vouches for it."
            ),
        ),
        Unique(),
    ] = ()
    namespaces: Annotated[
        tuple[ObjectName, ...],
        Field(
            max_length=16,
            description=(
                "Namespaces outside the tenant whose pods may be reached, such as that of an "
                "ingress or of a proxy."
            ),
        ),
        Unique(),
    ] = ()


class Access(Spec):
    """Who may look into running pods."""

    countries: Annotated[
        Countries,
        Field(
            description=(
                "Countries that a user's claim must name to use exec, attach, port-forward or "
                "proxy on a pod. Which claim, the chart's value admission.countryClaim says; a "
                "user without it is refused."
            )
        ),
    ]

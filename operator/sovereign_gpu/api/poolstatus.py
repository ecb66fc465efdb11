"""What a GpuPool shows: nodes, GPUs, faults and products, written by the operator only."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sovereign_gpu.api.base import Conditions, Count, ObservedGeneration, Status
from sovereign_gpu.api.rules import Unique
from sovereign_gpu.core.health import FaultKind


class PoolNodeCounts(Status):
    """Nodes of the pool."""

    enrolled: Annotated[Count, Field(description="Nodes with GPUs in the pool.")] = 0
    ready: Annotated[
        Count, Field(description="Of these, nodes that are Ready and not cordoned.")
    ] = 0
    cordoned: Annotated[Count, Field(description="Of these, nodes marked unschedulable.")] = 0
    unhealthy: Annotated[
        Count,
        Field(description="Of these, nodes that are not Ready or have lost GPUs."),
    ] = 0
    companions: Annotated[
        Count,
        Field(
            description=(
                "Nodes without GPUs in the pool, where data loaders and notebooks of its "
                "tenants may run."
            )
        ),
    ] = 0
    faulty: Annotated[
        Count, Field(description="Nodes with GPUs that have a fault; see status.faults.")
    ] = 0


class PoolGpuCounts(Status):
    """GPUs of the pool, in whole devices."""

    capacity: Annotated[
        Count, Field(description="GPUs that the nodes of the pool have, healthy or not.")
    ] = 0
    allocatable: Annotated[
        Count, Field(description="GPUs that pods can be given on nodes that are ready.")
    ] = 0
    counted: Annotated[
        Count,
        Field(description="GPUs charged to tenants: those of pods released and not yet finished."),
    ] = 0
    reserved: Annotated[
        Count,
        Field(description="Of the counted GPUs, those of pods not bound to a node yet."),
    ] = 0
    foreign: Annotated[
        Count,
        Field(
            description=(
                "GPUs held by pods that no tenant is charged for: exempt namespaces, static "
                "pods, pods older than the installation."
            )
        ),
    ] = 0
    free: Annotated[
        Count, Field(description="GPUs that could be given out now; never below 0.")
    ] = 0
    whole_nodes_free: Annotated[
        Count,
        Field(description="Nodes with all of their GPUs free, which is what large jobs wait for."),
    ] = 0
    largest_gang: Annotated[
        Count,
        Field(
            description=(
                "GPUs of the largest gang that could start at once if its pods were equal and "
                "each took a node of its own, of which nothing is taken: over all sizes, the "
                "size times the usable nodes with at least as many GPUs, all of them free. "
                "Quota, CPU and memory are left aside."
            )
        ),
    ] = 0
    lost: Annotated[
        Count,
        Field(
            description=(
                "Of the capacity, GPUs that faults keep from new pods; pods that run there "
                "stay counted."
            )
        ),
    ] = 0


class PoolFault(Status):
    """One kind of fault in the pool."""

    kind: Annotated[
        FaultKind,
        Field(
            description=(
                "What is wrong. Replaced: the machine behind the name is not the one that was "
                "enrolled. NotReady, Cordoned: as Kubernetes says. DriverUpgrade, "
                "MigReconfiguration, CcReconfiguration: NVIDIA's operators are changing the "
                "node, or failed to. Condition: a condition of spec.health. DevicesUnhealthy: "
                "some GPUs failed; the others can be given."
            )
        ),
    ]
    nodes: Annotated[
        Count, Field(description="Nodes with GPUs that have it; a node may have several.")
    ] = 0
    gpus: Annotated[Count, Field(description="GPUs that it alone keeps from new pods.")] = 0


class PoolProduct(Status):
    """One GPU model in the pool."""

    product: Annotated[
        str,
        Field(
            max_length=63,
            description="GPU model: the label nvidia.com/gpu.product, or Unknown without it.",
        ),
    ]
    nodes: Annotated[Count, Field(description="Nodes with this model.")] = 0
    gpus: Annotated[Count, Field(description="GPUs of this model, healthy or not.")] = 0


class GpuPoolStatus(Status):
    """What the pool is."""

    observed_generation: ObservedGeneration = 0
    conditions: Annotated[
        Conditions,
        Field(
            description=(
                "Ready: the pool is in force; the reason says when it has no nodes, or nodes in "
                "another region. Reconciling: the operator is "
                "still catching up. Stalled: somebody has to change something, the message "
                "says what. Clashing: another pool claims the same node or puts the same "
                "region into another country. Oversubscribed: the guarantees given on the "
                "pool exceed its GPUs. StaticPods: kubelets run pods that nobody admitted and that "
                "hold GPUs or stand in a tenant's namespace. Degraded: GPUs are lost "
                "to faults; the message names the kinds of fault."
            )
        ),
    ] = ()
    nodes: Annotated[PoolNodeCounts, Field(description="Nodes of the pool.")] = PoolNodeCounts()
    gpus: Annotated[PoolGpuCounts, Field(description="GPUs of the pool, in whole devices.")] = (
        PoolGpuCounts()
    )
    faults: Annotated[
        tuple[PoolFault, ...],
        Field(max_length=16, description="What is wrong with nodes of the pool, by kind."),
        Unique("kind"),
    ] = ()
    products: Annotated[
        tuple[PoolProduct, ...],
        Field(max_length=64, description="GPU models in the pool."),
        Unique("product"),
    ] = ()

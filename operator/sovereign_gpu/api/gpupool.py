"""GpuPool: which nodes belong together, and where they stand."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sovereign_gpu.api.base import (
    Column,
    Conditions,
    Count,
    Country,
    LabelText,
    Naming,
    ObservedGeneration,
    Resource,
    Spec,
    Status,
)
from sovereign_gpu.api.rules import Extra, Rule, Unique

MAX_KEY = 317
"""A label key: prefix of 253, slash, name of 63."""
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
LABEL_OR_EMPTY = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"


def _is_label_key(key: str) -> bool:
    return len(key) <= MAX_KEY and re.fullmatch(LABEL_KEY, key) is not None


LabelKey = Annotated[str, Field(min_length=1, max_length=MAX_KEY, pattern=LABEL_KEY)]
LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_OR_EMPTY)]


class LabelRequirement(Spec):
    """A requirement on one label of a node."""

    rules = (
        Rule(
            cel=(
                "self.operator in ['Exists', 'DoesNotExist'] ||\n"
                "(has(self.values) && self.values.size() > 0)"
            ),
            holds=lambda r: bool(r.values) or r.operator not in {"In", "NotIn"},
            found="no values",
            allowed="at least one value with the operators In and NotIn",
            at="values",
        ),
        Rule(
            cel="self.operator in ['In', 'NotIn'] || !has(self.values) || self.values.size() == 0",
            holds=lambda r: not r.values or r.operator not in {"Exists", "DoesNotExist"},
            found="values",
            allowed="no values with the operators Exists and DoesNotExist",
            at="values",
        ),
    )

    key: Annotated[LabelKey, Field(description="Label key, such as nvidia.com/gpu.product.")]
    operator: Annotated[
        Literal["In", "NotIn", "Exists", "DoesNotExist"],
        Field(
            description=(
                "How the label is compared. In and NotIn need values; Exists and DoesNotExist "
                "must not have any. NotIn also selects nodes without the label."
            )
        ),
    ]
    values: Annotated[
        tuple[LabelValue, ...],
        Field(max_length=64, description="Label values for In and NotIn."),
        Unique(),
    ] = ()


class NodeSelector(Spec):
    """Labels that a node must carry; all requirements must hold."""

    match_labels: Annotated[
        dict[str, LabelValue],
        Field(
            max_length=16,
            description="Labels and their values, such as nvidia.com/gpu.product: NVIDIA-B200.",
        ),
        Rule(
            cel=f"self.all(key, key.size() <= {MAX_KEY} && key.matches('{LABEL_KEY}'))",
            holds=lambda labels: all(_is_label_key(key) for key in labels),
            found="a key that no label can have",
            allowed="label keys such as nvidia.com/gpu.product",
        ),
    ] = Field(default_factory=dict)
    match_expressions: Annotated[
        tuple[LabelRequirement, ...],
        Field(max_length=16, description="Requirements that matchLabels cannot express."),
        Extra({"x-kubernetes-list-type": "atomic"}),
    ] = ()


class PoolNodes(Spec):
    """Which nodes belong to the pool."""

    rules = (
        Rule(
            cel=(
                "self.enrolment != 'Selector' || (has(self.selector) &&\n"
                "  ((has(self.selector.matchLabels) && self.selector.matchLabels.size() > 0) ||\n"
                "  (has(self.selector.matchExpressions) &&\n"
                "  self.selector.matchExpressions.size() > 0)))"
            ),
            holds=lambda nodes: (
                nodes.enrolment != "Selector"
                or bool(nodes.selector.match_labels or nodes.selector.match_expressions)
            ),
            found="an empty selector",
            allowed="a matchLabels or matchExpressions that is not empty, as enrolment is Selector",
            at="selector",
        ),
    )

    enrolment: Annotated[
        Literal["Labelled", "Selector"],
        Field(
            description=(
                "How a node joins. Labelled: only a platform admin who may update "
                "gpupools/enrol adds it, with the protected label "
                "sovereign-gpu.node-restriction.kubernetes.io/pool=<name of the pool>; a "
                "kubelet cannot write that label. Selector: every node that the selector "
                "matches joins by itself. Kubelets write their own labels, so Selector trusts "
                "every machine that can join the cluster: use it to try things out."
            )
        ),
    ] = "Labelled"
    selector: Annotated[
        NodeSelector,
        Field(
            description=(
                "Labels that the nodes of the pool must carry. With enrolment Labelled it "
                "narrows: an enrolled node that does not match is left out, and an empty "
                "selector leaves none out. With enrolment Selector it is the only test and "
                "must not be empty."
            )
        ),
    ] = NodeSelector()


class Location(Spec):
    """Where the nodes of the pool stand, as the platform admin vouches for it."""

    country: Annotated[
        Country,
        Field(
            description=(
                "Country whose law applies to the machines: an ISO 3166-1 alpha-2 code such as "
                "DE. Greece is GR and the United Kingdom is GB."
            )
        ),
    ]
    region: Annotated[
        LabelText,
        Field(
            description=(
                "Region, exactly the value of the label topology.kubernetes.io/region on the "
                "nodes of the pool. A region lies in one country, over all pools. Its name "
                "means nothing: eu-de-muc is in Germany only because country says so."
            )
        ),
    ]
    site: Annotated[
        LabelText | None,
        Field(description="Data centre within the region, such as muc-tucherpark; for reports."),
    ] = None


class GpuPoolSpec(Spec):
    """What the pool is to be."""

    nodes: Annotated[PoolNodes, Field(description="Which nodes belong to the pool.")] = PoolNodes()
    location: Annotated[
        Location,
        Field(
            description=(
                "Where the nodes stand. Residency policies decide by the country; the API "
                "server enforces by the region."
            )
        ),
    ]


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
                "pool exceed its GPUs."
            )
        ),
    ] = ()
    nodes: Annotated[PoolNodeCounts, Field(description="Nodes of the pool.")] = PoolNodeCounts()
    gpus: Annotated[PoolGpuCounts, Field(description="GPUs of the pool, in whole devices.")] = (
        PoolGpuCounts()
    )
    products: Annotated[
        tuple[PoolProduct, ...],
        Field(max_length=64, description="GPU models in the pool."),
        Unique("product"),
    ] = ()


class GpuPool(Resource):
    """GpuPool says which nodes belong together and where they stand.

    Tenants get GPUs by pool, and residency policies choose pools by their country. A node is
    in one pool at most; when two pools claim it, the one that has it keeps it and both say so.
    Nodes without GPUs may be enrolled as companions.
    """

    naming: ClassVar[Naming] = Naming(
        plural="gpupools",
        singular="gpupool",
        short="gpool",
        columns=(
            Column(
                "Ready",
                ".status.conditions[?(@.type=='Ready')].status",
                "Whether the pool is in working order.",
            ),
            Column("Country", ".spec.location.country", "Where the nodes stand."),
            Column("Region", ".spec.location.region", "Region of the nodes."),
            Column("Nodes", ".status.nodes.enrolled", "Nodes with GPUs in the pool.", "integer"),
            Column("Healthy", ".status.nodes.ready", "Nodes that can take pods.", "integer"),
            Column("GPUs", ".status.gpus.allocatable", "GPUs that can be given.", "integer"),
            Column("Counted", ".status.gpus.counted", "GPUs charged to tenants.", "integer"),
            Column("Free", ".status.gpus.free", "GPUs that could be given out now.", "integer"),
            Column("Age", ".metadata.creationTimestamp", "Since when it exists.", "date"),
            Column(
                "Capacity", ".status.gpus.capacity", "GPUs, healthy or not.", "integer", wide=True
            ),
            Column(
                "Reserved", ".status.gpus.reserved", "Counted, not yet bound.", "integer", wide=True
            ),
            Column("Foreign", ".status.gpus.foreign", "Charged to nobody.", "integer", wide=True),
            Column(
                "WholeNodes",
                ".status.gpus.wholeNodesFree",
                "Nodes with all GPUs free.",
                "integer",
                wide=True,
            ),
            Column("Cordoned", ".status.nodes.cordoned", "Nodes cordoned.", "integer", wide=True),
            Column(
                "Unhealthy", ".status.nodes.unhealthy", "Nodes unhealthy.", "integer", wide=True
            ),
            Column(
                "Message",
                ".status.conditions[?(@.type=='Ready')].message",
                "What the operator has to say.",
                wide=True,
            ),
        ),
    )

    spec: Annotated[GpuPoolSpec, Field(description="What the pool is to be.")]
    status: Annotated[
        GpuPoolStatus, Field(description="What the pool is; written by the operator only.")
    ] = GpuPoolStatus()

"""GpuPool: which nodes belong together, and where they stand."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sovereign_gpu.api.base import (
    Column,
    Country,
    LabelText,
    Naming,
    Resource,
    Spec,
)
from sovereign_gpu.api.poolstatus import GpuPoolStatus
from sovereign_gpu.api.rules import Extra, Rule, Unique
from sovereign_gpu.api.sovereignty import Sovereignty

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


class HealthCondition(Spec):
    """When one condition of a node says that no new GPU pod may start there."""

    type: Annotated[
        LabelKey,
        Field(description="Type of the node condition, such as GpuMemWatch."),
        Rule(
            cel="self != 'Ready'",
            holds=lambda kind: kind != "Ready",
            allowed="any condition but Ready, which every node must show as True",
        ),
    ]
    unhealthy_status: Annotated[
        Literal["True", "False", "Unknown", "Ignored"],
        Field(
            description=(
                "Status of the condition with which the node takes no new GPU pods. Many "
                "conditions name a trouble and are unhealthy when True; those that name a "
                "virtue, such as AcceleratedHardwareReady, when False. Ignored: the condition "
                "never counts, also if the operator knows it by itself."
            )
        ),
    ] = "True"


class PoolHealth(Spec):
    """Which nodes take no new GPU pods."""

    conditions: Annotated[
        tuple[HealthCondition, ...],
        Field(
            max_length=32,
            description=(
                "Node conditions that count in this pool. An entry replaces what the operator "
                "knows by itself about that type: those of NVSentinel (such as GpuMemWatch and "
                "SysLogsXIDError) and of node-problem-detector (such as XIDErrors and "
                "GPUMissing) are unhealthy when True, AcceleratedHardwareReady when False."
            ),
        ),
        Unique("type"),
    ] = ()


class PoolPlacement(Spec):
    """Who chooses the node of a released pod, and what becomes of one that cannot be bound."""

    mode: Annotated[
        Literal["Pack", "Preferred", "Delegate"],
        Field(
            description=(
                "Who chooses the node within the pool. In every mode a pod is released only "
                "while some node of the pool has room for it, and that room is kept for it. Pack: "
                "the operator does, so that whole nodes stay whole; a pod with a controller "
                "is tied to its node, a pod without one to up to four, and pods with volumes, "
                "pod affinity, spread constraints or host ports only to the pool. Preferred: "
                "the operator names a node as a preference (weight 100) and ties pods to "
                "nothing but the pool; for autoscalers that do not understand a pod tied to a "
                "node by its name. Delegate: kube-scheduler alone does; for pools whose "
                "scheduler profile places pods better, by topology for example. Preferred and "
                "Delegate may break up whole nodes, and a pod may then wait for a while "
                "although the operator counted on room for it."
            )
        ),
    ] = "Pack"
    bare_pods: Annotated[
        Literal["Keep", "Delete"],
        Field(
            description=(
                "What becomes of a released pod without a controller that none of the nodes it "
                "is tied to will take any more, because they were lost or filled by others. "
                "Keep: it stays, and stays charged, until its owner deletes it. Delete: the "
                "operator deletes it, so that its GPUs are free again; nobody makes a new one. "
                "Pods with a controller are deleted in either case: a new one is made. "
                "Pods that are tied to nothing but the pool stay, since they may still be bound."
            )
        ),
    ] = "Keep"


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
    health: Annotated[
        PoolHealth,
        Field(
            description=(
                "Which nodes take no new GPU pods. Always: nodes that are not Ready, are "
                "cordoned, are not the machine that was enrolled, or whose driver, MIG "
                "partitions or confidential computing mode is being changed; and GPUs that "
                "their device plugin reports as failed. Running pods stay and stay counted; a "
                "node is back as soon as nothing is wrong."
            )
        ),
    ] = PoolHealth()
    placement: Annotated[
        PoolPlacement,
        Field(description="Who chooses the nodes of the pods that are released to the pool."),
    ] = PoolPlacement()
    sovereignty: Annotated[
        Sovereignty,
        Field(
            description=(
                "What is said of the pool beyond its country: who runs it, from where it is "
                "supported, who holds keys, what it talks to, and who vouches for that. Policies "
                "ask for single attributes in spec.require."
            )
        ),
    ] = Sovereignty()


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
            Column(
                "LargestGang",
                ".status.gpus.largestGang",
                "GPUs that a gang of whole-node pods could get at once.",
                "integer",
                wide=True,
            ),
            Column("Lost", ".status.gpus.lost", "GPUs lost to faults.", "integer", wide=True),
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

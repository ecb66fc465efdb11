"""The words the engine thinks in.

Frozen, slotted records made at the rim (`cluster.decode`, `handlers`) and read everywhere.
GPUs are whole devices, CPU is in thousandths of a core, memory in bytes; all are integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from sovereign_gpu.core.perimeter import OPEN, Perimeter
from sovereign_gpu.core.sovereignty import Claim, Need


class Reason(StrEnum):
    """Why a pod waits; the same word in status, metrics and messages."""

    STARTING = "Starting"
    HELD = "Held"
    TENANT_QUOTA_MISSING = "TenantQuotaMissing"
    POLICY_MISSING = "PolicyMissing"
    NO_ELIGIBLE_POOL = "NoEligiblePool"
    NEVER_FITS = "NeverFits"
    QUOTA_EXHAUSTED = "QuotaExhausted"
    GUARANTEE_LENT = "GuaranteeLent"
    POOL_FULL = "PoolFull"
    FRAGMENTED = "Fragmented"
    NODE_CONSTRAINTS = "NodeConstraints"
    CANNOT_BIND = "CannotBind"


LASTING = frozenset(
    {
        Reason.TENANT_QUOTA_MISSING,
        Reason.POLICY_MISSING,
        Reason.NO_ELIGIBLE_POOL,
        Reason.NEVER_FITS,
        Reason.CANNOT_BIND,
    }
)
"""Reasons that waiting alone does not end: somebody has to act."""


class Resources(NamedTuple):
    """What kube-scheduler fits on a node: GPUs (devices), CPU (millicores), memory (bytes)."""

    gpus: int = 0
    cpu: int = 0
    memory: int = 0


class Requirement(NamedTuple):
    """One label requirement: In, NotIn, Exists, DoesNotExist, Gt or Lt, as in Kubernetes."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class NodeTerm(NamedTuple):
    """One nodeSelectorTerm: every requirement must hold; terms of a pod are alternatives."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()


class Toleration(NamedTuple):
    """A pod's toleration; an empty key with Exists tolerates everything."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class Taint(NamedTuple):
    """A node's taint."""

    key: str
    value: str
    effect: str


class Constraints(NamedTuple):
    """Everything of a pod that chooses nodes; equal constraints share one feasibility set."""

    selector: tuple[tuple[str, str], ...] = ()
    terms: tuple[NodeTerm, ...] | None = None
    tolerations: tuple[Toleration, ...] = ()


class Owner(NamedTuple):
    """The controller of a pod: it replaces the pod when that is deleted."""

    api_version: str
    kind: str
    name: str
    uid: str


class PatchShape(NamedTuple):
    """What of a pod exists already, so that a JSON patch can add to it in place.

    `required` has one entry per nodeSelectorTerm: (has matchExpressions, has matchFields).
    """

    labels: bool = False
    annotations: bool = False
    affinity: bool = False
    node_affinity: bool = False
    preferred: bool = False
    required: tuple[tuple[bool, bool], ...] | None = None


_EMPTY_SHAPE = PatchShape()


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod that is not finished, as the API server last told us."""

    uid: str
    namespace: str
    name: str
    created: float
    """Creation, seconds since the epoch."""
    demand: Resources
    constraints: Constraints
    priority: int = 0
    gates: tuple[str, ...] = ()
    node: str = ""
    deleting: bool = False
    pool: str = ""
    """Value of our pool label: where the pod was released to."""
    released_by: str = ""
    planned_node: str = ""
    """Node the release counted on, from the decision annotation."""
    owner: Owner | None = None
    """Its controller, if it has one."""
    follows_others: bool = False
    """Volumes, other pods, ports or resources decide as well: kube-scheduler chooses the node."""
    shape: PatchShape = _EMPTY_SHAPE
    message: str = ""
    """Message of the PodScheduled condition while gated (what we last told the user)."""
    unschedulable: str = ""
    """Why kube-scheduler found no node, while it is released and not bound."""
    notice: str = ""
    """Annotation that announces an eviction, as stored."""
    bound: float = 0.0
    """When kube-scheduler bound it, seconds since the epoch; 0: it did not, or nobody says."""

    @property
    def static(self) -> bool:
        """Whether its kubelet runs it without the API server: only its mirror is here."""
        return self.owner is not None and self.owner.kind == "Node"

    @property
    def controlled(self) -> bool:
        """Whether an owner would replace this pod if it were deleted."""
        return self.owner is not None


@dataclass(frozen=True, slots=True)
class Node:
    """One node."""

    name: str
    labels: dict[str, str]
    taints: tuple[Taint, ...]
    capacity: Resources
    allocatable: Resources
    ready: bool
    unschedulable: bool
    conditions: tuple[tuple[str, str], ...] = ()
    """(type, status) of every condition but Ready, sorted."""
    machine: str = ""
    """systemUUID that the kubelet reports."""
    provider_id: str = ""

    @property
    def healthy(self) -> bool:
        """Whether every device the node has can be allocated."""
        return self.allocatable.gpus >= self.capacity.gpus


@dataclass(frozen=True, slots=True)
class Namespace:
    """The part of a namespace that is ours."""

    name: str
    tenant: str = ""
    marks: tuple[tuple[str, str], ...] = ()
    """Its labels and annotations that the operator writes, sorted."""
    deleting: bool = False


class Placement(StrEnum):
    """Who chooses the node of a released pod."""

    PACK = "Pack"
    """We do: pods are tied to the node, or the few nodes, that keep whole nodes whole."""
    PREFERRED = "Preferred"
    """We name a node as a preference; kube-scheduler may take any other of the pool."""
    DELEGATE = "Delegate"
    """kube-scheduler does, within the pool."""


class HealthRule(NamedTuple):
    """A node condition whose given status means that no new pod may start there."""

    condition: str
    unhealthy: str = "True"


@dataclass(frozen=True, slots=True)
class Pool:
    """Desired state of a GpuPool."""

    name: str
    country: str
    region: str
    generation: int = 0
    labelled: bool = True
    """Enrolment: a node joins by the protected pool label; otherwise by the selector alone."""
    selector: tuple[Requirement, ...] = ()
    incumbent: bool = False
    """The stored status says Ready: it stays in force when a later pool contradicts it."""
    placement: Placement = Placement.PACK
    delete_bare_pods: bool = False
    """Released pods without a controller that cannot be bound are deleted."""
    health: tuple[HealthRule, ...] = ()
    """Node conditions that make a node unusable, besides those every pool knows."""
    claims: tuple[Claim, ...] = ()
    """What it says of itself beyond its country, as it counts today."""


class Share(NamedTuple):
    """What a tenant has of one pool, in GPUs."""

    pool: str
    guaranteed: int
    borrowing_limit: int = 0
    """GPUs beyond the guarantee that it may use while others do not."""
    lending_limit: int | None = None
    """GPUs of the guarantee that others may use while it does not; None: all of it."""

    @property
    def allowance(self) -> int:
        """What the tenant's count may never exceed."""
        return self.guaranteed + self.borrowing_limit

    @property
    def kept(self) -> int:
        """What is never lent."""
        return 0 if self.lending_limit is None else max(0, self.guaranteed - self.lending_limit)


@dataclass(frozen=True, slots=True)
class Tenant:
    """Desired state of a TenantQuota."""

    name: str
    namespaces: tuple[str, ...]
    policies: tuple[str, ...]
    shares: tuple[Share, ...]
    """In the order of preference."""
    weight: int = 1
    """Of the surplus, the tenant's part is in proportion to this."""
    history: tuple[int, float] | None = None
    """Stored history of borrowing: millionths, and when that was, seconds since the epoch."""
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """Desired state of a DataResidencyPolicy, its country sets resolved."""

    name: str
    countries: frozenset[str]
    sets: tuple[str, ...] = ()
    """The country sets with their days, for the reader of the status."""
    needs: tuple[Need, ...] = ()
    """What it asks of a pool beyond its country."""
    perimeter: Perimeter = OPEN
    """On which ways data may leave the namespaces."""
    enforced: bool = True
    evicts: bool = False
    """Pods that run where it no longer allows it are evicted, not only reported."""
    grace: int = 300
    """Seconds between the notice and the eviction."""
    confirmed: int = 0
    """Generation for which an administrator confirmed evictions beyond the brake."""
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Release:
    """A decision: remove the gate of this pod, charge its tenant in this pool."""

    pod: Pod
    tenant: str
    pool: str
    node: str
    """Where the engine counts on it to run."""
    pinned: bool
    """Required (True) or only preferred."""
    spares: tuple[str, ...] = ()
    """Other nodes it may go to, if it is free to go but better looked for on few nodes."""
    placement: Placement = Placement.PACK
    """Who chooses among the nodes that are left to it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Why pods of one shape wait, with the numbers behind the word."""

    reason: Reason
    message: str

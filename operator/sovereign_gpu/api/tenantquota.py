"""TenantQuota: who a tenant is, what it is guaranteed, where its data may be."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AwareDatetime, Field, PlainSerializer

from sovereign_gpu.api.base import (
    MAX_GPUS,
    Column,
    Conditions,
    Count,
    Naming,
    ObjectName,
    ObservedGeneration,
    Resource,
    Spec,
    Status,
    seconds,
)
from sovereign_gpu.api.rules import Extra, Rule, Unique
from sovereign_gpu.core.model import Reason

TenantNamespace = Annotated[
    ObjectName,
    Rule(
        cel="!self.startsWith('kube-')",
        holds=lambda name: not name.startswith("kube-"),
        allowed="a namespace of the tenant; names that begin with kube- belong to Kubernetes",
    ),
]


class PoolShare(Spec):
    """What the tenant gets of one pool."""

    rules = (
        Rule(
            cel="!has(self.lendingLimit) || self.lendingLimit <= self.guaranteed",
            holds=lambda s: s.lending_limit is None or s.lending_limit <= s.guaranteed,
            found="more than guaranteed",
            allowed="at most what is guaranteed, since only that can be lent",
            at="lendingLimit",
        ),
    )

    name: Annotated[
        ObjectName,
        Field(
            description=(
                "Name of a GpuPool. A pool that does not exist yet is reported in the "
                "conditions and counts as soon as it appears."
            )
        ),
    ]
    guaranteed: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=MAX_GPUS,
            description=(
                "GPUs, in whole devices, that pods of the tenant may hold in this pool at the "
                "same time. Lowering it evicts nobody: the tenant is OverQuota and gets nothing "
                "new until it is below. With 0, and nothing to borrow, the pool is closed for "
                "new pods of the tenant."
            ),
        ),
        Extra({"format": "int64"}),
    ]
    borrowing_limit: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=MAX_GPUS,
            description=(
                "GPUs beyond the guarantee that pods of the tenant may hold while other tenants "
                "leave theirs unused, or that are guaranteed to nobody. 0: the tenant never "
                "borrows. Borrowed GPUs come back as the pods on them end; nobody is evicted for "
                "it."
            ),
        ),
        Extra({"format": "int64"}),
    ] = 0
    lending_limit: Annotated[
        int | None,
        Field(
            strict=True,
            ge=0,
            le=MAX_GPUS,
            description=(
                "GPUs of the guarantee that other tenants may hold while this one leaves them "
                "unused. Without it all of them are lent; with 0 none is, so that the guarantee "
                "is there at once."
            ),
        ),
        Extra({"format": "int64"}),
    ] = None


class TenantQuotaSpec(Spec):
    """What the tenant is to have."""

    namespaces: Annotated[
        tuple[TenantNamespace, ...],
        Field(
            min_length=1,
            max_length=64,
            description=(
                "Namespaces of the tenant, by name. Labels would let whoever creates a "
                "namespace choose the tenant. A namespace belongs to one tenant at most: when "
                "two claim it, the one that has it keeps it and both say so. A namespace that "
                "does not exist yet is taken when it appears."
            ),
        ),
        Unique(),
    ]
    residency_policies: Annotated[
        tuple[ObjectName, ...],
        Field(
            min_length=1,
            max_length=8,
            description=(
                "Names of the DataResidencyPolicies that hold for all pods of the tenant, with "
                "and without GPUs. All of them must allow a place. While one does not exist, "
                "nothing new is placed."
            ),
        ),
        Unique(),
    ]
    weight: Annotated[
        int,
        Field(
            strict=True,
            ge=1,
            le=1000,
            description=(
                "The tenant's part of what is beyond all guarantees, in proportion to the "
                "weights of the others that want more. It does not touch the guarantees."
            ),
        ),
        Extra({"format": "int32"}),
    ] = 1
    pools: Annotated[
        tuple[PoolShare, ...],
        Field(
            max_length=32,
            description=(
                "What the tenant gets of which pool, in the order in which the pools are "
                "tried. Without an entry the tenant has no GPUs there."
            ),
        ),
        Unique("name"),
    ] = ()


class PoolUsage(Status):
    """What the tenant has of one pool."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            description="Name of the GpuPool; none for pods that wait without one.",
        ),
    ]
    guaranteed: Annotated[Count, Field(description="GPUs guaranteed, as in spec.")] = 0
    used: Annotated[
        Count, Field(description="GPUs charged: those of pods released and not yet finished.")
    ] = 0
    reserved: Annotated[
        Count, Field(description="Of the used GPUs, those of pods not bound to a node yet.")
    ] = 0
    borrowed: Annotated[
        Count, Field(description="Of the used GPUs, those beyond the guarantee.")
    ] = 0
    lent: Annotated[
        Count, Field(description="Of the guaranteed GPUs, those that other tenants use.")
    ] = 0
    pending_gpus: Annotated[
        Count,
        Field(description="GPUs that waiting pods ask for and that this pool may serve first."),
    ] = 0
    pending_pods: Annotated[
        Count, Field(description="Waiting pods that this pool may serve first.")
    ] = 0
    lost: Annotated[
        Count,
        Field(
            description=(
                "Of the guaranteed GPUs, those that faults of nodes keep from being served: the "
                "tenant's part, by guarantee, of what all tenants of the pool lose."
            )
        ),
    ] = 0
    on_faulty_nodes: Annotated[
        Count, Field(description="Of the used GPUs, those on nodes with a fault.")
    ] = 0


class QuotaTotals(Status):
    """The sums over all pools."""

    guaranteed: Annotated[Count, Field(description="GPUs guaranteed in all pools.")] = 0
    used: Annotated[
        Count, Field(description="GPUs charged: those of pods released and not yet finished.")
    ] = 0
    reserved: Annotated[
        Count, Field(description="Of the used GPUs, those of pods not bound to a node yet.")
    ] = 0
    borrowed: Annotated[
        Count, Field(description="Of the used GPUs, those beyond the guarantees.")
    ] = 0
    lent: Annotated[
        Count, Field(description="Of the guaranteed GPUs, those that other tenants use.")
    ] = 0
    pending_gpus: Annotated[
        Count, Field(description="GPUs that all waiting pods of the tenant ask for.")
    ] = 0
    pending_pods: Annotated[Count, Field(description="All waiting pods of the tenant.")] = 0
    lost: Annotated[
        Count, Field(description="Guaranteed GPUs that faults of nodes keep from being served.")
    ] = 0
    on_faulty_nodes: Annotated[Count, Field(description="Used GPUs on nodes with a fault.")] = 0


class FairShare(Status):
    """What decides between tenants that want more than their guarantees."""

    history: Annotated[
        Count,
        Field(
            description=(
                "Moving average of what the tenant held beyond its guarantees, as its dominant "
                "share (of GPUs, CPU or memory) in millionths of the whole cluster. It halves "
                "with every half-life. The smaller the sum of the present share and this, "
                "divided by the weight, the sooner the tenant's turn."
            )
        ),
    ] = 0
    observed_time: Annotated[
        AwareDatetime,
        PlainSerializer(seconds),
        Field(description="When it was so. A restarted operator goes on from here."),
    ]


class Waiting(Status):
    """Pods that wait for one reason."""

    reason: Annotated[
        Reason,
        Field(
            description=(
                "Why pods wait; the same word is on the pods and in the metrics. Held, "
                "QuotaExhausted, GuaranteeLent, PoolFull and Fragmented pass by themselves; "
                "TenantQuotaMissing, PolicyMissing, NoEligiblePool and NeverFits need somebody "
                "to change something. CannotBind passes where an owner makes a new pod; a pod "
                "without one waits until it is deleted."
            )
        ),
    ]
    pods: Annotated[Count, Field(description="Pods that wait for this reason.")] = 0
    gpus: Annotated[Count, Field(description="GPUs that these pods ask for.")] = 0
    message: Annotated[
        str,
        Field(max_length=1024, description="The numbers behind it, for the oldest such pod."),
    ] = ""


class TenantQuotaStatus(Status):
    """What the tenant has."""

    observed_generation: ObservedGeneration = 0
    conditions: Annotated[
        Conditions,
        Field(
            description=(
                "Ready: the namespaces are assigned and counted, and the policies and pools "
                "exist; a full quota is Ready. "
                "Reconciling: the operator is still catching up. Stalled: somebody has to "
                "change something, the message says what. Clashing: another tenant holds one "
                "of the namespaces. OverQuota: more is used than guaranteed and borrowable."
            )
        ),
    ] = ()
    total: Annotated[QuotaTotals, Field(description="The sums over all pools.")] = QuotaTotals()
    pools: Annotated[
        tuple[PoolUsage, ...],
        Field(
            max_length=64,
            description=(
                "What the tenant has of which pool; also pools that spec no longer names "
                "while pods run there."
            ),
        ),
        Unique("name"),
    ] = ()
    fair_share: Annotated[
        FairShare | None,
        Field(description="Past borrowing; absent when there was none."),
    ] = None
    waiting: Annotated[
        tuple[Waiting, ...],
        Field(max_length=16, description="Why pods wait; most pods first."),
        Unique("reason"),
    ] = ()


class TenantQuota(Resource):
    """TenantQuota makes a tenant: its name is the tenant.

    It says which namespaces the tenant has, which residency policies hold in them, and how
    many GPUs of which pool its pods may hold. Deleting it stops new pods and evicts nobody:
    running pods run on and stay counted.
    """

    naming: ClassVar[Naming] = Naming(
        plural="tenantquotas",
        singular="tenantquota",
        short="tq",
        columns=(
            Column(
                "Ready",
                ".status.conditions[?(@.type=='Ready')].status",
                "Whether the tenant is in working order.",
            ),
            Column("Guaranteed", ".status.total.guaranteed", "GPUs guaranteed.", "integer"),
            Column("Used", ".status.total.used", "GPUs charged.", "integer"),
            Column("Borrowed", ".status.total.borrowed", "Used beyond guarantees.", "integer"),
            Column("Waiting", ".status.total.pendingGpus", "GPUs waited for.", "integer"),
            Column("Pods", ".status.total.pendingPods", "Pods that wait.", "integer"),
            Column("Because", ".status.waiting[0].reason", "Why most of them wait."),
            Column("Age", ".metadata.creationTimestamp", "Since when it exists.", "date"),
            Column(
                "Lent", ".status.total.lent", "Guaranteed, used by others.", "integer", wide=True
            ),
            Column("Weight", ".spec.weight", "Part of the surplus.", "integer", wide=True),
            Column(
                "Reserved", ".status.total.reserved", "Used, not yet bound.", "integer", wide=True
            ),
            Column("Policies", ".spec.residencyPolicies", "Residency policies.", wide=True),
            Column("Namespaces", ".spec.namespaces", "Namespaces of the tenant.", wide=True),
            Column(
                "Message",
                ".status.conditions[?(@.type=='Ready')].message",
                "What the operator has to say.",
                wide=True,
            ),
        ),
    )

    spec: Annotated[TenantQuotaSpec, Field(description="What the tenant is to have.")]
    status: Annotated[
        TenantQuotaStatus,
        Field(description="What the tenant has; written by the operator only."),
    ] = TenantQuotaStatus()

"""DataResidencyPolicy: in which countries pods and their data may be."""

from __future__ import annotations

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
from sovereign_gpu.core import countries


class Countries(Spec):
    """The countries that are allowed: sets, and include, without exclude."""

    rules = (
        Rule(
            cel=(
                "(has(self.sets) && self.sets.size() > 0) ||\n"
                "(has(self.include) && self.include.size() > 0)"
            ),
            holds=lambda c: bool(c.sets or c.include),
            found="an empty allow-list in countries",
            allowed="at least one entry in sets or include, such as sets: [EU]",
            at="sets",
        ),
    )

    sets: Annotated[
        tuple[Literal["EU", "EEA", "EEA_CH"], ...],
        Field(
            max_length=8,
            description=(
                "Sets of countries. EU: the 27 member states as of 2020-02-01. EEA: these, "
                "Iceland, Liechtenstein and Norway. EEA_CH: these and Switzerland. Territories "
                "with a code of their own (such as RE or AX) are in no set: use include."
            ),
        ),
        Unique(),
    ] = ()
    include: Annotated[
        tuple[Country, ...],
        Field(
            max_length=249,
            description="Countries allowed besides the sets: ISO 3166-1 alpha-2 codes.",
        ),
        Unique(),
    ] = ()
    exclude: Annotated[
        tuple[Country, ...],
        Field(
            max_length=249,
            description=(
                "Countries not allowed, whatever sets and include say: ISO 3166-1 alpha-2 codes."
            ),
        ),
        Unique(),
    ] = ()

    def resolved(self) -> frozenset[str]:
        """Return the codes of the allowed countries; empty if everything is excluded."""
        return countries.resolve(self.sets, self.include, self.exclude)


class OnDrift(Spec):
    """What happens to running pods when the world changes under them."""

    action: Annotated[
        Literal["Alert", "Evict"],
        Field(
            description=(
                "Alert: pods that run where the policy no longer allows it are reported in status, "
                "events and metrics. Evict: besides, they are announced their eviction (annotation "
                "sovereign-gpu.io/drift, event on the owner) and evicted when the grace is over; "
                "PodDisruptionBudgets are respected. At most 10 pods or 1 % of the governed "
                "running pods are evicted per minute, whichever is more; if more than 5 % of them "
                "are affected, none is until the annotation "
                "sovereign-gpu.io/confirm-drift=<metadata.generation> on the policy confirms it. "
                "With enforcement Warn nobody is evicted."
            )
        ),
    ] = "Alert"
    grace_seconds: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=604800,
            description="Seconds between the notice on a pod and its eviction; at most 7 days.",
        ),
        Extra({"format": "int32"}),
    ] = 300


class DataResidencyPolicySpec(Spec):
    """What is allowed."""

    countries: Annotated[
        Countries,
        Field(description="The countries that are allowed: sets and include, without exclude."),
    ]
    enforcement: Annotated[
        Literal["Deny", "Warn"],
        Field(
            description=(
                "Deny: the API server refuses whatever would leave the allowed countries. Warn: "
                "it warns and audits instead, to bring an existing cluster in; a tenant with "
                "Warn policies only is not contained."
            )
        ),
    ] = "Deny"
    on_drift: Annotated[
        OnDrift,
        Field(description="What happens to pods that run where it is no longer allowed."),
    ] = OnDrift()


class Eligible(Status):
    """What the policy allows at the moment."""

    pools: Annotated[Count, Field(description="Pools in allowed countries.")] = 0
    nodes: Annotated[Count, Field(description="Nodes of these pools, companions included.")] = 0
    regions: Annotated[
        tuple[LabelText, ...],
        Field(max_length=256, description="Regions of these pools."),
        Unique(),
    ] = ()


class Violations(Status):
    """Pods that run where the policy does not allow it."""

    now: Annotated[Count, Field(description="Pods in violation at the moment.")] = 0
    total: Annotated[
        Count, Field(description="Pods ever found in violation since the policy exists.")
    ] = 0
    announced: Annotated[
        Count, Field(description="Pods that carry the notice of their eviction at the moment.")
    ] = 0
    evicted: Annotated[
        Count, Field(description="Pods ever evicted for the policy since it exists.")
    ] = 0


class DataResidencyPolicyStatus(Status):
    """What follows from the policy."""

    observed_generation: ObservedGeneration = 0
    conditions: Annotated[
        Conditions,
        Field(
            description=(
                "Ready: the policy is resolved and in force. Reconciling: the operator is "
                "still catching up. Stalled: somebody has to change something, such as a "
                "policy that excludes every country; the message says what. Drifting: pods "
                "run where the policy does not allow it; the message says where and why."
            )
        ),
    ] = ()
    eligible: Annotated[Eligible, Field(description="What the policy allows at the moment.")] = (
        Eligible()
    )
    violations: Annotated[
        Violations,
        Field(description="Pods that run where the policy does not allow it; must be 0."),
    ] = Violations()


class DataResidencyPolicy(Resource):
    """DataResidencyPolicy says in which countries pods and their data may be.

    A TenantQuota names the policies that hold for its namespaces. The API server enforces
    them on every pod and every binding, also while the operator is down. A country is never
    guessed from a region's name; the GpuPool says in which country a region lies.
    """

    naming: ClassVar[Naming] = Naming(
        plural="dataresidencypolicies",
        singular="dataresidencypolicy",
        short="drp",
        columns=(
            Column(
                "Ready",
                ".status.conditions[?(@.type=='Ready')].status",
                "Whether the policy is in working order.",
            ),
            Column("Sets", ".spec.countries.sets", "Sets of countries allowed."),
            Column("Enforcement", ".spec.enforcement", "What happens to a violation."),
            Column("Pools", ".status.eligible.pools", "Pools allowed.", "integer"),
            Column("Nodes", ".status.eligible.nodes", "Nodes allowed.", "integer"),
            Column("Violations", ".status.violations.now", "Pods in violation.", "integer"),
            Column("OnDrift", ".spec.onDrift.action", "What happens to them.", wide=True),
            Column("Age", ".metadata.creationTimestamp", "Since when it exists.", "date"),
            Column("Include", ".spec.countries.include", "Countries added.", wide=True),
            Column("Exclude", ".spec.countries.exclude", "Countries taken away.", wide=True),
            Column("Regions", ".status.eligible.regions", "Regions allowed.", wide=True),
            Column(
                "Message",
                ".status.conditions[?(@.type=='Ready')].message",
                "What the operator has to say.",
                wide=True,
            ),
        ),
    )

    spec: Annotated[DataResidencyPolicySpec, Field(description="What is allowed.")]
    status: Annotated[
        DataResidencyPolicyStatus,
        Field(description="What follows from the policy; written by the operator only."),
    ] = DataResidencyPolicyStatus()

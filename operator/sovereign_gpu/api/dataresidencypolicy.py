"""DataResidencyPolicy: in which countries pods and their data may be."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sovereign_gpu.api.base import (
    Column,
    Naming,
    Resource,
    Spec,
)
from sovereign_gpu.api.countrylist import Countries
from sovereign_gpu.api.perimeter import Access, Egress, Registries, Services, Storage
from sovereign_gpu.api.policystatus import DataResidencyPolicyStatus
from sovereign_gpu.api.requirements import Require
from sovereign_gpu.api.rules import Extra


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
    require: Annotated[
        Require,
        Field(
            description=(
                "What is asked of a pool besides its country: predicates over "
                "spec.sovereignty of the GpuPool. All must hold; status.pools has the answer to "
                "each with its reason."
            )
        ),
    ] = Require()
    registries: Annotated[
        Registries | None, Field(description="From where images may come; anywhere if omitted.")
    ] = None
    storage: Annotated[
        Storage | None, Field(description="Where volumes may lie; anywhere if omitted.")
    ] = None
    services: Annotated[
        Services, Field(description="Which ways out a Service may open: none that is not named.")
    ] = Services()
    egress: Annotated[
        Egress | None,
        Field(
            description=(
                "Where packets may go. If given, every namespace of the tenant gets the "
                "NetworkPolicy sovereign-gpu-egress, which nobody else may change, and "
                "NetworkPolicies of others may not widen it. It takes a network add-on that "
                "enforces them. Anywhere if omitted."
            )
        ),
    ] = None
    access: Annotated[
        Access | None,
        Field(description="Who may look into running pods; whoever RBAC allows if omitted."),
    ] = None


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

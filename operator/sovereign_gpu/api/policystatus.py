"""What the operator reports of a DataResidencyPolicy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sovereign_gpu.api.base import (
    Conditions,
    Count,
    Country,
    LabelText,
    ObjectName,
    ObservedGeneration,
    Status,
)
from sovereign_gpu.api.rules import Unique


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


class ResolvedCountries(Status):
    """What the lists of countries mean."""

    sets: Annotated[
        tuple[Annotated[str, Field(max_length=32)], ...],
        Field(max_length=8, description="The sets with the day since which they hold."),
        Unique(),
    ] = ()
    codes: Annotated[
        tuple[Country, ...],
        Field(max_length=249, description="The countries that are allowed."),
        Unique(),
    ] = ()


class PredicateVerdict(Status):
    """Whether one predicate holds of one pool."""

    predicate: Annotated[
        str,
        Field(
            max_length=128,
            description=(
                "Which one: country, roles[…], certifications[…], support, keys, endpoints[…], "
                "controlPlane or backup."
            ),
        ),
    ]
    status: Annotated[Literal["True", "False"], Field(description="Whether it holds today.")]
    reason: Annotated[
        Literal[
            "Holds",
            "Expiring",
            "NotAllowed",
            "NotDeclared",
            "TrustTooLow",
            "Expired",
            "NotYetValid",
        ],
        Field(
            description=(
                "Why. Holds. Expiring: it holds for thirty days at most. NotAllowed: what the "
                "pool declares is not allowed. NotDeclared: the pool says nothing of it. "
                "TrustTooLow: the pool does not vouch for it as far as is asked. Expired and "
                "NotYetValid: it does not count today."
            )
        ),
    ]
    message: Annotated[
        str, Field(max_length=1024, description="The same for people: found and allowed.")
    ] = ""


class PoolVerdict(Status):
    """What the policy finds of one pool."""

    name: Annotated[ObjectName, Field(description="Name of the GpuPool.")]
    predicates: Annotated[
        tuple[PredicateVerdict, ...],
        Field(max_length=40, description="One answer for each predicate of the policy."),
        Unique("predicate"),
    ] = ()


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
                "run where the policy does not allow it; the message says where and why. "
                "Expiring: an attribute that the policy rests on counts for thirty days at "
                "most. Unguarded: an admission policy of the chart, or a definition, is not as "
                "it was installed; the message names it."
            )
        ),
    ] = ()
    eligible: Annotated[Eligible, Field(description="What the policy allows at the moment.")] = (
        Eligible()
    )
    countries: Annotated[
        ResolvedCountries,
        Field(description="The countries that spec.countries means."),
    ] = ResolvedCountries()
    pools: Annotated[
        tuple[PoolVerdict, ...],
        Field(
            max_length=64,
            description="What the policy finds of each pool, predicate by predicate.",
        ),
        Unique("name"),
    ] = ()
    violations: Annotated[
        Violations,
        Field(description="Pods that run where the policy does not allow it; must be 0."),
    ] = Violations()

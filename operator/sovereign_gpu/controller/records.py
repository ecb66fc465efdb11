"""From the models of the three kinds to the records that the core decides with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sovereign_gpu import names
from sovereign_gpu.api import DataResidencyPolicy, GpuPool, TenantQuota, parse
from sovereign_gpu.api.dataresidencypolicy import DataResidencyPolicySpec
from sovereign_gpu.controller.claims import claims, needs
from sovereign_gpu.core.countries import country_set
from sovereign_gpu.core.model import HealthRule, Placement, Policy, Pool, Requirement, Share, Tenant
from sovereign_gpu.core.perimeter import Perimeter

Kind = Literal["GpuPool", "TenantQuota", "DataResidencyPolicy"]
Spec = Pool | Tenant | Policy


def spec(kind: Kind, body: Mapping[str, Any]) -> Spec:
    """Return the record of a stored object.

    Raises:
        InvalidObjectError: it cannot be acted on; `problems` has every field.
    """
    if kind == "GpuPool":
        return _pool(parse(kind, body))
    if kind == "TenantQuota":
        return _tenant(parse(kind, body))
    return _policy(parse(kind, body), body)


def _pool(model: GpuPool) -> Pool:
    selector = model.spec.nodes.selector
    return Pool(
        name=model.name,
        country=model.spec.location.country,
        region=model.spec.location.region,
        labelled=model.spec.nodes.enrolment == "Labelled",
        selector=(
            *(Requirement(key, "In", (value,)) for key, value in selector.match_labels.items()),
            *(Requirement(r.key, r.operator, r.values) for r in selector.match_expressions),
        ),
        health=tuple(
            HealthRule(rule.type, rule.unhealthy_status) for rule in model.spec.health.conditions
        ),
        placement=Placement(model.spec.placement.mode),
        delete_bare_pods=model.spec.placement.bare_pods == "Delete",
        claims=claims(model.spec.sovereignty),
        incumbent=any(c.type == "Ready" and c.status == "True" for c in model.status.conditions),
    )


def _tenant(model: TenantQuota) -> Tenant:
    share = model.status.fair_share
    return Tenant(
        name=model.name,
        namespaces=tuple(model.spec.namespaces),
        policies=tuple(model.spec.residency_policies),
        shares=tuple(
            Share(share.name, share.guaranteed, share.borrowing_limit, share.lending_limit)
            for share in model.spec.pools
        ),
        weight=model.spec.weight,
        history=None if share is None else (share.history, share.observed_time.timestamp()),
    )


def _policy(model: DataResidencyPolicy, body: Mapping[str, Any]) -> Policy:
    meta = body["metadata"]
    generation = meta.get("generation", 0)
    confirmed = (meta.get("annotations") or {}).get(names.CONFIRM_DRIFT) == str(generation)
    return Policy(
        name=model.name,
        countries=model.spec.countries.resolved(),
        sets=tuple(country_set(name).version for name in model.spec.countries.sets),
        needs=needs(model.spec.require),
        perimeter=_perimeter(model.spec),
        enforced=model.spec.enforcement == "Deny",
        evicts=model.spec.on_drift.action == "Evict",
        grace=model.spec.on_drift.grace_seconds,
        confirmed=generation if confirmed else 0,
        generation=generation,
    )


def _perimeter(model: DataResidencyPolicySpec) -> Perimeter:
    registries, storage, egress = model.registries, model.storage, model.egress
    return Perimeter(
        registries=frozenset(registries.allowed) if registries else None,
        classes=frozenset(storage.classes) if storage else None,
        attributes_classes=frozenset(storage.attributes_classes) if storage else None,
        snapshot_classes=frozenset(storage.snapshot_classes) if storage else None,
        drivers=frozenset(storage.drivers) if storage else None,
        openings=frozenset(model.services.allow),
        networks=frozenset(egress.networks) if egress else None,
        reachable=frozenset(egress.namespaces) if egress else frozenset(),
        access=model.access.countries.resolved() if model.access else None,
    )

"""The custom resources as last seen, each read once into the core's records.

kopf's handlers feed it; the loop hands it to the engine when something changed. An object that
cannot be read stays here with the reason, so that its status can say it, and counts as absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sovereign_gpu import names
from sovereign_gpu.api import (
    DataResidencyPolicy,
    GpuPool,
    InvalidObjectError,
    TenantQuota,
    parse,
)
from sovereign_gpu.core.model import HealthRule, Placement, Policy, Pool, Requirement, Share, Tenant

Kind = Literal["GpuPool", "TenantQuota", "DataResidencyPolicy"]
KINDS: tuple[Kind, ...] = ("GpuPool", "TenantQuota", "DataResidencyPolicy")
Spec = Pool | Tenant | Policy


@dataclass(slots=True)
class Entry:
    """One custom resource."""

    kind: Kind
    name: str
    uid: str
    generation: int
    version: int
    status: dict[str, Any]
    """As stored in the cluster."""
    spec: Spec | None = None
    problem: str = ""
    """Why it cannot be acted on."""
    deleting: bool = False
    """It is going, and counts as absent."""


@dataclass(slots=True)
class Registry:
    """All custom resources by kind and name.

    Watch and lists feed it side by side, so what comes later may be older: resource versions
    decide, also of objects that are gone.
    """

    wake: Callable[[], None]
    entries: dict[tuple[Kind, str], Entry] = field(default_factory=dict)
    changed: bool = False
    """Something that the engine must know changed."""
    _gone: dict[tuple[Kind, str], int] = field(default_factory=dict)
    """Resource versions at which objects were deleted, until a later list confirms it."""

    def put(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """Take in a state of an object, unless a newer one is known."""
        entry = _entry(kind, body)
        key = kind, entry.name
        before = self.entries.get(key)
        newest = before.version if before is not None else self._gone.get(key, 0)
        if entry.version < newest:
            return
        self._gone.pop(key, None)
        self.entries[key] = entry
        if before is None or _decisive(before) != _decisive(entry):
            self._note()

    def remove(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """Forget an object that is gone; `body` is its last state."""
        key = kind, body["metadata"]["name"]
        version = int(body["metadata"]["resourceVersion"])
        known = self.entries.get(key)
        if known is not None and known.version > version:
            return  # made anew since
        self._gone[key] = version
        if self.entries.pop(key, None) is not None:
            self._note()

    def replace(self, kind: Kind, bodies: Sequence[Mapping[str, Any]], version: str) -> None:
        """Take in a complete list of a kind: what it should hold and does not is gone."""
        for body in bodies:
            self.put(kind, body)
        listed = {body["metadata"]["name"] for body in bodies}
        for key, entry in list(self.entries.items()):
            if key[0] == kind and key[1] not in listed and entry.version <= int(version):
                del self.entries[key]
                self._note()
        for key, gone in list(self._gone.items()):
            if key[0] == kind and gone <= int(version):
                del self._gone[key]

    def specs(self) -> tuple[list[Pool], list[Tenant], list[Policy]]:
        """Return what the engine is configured with."""
        found = [entry.spec for entry in self.entries.values()]
        return (
            [spec for spec in found if isinstance(spec, Pool)],
            [spec for spec in found if isinstance(spec, Tenant)],
            [spec for spec in found if isinstance(spec, Policy)],
        )

    def _note(self) -> None:
        self.changed = True
        self.wake()


def _entry(kind: Kind, body: Mapping[str, Any]) -> Entry:
    meta = body["metadata"]
    entry = Entry(
        kind=kind,
        name=meta["name"],
        uid=meta["uid"],
        generation=meta.get("generation", 0),
        version=int(meta["resourceVersion"]),
        status=dict(body.get("status") or {}),
        deleting="deletionTimestamp" in meta,
    )
    if not entry.deleting:
        try:
            entry.spec = _spec(kind, body)
        except InvalidObjectError as error:
            entry.problem = "; ".join(map(str, error.problems))
    return entry


def _decisive(entry: Entry) -> tuple[object, ...]:
    # What is read from an object's own status (`incumbent` of a pool, `history` of a tenant) we
    # write ourselves: it must not count as news.
    spec = entry.spec
    if isinstance(spec, Pool):
        spec = replace(spec, incumbent=False)
    if isinstance(spec, Tenant):
        spec = replace(spec, history=None)
    return (entry.uid, spec, entry.problem)


def _spec(kind: Kind, body: Mapping[str, Any]) -> Spec:
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
        enforced=model.spec.enforcement == "Deny",
        evicts=model.spec.on_drift.action == "Evict",
        grace=model.spec.on_drift.grace_seconds,
        confirmed=generation if confirmed else 0,
        generation=generation,
    )

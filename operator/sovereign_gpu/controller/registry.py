"""The custom resources as last seen, each read once into the core's records.

kopf's handlers feed it; the loop hands it to the engine when something changed. An object that
cannot be read stays here with the reason, so that its status can say it, and counts as absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sovereign_gpu.api import (
    DataResidencyPolicy,
    GpuPool,
    InvalidObjectError,
    TenantQuota,
    parse,
)
from sovereign_gpu.core.model import Policy, Pool, Requirement, Tenant

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
    version: str
    status: dict[str, Any]
    """As stored in the cluster."""
    spec: Spec | None = None
    problem: str = ""
    """Why it cannot be acted on."""


@dataclass(slots=True)
class Registry:
    """All custom resources by kind and name."""

    wake: Callable[[], None]
    entries: dict[tuple[Kind, str], Entry] = field(default_factory=dict)
    changed: bool = False
    """Something that the engine must know changed."""

    def put(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """Take in the newest state of an object."""
        meta = body["metadata"]
        before = self.entries.get((kind, meta["name"]))
        entry = Entry(
            kind=kind,
            name=meta["name"],
            uid=meta["uid"],
            generation=meta.get("generation", 0),
            version=meta["resourceVersion"],
            status=dict(body.get("status") or {}),
        )
        try:
            entry.spec = _spec(kind, body)
        except InvalidObjectError as error:
            entry.problem = "; ".join(map(str, error.problems))
        if "deletionTimestamp" in meta:
            entry.spec = None
        self.entries[kind, entry.name] = entry
        if before is None or _decisive(before) != _decisive(entry):
            self._note()

    def remove(self, kind: Kind, name: str) -> None:
        """Forget an object that is gone."""
        if self.entries.pop((kind, name), None) is not None:
            self._note()

    def keep_only(self, kind: Kind, names: set[str]) -> None:
        """Forget objects of a kind that a complete list does not hold."""
        for known in [name for k, name in self.entries if k == kind]:
            if known not in names:
                self.remove(kind, known)

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


def _decisive(entry: Entry) -> tuple[object, ...]:
    # `incumbent` of a pool is read from its own status; our writing it must not count as news.
    spec = entry.spec
    if isinstance(spec, Pool):
        return (entry.uid, spec.country, spec.region, spec.labelled, spec.selector, entry.problem)
    return (entry.uid, spec, entry.problem)


def _spec(kind: Kind, body: Mapping[str, Any]) -> Spec:
    if kind == "GpuPool":
        return _pool(parse(kind, body))
    if kind == "TenantQuota":
        return _tenant(parse(kind, body))
    return _policy(parse(kind, body))


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
        incumbent=any(c.type == "Ready" and c.status == "True" for c in model.status.conditions),
    )


def _tenant(model: TenantQuota) -> Tenant:
    return Tenant(
        name=model.name,
        namespaces=tuple(model.spec.namespaces),
        policies=tuple(model.spec.residency_policies),
        guaranteed=tuple((share.name, share.guaranteed) for share in model.spec.pools),
    )


def _policy(model: DataResidencyPolicy) -> Policy:
    return Policy(
        name=model.name,
        countries=model.spec.countries.resolved(),
        enforced=model.spec.enforcement == "Deny",
    )

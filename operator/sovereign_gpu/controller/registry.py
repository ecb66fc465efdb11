"""The custom resources as last seen, each read once into the core's records.

kopf's handlers feed it; the loop hands it to the engine when something changed. An object that
cannot be read stays here with the reason, so that its status can say it, and counts as absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from sovereign_gpu.api import InvalidObjectError
from sovereign_gpu.controller.records import Kind, Spec, spec
from sovereign_gpu.core import sovereignty
from sovereign_gpu.core.model import Policy, Pool, Tenant

KINDS: tuple[Kind, ...] = ("GpuPool", "TenantQuota", "DataResidencyPolicy")


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

    def specs(self, today: date) -> tuple[list[Pool], list[Tenant], list[Policy]]:
        """Return what the engine is configured with on a day (UTC)."""
        found = [entry.spec for entry in self.entries.values()]
        pools = [each for each in found if isinstance(each, Pool)]
        return (
            [replace(pool, claims=sovereignty.dated(pool.claims, today)) for pool in pools],
            [each for each in found if isinstance(each, Tenant)],
            [each for each in found if isinstance(each, Policy)],
        )

    def _note(self) -> None:
        self.changed = True
        self.wake()


def _entry(kind: Kind, body: Mapping[str, Any]) -> Entry:
    meta, status = body["metadata"], body.get("status")
    entry = Entry(
        kind=kind,
        name=meta["name"],
        uid=meta["uid"],
        generation=meta.get("generation", 0),
        version=int(meta["resourceVersion"]),
        # A definition that somebody weakened lets anything in.
        status=dict(status) if isinstance(status, Mapping) else {},
        deleting="deletionTimestamp" in meta,
    )
    if not entry.deleting:
        try:
            entry.spec = spec(kind, body)
        except InvalidObjectError as error:
            entry.problem = "; ".join(map(str, error.problems))
    return entry


def _decisive(entry: Entry) -> tuple[object, ...]:
    # What is read from an object's own status (`incumbent` of a pool, `history` of a tenant) we
    # write ourselves: it must not count as news.
    found = entry.spec
    if isinstance(found, Pool):
        found = replace(found, incumbent=False)
    if isinstance(found, Tenant):
        found = replace(found, history=None)
    return (entry.uid, found, entry.problem)

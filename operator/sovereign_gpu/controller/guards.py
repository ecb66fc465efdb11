"""Notices within seconds that what enforces was removed or weakened.

The API server enforces by policies and definitions of the chart. Whoever may delete those can open
every way round, and no policy of the API can forbid it. So what is there is compared with what
this version of the operator would install with the chart's values, and a difference is said in
metrics, events and conditions. The operator holds no right to write policies: with them its
credentials, stolen, could change every workload.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from sovereign_gpu import names
from sovereign_gpu.admission.manifests import API_VERSION, manifests
from sovereign_gpu.admission.settings import Settings
from sovereign_gpu.api.crdgen import definition
from sovereign_gpu.api.parse import KINDS
from sovereign_gpu.cluster import observed
from sovereign_gpu.cluster.informer import Informer
from sovereign_gpu.cluster.observed import Observed, canonical
from sovereign_gpu.cluster.session import Api
from sovereign_gpu.cluster.store import Store
from sovereign_gpu.controller.events import Events, Subject

log = logging.getLogger(__name__)

Fault = Literal["Missing", "Changed"]
PLURALS = {
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
    "MutatingAdmissionPolicy": "mutatingadmissionpolicies",
    "MutatingAdmissionPolicyBinding": "mutatingadmissionpolicybindings",
}
DEFINITION = "CustomResourceDefinition"
_MATCH_DEFAULTS = {"matchPolicy": "Equivalent"}


class Guard(NamedTuple):
    """One object that has to be as it was installed."""

    kind: str
    name: str


def expected(settings: Settings) -> dict[Guard, str]:
    """Return what has to be there, as the API server shows it: with its defaults filled in."""
    found = {}
    for each in manifests(settings):
        key = Guard(each["kind"], each["metadata"]["name"])
        found[key] = canonical(_defaulted(each["spec"]))
    for kind in KINDS.values():
        body = definition(kind)
        spec = {"conversion": {"strategy": "None"}, **body["spec"]}
        found[Guard(DEFINITION, body["metadata"]["name"])] = canonical(spec)
    return found


def _defaulted(spec: Mapping[str, Any]) -> dict[str, Any]:
    full = dict(spec)
    for key in ("matchConstraints", "matchResources"):
        if key in full:
            full[key] = _MATCH_DEFAULTS | full[key]
    if "matchConstraints" in full:
        rules = full["matchConstraints"]["resourceRules"]
        full["matchConstraints"] |= {"resourceRules": [{"scope": "*", **rule} for rule in rules]}
    return full


@dataclass(slots=True)
class Guards:
    """Compares what is with what has to be; see the module."""

    wanted: dict[Guard, str]
    events: Events | None
    """Where a fault is told; None: only in the log."""
    stores: dict[str, Store[Observed]]
    """By kind; definitions by name, since each has a watch of its own."""
    informers: tuple[Informer[Observed], ...]
    faults: dict[Guard, Fault] = field(default_factory=dict)

    @property
    def watched(self) -> int:
        """How many objects are compared."""
        return len(self.wanted)

    def faulty(self) -> list[tuple[str, str, str]]:
        """Return kind, name and fault of what is not as it was installed."""
        return [(kind, name, fault) for (kind, name), fault in sorted(self.faults.items())]

    def look(self) -> None:
        """Compare everything whose watch has shown it."""
        found = dict(self._faults())
        for guard, fault in found.items():
            if self.faults.get(guard) != fault:
                self._tell(guard, fault)
        for guard in self.faults.keys() - found.keys():
            log.info("%s %s is again as it was installed", guard.kind, guard.name)
        self.faults = found

    def found(self, guard: Guard) -> Observed | None:
        """Return a guard as it was last seen, None if it is not there."""
        return self._store(guard).get(guard.name)

    def _store(self, guard: Guard) -> Store[Observed]:
        return self.stores[guard.name if guard.kind == DEFINITION else guard.kind]

    def sentence(self) -> str:
        """Return what is wrong, empty if nothing is."""
        return "; ".join(f"{kind} {name} ({fault})" for kind, name, fault in self.faulty())

    def _faults(self) -> Iterator[tuple[Guard, Fault]]:
        synced = {id(i.store) for i in self.informers if i.health.synced.is_set()}
        for guard, spec in self.wanted.items():
            store = self._store(guard)
            if id(store) not in synced:
                continue
            found = store.get(guard.name)
            if found is None:
                yield guard, "Missing"
            elif found.spec != spec:
                yield guard, "Changed"

    def _tell(self, guard: Guard, fault: Fault) -> None:
        log.error("%s %s is not as it was installed: %s", guard.kind, guard.name, fault)
        version = "apiextensions.k8s.io/v1" if guard.kind == DEFINITION else API_VERSION
        found = self.found(guard)
        if self.events is None:
            return
        self.events.post(
            Subject(version, guard.kind, guard.name, found.uid if found else ""),
            f"Guard{fault}",
            f"{guard.kind} {guard.name}: {fault}; what it refused may pass; install the chart",
            warning=True,
        )


def guards(api: Api, settings: Settings | None, events: Events | None, wake: Any) -> Guards:
    """Return the guards of an installation; without its settings there is nothing to compare."""
    if settings is None:
        return Guards({}, events, {}, ())
    stores: dict[str, Store[Observed]] = {}
    informers = []
    for kind, plural in PLURALS.items():
        stores[kind] = Store(wake)
        informers.append(Informer(api, observed.policies(plural), stores[kind]))
    for each in KINDS.values():
        plural = each.naming.plural
        store = stores[f"{plural}.{names.GROUP}"] = Store(wake)
        informers.append(Informer(api, observed.definition(plural), store))
    return Guards(expected(settings), events, stores, tuple(informers))

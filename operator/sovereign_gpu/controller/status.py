"""What the status of each custom resource says: numbers and conditions, without times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sovereign_gpu import names
from sovereign_gpu.api import seconds
from sovereign_gpu.controller.aspect import LONGEST_MESSAGE, Aspect, adjective, reconciled
from sovereign_gpu.controller.marks import Clashes, Marks
from sovereign_gpu.controller.policystatus import PolicyStatus
from sovereign_gpu.controller.registry import Entry
from sovereign_gpu.controller.unbound import Unbound
from sovereign_gpu.core import explain, report
from sovereign_gpu.core.engine import Engine

_MOST_NAMED = 5
_MOST_ROWS = 64
_NEVER = datetime.min.replace(tzinfo=UTC)
_HISTORY_EVERY = timedelta(minutes=5)
"""Time between two looks at the history of borrowing that may be written."""


@dataclass(slots=True)
class StatusMaker:
    """Reads the engine's books once per `refresh` and serves all objects from that."""

    engine: Engine
    unbound: Unbound
    marks: Marks
    ready: Callable[[], bool]
    """Whether the whole cluster has been read."""
    policies: PolicyStatus
    _pools: dict[str, report.PoolReport] = field(default_factory=dict)
    _tenants: dict[str, report.TenantReport] = field(default_factory=dict)
    _history: dict[str, int] = field(default_factory=dict)
    _history_at: datetime = _NEVER
    _clashes: Clashes = field(default_factory=lambda: Clashes({}, {}))
    _orphaned: dict[str, list[str]] = field(default_factory=dict)

    def refresh(self) -> None:
        """Read the books."""
        self._pools = report.pools(self.engine)
        self._tenants = report.tenants(self.engine)
        self._note_history(datetime.now(UTC))
        self.policies.refresh()
        self._clashes = self.marks.clashes()
        self._orphaned = self.marks.orphaned()
        self.unbound.add_to(self._tenants)

    def _note_history(self, now: datetime) -> None:
        # It changes all the time while somebody borrows; a status is not written for that alone.
        if now - self._history_at >= _HISTORY_EVERY:
            self._history_at = now
            self._history = {
                name: self.engine.history.millionths(name) for name in self.engine.tenants
            }

    def make(self, entry: Entry) -> tuple[dict[str, Any], list[Aspect]]:
        """Return the status of one object without observedGeneration, and its conditions."""
        if entry.spec is None:
            stalled = Aspect("Stalled", "True", "InvalidSpec", entry.problem)
            return {}, [
                Aspect("Ready", "False", "InvalidSpec", entry.problem),
                reconciled(),
                stalled,
            ]
        if not self.ready():
            message = explain.starting().message
            return {}, [
                Aspect("Ready", "Unknown", "Starting", message),
                Aspect("Reconciling", "True", "Starting", message),
                Aspect("Stalled", "False", "Starting"),
            ]
        match entry.kind:
            case "GpuPool":
                return self._pool(entry)
            case "TenantQuota":
                return self._tenant(entry)
            case "DataResidencyPolicy":
                return self.policies.make(entry)

    def _pool(self, entry: Entry) -> tuple[dict[str, Any], list[Aspect]]:
        numbers = self._pools.get(entry.name, report.PoolReport())
        products = sorted(numbers.products)[:_MOST_ROWS]
        status = {
            "nodes": {
                "enrolled": numbers.enrolled,
                "ready": numbers.ready,
                "cordoned": numbers.cordoned,
                "unhealthy": numbers.unhealthy,
                "companions": numbers.companions,
                "faulty": numbers.faulty,
            },
            "gpus": {
                "capacity": numbers.capacity,
                "allocatable": numbers.allocatable,
                "counted": numbers.counted,
                "reserved": numbers.reserved,
                "foreign": numbers.foreign,
                "free": numbers.free,
                "wholeNodesFree": numbers.whole_nodes_free,
                "largestGang": numbers.largest_gang,
                "lost": numbers.lost,
            },
            "faults": [
                {"kind": kind, "nodes": nodes, "gpus": gpus}
                for kind, (nodes, gpus) in numbers.losses.rows()
            ],
            "products": [
                {"product": p, "nodes": numbers.products[p], "gpus": numbers.product_gpus[p]}
                for p in products
            ],
        }
        return status, self._pool_conditions(entry.name, numbers)

    def _pool_conditions(self, name: str, numbers: report.PoolReport) -> list[Aspect]:
        region_clash = self.engine.clashes.get(name)
        node_clash = (
            f"nodes of this pool are also claimed by {', '.join(sorted(numbers.rivals))}; they "
            "stay where they are"
            if numbers.rivals
            else ""
        )
        if region_clash:
            ready = Aspect("Ready", "False", "RegionInTwoCountries", region_clash)
        elif not numbers.enrolled + numbers.companions:
            spec = self.engine.pools[name]
            hint = (
                "no node carries the label of the pool and matches spec.nodes.selector; a platform "
                f"admin enrols nodes with {names.NODE_POOL_LABEL}={name}"
                if spec.labelled
                else "no node matches spec.nodes.selector"
            )
            ready = Aspect("Ready", "True", "NoNodes", hint)
        elif numbers.misplaced:
            ready = Aspect(
                "Ready",
                "True",
                "NodesElsewhere",
                f"{numbers.misplaced} nodes show another region than spec.location.region "
                f"{self.engine.pools[name].region}; they are left out",
            )
        else:
            ready = Aspect("Ready", "True", "Counted", f"{numbers.enrolled} nodes are counted")
        promised = numbers.guaranteed > numbers.capacity
        return [
            ready,
            reconciled(),
            adjective("Stalled", "RegionInTwoCountries", region_clash),
            adjective("Clashing", "RegionInTwoCountries", region_clash)
            if region_clash
            else adjective("Clashing", "NodesClaimedTwice", node_clash),
            adjective("StaticPods", "NotAdmitted", _static(numbers.static)),
            adjective("Degraded", "NodesHaveFaults", numbers.losses.sentence(numbers.capacity)),
            adjective(
                "Oversubscribed",
                "GuaranteesExceedCapacity",
                f"{numbers.guaranteed} GPUs guaranteed, {numbers.capacity} there"
                if promised
                else "",
            ),
        ]

    def _tenant(self, entry: Entry) -> tuple[dict[str, Any], list[Aspect]]:
        numbers = self._tenants.get(entry.name, report.TenantReport())
        rows = list(numbers.pools.items())[:_MOST_ROWS]
        waiting = sorted(numbers.waiting.items(), key=lambda item: (-item[1].pods, item[0]))
        status = {
            **self._fair_share(entry),
            "total": _row(*(row for _, row in rows)),
            "pools": [{"name": name or "none", **_row(row)} for name, row in rows],
            "waiting": [
                {
                    "reason": reason,
                    "pods": wait.pods,
                    "gpus": wait.gpus,
                    "message": wait.message[:LONGEST_MESSAGE],
                }
                for reason, wait in waiting
            ],
        }
        return status, self._tenant_conditions(entry.name, numbers)

    def _fair_share(self, entry: Entry) -> dict[str, Any]:
        stored = entry.status.get("fairShare")
        history = self._history.get(entry.name, 0)
        if not history and (stored is None or not stored["history"]):
            return {} if stored is None else {"fairShare": stored}
        return {"fairShare": {"history": history, "observedTime": seconds(self._history_at)}}

    def _tenant_conditions(self, name: str, numbers: report.TenantReport) -> list[Aspect]:
        over = [
            f"{row.used} of {row.allowance} in pool {pool or 'none'}"
            for pool, row in numbers.pools.items()
            if row.used > row.allowance
        ]
        lost, kept = self._clashes.lost.get(name), self._clashes.kept.get(name)
        orphans = ", ".join(self._orphaned.get(name, ()))
        return [
            self._tenant_ready(name),
            reconciled(),
            adjective("Stalled", "Clashing", lost),
            adjective("Clashing", "NamespaceTaken", lost)
            if lost
            else adjective("Clashing", "NamespaceClaimedTwice", kept),
            adjective("OverQuota", "UsesMoreThanAllowed", "; ".join(over)),
            adjective(
                "Orphaned",
                "NamespaceNotNamed",
                orphans
                and f"namespace {orphans} belongs to this tenant and is not in spec.namespaces; "
                f"its pods wait until it is named, or its label {names.TENANT_LABEL} is cleared",
            ),
        ]

    def _tenant_ready(self, name: str) -> Aspect:
        spec = self.engine.tenants[name]
        refused = [
            f"namespace {n} could not be marked: {self.marks.refused['Namespace', n]}"
            for n in spec.namespaces
            if ("Namespace", n) in self.marks.refused
        ]
        no_policy = [n for n in spec.policies if n not in self.engine.policies]
        no_pool = [n for n, *_ in spec.shares if n not in self.engine.pools]
        absent = [n for n in spec.namespaces if n not in self.engine.namespaces]
        for status, reason, message in (
            ("False", "Clashing", self._clashes.lost.get(name)),
            ("False", "NamespaceRefused", "; ".join(refused)[:LONGEST_MESSAGE]),
            ("False", "PolicyMissing", _missing("DataResidencyPolicy", no_policy)),
            ("False", "PoolMissing", _missing("GpuPool", no_pool)),
            ("True", "NamespacesMissing", _missing("namespace", absent)),
        ):
            if message:
                return Aspect("Ready", "True" if status == "True" else "False", reason, message)
        return Aspect("Ready", "True", "Assigned", "namespaces are assigned and counted")


_ROW = {
    "guaranteed": "guaranteed",
    "used": "used",
    "reserved": "reserved",
    "borrowed": "borrowed",
    "lent": "lent",
    "pendingGpus": "pending_gpus",
    "pendingPods": "pending_pods",
    "lost": "lost",
    "onFaultyNodes": "on_faulty_nodes",
}
"""Field of the status -> attribute of the report."""


def _row(*rows: report.TenantPoolReport) -> dict[str, int]:
    return {key: sum(getattr(row, part) for row in rows) for key, part in _ROW.items()}


def _static(pods: list[str]) -> str:
    if not pods:
        return ""
    named = ", ".join(sorted(pods)[:_MOST_NAMED])
    return f"{len(pods)} pods are run by kubelets themselves and were admitted by nobody: {named}"


def _missing(kind: str, absent: list[str]) -> str:
    return f"{kind} {', '.join(absent)} does not exist yet" if absent else ""

"""What the status of a DataResidencyPolicy says, above all about pods in violation.

Totals are kept in the status itself: they must survive the operator, which forgets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sovereign_gpu import names
from sovereign_gpu.controller.aspect import LONGEST_MESSAGE, Aspect, adjective, reconciled
from sovereign_gpu.controller.drift import Drift
from sovereign_gpu.controller.registry import Entry
from sovereign_gpu.core import report, residency
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.eviction import SHARE, confirmed, evicts
from sovereign_gpu.core.model import Policy
from sovereign_gpu.core.sovereignty import Finding

_MOST_PLACES = 5
_MOST_REGIONS = 256
_MOST_POOLS = 64


@dataclass(slots=True)
class PolicyStatus:
    """Makes it for all policies from one reading of the books."""

    engine: Engine
    drift: Drift
    unguarded: Callable[[], str] = str
    """Says which guards are not as they were installed."""
    violations_total: dict[str, int] = field(default_factory=dict)
    evicted_total: dict[str, int] = field(default_factory=dict)
    _violating: dict[str, set[str]] = field(default_factory=dict)
    """Pods in violation at the last reading, by uid of the policy."""
    _evicted: Counter[str] = field(default_factory=Counter)
    """Evictions since the start that the total includes, by policy."""
    _reports: dict[str, report.PolicyReport] = field(default_factory=dict)

    def refresh(self) -> None:
        """Read the books."""
        self._reports = report.policies(self.engine, self.drift.judge.offences)
        for totals in (self.violations_total, self.evicted_total):
            for name in totals.keys() - self.engine.policies.keys():
                del totals[name]

    def make(self, entry: Entry) -> tuple[dict[str, Any], list[Aspect]]:
        """Return the numbers and conditions of one policy that is in the books."""
        numbers = self._reports[entry.name]
        decision, spec = self.drift.decision, self.engine.policies[entry.name]
        status = {
            "eligible": {
                "pools": len(numbers.pools),
                "nodes": numbers.nodes,
                "regions": list(numbers.regions[:_MOST_REGIONS]),
            },
            "countries": {"sets": sorted(spec.sets), "codes": sorted(spec.countries)},
            "pools": self._pools(spec),
            "violations": {
                "now": len(numbers.violations),
                "total": self._count(entry, numbers),
                "announced": decision.announced[entry.name],
                "evicted": self._count_evicted(entry),
            },
        }
        unguarded = self.unguarded()[:LONGEST_MESSAGE]
        judged = [
            self._drifting(spec, numbers),
            self._expiring(spec),
            adjective("Unguarded", "GuardsNotAsInstalled", unguarded),
        ]
        if not spec.countries:
            message = "spec.countries: every country of sets and include is excluded"
            ready = Aspect("Ready", "False", "NoCountryAllowed", message)
            return status, [ready, reconciled(), Aspect("Stalled", "True", *ready[2:]), *judged]
        ready = Aspect("Ready", "True", "InForce", f"{len(spec.countries)} countries are allowed")
        return status, [ready, reconciled(), Aspect("Stalled", "False", "InOrder"), *judged]

    def _pools(self, spec: Policy) -> list[dict[str, Any]]:
        pools = sorted(self.engine.pools.values(), key=lambda pool: pool.name)
        return [
            {
                "name": pool.name,
                "predicates": [
                    {
                        "predicate": found.topic,
                        "status": "True" if found.holds else "False",
                        "reason": found.finding.value,
                        "message": found.message[:LONGEST_MESSAGE],
                    }
                    for found in residency.verdicts(spec, pool)
                ],
            }
            for pool in pools[:_MOST_POOLS]
        ]

    def _expiring(self, spec: Policy) -> Aspect:
        soon = [
            f"GpuPool {pool.name}: {found.topic}: {found.message}"
            for _, pool in sorted(self.engine.pools.items())
            for found in residency.verdicts(spec, pool)
            if found.finding is Finding.EXPIRING
        ]
        message = f"{'; '.join(soon)}; pools that cannot show it then are no longer admitted"
        return adjective("Expiring", "AttributesRunOut", message[:LONGEST_MESSAGE] if soon else "")

    def _drifting(self, spec: Policy, numbers: report.PolicyReport) -> Aspect:
        pods = len(numbers.violations)
        if not pods and evicts(spec) and confirmed(spec):
            message = (
                f"annotation {names.CONFIRM_DRIFT}={spec.confirmed} confirms evictions of more "
                f"than {SHARE} of the pods, whatever causes them; remove it when they are done"
            )
            return Aspect("Drifting", "False", "ConfirmationStands", message)
        places = _places(numbers)
        if spec.name in self.drift.decision.awaiting:
            running = len(self.drift.judge.running)
            message = (
                f"{pods} of {running} governed running pods are affected, more than {SHARE}: none "
                f"of them is evicted until the annotation {names.CONFIRM_DRIFT}={spec.generation} "
                f"on this policy confirms it; {places}"
            )
            return Aspect("Drifting", "True", "AwaitingConfirmation", message[:LONGEST_MESSAGE])
        message = f"{pods} pods run where this policy does not allow it: {places}" if pods else ""
        return adjective("Drifting", "PodsOutsidePolicy", message[:LONGEST_MESSAGE])

    def _count(self, entry: Entry, numbers: report.PolicyReport) -> int:
        stored = entry.status.get("violations", {})
        known = self._violating.get(entry.uid)
        now = self._violating[entry.uid] = set(numbers.violations)
        # Pods in violation when we start were counted by whoever stored the total.
        before = int(stored.get("now", 0))
        fresh = max(0, len(now) - before) if known is None else len(now - known)
        total = max(int(stored.get("total", 0)), self.violations_total.get(entry.name, 0)) + fresh
        self.violations_total[entry.name] = total
        return total

    def _count_evicted(self, entry: Entry) -> int:
        stored = int(entry.status.get("violations", {}).get("evicted", 0))
        since_start = self.drift.evicted(entry.name)
        fresh = since_start - self._evicted[entry.name]
        self._evicted[entry.name] = since_start
        total = max(stored, self.evicted_total.get(entry.name, 0)) + fresh
        self.evicted_total[entry.name] = total
        return total


def _places(numbers: report.PolicyReport) -> str:
    rows = sorted(numbers.places.items(), key=lambda row: (-row[1], row[0].node, row[0].tenant))
    named = [f"{pods} of tenant {at.tenant}: {at.text}" for at, pods in rows[:_MOST_PLACES]]
    rest = sum(pods for _, pods in rows[_MOST_PLACES:])
    return "; ".join([*named, f"and {rest} on other nodes"] if rest else named)

"""Writes what the books say into the status of the custom resources, when it changed.

Conditions as kstatus reads them: Ready sums up; Reconciling while the operator has not seen the
cluster; Stalled when a person has to act. A full quota is healthy.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sovereign_gpu import names
from sovereign_gpu.api import Condition
from sovereign_gpu.cluster.errors import ApiError, UncertainError
from sovereign_gpu.cluster.session import MERGE_PATCH
from sovereign_gpu.cluster.writer import Lane, Write, Writer
from sovereign_gpu.controller.aspect import Aspect
from sovereign_gpu.controller.events import Events, Subject
from sovereign_gpu.controller.registry import Entry, Registry
from sovereign_gpu.controller.status import StatusMaker

log = logging.getLogger(__name__)

FIELD_MANAGER = "sovereign-gpu-status"
_PLURALS = {
    "GpuPool": "gpupools",
    "TenantQuota": "tenantquotas",
    "DataResidencyPolicy": "dataresidencypolicies",
}


class _Written(NamedTuple):
    generation: int
    status: dict[str, Any]


@dataclass(slots=True)
class Reports:
    """Remembers what was written, so that nothing is written twice."""

    registry: Registry
    writer: Writer
    maker: StatusMaker
    events: Events
    _written: dict[str, _Written] = field(default_factory=dict)

    def look(self) -> None:
        """Write every status that is not what it should be."""
        if self.registry.changed:
            return  # the books do not know the newest specs yet
        self.maker.refresh()
        present = set()
        for entry in self.registry.entries.values():
            present.add(entry.uid)
            if not entry.deleting:
                self._compare(entry)
        for uid in self._written.keys() - present:
            del self._written[uid]

    def _compare(self, entry: Entry) -> None:
        numbers, aspects = self.maker.make(entry)
        before = self._written.get(entry.uid)
        stored = before.status if before else entry.status
        conditions = _conditions(aspects, stored.get("conditions", ()), entry.generation)
        status = {"observedGeneration": entry.generation, "conditions": conditions, **numbers}
        if status == stored:
            return
        self._written[entry.uid] = _Written(entry.generation, status)

        def answered(error: ApiError | UncertainError | None) -> None:
            if error is None:
                self._notify(entry, stored.get("conditions", ()), conditions)
            else:
                self._written.pop(entry.uid, None)
                log.warning("status of %s %s: %s", entry.kind, entry.name, error)

        path = f"/apis/{names.GROUP}/{names.VERSION}/{_PLURALS[entry.kind]}/{entry.name}/status"
        self.writer.submit(
            Write(
                lane=Lane.REPORT,
                key=f"{entry.kind}/{entry.name}",
                method="PATCH",
                path=f"{path}?fieldManager={FIELD_MANAGER}",
                body={"metadata": {"uid": entry.uid}, "status": status},
                content_type=MERGE_PATCH,
                done=answered,
            )
        )

    def _notify(
        self, entry: Entry, before: list[dict[str, Any]], after: list[dict[str, Any]]
    ) -> None:
        if entry.kind == "DataResidencyPolicy":
            self._notify_of_drift(entry, before, after)
        if entry.kind != "TenantQuota":
            return
        known = {c["type"]: c["status"] for c in before}
        for condition in after:
            kind, status = condition["type"], condition["status"]
            if known.get(kind, "False" if kind != "Ready" else "") == status:
                continue
            if kind in ("Reconciling", "Ready") and status != "False" and kind not in known:
                continue  # the first status of a healthy object is no news
            self._event(entry, condition)

    def _notify_of_drift(
        self, entry: Entry, before: list[dict[str, Any]], after: list[dict[str, Any]]
    ) -> None:
        known = {c["type"]: (c["status"], c["reason"]) for c in before}
        for condition in after:
            now = condition["status"], condition["reason"]
            drifting = condition["type"] == "Drifting" and condition["status"] == "True"
            if drifting and known.get("Drifting") != now:
                self._event(entry, condition)

    def _event(self, entry: Entry, condition: dict[str, Any]) -> None:
        healthy = (condition["type"] == "Ready") == (condition["status"] == "True")
        self.events.post(
            Subject(f"{names.GROUP}/{names.VERSION}", entry.kind, entry.name, entry.uid),
            condition["reason"],
            f"{condition['type']}={condition['status']}: {condition['message']}",
            warning=not healthy,
        )


def _conditions(
    aspects: list[Aspect], stored: list[dict[str, Any]] | tuple[()], generation: int
) -> list[dict[str, Any]]:
    known = {condition["type"]: condition for condition in stored}
    now = datetime.now(UTC).replace(microsecond=0)
    made = []
    for aspect in aspects:
        before = known.get(aspect.type)
        unchanged = before is not None and before["status"] == aspect.status
        condition = Condition(
            type=aspect.type,
            status=aspect.status,
            reason=aspect.reason,
            message=aspect.message,
            observed_generation=generation,
            last_transition_time=(
                datetime.fromisoformat(before["lastTransitionTime"])
                if before is not None and unchanged
                else now
            ),
        )
        made.append(condition.wire())
    return made

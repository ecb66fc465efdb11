"""Puts admission policies back as they were installed, in a process with rights of its own.

The operator only notices (`guards`), because whoever may write these policies can change every
workload. Where the owner of the installation wants more, the chart starts this beside it, under
another service account that may write our policies by their names and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from sovereign_gpu.admission.manifests import API_VERSION, manifests
from sovereign_gpu.admission.settings import Settings
from sovereign_gpu.cluster.errors import ClusterError
from sovereign_gpu.cluster.observed import ADMISSION, Observed
from sovereign_gpu.cluster.patches import APPLY_PATCH
from sovereign_gpu.cluster.session import Api
from sovereign_gpu.controller.guards import DEFINITION, PLURALS, Guard, Guards

log = logging.getLogger(__name__)

FIELD_MANAGER = "sovereign-gpu-guard"
_GLANCE = 0.5
"""Seconds between looks."""
_PAUSE = 5.0
"""Seconds before an object that could not be put back is tried again."""


@dataclass(slots=True)
class Repairs:
    """Writes what `guards` finds missing or changed."""

    api: Api
    guards: Guards
    settings: Settings
    _seen: dict[Guard, Observed] = field(default_factory=dict)
    """As last seen: labels and annotations by which Helm knows its own."""
    _again_at: dict[Guard, float] = field(default_factory=dict)

    async def run(self) -> None:
        """Look and write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self.guards.informers:
                group.create_task(informer.run())
            group.create_task(self._keep())

    async def _keep(self) -> None:
        bodies = {
            Guard(each["kind"], each["metadata"]["name"]): each for each in manifests(self.settings)
        }
        while True:
            self.guards.look()
            for guard, body in bodies.items():
                found = self.guards.found(guard)
                if found is not None:
                    self._seen[guard] = found
                if guard in self.guards.faults and self._due(guard):
                    await self._put_back(guard, body)
            await asyncio.sleep(_GLANCE)

    def _due(self, guard: Guard) -> bool:
        return guard.kind != DEFINITION and time.monotonic() >= self._again_at.get(guard, 0.0)

    async def _put_back(self, guard: Guard, body: dict[str, Any]) -> None:
        self._again_at[guard] = time.monotonic() + _PAUSE
        path = f"{ADMISSION}/{PLURALS[guard.kind]}/{guard.name}"
        try:
            if self.guards.faults[guard] == "Missing":
                seen = self._seen.get(guard)
                full = {**body, "metadata": {**body["metadata"], **(seen.marks() if seen else {})}}
                query = {"fieldManager": FIELD_MANAGER, "force": "true"}
                await self.api.request("PATCH", path, full, query=query, content_type=APPLY_PATCH)
            else:
                # What somebody added is theirs to an apply, and would stay.
                now = await self.api.get(path)
                full = {"apiVersion": API_VERSION, "kind": guard.kind, **now, "spec": body["spec"]}
                await self.api.request("PUT", path, full, query={"fieldManager": FIELD_MANAGER})
        except ClusterError as error:
            log.error("%s %s could not be put back: %s", guard.kind, guard.name, error)  # noqa: TRY400 – the sentence is enough
        else:
            log.warning("%s %s is put back as it was installed", guard.kind, guard.name)


def described(settings: Settings) -> str:
    """Return what is kept, for the log."""
    return json.dumps({"namespace": settings.namespace, "objects": len(manifests(settings))})

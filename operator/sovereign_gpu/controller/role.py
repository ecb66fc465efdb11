"""Marks the pod of the leader, so that the Service leads to whoever knows.

A standby follows everything and decides nothing: what it could say of waiting pods would be old.
The label is one of ours, which only holders of the release right write.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from sovereign_gpu import names
from sovereign_gpu.cluster import patches
from sovereign_gpu.cluster.errors import ClusterError
from sovereign_gpu.cluster.session import MERGE_PATCH, Api

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Role:
    """The label of our own pod; without a pod there is nothing to mark."""

    api: Api
    namespace: str
    pod: str

    async def take(self) -> None:
        """Say that this pod leads."""
        await self._write(names.ROLE_LEADER)

    async def leave(self) -> None:
        """Say that it does not: also of a container that is started again in the same pod."""
        await self._write(None)

    async def _write(self, role: str | None) -> None:
        if not self.pod:
            return
        path = f"/api/v1/namespaces/{self.namespace}/pods/{self.pod}"
        body = patches.metadata(labels={names.ROLE_LABEL: role})
        try:
            await self.api.request("PATCH", path, body, content_type=MERGE_PATCH, timeout=5.0)
        except ClusterError as error:
            log.warning("marking our own pod %s: %s", self.pod, error)

"""Says in our own namespace which leader's releases count; `admission.fence` holds them to it.

Written before the first release. What a replaced leader writes late is refused as a conflict: each
write names the version of the namespace that was read before the API server confirmed our lease.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sovereign_gpu import names
from sovereign_gpu.cluster import patches
from sovereign_gpu.cluster.errors import ApiError, ClusterError
from sovereign_gpu.cluster.session import MERGE_PATCH, Api

log = logging.getLogger(__name__)

_PAUSE = 0.5
"""Seconds between two tries."""
_TIMEOUT = 5.0


@dataclass(slots=True)
class Fence:
    """The annotation of the operator's namespace."""

    api: Api
    namespace: str
    signature: Callable[[], str]
    """What releases are signed with: the lease's token."""
    sure: Callable[[], Awaitable[bool]]
    """Asks the API server whether the lease is ours."""
    written: asyncio.Event = field(default_factory=asyncio.Event)
    """Releases with our signature count, and no others."""
    _doubted: asyncio.Event = field(default_factory=asyncio.Event)

    @staticmethod
    def refused(error: ApiError) -> bool:
        """Whether a release was refused because of its signature."""
        return "'sovereign-gpu-fence'" in error.message

    def doubt(self) -> None:
        """Look again: a release of ours was refused, so somebody may have changed it."""
        self._doubted.set()

    async def keep(self) -> None:
        """Put it right again whenever it is doubted, until cancelled."""
        while True:
            await self._doubted.wait()
            self._doubted.clear()
            await self.put()
            await asyncio.sleep(_PAUSE)

    async def put(self) -> None:
        """Return when releases with our signature count."""
        while True:
            try:
                if await self._try():
                    self.written.set()
                    return
            except (ClusterError, ValueError, KeyError) as error:
                log.warning("writing %s on %s: %s", names.LEADER, self.namespace, error)
            await asyncio.sleep(_PAUSE)

    async def _try(self) -> bool:
        path = f"/api/v1/namespaces/{self.namespace}"
        found = json.loads(await self.api.request("GET", path, timeout=_TIMEOUT))["metadata"]
        signature = self.signature()
        if found.get("annotations", {}).get(names.LEADER) == signature:
            return True
        # Asked after reading: whoever took the lease since will have changed the version. Our own
        # clock is not enough: the lease may have been deleted under us, and made by another.
        if not await self.sure():
            return False
        body = patches.metadata(annotations={names.LEADER: signature})
        body["metadata"]["resourceVersion"] = found["resourceVersion"]
        await self.api.request("PATCH", path, body, content_type=MERGE_PATCH, timeout=_TIMEOUT)
        return True

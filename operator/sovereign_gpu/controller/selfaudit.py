"""Counts everything again from a fresh list and holds the books against it.

The books follow watches, change by change, for weeks. If one was ever missed or counted wrong,
nothing else would tell. What is different must be so twice, some seconds apart, since the cluster
moves on while it is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sovereign_gpu.cluster.backoff import jittered
from sovereign_gpu.cluster.errors import ClusterError, UncertainError
from sovereign_gpu.cluster.kinds import PODS
from sovereign_gpu.cluster.listing import pages
from sovereign_gpu.cluster.reading import GoneError, Reader
from sovereign_gpu.cluster.session import Api
from sovereign_gpu.cluster.store import Store
from sovereign_gpu.core import recount
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Pod
from sovereign_gpu.core.recount import Difference, Facts

log = logging.getLogger(__name__)

_FIRST = 30.0
_EVERY = 300.0
_AGAIN = 10.0
"""Seconds until the first audit of a leader, between two, and before differences are believed."""
_TOLD = 5
"""Differences that are logged one by one."""


@dataclass(slots=True)
class SelfAudit:
    """See the module."""

    api: Api
    engine: Engine
    pods: Store[Pod]
    passed: Callable[[int], Awaitable[bool]]
    """Waits until the store shows a resource version; whether it does."""
    differing_pods: int = 0
    differing_gpus: int = 0
    """What the last audit found; must be 0."""
    completed: int = 0
    succeeded_at: float = 0.0
    """When the last audit was completed, seconds since the epoch."""

    async def run(self) -> None:
        """Audit now and then until cancelled."""
        pause = _FIRST
        while True:
            await asyncio.sleep(jittered(pause))
            pause = _EVERY
            try:
                await self.audit()
            except (ClusterError, GoneError, TimeoutError, OSError) as error:
                log.warning("self-audit: %s", error or type(error).__name__)

    async def audit(self) -> None:
        """Compare, and compare what differs once more.

        Raises:
            ClusterError, GoneError: it could not be done now.
        """
        found = await self._compare()
        if found:
            await asyncio.sleep(_AGAIN)
            again = await self._compare()
            found = {uid: each for uid, each in again.items() if found.get(uid) == each}
        self.differing_pods = len(found)
        self.differing_gpus = sum(each.gpus for each in found.values())
        self.completed += 1
        self.succeeded_at = time.time()
        for each in list(found.values())[:_TOLD]:
            log.error(
                "self-audit: the books say %s of pod %s, the list says %s",
                each.booked,
                each.uid,
                each.listed,
            )

    async def _compare(self) -> dict[str, Difference]:
        listed, version = await self._list()
        if not await self.passed(version):
            raise UncertainError(f"the watch of pods has not come to version {version}")
        for _ in range(100):
            if not self.pods.waiting:
                break
            await asyncio.sleep(0.1)
        return self._differences(listed)

    async def _list(self) -> tuple[dict[str, Facts], int]:
        # Only the few facts of each pod are kept: a second copy of the cluster would cost memory.
        found: dict[str, Facts] = {}
        version = 0
        async with contextlib.aclosing(pages(self.api, PODS, Reader(PODS))) as listed:
            async for page in listed:
                found.update((uid, recount.facts(pod)) for uid, pod in page.items.items())
                version = int(page.version)
        return found, version

    def _differences(self, listed: dict[str, Facts]) -> dict[str, Difference]:
        engine, found = self.engine, {}
        charges = engine.ledger.charges
        for uid, seen in listed.items():
            tenant = engine.tenant_of(seen.namespace)
            right = recount.held(seen, tenant, engine.pool_of_node)
            booked = recount.booked(charges.get(uid), right)
            if booked != right and uid not in engine.assumed:
                found[uid] = Difference(uid, right, booked)
        for uid in charges.keys() - listed.keys():
            booked = recount.booked(charges[uid], recount.Held("", "?", 0))
            if booked.gpus:
                found[uid] = Difference(uid, None, booked)
        return found

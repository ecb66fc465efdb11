"""What every pod holds by its own words: the books' rule once more, in other code; pure.

A pod without our gate holds its GPUs for the tenant of its namespace, in the pool of its node or,
before it is bound, in the pool it was released to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sovereign_gpu.core.ledger import Charge
from sovereign_gpu.core.model import Pod
from sovereign_gpu.names import GATE


class Facts(NamedTuple):
    """Of a pod, what decides what it holds."""

    namespace: str
    gated: bool
    gpus: int
    node: str
    pool: str
    """Label: where it was released to."""


class Held(NamedTuple):
    """GPUs of a tenant in a pool; the pool is empty where a pod does not say it."""

    tenant: str
    pool: str
    gpus: int


NOTHING = Held("", "", 0)


@dataclass(frozen=True, slots=True)
class Difference:
    """A pod of which the books say something else than the list."""

    uid: str
    listed: Held | None
    """None: there is no such pod."""
    booked: Held

    @property
    def gpus(self) -> int:
        """GPUs that are counted wrong, at least."""
        listed = self.listed or NOTHING
        if (listed.tenant, listed.pool) != (self.booked.tenant, self.booked.pool):
            return max(listed.gpus, self.booked.gpus)
        return abs(listed.gpus - self.booked.gpus)


def facts(pod: Pod) -> Facts:
    """Return what decides what a pod holds."""
    return Facts(pod.namespace, GATE in pod.gates, pod.demand.gpus, pod.node, pod.pool)


def held(found: Facts, tenant: str, pool_of_node: Mapping[str, str]) -> Held:
    """Return what a pod holds."""
    if found.gated or not found.gpus:
        return NOTHING
    return Held(tenant, pool_of_node.get(found.node) or found.pool, found.gpus)


def booked(charge: Charge | None, listed: Held) -> Held:
    """Return what the books say of a pod; the pool is left out where the pod does not say it."""
    if charge is None or not charge.demand.gpus:
        return NOTHING
    return Held(charge.tenant, charge.pool if listed.pool else "", charge.demand.gpus)

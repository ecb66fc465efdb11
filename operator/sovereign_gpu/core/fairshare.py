"""Whose turn it is when GPUs beyond the guarantees are given out.

Dominant resource fairness (Ghodsi et al., NSDI '11) over what a tenant uses beyond its guarantee:
its surplus is the largest of its shares of GPUs, CPU and memory that the guarantee does not
cover. Past surplus counts as well, as a moving average that halves with every half-life (as the
fair-share of Slurm and the admission fair sharing of Kueue), so that whoever borrowed for a week
stands behind whoever did not. The tenant with the smallest sum of both, divided by its weight,
is next.

History delays equality and does not prevent it: among tenants that all want more for ever, the
averages draw together with the half-life, and with them what each holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from sovereign_gpu.core.ledger import Usage
from sovereign_gpu.core.model import Resources, Tenant

ONE = 1 << 32
"""The whole of a resource; shares are parts of this."""
MILLION = 1_000_000
"""Histories are stored in millionths."""
_WEEK = 7 * 24 * 3600.0
_SAMPLE = 1.0
"""Seconds between two looks at least."""
_NOTHING = Resources()


@dataclass(slots=True)
class Capacity:
    """What the GPU nodes of each pool have, usable or not."""

    of: dict[str, Resources] = field(default_factory=dict)
    total: Resources = _NOTHING
    _nodes: dict[str, tuple[str, Resources]] = field(default_factory=dict)

    def put(self, name: str, pool: str, size: Resources) -> None:
        """Note where a node belongs and what it has; an empty pool: nowhere."""
        before = self._nodes.pop(name, None)
        if before is not None:
            self._add(*before, -1)
        if pool and size.gpus:
            self._nodes[name] = pool, size
            self._add(pool, size, 1)

    def _add(self, pool: str, size: Resources, sign: int) -> None:
        known = _plus(self.of.get(pool, _NOTHING), size, sign)
        self.total = _plus(self.total, size, sign)
        if known.gpus:
            self.of[pool] = known
        else:
            del self.of[pool]


def surplus(tenant: Tenant, usage: Mapping[tuple[str, str], Usage], capacity: Capacity) -> int:
    """Return the tenant's dominant share beyond its guarantees, in parts of `ONE`.

    A guarantee of GPUs covers the same part of the pool's CPU and memory.
    """
    guaranteed = {share.pool: share.guaranteed for share in tenant.shares}
    gpus = cpu = memory = 0
    for pool, size in capacity.of.items():
        used = usage.get((tenant.name, pool))
        if used is None:
            continue
        mine = guaranteed.get(pool, 0)
        gpus += max(0, used.counted - mine)
        cpu += max(0, used.cpu - size.cpu * mine // size.gpus)
        memory += max(0, used.memory - size.memory * mine // size.gpus)
    total = capacity.total
    return max(
        gpus * ONE // max(1, total.gpus),
        cpu * ONE // max(1, total.cpu),
        memory * ONE // max(1, total.memory),
    )


@dataclass(slots=True)
class History:
    """Moving averages of surplus, per tenant, in parts of `ONE`."""

    half_life: float = _WEEK
    """Seconds."""
    average: dict[str, int] = field(default_factory=dict)
    _at: float | None = None

    def advance(
        self, now: float, tenants: Iterable[Tenant], surplus_of: Callable[[Tenant], int]
    ) -> None:
        """Let time pass until `now` (seconds since the epoch) at what is held at present.

        Looks at most once a second; a clock that goes backwards lets no time pass.
        """
        if self._at is None:
            self._at = now
        passed = now - self._at
        if passed < _SAMPLE:
            return
        self._at = now
        fades = 0.5 ** (passed / self.half_life)
        for tenant in tenants:
            before, current = self.average.get(tenant.name, 0), surplus_of(tenant)
            self._set(tenant.name, current + round((before - current) * fades))

    def restore(self, tenant: str, stored: tuple[int, float]) -> None:
        """Take over millionths that were stored at a time, faded since."""
        millionths, at = stored
        passed = 0.0 if self._at is None else max(0.0, self._at - at)
        share = min(millionths, MILLION) * ONE // MILLION
        self._set(tenant, round(share * 0.5 ** (passed / self.half_life)))

    def millionths(self, tenant: str) -> int:
        """Return a tenant's average as it is stored."""
        return self.average.get(tenant, 0) * MILLION // ONE

    def _set(self, tenant: str, share: int) -> None:
        if share > 0:
            self.average[tenant] = share
        else:
            self.average.pop(tenant, None)

    def keep(self, tenants: Mapping[str, Tenant]) -> None:
        """Forget tenants that are gone."""
        for name in self.average.keys() - tenants.keys():
            del self.average[name]


def _plus(a: Resources, b: Resources, sign: int) -> Resources:
    return Resources(a.gpus + sign * b.gpus, a.cpu + sign * b.cpu, a.memory + sign * b.memory)

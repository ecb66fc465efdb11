"""What of each pool is borrowed, and what must be kept for guarantees that are not lent.

Words as in Kueue: a tenant borrows what it uses beyond its guarantee, and lends what others use
of the part of its guarantee that it leaves unused, up to its lending limit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sovereign_gpu.core.apportion import divide
from sovereign_gpu.core.ledger import FOREIGN, Usage
from sovereign_gpu.core.model import Share, Tenant

_NOTHING = (0, 0)


@dataclass(slots=True)
class Lending:
    """Sums over tenants, per pool and in GPUs, kept with every charge."""

    borrowed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    kept: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Unused parts of guarantees beyond lending limits: free, and not for others."""
    shares: dict[tuple[str, str], Share] = field(default_factory=dict)
    """By tenant and pool."""
    _parts: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def configure(self, tenants: Iterable[Tenant], usage: Mapping[tuple[str, str], Usage]) -> None:
        """Take in all shares; everything is counted again."""
        self.shares = {(t.name, share.pool): share for t in tenants for share in t.shares}
        self.borrowed.clear()
        self.kept.clear()
        self._parts.clear()
        for key in {*self.shares, *usage}:
            self.put(key, usage[key].counted if key in usage else 0)

    def put(self, key: tuple[str, str], counted: int) -> None:
        """Note what a tenant is charged in a pool."""
        tenant, pool = key
        before = self._parts.pop(key, _NOTHING)
        after = self._part(key, counted) if tenant != FOREIGN else _NOTHING
        if after != _NOTHING:
            self._parts[key] = after
        _add(self.borrowed, pool, after[0] - before[0])
        _add(self.kept, pool, after[1] - before[1])

    def _part(self, key: tuple[str, str], counted: int) -> tuple[int, int]:
        share = self.shares.get(key)
        if share is None:
            return counted, 0
        return max(0, counted - share.guaranteed), max(0, share.kept - counted)

    def kept_by_others(self, tenant: str, pool: str) -> int:
        """Return the GPUs of the pool that others keep from this tenant."""
        return self.kept.get(pool, 0) - self._parts.get((tenant, pool), _NOTHING)[1]


def lent(shares: Mapping[str, Share], counted: Mapping[str, int], capacity: int) -> dict[str, int]:
    """Return what each tenant lends in one pool.

    Borrowers use first what is guaranteed to nobody, then the unused guarantees in proportion to
    what of them may be lent.

    Args:
        shares: the pool's share of each tenant.
        counted: GPUs charged to each tenant in the pool, also to tenants without a share.
        capacity: GPUs of the pool's nodes.
    """
    borrowed = sum(
        max(0, gpus - (shares[name].guaranteed if name in shares else 0))
        for name, gpus in counted.items()
    )
    unpromised = max(0, capacity - sum(share.guaranteed for share in shares.values()))
    idle = {
        name: min(share.guaranteed - share.kept, max(0, share.guaranteed - counted.get(name, 0)))
        for name, share in shares.items()
    }
    return divide(min(sum(idle.values()), max(0, borrowed - unpromised)), idle)


def _add(sums: dict[str, int], pool: str, gpus: int) -> None:
    if gpus:
        sums[pool] += gpus
        if not sums[pool]:
            del sums[pool]

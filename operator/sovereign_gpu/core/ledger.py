"""What is charged to whom, kept incrementally and exactly.

One charge per pod; every total is the sum over charges and changes only through `Ledger.put`,
so that undoing is the same code as doing and nothing can be counted twice.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from sovereign_gpu.core.model import Resources

FOREIGN = ""
"""Tenant of charges that belong to nobody: infrastructure, static pods, ungoverned namespaces."""


@dataclass(frozen=True, slots=True)
class Charge:
    """One unfinished pod without our gate, or one whose release was decided."""

    tenant: str
    pool: str
    node: str
    demand: Resources
    bound: bool


@dataclass(slots=True)
class Usage:
    """What the GPU pods of one tenant hold in one pool."""

    used: int = 0
    """Bound to a node."""
    reserved: int = 0
    """Released, not bound yet."""
    cpu: int = 0
    """Millicores of the pods that hold the GPUs."""
    memory: int = 0
    """Bytes of the pods that hold the GPUs."""

    @property
    def counted(self) -> int:
        """What the allowance is compared with."""
        return self.used + self.reserved


@dataclass(slots=True)
class Load:
    """What a node carries."""

    gpus: int = 0
    cpu: int = 0
    memory: int = 0
    bound_gpus: int = 0
    """Part of `gpus` that kube-scheduler has bound."""

    def add(self, charge: Charge, sign: int) -> None:
        """Add (sign 1) or take away (sign -1) one charge."""
        self.gpus += sign * charge.demand.gpus
        self.cpu += sign * charge.demand.cpu
        self.memory += sign * charge.demand.memory
        if charge.bound:
            self.bound_gpus += sign * charge.demand.gpus


@dataclass(slots=True)
class Ledger:
    """All charges and their totals."""

    charges: dict[str, Charge] = field(default_factory=dict)
    usage: dict[tuple[str, str], Usage] = field(default_factory=lambda: defaultdict(Usage))
    loads: dict[str, Load] = field(default_factory=lambda: defaultdict(Load))
    reserved_in: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Per pool, GPUs released and not bound yet, wherever they were meant to go."""
    by_node: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Pods charged on each node."""

    def put(self, uid: str, charge: Charge | None) -> Charge | None:
        """Replace the charge of a pod (None: free it) and return what was charged before."""
        before = self.charges.pop(uid, None)
        if before is not None:
            self._apply(before, -1)
            self.by_node[before.node].discard(uid)
            if not self.by_node[before.node]:
                del self.by_node[before.node]
        if charge is not None:
            self.charges[uid] = charge
            self._apply(charge, 1)
            self.by_node[charge.node].add(uid)
        return before

    def counted(self, tenant: str, pool: str) -> int:
        """GPUs of the tenant in the pool, bound and reserved."""
        usage = self.usage.get((tenant, pool))
        return usage.counted if usage else 0

    def _apply(self, charge: Charge, sign: int) -> None:
        gpus = charge.demand.gpus
        if charge.node:
            load = self.loads[charge.node]
            load.add(charge, sign)
            if load == _EMPTY:
                del self.loads[charge.node]
        if gpus and not charge.bound:
            self.reserved_in[charge.pool] += sign * gpus
            if not self.reserved_in[charge.pool]:
                del self.reserved_in[charge.pool]
        if gpus:
            self._apply_usage(charge, sign)

    def _apply_usage(self, charge: Charge, sign: int) -> None:
        key, demand = (charge.tenant, charge.pool), charge.demand
        usage = self.usage[key]
        if charge.bound:
            usage.used += sign * demand.gpus
        else:
            usage.reserved += sign * demand.gpus
        usage.cpu += sign * demand.cpu
        usage.memory += sign * demand.memory
        if not usage.used and not usage.reserved:
            del self.usage[key]


_EMPTY = Load()

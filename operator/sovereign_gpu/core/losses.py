"""What faults take from pools and from the tenants that were promised their GPUs; pure.

A tenant never loses more than its part: what its pool cannot serve of all guarantees is divided in
proportion to the guarantees. GPUs that were promised and never existed are no loss; the pool says
`Oversubscribed` for those.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from sovereign_gpu.core.apportion import divide
from sovereign_gpu.core.health import FaultKind, lost
from sovereign_gpu.core.state import State


@dataclass(slots=True)
class PoolLosses:
    """Faults of one pool's nodes that have GPUs."""

    nodes: int = 0
    """Nodes with faults."""
    gpus: int = 0
    """GPUs that no new pod can be given."""
    by_kind: dict[FaultKind, tuple[int, int]] = field(default_factory=dict)
    """Nodes with a fault of the kind, and the GPUs it alone would take; a node may have several."""

    def sentence(self, capacity: int) -> str:
        """Say what is lost of the capacity and why; empty if there are no faults."""
        kinds = [f"{kind} on {nodes} {_plural('node', nodes)}" for kind, (nodes, _) in self.rows()]
        if not kinds:
            return ""
        return (
            f"{self.gpus} of {capacity} GPUs lost to faults of {self.nodes} "
            f"{_plural('node', self.nodes)}: {', '.join(kinds)}"
        )

    def rows(self) -> list[tuple[FaultKind, tuple[int, int]]]:
        """Return the kinds with their numbers, in the order of their gravity."""
        return [(kind, self.by_kind[kind]) for kind in FaultKind if kind in self.by_kind]


def of_pools(state: State) -> dict[str, PoolLosses]:
    """Return the losses of every pool that has some."""
    found: dict[str, PoolLosses] = defaultdict(PoolLosses)
    for name, faults in state.faults.of.items():
        node = state.nodes[name]
        if not node.capacity.gpus:
            continue
        losses = found[state.pool_of_node[name]]
        losses.nodes += 1
        losses.gpus += lost(node, faults)
        for kind in {fault.kind for fault in faults}:
            alone = tuple(fault for fault in faults if fault.kind is kind)
            nodes, gpus = losses.by_kind.get(kind, (0, 0))
            losses.by_kind[kind] = (nodes + 1, gpus + lost(node, alone))
    return dict(found)


def of_tenants(state: State) -> Counter[tuple[str, str]]:
    """Return, by tenant and pool, the GPUs of guarantees that faults keep from being served."""
    found: Counter[tuple[str, str]] = Counter()
    for pool, gpus in state.faults.lost.items():
        if not gpus:
            continue
        guarantees = {
            tenant.name: share.guaranteed
            for tenant in state.tenants.values()
            for share in tenant.shares
            if share.pool == pool
        }
        capacity = sum(
            state.nodes[name].capacity.gpus for name, at in state.pool_of_node.items() if at == pool
        )
        promised = min(sum(guarantees.values()), capacity)
        missing = max(0, promised - (capacity - gpus))
        for tenant, part in divide(missing, guarantees).items():
            if part:
                found[tenant, pool] = part
    return found


def on_faulty_nodes(state: State) -> Counter[tuple[str, str]]:
    """Return, by tenant and pool, the GPUs that bound pods hold on nodes with faults."""
    found: Counter[tuple[str, str]] = Counter()
    for name in state.faults.of:
        for uid in state.ledger.by_node.get(name, ()):
            charge = state.ledger.charges[uid]
            if charge.bound:
                found[charge.tenant, charge.pool] += charge.demand.gpus
    return found


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"

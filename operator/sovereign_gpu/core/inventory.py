"""Who has what, and what is free where: `top` and `nodes`, read from the books; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sovereign_gpu.core import report
from sovereign_gpu.core.model import Node, Pool
from sovereign_gpu.core.state import State
from sovereign_gpu.core.views import Sight

READY = "Ready"
"""State of a node that takes new pods with all its devices."""


@dataclass(frozen=True, slots=True)
class TopRow:
    """One tenant in one pool, in GPUs; None where the numbers are somebody else's."""

    tenant: str
    pool: str
    guaranteed: int | None
    used: int
    borrowed: int
    lent: int
    pending_gpus: int
    pending_pods: int
    lost: int
    """Of the guarantee, what faults keep from being served."""
    weight: int | None
    share: int | None
    """Dominant share beyond the guarantees, with history, per weight, in millionths."""


@dataclass(frozen=True, slots=True)
class Top:
    """All tenants that may be shown, what the others have in the same pools, and the sum."""

    rows: tuple[TopRow, ...]
    others: tuple[TopRow, ...]
    totals: TopRow


def top(state: State, sight: Sight) -> Top:
    """Return who has what."""
    rows: list[TopRow] = []
    hidden: dict[str, list[TopRow]] = defaultdict(list)
    for name, numbers in sorted(report.tenants(state).items()):
        spec = state.tenants.get(name)
        for pool, row in numbers.pools.items():
            made = TopRow(
                tenant=name,
                pool=pool,
                guaranteed=row.guaranteed,
                used=row.used,
                borrowed=row.borrowed,
                lent=row.lent,
                pending_gpus=row.pending_gpus,
                pending_pods=row.pending_pods,
                lost=row.lost,
                weight=spec.weight if spec else None,
                share=numbers.share,
            )
            (rows if sight.knows(name) else hidden[pool]).append(made)
    mine = {row.pool for row in rows}
    others = tuple(_sum("", pool, hidden[pool]) for pool in sorted(mine & hidden.keys()))
    return Top(tuple(rows), others, _sum("", "", rows, known=True))


def _sum(tenant: str, pool: str, rows: list[TopRow], *, known: bool = False) -> TopRow:
    return TopRow(
        tenant=tenant,
        pool=pool,
        # What was agreed with others is theirs to tell; what is in use shows on the nodes.
        guaranteed=sum(row.guaranteed or 0 for row in rows) if known else None,
        used=sum(row.used for row in rows),
        borrowed=sum(row.borrowed for row in rows),
        lent=sum(row.lent for row in rows),
        pending_gpus=sum(row.pending_gpus for row in rows),
        pending_pods=sum(row.pending_pods for row in rows),
        lost=sum(row.lost for row in rows),
        weight=None,
        share=None,
    )


# --- nodes ------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class PoolRow:
    """The GPU nodes of one model in one pool."""

    pool: str
    region: str
    model: str
    nodes: int
    gpus: int
    used: int
    """Bound and reserved, also for pods of nobody."""
    free: int
    """On nodes that take new pods."""
    whole_nodes_free: int
    largest: int
    """Most GPUs free on one node."""
    unhealthy: int
    """Nodes that take no new pods, or not with all their devices."""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One GPU node of a pool."""

    node: str
    pool: str
    region: str
    model: str
    gpus: int
    allocatable: int
    used: int
    free: int
    state: str


def node_rows(state: State, pools: frozenset[str] | None = None) -> tuple[NodeRow, ...]:
    """Return the GPU nodes of the given pools (None: all), by pool and name."""
    rows = []
    for name, pool in state.pool_of_node.items():
        node, spec = state.nodes[name], state.pools[pool]
        if not node.capacity.gpus or (pools is not None and pool not in pools):
            continue
        load, seat = state.ledger.loads.get(name), state.floors[pool].seats.get(name)
        rows.append(
            NodeRow(
                node=name,
                pool=pool,
                region=spec.region,
                model=report.product(node),
                gpus=node.capacity.gpus,
                allocatable=node.allocatable.gpus,
                used=load.gpus if load else 0,
                free=seat.free.gpus if seat else 0,
                state=_state_of(state, node, spec),
            )
        )
    rows.sort(key=lambda row: (row.pool, row.node))
    return tuple(rows)


def _state_of(state: State, node: Node, pool: Pool) -> str:
    """Return the gravest fault of a node; one without may still stand in the wrong region."""
    faults = state.faults.of.get(node.name)
    if faults:
        return str(faults[0].kind)
    return READY if state.usable(node, pool) else "Unusable"


def pool_rows(nodes: Iterable[NodeRow]) -> tuple[PoolRow, ...]:
    """Return the sums of nodes by pool and model."""
    groups: dict[tuple[str, str, str], list[NodeRow]] = defaultdict(list)
    for row in nodes:
        groups[row.pool, row.region, row.model].append(row)
    return tuple(
        PoolRow(
            pool=pool,
            region=region,
            model=model,
            nodes=len(members),
            gpus=sum(row.gpus for row in members),
            used=sum(row.used for row in members),
            free=sum(row.free for row in members),
            whole_nodes_free=sum(1 for row in members if 0 < row.free == row.allocatable),
            largest=max(row.free for row in members),
            unhealthy=sum(1 for row in members if row.state != READY),
        )
        for (pool, region, model), members in sorted(groups.items())
    )

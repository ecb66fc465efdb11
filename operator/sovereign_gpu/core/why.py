"""Why one pod waits and what would admit it, with the numbers of this moment; pure.

The reason that a pod shows is that of its last try. Here it is judged anew, against each pool of
its tenant, so that an answer never quotes numbers that are gone.
"""

from __future__ import annotations

from dataclasses import dataclass

from sovereign_gpu.core import advice, explain, notice
from sovereign_gpu.core.advice import Advice
from sovereign_gpu.core.engine import Engine, hopeful
from sovereign_gpu.core.model import Pod, Reason, Share, Tenant, Wait
from sovereign_gpu.core.queue import Line, Stop
from sovereign_gpu.core.views import HELD, RELEASED, WAITING, age, moves, served
from sovereign_gpu.names import GATE

RUNNING, ENDING = "Running", "Ending"
"""Bound to a node; deleted before it was released."""


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool of the tenant, in GPUs, and what keeps the pod out of it."""

    pool: str
    guaranteed: int
    borrowing_limit: int
    allowance: int
    used: int
    borrowed: int
    free: int
    whole_nodes_free: int
    largest: int
    """Most free on one node."""
    reason: str
    message: str
    admits: str
    """What would let the pod in; empty if nothing keeps it out."""


@dataclass(frozen=True, slots=True)
class Why:
    """One pod."""

    namespace: str
    name: str
    tenant: str
    state: str
    reason: str
    message: str
    admits: str
    passes_by_itself: bool
    gpus: int
    priority: int
    age_seconds: int
    position: int | None
    """In its tenant's order, 1 is next; None: waiting does not bring it forward."""
    pods_waiting: int
    """Of the tenant, that waiting brings forward."""
    pods_ahead: int
    gpus_ahead: int
    pool: str
    node: str
    bound_seconds: int | None
    """Since it was bound."""
    pools: tuple[PoolView, ...]


def find(engine: Engine, namespace: str, name: str) -> Pod | None:
    """Return the unfinished pod of that name; the newer of two, if one is going."""
    found = [p for p in engine.pods.values() if p.name == name and p.namespace == namespace]
    return max(found, key=lambda pod: (pod.created, pod.uid), default=None)


def why(engine: Engine, pod: Pod, now: float) -> Why:
    """Return all there is to say about a pod.

    Args:
        engine: the books.
        pod: one of its pods.
        now: seconds since the epoch.
    """
    tenant = engine.tenant_of(pod.namespace)
    spec, queue = engine.tenants.get(tenant), engine.queues.get(tenant)
    line = queue.line_of(pod.uid) if queue else None
    order = [each for each, stands in served(queue) if moves(stands)]
    position = next((n for n, each in enumerate(order, 1) if each.uid == pod.uid), None)
    ahead = order[: position - 1] if position else []
    stops = _stops(engine, spec, line)
    state, wait, said = _said(engine, spec, pod, stops if line else None)
    charge = engine.ledger.charges.get(pod.uid)
    return Why(
        namespace=pod.namespace,
        name=pod.name,
        tenant=tenant,
        state=state,
        reason=wait.reason.value if wait else "",
        message=wait.message if wait else _placed(pod, state),
        admits=said.sentence,
        passes_by_itself=said.passes,
        gpus=pod.demand.gpus,
        priority=pod.priority,
        age_seconds=age(pod.created, now),
        position=position,
        pods_waiting=len(order),
        pods_ahead=len(ahead),
        gpus_ahead=sum(each.demand.gpus for each in ahead),
        pool=charge.pool if charge else "",
        node=pod.node or (charge.node if charge else ""),
        bound_seconds=age(pod.bound, now) if pod.bound else None,
        pools=tuple(_pool(engine, spec, share, pod, stops) for share in spec.shares)
        if spec
        else (),
    )


def _stops(engine: Engine, tenant: Tenant | None, line: Line | None) -> dict[str, Stop]:
    if tenant is None or line is None:
        return {}
    found = ((share.pool, engine.obstacle(tenant, share, line)) for share in tenant.shares)
    return {pool: stop for pool, stop in found if stop is not None}


def _said(
    engine: Engine, tenant: Tenant | None, pod: Pod, stops: dict[str, Stop] | None
) -> tuple[str, Wait | None, Advice]:
    """Return the state, what the pod waits for, and what would admit it."""
    held = engine.stopped.get(pod.uid)
    if held is not None:
        return HELD, held, advice.outside_the_lines(pod, held)
    if pod.node:
        return RUNNING, None, Advice("", passes=True)
    if GATE not in pod.gates or pod.uid in engine.assumed:
        wait = Wait(Reason.CANNOT_BIND, pod.unschedulable) if pod.unschedulable else None
        return RELEASED, wait, advice.unbound(pod)
    if tenant is None or stops is None:
        return ENDING, None, Advice("", passes=True)
    return WAITING, *_waits(engine, tenant, pod, stops)


def _waits(
    engine: Engine, tenant: Tenant, pod: Pod, stops: dict[str, Stop]
) -> tuple[Wait | None, Advice]:
    if not tenant.shares:
        return explain.no_pool_named(tenant), advice.no_pool(tenant)
    if len(stops) < len(tenant.shares):
        return None, Advice("its turn, which comes at once", passes=True)
    stop = hopeful(stops.values())
    share = next(each for each in tenant.shares if each.pool == stop.pool)
    return stop.wait, advice.in_pool(engine, tenant, share, pod, stop.wait)


def _placed(pod: Pod, state: str) -> str:
    match state:
        case "Running":
            going = "; it is being deleted and counts until it is gone" if pod.deleting else ""
            return f"bound to node {pod.node}{going}{_announced(pod)}"
        case "Released":
            return "released; kube-scheduler has not bound it yet"
        case "Ending":
            return "deleted before it was released"
    return "nothing keeps it out at this moment"


def _announced(pod: Pod) -> str:
    found = notice.parse(pod.notice)
    return f"; to be evicted after {found.deadline}: {found.cause}" if found else ""


def _pool(
    engine: Engine, tenant: Tenant, share: Share, pod: Pod, stops: dict[str, Stop]
) -> PoolView:
    floor, stop = engine.floors.get(share.pool), stops.get(share.pool)
    used = engine.ledger.counted(tenant.name, share.pool)
    wait = stop.wait if stop else None
    said = advice.in_pool(engine, tenant, share, pod, wait).sentence if wait else ""
    return PoolView(
        pool=share.pool,
        guaranteed=share.guaranteed,
        borrowing_limit=share.borrowing_limit,
        allowance=share.allowance,
        used=used,
        borrowed=max(0, used - share.guaranteed),
        free=max(0, engine.spare(share.pool)),
        whole_nodes_free=floor.whole_nodes_free() if floor else 0,
        largest=floor.largest() if floor else 0,
        reason=wait.reason.value if wait else "",
        message=wait.message if wait else "",
        admits=said,
    )

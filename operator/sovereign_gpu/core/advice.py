"""What would admit a pod: the sentence that follows the reason, with what has to change and where.

`explain` says what is the case; this says who has to do what, and whether anybody has to.
"""

from __future__ import annotations

from typing import NamedTuple

from sovereign_gpu.core import residency
from sovereign_gpu.core.model import Pod, Reason, Resources, Share, Tenant, Wait
from sovereign_gpu.core.state import State

_GIB = 1 << 30


class Advice(NamedTuple):
    """What would admit a pod."""

    sentence: str
    passes: bool = False
    """It comes about as pods finish and nodes return; otherwise somebody has to act."""


def outside_the_lines(pod: Pod, wait: Wait) -> Advice:
    """Return what would let a pod into its tenant's line."""
    if wait.reason is Reason.TENANT_QUOTA_MISSING:
        return Advice(f"a TenantQuota that names namespace {pod.namespace} in spec.namespaces")
    if len(pod.gates) > 1:
        return Advice("the removal of the other gates by whoever set them", passes=True)
    return Advice("a release that the API server accepts; it is tried again", passes=True)


def unbound(pod: Pod) -> Advice:
    """Return what would bind a pod that was released."""
    if pod.unschedulable:
        return Advice("a node that kube-scheduler accepts for it")
    return Advice("its binding by kube-scheduler", passes=True)


def no_pool(tenant: Tenant) -> Advice:
    """Return what would give a tenant without pools one."""
    return Advice(f"a pool in spec.pools of TenantQuota {tenant.name}")


def in_pool(state: State, tenant: Tenant, share: Share, pod: Pod, wait: Wait) -> Advice:
    """Return what would let the pod into one pool that it is kept out of."""
    match wait.reason:
        case Reason.POLICY_MISSING:
            missing = ", ".join(name for name in tenant.policies if name not in state.policies)
            return Advice(f"DataResidencyPolicy {missing}, as soon as it is created")
        case Reason.NO_ELIGIBLE_POOL:
            return _eligible(state, tenant, share.pool)
        case Reason.NEVER_FITS:
            return _fitting(state, tenant, share)
        case Reason.QUOTA_EXHAUSTED:
            return _quota(state, tenant, share, pod.demand.gpus)
        case Reason.NODE_CONSTRAINTS:
            return _admitting(state, share.pool, pod)
    return _nodes(state, share.pool, pod.demand.gpus)


def _eligible(state: State, tenant: Tenant, pool: str) -> Advice:
    known = state.pools.get(pool)
    if known is None:
        return Advice(
            f"a GpuPool {pool}, or another pool in spec.pools of TenantQuota {tenant.name}"
        )
    if pool in state.clashes:
        return Advice(f"one country for region {known.region} in all GpuPools")
    if residency.allows(tenant, known, state.policies):
        return Advice("the next look at its line: its tenant may be there by now", passes=True)
    policy, found = residency.objection(tenant, known, state.policies)
    policies = ", ".join(tenant.policies)
    change = (
        f"{known.country} in spec.countries of DataResidencyPolicy {policy}"
        if found.topic == "country"
        else f"{found.topic} of GpuPool {pool} as DataResidencyPolicy {policy} requires it"
    )
    return Advice(
        f"a pool that {policies} admit in spec.pools of TenantQuota {tenant.name}, or {change}"
    )


def _fitting(state: State, tenant: Tenant, share: Share) -> Advice:
    largest = state.census.largest(share.pool)
    most = min(share.allowance, largest) if largest else share.allowance
    more = "" if most == largest else f", or {_limits(tenant, share)} raised"
    return Advice(f"at most {most} GPUs per pod in pool {share.pool}{more}")


def _quota(state: State, tenant: Tenant, share: Share, gpus: int) -> Advice:
    counted = state.ledger.counted(tenant.name, share.pool)
    short = counted + gpus - share.allowance
    if short > 0:
        return Advice(
            f"{short} more GPUs of tenant {tenant.name}'s allowance in {share.pool}: pods of its "
            f"own that hold them have to finish, or {_limits(tenant, share)} be raised",
            passes=True,
        )
    short = counted + gpus - share.guaranteed
    return Advice(
        f"{short} GPUs in {share.pool} that others may lend: pods have to finish there, or "
        f"spec.pools[{share.pool}].guaranteed of TenantQuota {tenant.name} be raised",
        passes=True,
    )


def _limits(tenant: Tenant, share: Share) -> str:
    return f"spec.pools[{share.pool}].guaranteed or borrowingLimit of TenantQuota {tenant.name}"


def _nodes(state: State, pool: str, gpus: int) -> Advice:
    spare, largest = max(0, state.spare(pool)), state.floors[pool].largest()
    if spare < gpus:
        return Advice(
            f"{gpus - spare} more free GPUs in {pool}: pods have to finish there, or nodes "
            "to return",
            passes=True,
        )
    if largest < gpus:
        return Advice(
            f"{gpus - largest} more free GPUs on one node of {pool}: pods have to finish there, "
            f"or the pod has to ask for {largest}",
            passes=True,
        )
    return Advice(
        f"its turn on the nodes of {pool} that drain for pods within their guarantee", passes=True
    )


def _admitting(state: State, pool: str, pod: Pod) -> Advice:
    """Tell nodes that the pod refuses from nodes that are too small, and those from full ones."""
    allowed = state.feasible.of(pod.constraints)
    seats = [seat for seat in state.floors[pool].seats.values() if seat.bit & allowed]
    if not seats:
        usable = len(state.floors[pool].seats)
        return Advice(
            f"other selectors, affinity or tolerations: they admit none of the {usable} usable "
            f"nodes of {pool}"
        )
    wanted = _size(pod.demand)
    if not any(_covers(seat.node.allocatable, pod.demand) for seat in seats):
        return Advice(
            f"a smaller pod: none of the {len(seats)} nodes of {pool} that it admits has {wanted}"
        )
    return Advice(
        f"{wanted} free on one of the {len(seats)} nodes of {pool} that it admits: "
        "pods have to finish there",
        passes=True,
    )


def _covers(room: Resources, demand: Resources) -> bool:
    return all(have >= need for have, need in zip(room, demand, strict=True))


def _size(demand: Resources) -> str:
    memory = demand.memory / _GIB
    return f"{demand.gpus} GPUs, {demand.cpu / 1000:g} CPUs and {memory:.1f} GiB"

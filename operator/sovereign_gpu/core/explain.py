"""The sentences behind the reasons: each names what is asked, what there is, and where."""

from __future__ import annotations

from functools import lru_cache

from sovereign_gpu.core.model import Pool, Reason, Resources, Share, Tenant, Wait
from sovereign_gpu.core.sovereignty import Verdict

_GIB = 1 << 30


def starting() -> Wait:
    """The operator has not seen the whole cluster yet."""
    return Wait(Reason.STARTING, "the operator is reading the state of the cluster")


def held(gates: tuple[str, ...]) -> Wait:
    """Another scheduling gate must go first."""
    return Wait(Reason.HELD, f"waits for the scheduling gates of others: {', '.join(gates)}")


def refused(message: str) -> Wait:
    """The API server did not accept the release."""
    return Wait(Reason.HELD, f"the API server refused the release: {message}")


def cannot_bind(pods: int, pool: str) -> Wait:
    """Released, and kube-scheduler finds no node."""
    return Wait(
        Reason.CANNOT_BIND,
        f"{pods} released pods in pool {pool} are not bound yet; they stay charged. "
        "See their PodScheduled condition for kube-scheduler's reason",
    )


def tenant_missing(tenant: str, namespace: str) -> Wait:
    """The namespace's tenant is gone, or no longer names the namespace."""
    return Wait(
        Reason.TENANT_QUOTA_MISSING,
        f"no TenantQuota {tenant} names namespace {namespace}; create it or add the namespace to "
        "spec.namespaces",
    )


def policy_missing(policies: tuple[str, ...]) -> Wait:
    """A policy the tenant names does not exist, so nothing is eligible."""
    return Wait(Reason.POLICY_MISSING, f"DataResidencyPolicy {', '.join(policies)} does not exist")


def no_pool_named(tenant: Tenant) -> Wait:
    """The tenant may use no pool at all."""
    return Wait(Reason.NO_ELIGIBLE_POOL, f"TenantQuota {tenant.name} names no pool in spec.pools")


def pool_absent(pool: str, clash: str | None) -> Wait:
    """The pool does not exist, or contradicts another, whose name is not the tenant's business."""
    if clash:
        return Wait(
            Reason.NO_ELIGIBLE_POOL,
            f"GpuPool {pool} is out of force: GpuPools put its region into more than one country; "
            "its status names them",
        )
    return Wait(Reason.NO_ELIGIBLE_POOL, f"GpuPool {pool} does not exist")


def not_allowed(pool: Pool, policy: str, verdict: Verdict) -> Wait:
    """A policy of the tenant does not admit the pool."""
    return Wait(
        Reason.NO_ELIGIBLE_POOL,
        f"DataResidencyPolicy {policy} does not admit GpuPool {pool.name}, which lies in "
        f"{pool.country}: {verdict.topic}: {verdict.message}",
    )


def never_fits(share: Share, gpus: int, largest_node: int) -> Wait:
    """Waiting cannot help."""
    limit = (
        f"the tenant may use at most {_allowance(share)} in pool {share.pool}"
        if gpus > share.allowance
        else f"the largest node of pool {share.pool} has {largest_node}"
    )
    return Wait(Reason.NEVER_FITS, f"asks for {gpus} GPUs; {limit}")


def quota_exhausted(tenant: str, share: Share, gpus: int, counted: int) -> Wait:
    """The tenant's own pods use what it may have."""
    return Wait(
        Reason.QUOTA_EXHAUSTED,
        f"asks for {gpus} GPUs; tenant {tenant} uses {counted} of {_allowance(share)} "
        f"in pool {share.pool}",
    )


def _allowance(share: Share) -> str:
    if not share.borrowing_limit:
        return f"{share.guaranteed} guaranteed"
    return (
        f"{share.allowance} ({share.guaranteed} guaranteed, up to {share.borrowing_limit} borrowed)"
    )


def not_lent(share: Share, gpus: int, free: int, kept: int) -> Wait:
    """The guarantee is used up, and what is free is kept for others."""
    return Wait(
        Reason.QUOTA_EXHAUSTED,
        f"asks for {gpus} GPUs beyond the {share.guaranteed} guaranteed in pool {share.pool}; "
        f"{free} are free, {kept} of them kept for tenants that do not lend them",
    )


def guarantee_lent(share: Share, gpus: int, counted: int, free: int, borrowed: int) -> Wait:
    """The guarantee is there and others use it; it comes back as their pods end."""
    return Wait(
        Reason.GUARANTEE_LENT,
        f"asks for {gpus} GPUs; {counted} of {share.guaranteed} guaranteed are used, but pool "
        f"{share.pool} has {free} free and {borrowed} lent to others, which come back as their "
        "pods end",
    )


@lru_cache(maxsize=1024)
def claimed(pool: str, gpus: int, free: int) -> Wait:
    """The nodes with room are left to drain for older or guaranteed pods."""
    return Wait(
        Reason.FRAGMENTED,
        f"asks for {gpus} GPUs on one node; pool {pool} has {free} free, but nodes with room are "
        "left to drain for larger pods that wait within their guarantee",
    )


@lru_cache(maxsize=1024)  # said to many tenants at once
def pool_full(pool: str, gpus: int, free: int, lost: int) -> Wait:
    """The guarantee is there, the devices are not: lost to faults, or more promised than exists."""
    faults = f"; {lost} GPUs of the pool are lost to faults of nodes" if lost else ""
    return Wait(
        Reason.POOL_FULL,
        f"asks for {gpus} GPUs; pool {pool} has {free} free on usable nodes{faults}",
    )


@lru_cache(maxsize=1024)
def fragmented(pool: str, gpus: int, free: int, largest: int) -> Wait:
    """Enough GPUs, on too many nodes."""
    return Wait(
        Reason.FRAGMENTED,
        f"asks for {gpus} GPUs on one node; pool {pool} has {free} free, at most {largest} "
        "on one node",
    )


def node_constraints(pool: str, demand: Resources, free: int) -> Wait:
    """GPUs are free on nodes that this pod may not use, or that lack CPU or memory."""
    return Wait(
        Reason.NODE_CONSTRAINTS,
        f"asks for {demand.gpus} GPUs, {demand.cpu / 1000:g} CPUs and "
        f"{demand.memory / _GIB:.1f} GiB on one node; pool {pool} has {free} GPUs free, none on a "
        "node that has all three and that the pod's selectors, affinity and tolerations admit",
    )

"""Where a tenant's data may be: total functions over pools, policies, nodes and namespaces.

Everything denies by default: an unknown policy, a pool that contradicts another, a node whose
own region label disagrees with its pool – none of them is eligible.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from sovereign_gpu.core import health, perimeter, sovereignty
from sovereign_gpu.core.matching import selects
from sovereign_gpu.core.model import Node, Policy, Pool, Tenant
from sovereign_gpu.core.sovereignty import Finding, Verdict
from sovereign_gpu.names import (
    CONTENTS_LABEL,
    CONTENTS_RESTRICTED,
    ENFORCEMENT_LABEL,
    ENFORCEMENT_WARN,
    NODE_ALLOWED,
    NODE_POOL_LABEL,
    NODE_RESIDENCY_PREFIX,
    REGION_LABEL,
    REGIONS,
    RESIDENCY,
    TENANT_LABEL,
    WARN_REGIONS,
    WARN_RESIDENCY,
    warn,
)

ANY_REGION = "*"


def clashes(pools: Iterable[Pool]) -> dict[str, str]:
    """Return the pools that are out of force, with the sentence that says why.

    A region lies in exactly one country. Where two pools disagree, the country of the pools that
    were in force before stays; if that does not decide it, all of them are out.
    """
    by_region: dict[str, list[Pool]] = defaultdict(list)
    for pool in pools:
        by_region[pool.region].append(pool)
    out: dict[str, str] = {}
    for region, members in by_region.items():
        countries = {pool.country for pool in members}
        if len(countries) == 1:
            continue
        standing = {pool.country for pool in members if pool.incumbent}
        kept = standing.pop() if len(standing) == 1 else None
        claims = ", ".join(sorted(f"{pool.name} says {pool.country}" for pool in members))
        for pool in members:
            if pool.country != kept:
                out[pool.name] = (
                    f"spec.location.region {region} must lie in one country over all pools, "
                    f"but {claims}"
                )
    return out


def pool_of(node: Node, pools: Mapping[str, Pool], incumbent: str = "") -> str:
    """Return the name of the pool the node belongs to, empty if it is in none.

    A protected pool label decides alone; only nodes without it can join by a selector, and there
    the pool that has the node already keeps it.
    """
    label = node.labels.get(NODE_POOL_LABEL)
    if label is not None:
        pool = pools.get(label)
        return label if pool and _joins(node, pool) else ""
    matching = [
        name
        for name, pool in pools.items()
        if not pool.labelled and selects(pool.selector, node.labels)
    ]
    return incumbent if incumbent in matching else min(matching, default="")


def rivals(node: Node, pools: Mapping[str, Pool]) -> tuple[str, ...]:
    """Return all pools that claim the node; more than one is a clash."""
    claims = {
        name
        for name, pool in pools.items()
        if not pool.labelled and selects(pool.selector, node.labels)
    }
    label = node.labels.get(NODE_POOL_LABEL, "")
    if label in pools:
        claims.add(label)
    return tuple(sorted(claims))


def _joins(node: Node, pool: Pool) -> bool:
    # The selector narrows GPU nodes; a companion has no GPU labels to match and joins by the
    # protected label alone.
    return node.capacity.gpus == 0 or selects(pool.selector, node.labels)


def shows_region(node: Node, pool: Pool) -> bool:
    """Whether the region the node shows is the region its pool declares."""
    return node.labels.get(REGION_LABEL) == pool.region


def stands_where_pool_says(node: Node, pool: Pool) -> bool:
    """Whether the pool's location can be believed of the node.

    The machine that was enrolled stands there; another one behind the same name stands nowhere.
    """
    return shows_region(node, pool) and not health.replaced(node)


def admits(policy: Policy, pool: Pool) -> bool:
    """Whether the pool lies in an allowed country and meets all else that is asked, today."""
    return pool.country in policy.countries and all(
        sovereignty.verdict(need, pool.claims).holds for need in policy.needs
    )


def verdicts(policy: Policy, pool: Pool) -> tuple[Verdict, ...]:
    """Return what the policy finds of the pool, one answer for each thing that it asks."""
    allowed = pool.country in policy.countries
    country = Verdict(
        "country",
        Finding.HOLDS if allowed else Finding.NOT_ALLOWED,
        f"country {pool.country}"
        if allowed
        else f"found {pool.country}, allowed: {sovereignty.listed(policy.countries)}",
    )
    return (country, *(sovereignty.verdict(need, pool.claims) for need in policy.needs))


def objection(tenant: Tenant, pool: Pool, policies: Mapping[str, Policy]) -> tuple[str, Verdict]:
    """Return the first policy of the tenant that does not admit the pool, and why.

    Raises:
        LookupError: all of them admit it.
    """
    for name in enforced(tenant, policies):
        for found in verdicts(policies[name], pool) if name in policies else ():
            if not found.holds:
                return name, found
    raise LookupError(f"{tenant.name} may be in {pool.name}")


def class_labels(node: Node, pool: Pool | None, policies: Iterable[Policy]) -> dict[str, str]:
    """Return the residency labels the node should carry, all others of that prefix being wrong."""
    if pool is None or not stands_where_pool_says(node, pool):
        return {}
    return {
        NODE_RESIDENCY_PREFIX + policy.name: NODE_ALLOWED
        for policy in policies
        if admits(policy, pool)
    }


def enforced(tenant: Tenant, policies: Mapping[str, Policy]) -> tuple[str, ...]:
    """Return the tenant's policies that deny; a policy that does not exist denies everything."""
    return tuple(n for n in tenant.policies if n not in policies or policies[n].enforced)


def missing(tenant: Tenant, policies: Mapping[str, Policy]) -> tuple[str, ...]:
    """Return the tenant's policies that do not exist."""
    return tuple(name for name in tenant.policies if name not in policies)


def allows(tenant: Tenant, pool: Pool, policies: Mapping[str, Policy]) -> bool:
    """Whether every enforced policy of the tenant admits the pool."""
    return all(
        name in policies and admits(policies[name], pool) for name in enforced(tenant, policies)
    )


def regions(
    names: Collection[str], policies: Mapping[str, Policy], pools: Iterable[Pool]
) -> frozenset[str]:
    """Return the regions of the pools in force that all named policies admit."""
    return frozenset(
        pool.region
        for pool in pools
        if all(name in policies and admits(policies[name], pool) for name in names)
    )


def egress(tenant: Tenant, policies: Mapping[str, Policy]) -> perimeter.Egress | None:
    """Return where packets of the tenant may go, None: anywhere."""
    deny = enforced(tenant, policies)
    return perimeter.egress([policies[name].perimeter for name in deny if name in policies])


def namespace_metadata(
    tenant: Tenant, policies: Mapping[str, Policy], pools: Collection[Pool]
) -> dict[str, str]:
    """Return label and annotations that the tenant's namespaces should carry."""
    deny = enforced(tenant, policies)
    warned = tuple(name for name in tenant.policies if name not in deny)
    allowed = ",".join(sorted(regions(deny, policies, pools))) if deny else ANY_REGION
    wanted = {TENANT_LABEL: tenant.name, RESIDENCY: ",".join(deny), REGIONS: allowed}
    told = perimeter.told(
        [policies[name].perimeter if name in policies else perimeter.CLOSED for name in deny]
    )
    wanted.update(told)
    if perimeter.restricts_pods(told):
        wanted[CONTENTS_LABEL] = CONTENTS_RESTRICTED
    if warned:
        wanted[ENFORCEMENT_LABEL] = ENFORCEMENT_WARN
        wanted[WARN_RESIDENCY] = ",".join(warned)
        wanted[WARN_REGIONS] = ",".join(sorted(regions(warned, policies, pools)))
        hints = perimeter.told([policies[name].perimeter for name in warned])
        wanted.update({warn(key): value for key, value in hints.items()})
    return wanted

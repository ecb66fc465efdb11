"""Which running pods stand where a policy of their tenant no longer allows, and why; pure.

Judged from the nodes, pools, policies and tenants in the store, never from a pod's own labels: a
bound pod's labels say where it was meant to be. `judge` is the rule; `Judge` applies it to what
changed, so that a quiet cluster costs nothing and a relabelled node only its own pods.

What is not known accuses nobody for good: a missing policy forbids nothing here, a node that is
not in the store stands nowhere, and where the pool is missing or contradicts another one, pods are
reported and never evicted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from sovereign_gpu.core import health, residency
from sovereign_gpu.core.ledger import FOREIGN
from sovereign_gpu.core.model import Node, Policy, Pool, Tenant
from sovereign_gpu.core.state import State
from sovereign_gpu.names import NODE_POOL_LABEL, REGION_LABEL


class Cause(StrEnum):
    """What put the pods of a place in violation; the same word in notices and status."""

    NODE_REPLACED = "NodeReplaced"
    NODE_LEFT_POOL = "NodeLeftPool"
    POOL_MISSING = "PoolMissing"
    REGION_CHANGED = "RegionChanged"
    POOL_CONTRADICTED = "PoolContradicted"
    POOL_MOVED = "PoolMoved"
    POLICY_NARROWED = "PolicyNarrowed"
    TENANT_REASSIGNED = "TenantReassigned"
    COUNTRY_NOT_ALLOWED = "CountryNotAllowed"
    REQUIREMENT_NOT_MET = "RequirementNotMet"


class Offence(NamedTuple):
    """What is wrong with all pods of one tenant on one node."""

    tenant: str
    node: str
    policies: tuple[str, ...]
    """The tenant's policies that do not allow the place."""
    cause: Cause
    text: str
    """The cause as a sentence that names node, pool and countries."""
    certain: bool
    """Everything that takes part was in the store; otherwise nobody is evicted for it."""


class Known(NamedTuple):
    """A configuration, as it was when pods were last judged by all of it."""

    pools: Mapping[str, Pool]
    tenants: Mapping[str, Tenant]
    policies: Mapping[str, Policy]


class _Place(NamedTuple):
    """Where a node stands; without a pool it stands nowhere, for the cause named."""

    pool: Pool | None
    cause: Cause = Cause.COUNTRY_NOT_ALLOWED
    text: str = ""
    certain: bool = True


def judge(state: State, tenant: str, node_name: str, before: Known | None) -> Offence | None:
    """Return what is wrong with the tenant's pods on a node, None if nothing is.

    Args:
        state: the books.
        tenant: owner of the pods.
        node_name: where they run.
        before: the configuration that was in force before the present one, to tell what changed.
    """
    spec, node = state.tenants.get(tenant), state.nodes.get(node_name)
    if spec is None or node is None:
        return None
    place = _place(state, node)
    broken = tuple(
        name
        for name in spec.policies
        if name in state.policies
        and (place.pool is None or not residency.admits(state.policies[name], place.pool))
    )
    if not broken:
        return None
    cause, text, certain = place.cause, place.text, place.certain
    if place.pool is not None:
        cause, text = _forbidden(state, spec, place.pool, broken, before)
        text = f"node {node_name} is in pool {place.pool.name}: {text}"
        clash = state.clashes.get(place.pool.name)
        if clash:
            cause, text, certain = Cause.POOL_CONTRADICTED, f"node {node_name}: {clash}", False
    return Offence(tenant, node_name, broken, cause, text, certain)


def _place(state: State, node: Node) -> _Place:
    pool = state.pools.get(state.pool_of_node.get(node.name, ""))
    if pool is None:
        return _outside(state, node)
    if health.replaced(node):
        text = f"node {node.name} is another machine than the one enrolled under that name"
        return _Place(None, Cause.NODE_REPLACED, text)
    if not residency.shows_region(node, pool):
        shown = node.labels.get(REGION_LABEL)
        text = (
            f"node {node.name} shows {f'region {shown}' if shown else 'no region'}, "
            f"its pool {pool.name} stands in {pool.region}"
        )
        return _Place(None, Cause.REGION_CHANGED, text)
    return _Place(pool)


def _outside(state: State, node: Node) -> _Place:
    label = node.labels.get(NODE_POOL_LABEL)
    if label is None:
        return _Place(None, Cause.NODE_LEFT_POOL, f"node {node.name} is in no pool")
    if label not in state.pools:
        text = f"node {node.name} is enrolled in pool {label}, which does not exist"
        return _Place(None, Cause.POOL_MISSING, text, certain=False)
    text = f"node {node.name} no longer matches spec.nodes.selector of pool {label}"
    return _Place(None, Cause.NODE_LEFT_POOL, text)


def _forbidden(
    state: State, tenant: Tenant, pool: Pool, broken: tuple[str, ...], before: Known | None
) -> tuple[Cause, str]:
    """Return why a pool is not admitted, as far as the configuration tells."""
    policy, country = broken[0], pool.country
    if country in state.policies[policy].countries:
        found = next(v for v in residency.verdicts(state.policies[policy], pool) if not v.holds)
        text = f"policy {policy} requires {found.topic}: {found.message}"
        return Cause.REQUIREMENT_NOT_MET, text
    known = before or Known({}, {}, {})
    old_pool = known.pools.get(pool.name)
    old_policy, old_tenant = known.policies.get(policy), known.tenants.get(tenant.name)
    if old_pool is not None and old_pool.country != country:
        return Cause.POOL_MOVED, (
            f"its country was changed from {old_pool.country} to {country}, "
            f"which policy {policy} does not allow"
        )
    if old_policy is not None and country in old_policy.countries:
        return Cause.POLICY_NARROWED, f"policy {policy} no longer allows its country {country}"
    if old_tenant is not None and policy not in old_tenant.policies:
        return Cause.TENANT_REASSIGNED, (
            f"tenant {tenant.name} is now under policy {policy}, "
            f"which does not allow its country {country}"
        )
    return Cause.COUNTRY_NOT_ALLOWED, f"policy {policy} does not allow its country {country}"


@dataclass(slots=True)
class Judge:
    """Keeps the verdicts on all running pods; told what changed, it judges that again."""

    state: State
    offences: dict[str, Offence] = field(default_factory=dict)
    """Pods in violation, by uid."""
    running: set[str] = field(default_factory=set)
    """Bound pods of tenants, guilty or not."""
    noticed: set[str] = field(default_factory=set)
    """Those that carry a notice."""
    _pods: set[str] = field(default_factory=set)
    _nodes: set[str] = field(default_factory=set)
    _all: bool = True
    _now: Known | None = None
    """The present configuration, once everything was judged by it."""
    _before: Known | None = None
    _why: dict[tuple[str, ...], Offence] = field(default_factory=dict)
    """What was said first about a node: a change stays the cause when others follow it."""

    def pod(self, uid: str) -> None:
        """Note that a pod changed, came or went."""
        self._pods.add(uid)

    def node(self, name: str) -> None:
        """Note that a node changed, came or went."""
        self._nodes.add(name)

    def everything(self) -> None:
        """Note that pools, policies, tenants or namespaces changed."""
        self._all = True

    @property
    def behind(self) -> bool:
        """Whether something changed that was not judged yet."""
        return bool(self._all or self._pods or self._nodes)

    def look(self, limit: int | None = None) -> None:
        """Judge what changed; with a limit, so many pods of it, and the rest next time."""
        if self._all:
            self._configured()
            self._pods.update(self.state.ledger.charges, self.running)
            self._all = False
        for name in self._nodes:
            self._pods.update(self.state.ledger.by_node.get(name, ()))
        self._nodes.clear()
        if limit is None or len(self._pods) <= limit:
            uids, self._pods = self._pods, set()
        else:
            uids = {self._pods.pop() for _ in range(limit)}
        self._judge(uids)

    def affected(self) -> Counter[str]:
        """Return the number of pods in violation by policy."""
        found: Counter[str] = Counter()
        for offence in self.offences.values():
            found.update(offence.policies)
        return found

    def _configured(self) -> None:
        state = self.state
        if self._now is None or self._now.pools is not state.pools:
            self._before = self._now
            self._now = Known(state.pools, state.tenants, state.policies)
        standing = set(self.offences.values())
        self._why = {key: said for key, said in self._why.items() if said in standing}

    def _judge(self, uids: set[str]) -> None:
        charges, pods = self.state.ledger.charges, self.state.pods
        memo: dict[tuple[str, str], Offence | None] = {}
        for uid in uids:
            charge = charges.get(uid)
            if charge is None or not charge.bound or charge.tenant == FOREIGN:
                self.running.discard(uid)
                self.noticed.discard(uid)
                self.offences.pop(uid, None)
                continue
            self.running.add(uid)
            if pods[uid].notice:
                self.noticed.add(uid)
            else:
                self.noticed.discard(uid)
            key = charge.tenant, charge.node
            if key not in memo:
                memo[key] = self._explained(judge(self.state, *key, self._before))
            offence = memo[key]
            if offence is None:
                self.offences.pop(uid, None)
            else:
                self.offences[uid] = offence

    def _explained(self, offence: Offence | None) -> Offence | None:
        if offence is None or offence.cause not in _BY_CONFIGURATION:
            return offence
        pool = self.state.pool_of_node[offence.node]
        country = self.state.pools[pool].country
        key = offence.tenant, offence.node, pool, country, *offence.policies
        return self._why.setdefault(key, offence)


_BY_CONFIGURATION = frozenset(
    {
        Cause.POOL_MOVED,
        Cause.POLICY_NARROWED,
        Cause.TENANT_REASSIGNED,
        Cause.COUNTRY_NOT_ALLOWED,
    }
)
"""Causes that only the change itself tells apart."""

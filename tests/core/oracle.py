"""Judges the engine from what it was shown and what it decided, without looking at its books.

`Shown` is what reached the engine. A pod counts while it is alive in the world and either was
shown without our gate or has a decision that the API server did not refuse; so a decision whose
answer was lost counts, and so does one that landed and was not seen yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from sovereign_gpu import names
from sovereign_gpu.core.claims import Claim, Claims
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import (
    Namespace,
    Node,
    Placement,
    Pod,
    Policy,
    Pool,
    Release,
    Resources,
    Share,
    Tenant,
)
from sovereign_gpu.core.queue import Line
from tests.core import reference


class ViolationError(AssertionError):
    """The engine did something that it must never do."""


class Account(NamedTuple):
    """Where a pod is charged."""

    tenant: str
    pool: str
    node: str
    demand: Resources
    bound: bool


def check(condition: object, *facts: object) -> None:
    """Complain with the facts unless the condition holds."""
    if not condition:
        raise ViolationError(" ".join(map(str, facts)))


@dataclass(slots=True)
class Shown:
    """What the engine was told, newest state per object, and what it decided since it started."""

    pods: dict[str, Pod] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    tenants: dict[str, Tenant] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    decided: dict[str, Release] = field(default_factory=dict)
    """Decisions that were not refused and not seen to have landed."""
    refused: set[str] = field(default_factory=set)
    """Pods that may be held back because their release was refused."""
    home: dict[str, str] = field(default_factory=dict)
    """The engine's pool of each node: which of several selectors won is history."""

    def put(self, pod: Pod) -> None:
        """Note a delivered state, unless a later one was delivered before."""
        known = self.pods.get(pod.uid)
        if known is not None and (
            len(pod.gates) > len(known.gates)
            or (known.node and not pod.node)
            or (known.deleting and not pod.deleting)
        ):
            return
        self.pods[pod.uid] = pod
        self.refused.discard(pod.uid)
        if names.GATE not in pod.gates:
            self.decided.pop(pod.uid, None)

    def remove(self, uid: str) -> None:
        """Note that a pod was reported gone."""
        self.pods.pop(uid, None)
        self.decided.pop(uid, None)
        self.refused.discard(uid)

    def tenant_of(self, pod: Pod) -> str:
        """Return the tenant that the pod's namespace shows."""
        namespace = self.namespaces.get(pod.namespace)
        return namespace.tenant if namespace else ""

    def account(self, pod: Pod) -> Account | None:
        """Return where the pod is to be charged by what was shown, None if it is not."""
        decision = self.decided.get(pod.uid)
        if decision is not None:
            return Account(decision.tenant, decision.pool, decision.node, pod.demand, bound=False)
        if names.GATE in pod.gates or not (pod.node or pod.demand.gpus):
            return None
        tenant = self.tenant_of(pod)
        pool = self.home.get(pod.node) or pod.pool
        if not pod.node and not pool and tenant in self.tenants:
            pool = next((share.pool for share in self.tenants[tenant].shares), "")
        return Account(tenant, pool, pod.node or pod.planned_node, pod.demand, bool(pod.node))

    def accounts(self, alive: dict[str, Pod] | None = None) -> dict[str, Account]:
        """Return the accounts of all pods, or of those that are alive or being released."""
        found = {}
        for uid, pod in self.pods.items():
            if alive is None or uid in alive or uid in self.decided:
                account = self.account(pod)
                if account is not None:
                    found[uid] = account
        return found


@dataclass(slots=True)
class Book:
    """Totals over accounts, and whether one more pod fits."""

    shown: Shown
    counted: Counter[tuple[str, str]] = field(default_factory=Counter)
    reserved: Counter[str] = field(default_factory=Counter)
    bound: Counter[str] = field(default_factory=Counter)
    held: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """By tenant, pool and part of the resources, of pods with GPUs."""
    loads: dict[str, list[int]] = field(default_factory=dict)
    out: set[str] = field(default_factory=set)

    def add(self, account: Account) -> None:
        """Charge one account."""
        gpus = account.demand.gpus
        self.counted[account.tenant, account.pool] += gpus
        for part in range(3) if gpus else ():
            self.held[account.tenant, account.pool, part] += account.demand[part]
        if account.bound:
            self.bound[account.node] += gpus
        else:
            self.reserved[account.pool] += gpus
        load = self.loads.setdefault(account.node, [0, 0, 0])
        for part in range(3):
            load[part] += account.demand[part]

    def fill(self, tenant_name: str) -> Fraction:
        """Return how full the tenant's guarantees are; the emptiest has its turn."""
        shares = self.shown.tenants[tenant_name].shares
        counted = sum(min(s.guaranteed, self.counted[tenant_name, s.pool]) for s in shares)
        guaranteed = sum(share.guaranteed for share in shares)
        return Fraction(counted, guaranteed) if guaranteed else Fraction(1)

    def surplus(self, tenant_name: str) -> int:
        """Return the weighted dominant share beyond the guarantees, in parts of 2**32."""
        tenant = self.shown.tenants[tenant_name]
        surplus, capacity = [0, 0, 0], [0, 0, 0]
        for pool in {*self.shown.home.values()} - {""}:
            sizes = [
                node.capacity
                for name, node in self.shown.nodes.items()
                if self.shown.home.get(name) == pool and node.capacity.gpus
            ]
            size = [sum(each[part] for each in sizes) for part in range(3)]
            mine = sum(share.guaranteed for share in tenant.shares if share.pool == pool)
            for part in range(3):
                capacity[part] += size[part]
                if size[0]:
                    held = self.held[tenant_name, pool, part]
                    surplus[part] += max(0, held - size[part] * mine // size[0])
        return max(s * 2**32 // max(1, c) for s, c in zip(surplus, capacity, strict=True)) // (
            tenant.weight
        )

    def share(self, tenant_name: str, pool: str) -> Share:
        """Return the tenant's share of a pool that it names."""
        shares = self.shown.tenants[tenant_name].shares
        return next(share for share in shares if share.pool == pool)

    def borrows(self, gpus: int, tenant_name: str, pool: str) -> bool:
        """Whether so many GPUs more would go beyond the guarantee."""
        counted = self.counted[tenant_name, pool]
        return bool(gpus) and counted + gpus > self.share(tenant_name, pool).guaranteed

    def refusal(self, pod: Pod, tenant_name: str, pool_name: str) -> str:
        """Return what keeps the pod out of every node of the pool, empty if nothing does."""
        tenant, pool = self.shown.tenants.get(tenant_name), self.shown.pools.get(pool_name)
        if tenant is None or pod.namespace not in tenant.namespaces:
            return "tenant"
        named = {share.pool for share in tenant.shares}
        if pool is None or pool_name in self.out or pool_name not in named:
            return "pool"
        if not reference.may_use(tenant, pool, self.shown.policies):
            return "policy"
        return self._shortage(pod.demand.gpus, tenant, pool) if pod.demand.gpus else ""

    def _shortage(self, gpus: int, tenant: Tenant, pool: Pool) -> str:
        share = self.share(tenant.name, pool.name)
        counted = self.counted[tenant.name, pool.name]
        if counted + gpus > share.guaranteed + share.borrowing_limit:
            return f"quota: {counted} + {gpus} of {share}"
        free = -self.reserved[pool.name]
        for node in self._nodes(pool):
            free += max(0, node.allocatable.gpus - self.bound[node.name])
        if self.borrows(gpus, tenant.name, pool.name):
            kept = self._kept(tenant.name, pool.name)
            return f"capacity: {free} free, {kept} kept" if free - kept < gpus else ""
        kept, borrowed = self._kept(tenant.name, pool.name), self._borrowed(pool.name)
        if free >= gpus and 0 < gpus - (free - kept) <= borrowed:
            return f"lent: {free} free, {kept} kept, {borrowed} borrowed"
        return f"capacity: {free} free" if free < gpus else ""

    def _borrowed(self, pool: str) -> int:
        borrowed = 0
        for (name, at), counted in self.counted.items():
            if name and at == pool:
                tenant = self.shown.tenants.get(name)
                shares = tenant.shares if tenant else ()
                own = sum(share.guaranteed for share in shares if share.pool == pool)
                borrowed += max(0, counted - own)
        return borrowed

    def _kept(self, borrower: str, pool: str) -> int:
        kept = 0
        for name, tenant in self.shown.tenants.items():
            for share in tenant.shares:
                if name != borrower and share.pool == pool and share.lending_limit is not None:
                    own = share.guaranteed - share.lending_limit
                    kept += max(0, own - self.counted[name, pool])
        return kept

    def _nodes(self, pool: Pool) -> list[Node]:
        home, nodes = self.shown.home, self.shown.nodes
        mine = [node for name, node in nodes.items() if home.get(name) == pool.name]
        return [node for node in mine if reference.usable(node, pool)]

    def takes(self, node: Node, pod: Pod) -> bool:
        """Whether the pod fits beside everything that is bound to or planned on the node."""
        load = self.loads.get(node.name, (0, 0, 0))
        room = [node.allocatable[part] - load[part] for part in range(3)]
        # A node that carries more GPUs than it has still takes pods that ask for none.
        room[0] = max(0, room[0])
        return all(pod.demand[part] <= room[part] for part in range(3)) and reference.admitted(
            pod.constraints, node
        )

    def home_for(
        self, pod: Pod, tenant_name: str, claimed: Collection[str], *, borrows: bool = True
    ) -> str:
        """Return a pool with an unclaimed node for the pod, empty if there is none."""
        tenant = self.shown.tenants.get(tenant_name)
        for name, *_ in tenant.shares if tenant else ():
            if self.refusal(pod, tenant_name, name):
                continue
            if not borrows and self.borrows(pod.demand.gpus, tenant_name, name):
                continue
            nodes = self._nodes(self.shown.pools[name])
            if any(self.takes(node, pod) for node in nodes if node.name not in claimed):
                return name
        return ""


def queued(shown: Shown) -> list[Pod]:
    """Return the pods that wait for nothing but us."""
    found = []
    for pod in shown.pods.values():
        if pod.gates != (names.GATE,) or pod.deleting or pod.uid in shown.decided:
            continue
        tenant = shown.tenants.get(shown.tenant_of(pod))
        if tenant is not None and pod.namespace in tenant.namespaces:
            found.append(pod)
    return found


def book(shown: Shown, alive: dict[str, Pod] | None = None) -> Book:
    """Count everything anew."""
    made = Book(shown, out=reference.out_of_force(shown.pools.values()))
    for account in shown.accounts(alive).values():
        made.add(account)
    return made


def claimed(engine: Engine, *, but: Line | None = None) -> set[str]:
    """Return the nodes that lines other than `but` have claimed."""
    names_of = {bit: name for name, bit in engine.feasible.bits.items()}
    found = set()
    for claims in engine.claims.of.values():
        for claim in claims.values():
            if claim.line is not but:
                found |= {name for bit, name in names_of.items() if claim.nodes & bit}
    return found


class NotedClaims(Claims):
    """Claims that remember every node that was claimed since they were last asked."""

    def __init__(self) -> None:
        super().__init__()
        self.ever = 0

    def put(self, tenant: str, pool: str, claim: Claim | None) -> bool:
        self.ever |= claim.nodes if claim is not None else 0
        return super().put(tenant, pool, claim)


def judge_plan(
    shown: Shown,
    alive: dict[str, Pod],
    releases: list[Release],
    engine: Engine,
    claimed_before: set[str],
) -> int:
    """Check every decision in turn, each on top of those before; returns how many there were."""
    truth, seen = book(shown, alive), book(shown)
    waiting = {pod.uid: pod for pod in queued(shown)}
    noted = engine.claims
    assert isinstance(noted, NotedClaims)
    bits = engine.feasible.bits
    excused = claimed_before | {name for name, bit in bits.items() if noted.ever & bit}
    noted.ever = 0
    for release in releases:
        _judge(truth, seen, waiting, release)
        others = [pod for pod in waiting.values() if pod.uid not in engine.stopped]
        _judge_order(seen, others, release, excused)
        del waiting[release.pod.uid]
        shown.decided[release.pod.uid] = release
        account = shown.account(release.pod)
        if account is not None:
            truth.add(account)
            seen.add(account)
    return len(releases)


def _judge(truth: Book, seen: Book, waiting: dict[str, Pod], release: Release) -> None:
    shown, pod = truth.shown, release.pod
    check(waiting.get(pod.uid) == pod, "released a pod that does not wait:", release)
    check(shown.tenant_of(pod) == release.tenant, "wrong tenant:", release)
    # What was lent is measured by what the engine sees: borrowers that are gone unnoticed still
    # count for it, and their GPUs are not free for it either.
    refusal = seen.refusal(pod, release.tenant, release.pool)
    if not refusal:
        refusal = truth.refusal(pod, release.tenant, release.pool)
        refusal = "" if refusal.startswith("lent") else refusal
    check(not refusal, "released against", refusal, release)
    pool = shown.pools[release.pool]
    for name in (release.node, *release.spares):
        node = shown.nodes[name]
        check(shown.home.get(name) == release.pool, "node of another pool:", release)
        check(reference.usable(node, pool), "node is not usable:", release, node)
        check(truth.takes(node, pod), "node does not take the pod:", release, truth.loads.get(name))
    check(release.node not in release.spares, "spare of itself:", release)
    check(not (release.pinned and (pod.follows_others or not pod.controlled)), "pinned:", release)
    check(release.placement is pool.placement, "placed otherwise than its pool says:", release)
    packed = release.placement is Placement.PACK
    check(packed or not (release.pinned or release.spares), "tied to nodes:", release)


def _judge_order(seen: Book, waiting: list[Pod], release: Release, claimed: set[str]) -> None:
    # Measured by what the engine sees, dead pods included: it cannot know of their room.
    pod, borrows = release.pod, seen.borrows(release.pod.demand.gpus, release.tenant, release.pool)
    turn = seen.surplus(release.tenant) if borrows else seen.fill(release.tenant)
    for other in waiting:
        tenant = seen.shown.tenant_of(other)
        overtaken = ""
        if tenant == release.tenant:
            if _place(other) < _place(pod):
                overtaken = seen.home_for(other, tenant, claimed, borrows=borrows)
        elif not borrows:
            if seen.fill(tenant) < turn:
                overtaken = seen.home_for(other, tenant, claimed, borrows=False)
        else:
            overtaken = seen.home_for(other, tenant, claimed, borrows=False)
            if not overtaken and seen.surplus(tenant) < turn:
                overtaken = seen.home_for(other, tenant, claimed)
        check(not overtaken, "overtook", other, "which fits", overtaken, release)


def _place(pod: Pod) -> tuple[int, float, str]:
    return (-pod.priority, pod.created, pod.uid)


def judge_rest(shown: Shown, engine: Engine) -> None:
    """After a plan that was not cut short: whoever still waits fits nowhere, and is told why."""
    everything = book(shown)
    for pod in queued(shown):
        if pod.uid in engine.stopped:
            check(pod.uid in shown.refused, "held without a refusal:", pod, engine.stopped[pod.uid])
            continue
        line = engine.queues[shown.tenant_of(pod)].line_of(pod.uid)
        home = everything.home_for(pod, shown.tenant_of(pod), claimed(engine, but=line))
        check(not home, "forgotten:", pod, "fits in", home)
        check(line is not None and line.wait is not None, "waits without a reason:", pod)

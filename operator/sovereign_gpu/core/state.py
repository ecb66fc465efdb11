"""What the engine knows of the cluster, and how each change of it moves charges and queues.

Level-triggered: every method takes the newest state of one object and makes the books agree with
it, whatever was known before; told twice, nothing changes. States of a pod may arrive late, so
what only ever goes one way (a gate is removed, a pod is bound, is deleted) is never taken back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from sovereign_gpu.core import explain, residency
from sovereign_gpu.core.claims import Claims
from sovereign_gpu.core.fairshare import Capacity, History
from sovereign_gpu.core.feasibility import FeasibleNodes
from sovereign_gpu.core.health import FaultBook
from sovereign_gpu.core.ledger import FOREIGN, Charge, Ledger
from sovereign_gpu.core.lending import Lending
from sovereign_gpu.core.model import Namespace, Node, Pod, Policy, Pool, Resources, Tenant, Wait
from sovereign_gpu.core.packing import Mix
from sovereign_gpu.core.placement import Census, Floor, ask, seat
from sovereign_gpu.core.queue import Queue
from sovereign_gpu.core.shelves import Shelves
from sovereign_gpu.names import GATE


@dataclass(slots=True)
class State:
    """The books. Read freely; written only through the methods."""

    pods: dict[str, Pod] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    tenants: dict[str, Tenant] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    clashes: dict[str, str] = field(default_factory=dict)
    """Pools out of force, with the sentence that says why."""
    barred: dict[tuple[str, str], Wait] = field(default_factory=dict)
    """(tenant, pool) that the configuration keeps apart, with the reason."""

    ledger: Ledger = field(default_factory=Ledger)
    lending: Lending = field(default_factory=Lending)
    capacity: Capacity = field(default_factory=Capacity)
    claims: Claims = field(default_factory=Claims)
    history: History = field(default_factory=History)
    queues: dict[str, Queue] = field(default_factory=dict)
    stopped: dict[str, Wait] = field(default_factory=dict)
    """Gated pods that stand in no tenant's queue, with the reason."""
    assumed: dict[str, str] = field(default_factory=dict)
    """Decided releases that the store does not show yet: uid -> pool."""

    pool_of_node: dict[str, str] = field(default_factory=dict)
    floors: dict[str, Floor] = field(default_factory=dict)
    census: Census = field(default_factory=Census)
    faults: FaultBook = field(default_factory=FaultBook)
    doubted: set[str] = field(default_factory=set)
    """Nodes that did not take a pod although it fits by these books; they are planned for last."""
    feasible: FeasibleNodes = field(default_factory=FeasibleNodes)
    mix: Mix = field(default_factory=Mix)
    static: set[str] = field(default_factory=set)
    """Pods that their kubelets run by themselves, by uid."""
    due: set[str] = field(default_factory=set)
    """Tenants for whom something changed that might let a pod start."""
    blocked: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Per pool, tenants that had quota left when the nodes said no; woken when they change."""
    _queue_of: dict[str, str] = field(default_factory=dict)
    _pods_in: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    # --- pods ---------------------------------------------------------------------------
    def put_pod(self, pod: Pod) -> None:
        """Take in a state of an unfinished pod, unless a later one is known."""
        known = self.pods.get(pod.uid)
        if known is not None and _overtaken(pod, known):
            return
        self.pods[pod.uid] = pod
        if pod.static:
            self.static.add(pod.uid)
        self._pods_in[pod.namespace].add(pod.uid)
        self._count(known, pod)
        self.place(pod)

    def remove_pod(self, uid: str) -> None:
        """Forget a pod that is finished or gone; what it held is free."""
        pod = self.pods.pop(uid, None)
        self._count(pod, None)
        self.static.discard(uid)
        if pod is not None:
            self._pods_in[pod.namespace].discard(uid)
            if not self._pods_in[pod.namespace]:
                del self._pods_in[pod.namespace]
        self.assumed.pop(uid, None)
        self.dequeue(uid)
        self.charge(uid, None)

    def _count(self, before: Pod | None, after: Pod | None) -> None:
        # What pods ask for now, charged and waiting, is what is typical for `packing`.
        old = ask(before.demand, before.constraints) if before else None
        new = ask(after.demand, after.constraints) if after else None
        if old != new:
            if old is not None:
                self.mix.add(old, -1)
            if new is not None:
                self.mix.add(new, 1)

    def place(self, pod: Pod) -> None:
        """Make queue and charge of one pod agree with its newest state."""
        if GATE not in pod.gates:
            self.assumed.pop(pod.uid, None)
            self.dequeue(pod.uid)
            self.charge(pod.uid, self._charge_of(pod))
        elif pod.uid not in self.assumed:  # decided: charged until the answer is known
            self._enqueue(pod)

    def _enqueue(self, pod: Pod) -> None:
        if pod.deleting:
            self.dequeue(pod.uid)
            return
        wait = self._stop(pod)
        if wait is not None:
            self.dequeue(pod.uid)
            self.stopped[pod.uid] = wait
            return
        tenant = self.tenant_of(pod.namespace)
        if self._queue_of.get(pod.uid, tenant) != tenant or pod.uid in self.stopped:
            self.dequeue(pod.uid)
        queue = self.queues.get(tenant)
        if queue is None:
            queue = self.queues[tenant] = Queue()
        joins = queue.line_of(pod.uid) is None
        line = queue.add(pod)
        self._queue_of[pod.uid] = tenant
        # What stops the size or the line stops this pod as well, unless its age makes it first.
        if line.wait is None or (joins and line.size.stop is None and line.first() is pod):
            self.due.add(tenant)

    def _stop(self, pod: Pod) -> Wait | None:
        others = tuple(gate for gate in pod.gates if gate != GATE)
        if others:
            return explain.held(others)
        name = self.tenant_of(pod.namespace)
        tenant = self.tenants.get(name)
        if tenant is None or pod.namespace not in tenant.namespaces:
            return explain.tenant_missing(name or "of any name", pod.namespace)
        return None

    def dequeue(self, uid: str) -> None:
        """Take a pod out of every line."""
        self.stopped.pop(uid, None)
        tenant = self._queue_of.pop(uid, None)
        if tenant is not None:
            self.queues[tenant].remove(uid)
            if not self.queues[tenant]:
                del self.queues[tenant]
                for pool in self.claims.pools_of(tenant):
                    self.claims.put(tenant, pool, None)
                    self._wake(pool)
            elif self.claims.pools_of(tenant):
                self.due.add(tenant)  # it may claim too much now

    def _charge_of(self, pod: Pod) -> Charge | None:
        if not pod.node and not pod.demand.gpus:
            return None  # not placed yet and nothing we ration
        tenant = self.tenant_of(pod.namespace)
        if pod.node:
            pool = self.pool_of_node.get(pod.node) or pod.pool
            return Charge(tenant, pool, pod.node, pod.demand, bound=True)
        pool = pod.pool or self._first_pool(tenant)
        return Charge(tenant, pool, pod.planned_node, pod.demand, bound=False)

    def _first_pool(self, tenant: str) -> str:
        # A pod without gate that we never released (older than the installation) may bind
        # anywhere its tenant may be; charging the preferred pool errs on the side of caution.
        known = self.tenants.get(tenant)
        return known.shares[0].pool if known and known.shares else ""

    def charge(self, uid: str, charge: Charge | None) -> None:
        """Book a charge and wake the tenants that may gain by the change."""
        before = self.ledger.charges.get(uid)
        if before == charge:
            return
        had = {each.pool: self._lendable(each.pool) for each in (before, charge) if each}
        self._book(uid, before, charge)
        for pool, gpus in had.items():
            if self._lendable(pool) > gpus:
                self._wake(pool)  # what was kept from borrowers is used elsewhere

    def _book(self, uid: str, before: Charge | None, charge: Charge | None) -> None:
        had = self.spare(before.pool) if before else 0
        self.ledger.put(uid, charge)
        for key in {(each.tenant, each.pool) for each in (before, charge) if each is not None}:
            self.lending.put(key, self.ledger.counted(*key))
        if uid not in self.assumed and not _same_account(before, charge):
            self._review_claims(charge)  # somebody else let it start
        if before is None:
            if charge is not None and charge.node:
                self._reseat(charge.node)
            return
        for node in {before.node, charge.node if charge else ""} - {""}:
            self._reseat(node)
        if before.tenant in self.queues and not _same_account(before, charge):
            self.due.add(before.tenant)
        if charge is None or before.node != charge.node or before.demand != charge.demand:
            self._wake(self.pool_of_node.get(before.node, ""))
        if self.spare(before.pool) > had:
            self._wake(before.pool)

    def _review_claims(self, charge: Charge | None) -> None:
        if charge is not None and self.claims.pools_of(charge.tenant):
            self.due.add(charge.tenant)  # it may claim too much now

    def spare(self, pool: str) -> int:
        """GPUs on usable nodes of the pool that are neither bound nor released; may be below 0."""
        floor = self.floors.get(pool)
        return (floor.spare if floor else 0) - self.ledger.reserved_in.get(pool, 0)

    def _lendable(self, pool: str) -> int:
        return self.spare(pool) - self.lending.kept.get(pool, 0)

    def _wake(self, pool: str) -> None:
        self.due |= self.blocked.pop(pool, set())

    # --- nodes --------------------------------------------------------------------------
    def put_node(self, node: Node) -> None:
        """Take in the newest state of a node."""
        if self.nodes.get(node.name) == node:
            return
        self.nodes[node.name] = node
        self.feasible.put(node)
        self._assign(node.name)

    def remove_node(self, name: str) -> None:
        """Forget a node that is gone; what ran there stays charged until its pods are gone."""
        if self.nodes.pop(name, None) is None:
            return
        self._assign(name)
        self.feasible.remove(name)
        self.doubted.discard(name)

    def doubt(self, name: str) -> None:
        """Plan for the node only what fits on no other one, until it is trusted again."""
        if name in self.nodes:
            self.doubted.add(name)

    def trust(self, name: str) -> None:
        """Plan for the node as for any other one."""
        self.doubted.discard(name)

    def _assign(self, name: str) -> None:
        node = self.nodes.get(name)
        before = self.pool_of_node.get(name, "")
        after = residency.pool_of(node, self.pools, before) if node else ""
        if after:
            self.pool_of_node[name] = after
        else:
            self.pool_of_node.pop(name, None)
        self.census.put(name, after, node.capacity.gpus if node else 0)
        if node and after:
            self.faults.put(node, self.pools[after])
        else:
            self.faults.remove(name)
        self.capacity.put(name, after, node.capacity if node else Resources())
        if before != after:
            self.claims.forget_node(before, self.feasible.bits[name])
            if before in self.floors:
                self.floors[before].put(name, None)
            self._recharge(self.ledger.by_node.get(name, ()))
        self._reseat(name)
        self._wake(before)
        self._wake(after)

    def _reseat(self, name: str) -> None:
        pool = self.pool_of_node.get(name, "")
        floor = self.floors.get(pool)
        if floor is not None:
            node = self.nodes[name]
            usable = self.usable(node, self.pools[pool])
            load, bit = self.ledger.loads.get(name), self.feasible.bits[name]
            floor.put(name, seat(node, bit, load) if usable else None)

    def usable(self, node: Node, pool: Pool) -> bool:
        """Whether new GPU pods may be put on the node at all."""
        return (
            not self.faults.closed(node.name)
            and pool.name not in self.clashes
            and residency.shows_region(node, pool)
        )

    # --- namespaces and configuration -----------------------------------------------------
    def tenant_of(self, namespace: str) -> str:
        """Return the tenant recorded on the namespace, or FOREIGN."""
        known = self.namespaces.get(namespace)
        return known.tenant if known else FOREIGN

    def put_namespace(self, namespace: Namespace) -> None:
        """Take in the newest state of a namespace."""
        before = self.tenant_of(namespace.name)
        self.namespaces[namespace.name] = namespace
        if before != namespace.tenant:
            self._recharge(self._pods_in.get(namespace.name, ()))

    def remove_namespace(self, name: str) -> None:
        """Forget a namespace that is gone."""
        if self.namespaces.pop(name, None) is not None:
            self._recharge(self._pods_in.get(name, ()))

    def configure(
        self, pools: Iterable[Pool], tenants: Iterable[Tenant], policies: Iterable[Policy]
    ) -> None:
        """Take in all custom resources; few objects, so everything is judged again."""
        self.pools = {pool.name: pool for pool in pools}
        known, self.tenants = self.tenants, {tenant.name: tenant for tenant in tenants}
        self.history.keep(self.tenants)
        for tenant in self.tenants.values():
            if tenant.history is not None and tenant.name not in known:
                self.history.restore(tenant.name, tenant.history)
        self.policies = {policy.name: policy for policy in policies}
        self.clashes = residency.clashes(self.pools.values())
        self.barred = {
            (tenant.name, pool): wait
            for tenant in self.tenants.values()
            for pool in (share.pool for share in tenant.shares)
            if (wait := self._bar(tenant, pool))
        }
        self.floors = {name: Floor(Shelves(self.mix)) for name in self.pools}
        self.blocked.clear()
        self.claims.clear()
        self.lending.configure(self.tenants.values(), self.ledger.usage)
        for name in self.nodes:
            self._assign(name)
        self._recharge(self.pods)
        self.due = set(self.queues)

    def _bar(self, tenant: Tenant, name: str) -> Wait | None:
        missing = residency.missing(tenant, self.policies)
        if missing:
            return explain.policy_missing(missing)
        pool = self.pools.get(name)
        if pool is None or name in self.clashes:
            return explain.pool_absent(name, self.clashes.get(name))
        if not residency.allows(tenant, pool, self.policies):
            return explain.not_allowed(pool, *residency.objection(tenant, pool, self.policies))
        return None

    def _recharge(self, uids: Iterable[str]) -> None:
        for uid in tuple(uids):
            self.place(self.pods[uid])


def _overtaken(pod: Pod, known: Pod) -> bool:
    if pod.gates != known.gates and not set(pod.gates) <= set(known.gates):
        return True
    return bool(known.node and not pod.node) or (known.deleting and not pod.deleting)


def _same_account(before: Charge | None, after: Charge | None) -> bool:
    # A pod's GPUs never change, so only who pays, and where, can.
    if before is None or after is None:
        return before is after
    return (after.tenant, after.pool) == (before.tenant, before.pool)

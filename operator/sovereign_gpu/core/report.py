"""The numbers that status and metrics show, read from the engine's books; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from sovereign_gpu.core import lending, losses, residency
from sovereign_gpu.core.drift import Offence
from sovereign_gpu.core.fairshare import MILLION, ONE, surplus
from sovereign_gpu.core.ledger import FOREIGN
from sovereign_gpu.core.losses import PoolLosses
from sovereign_gpu.core.model import Node, Wait
from sovereign_gpu.core.state import State
from sovereign_gpu.names import PRODUCT_LABEL

UNKNOWN_PRODUCT = "Unknown"


@dataclass(slots=True)
class PoolReport:
    """One pool. Nodes are counted with GPUs unless said otherwise; GPUs are whole devices."""

    enrolled: int = 0
    ready: int = 0
    cordoned: int = 0
    unhealthy: int = 0
    companions: int = 0
    misplaced: int = 0
    """Nodes (also companions) whose region label is not the pool's region."""
    capacity: int = 0
    allocatable: int = 0
    counted: int = 0
    reserved: int = 0
    foreign: int = 0
    free: int = 0
    whole_nodes_free: int = 0
    largest_gang: int = 0
    """GPUs of equal pods that could start at once, each on a node of which nothing is taken."""
    guaranteed: int = 0
    """Sum of the guarantees that tenants have in the pool."""
    losses: PoolLosses = field(default_factory=PoolLosses)
    """What faults take from the pool."""
    static: list[str] = field(default_factory=list)
    """Static pods that hold GPUs or stand in a tenant's namespace, as namespace/name."""
    rivals: set[str] = field(default_factory=set)
    """Other pools that claim nodes of this one."""
    products: Counter[str] = field(default_factory=Counter)
    """Nodes by GPU model."""
    product_gpus: Counter[str] = field(default_factory=Counter)

    @property
    def faulty(self) -> int:
        """Nodes with faults."""
        return self.losses.nodes

    @property
    def lost(self) -> int:
        """GPUs that faults keep from new pods."""
        return self.losses.gpus


@dataclass(slots=True)
class TenantPoolReport:
    """One tenant in one pool, in GPUs."""

    guaranteed: int = 0
    allowance: int = 0
    """Guarantee and borrowing limit."""
    used: int = 0
    """Charged: bound and reserved."""
    borrowed: int = 0
    """Used beyond the guarantee."""
    lent: int = 0
    """Of the guarantee, used by others."""
    reserved: int = 0
    pending_gpus: int = 0
    pending_pods: int = 0
    lost: int = 0
    """GPUs of the guarantee that faults keep from being served."""
    on_faulty_nodes: int = 0
    """GPUs that bound pods hold on nodes with faults."""


@dataclass(slots=True)
class WaitReport:
    """All pods of a tenant that wait for one reason."""

    pods: int = 0
    gpus: int = 0
    message: str = ""
    oldest: float = float("inf")


@dataclass(slots=True)
class TenantReport:
    """One tenant."""

    pools: dict[str, TenantPoolReport] = field(default_factory=dict)
    waiting: dict[str, WaitReport] = field(default_factory=dict)
    weight: int = 1
    surplus: int = 0
    """Dominant share beyond the guarantees, in millionths of the cluster."""
    history: int = 0
    """Moving average of the surplus, in millionths."""

    @property
    def share(self) -> int:
        """What decides whose turn it is to borrow: the smallest is next."""
        return (self.surplus + self.history) // self.weight


@dataclass(slots=True)
class PolicyReport:
    """One policy."""

    pools: tuple[str, ...] = ()
    nodes: int = 0
    regions: tuple[str, ...] = ()
    violations: list[str] = field(default_factory=list)
    """uids of pods that run where the policy does not allow it."""
    places: Counter[Offence] = field(default_factory=Counter)
    """The same pods by where and why."""


def product(node: Node) -> str:
    """Return the GPU model a node names."""
    return node.labels.get(PRODUCT_LABEL, UNKNOWN_PRODUCT)


def pools(state: State) -> dict[str, PoolReport]:
    """Return the numbers of every pool."""
    reports = {name: PoolReport() for name in state.pools}
    for name, pool in state.pool_of_node.items():
        _count_node(state, state.nodes[name], pool, reports[pool])
    for (tenant, pool), usage in state.ledger.usage.items():
        report = reports.get(pool)
        if report is None:
            continue
        if tenant == FOREIGN:
            report.foreign += usage.counted
        else:
            report.counted += usage.counted
            report.reserved += usage.reserved
    for tenant_spec in state.tenants.values():
        for pool, gpus, *_ in tenant_spec.shares:
            if pool in reports:
                reports[pool].guaranteed += gpus
    _note_static(state, reports)
    for pool, found in losses.of_pools(state).items():
        reports[pool].losses = found
    for pool, floor in state.floors.items():
        report = reports[pool]
        report.free = max(0, state.spare(pool))
        report.whole_nodes_free = floor.whole_nodes_free()
        report.largest_gang = floor.largest_gang(report.free)
    return reports


def _note_static(state: State, reports: Mapping[str, PoolReport]) -> None:
    for uid in state.static:
        pod = state.pods[uid]
        at = reports.get(state.pool_of_node.get(pod.node, ""))
        if at and (pod.demand.gpus or state.tenant_of(pod.namespace) != FOREIGN):
            at.static.append(f"{pod.namespace}/{pod.name}")


def _count_node(state: State, node: Node, pool: str, report: PoolReport) -> None:
    spec = state.pools[pool]
    if not residency.shows_region(node, spec):
        report.misplaced += 1
    report.rivals |= set(residency.rivals(node, state.pools)) - {pool}
    if not node.capacity.gpus:
        report.companions += 1
        return
    model = product(node)
    report.enrolled += 1
    report.products[model] += 1
    report.product_gpus[model] += node.capacity.gpus
    report.capacity += node.capacity.gpus
    report.cordoned += node.unschedulable
    report.unhealthy += not (node.ready and node.healthy)
    report.ready += node.ready and not node.unschedulable
    if state.usable(node, spec):
        report.allocatable += node.allocatable.gpus


def tenants(state: State) -> dict[str, TenantReport]:
    """Return the numbers of every tenant that has an object or still runs pods."""
    reports: dict[str, TenantReport] = {name: TenantReport() for name in state.tenants}
    for name, tenant in state.tenants.items():
        reports[name].weight = tenant.weight
        reports[name].surplus = surplus(tenant, state.ledger.usage, state.capacity) * MILLION // ONE
        reports[name].history = state.history.millionths(name)
        for share in tenant.shares:
            reports[name].pools[share.pool] = TenantPoolReport(
                guaranteed=share.guaranteed, allowance=share.allowance
            )
    for (name, pool), usage in state.ledger.usage.items():
        if name == FOREIGN:
            continue
        row = reports.setdefault(name, TenantReport()).pools.setdefault(pool, TenantPoolReport())
        row.used, row.reserved = usage.counted, usage.reserved
        row.borrowed = max(0, row.used - row.guaranteed)
    _add_lent(state, reports)
    _add_losses(state, reports)
    for name, queue in state.queues.items():
        report = reports.setdefault(name, TenantReport())
        for line in queue.lines.values():
            pods, first = len(line.members), line.first()
            _pend(report, line.pool, pods, line.gpus)
            if line.wait is not None and first is not None:
                _wait(report, line.wait, pods, line.gpus, first.created)
    for uid, wait in state.stopped.items():
        pod = state.pods[uid]
        report = reports.setdefault(state.tenant_of(pod.namespace), TenantReport())
        _pend(report, "", 1, pod.demand.gpus)
        _wait(report, wait, 1, pod.demand.gpus, pod.created)
    reports.pop(FOREIGN, None)
    return reports


def _add_lent(state: State, reports: dict[str, TenantReport]) -> None:
    for pool in state.lending.borrowed:
        shares = {t: share for (t, at), share in state.lending.shares.items() if at == pool}
        counted = {t: used.counted for (t, at), used in state.ledger.usage.items() if at == pool}
        counted.pop(FOREIGN, None)
        size = state.capacity.of.get(pool)
        for name, gpus in lending.lent(shares, counted, size.gpus if size else 0).items():
            reports[name].pools[pool].lent = gpus


def _add_losses(state: State, reports: dict[str, TenantReport]) -> None:
    for (name, pool), gpus in losses.of_tenants(state).items():
        reports[name].pools[pool].lost = gpus
    for (name, pool), gpus in losses.on_faulty_nodes(state).items():
        if name != FOREIGN and gpus:
            reports[name].pools[pool].on_faulty_nodes = gpus


def _pend(report: TenantReport, pool: str, pods: int, gpus: int) -> None:
    # A wait that speaks of no pool is shown with the tenant's preferred one.
    name = pool or next(iter(report.pools), "")
    row = report.pools.setdefault(name, TenantPoolReport())
    row.pending_pods += pods
    row.pending_gpus += gpus


def _wait(report: TenantReport, wait: Wait, pods: int, gpus: int, since: float) -> None:
    row = report.waiting.setdefault(wait.reason, WaitReport())
    row.pods += pods
    row.gpus += gpus
    if since < row.oldest:
        row.oldest, row.message = since, wait.message


def policies(state: State, offences: Mapping[str, Offence]) -> dict[str, PolicyReport]:
    """Return the numbers of every policy; `offences` are the verdicts on running pods by uid."""
    reports: dict[str, PolicyReport] = {}
    in_force = [pool for pool in state.pools.values() if pool.name not in state.clashes]
    nodes_in = Counter(
        pool
        for name, pool in state.pool_of_node.items()
        if residency.stands_where_pool_says(state.nodes[name], state.pools[pool])
    )
    for policy in state.policies.values():
        eligible = [pool for pool in in_force if residency.admits(policy, pool)]
        reports[policy.name] = PolicyReport(
            pools=tuple(sorted(pool.name for pool in eligible)),
            nodes=sum(nodes_in[pool.name] for pool in eligible),
            regions=tuple(sorted({pool.region for pool in eligible})),
        )
    for uid, offence in offences.items():
        for name in offence.policies:
            if name in reports:  # else it is gone, and the pod about to be judged again
                reports[name].violations.append(uid)
                reports[name].places[offence] += 1
    return reports

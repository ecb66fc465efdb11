"""The numbers that status and metrics show, read from the engine's books; pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from sovereign_gpu.core import losses, residency
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
    guaranteed: int = 0
    """Sum of the guarantees that tenants have in the pool."""
    losses: PoolLosses = field(default_factory=PoolLosses)
    """What faults take from the pool."""
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
    used: int = 0
    """Charged: bound and reserved."""
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


@dataclass(slots=True)
class PolicyReport:
    """One policy."""

    pools: tuple[str, ...] = ()
    nodes: int = 0
    regions: tuple[str, ...] = ()
    violations: tuple[str, ...] = ()
    """uids of pods that run where the policy does not allow it."""


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
    for pool, found in losses.of_pools(state).items():
        reports[pool].losses = found
    for pool, floor in state.floors.items():
        report = reports[pool]
        report.free = max(0, state.spare(pool))
        report.whole_nodes_free = floor.whole_nodes_free()
    return reports


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
        for pool, gpus, *_ in tenant.shares:
            reports[name].pools[pool] = TenantPoolReport(guaranteed=gpus)
    for (name, pool), usage in state.ledger.usage.items():
        if name == FOREIGN:
            continue
        row = reports.setdefault(name, TenantReport()).pools.setdefault(pool, TenantPoolReport())
        row.used, row.reserved = usage.counted, usage.reserved
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


def policies(state: State) -> dict[str, PolicyReport]:
    """Return the numbers of every policy."""
    reports: dict[str, PolicyReport] = {}
    in_force = [pool for pool in state.pools.values() if pool.name not in state.clashes]
    nodes_in = Counter(
        pool
        for name, pool in state.pool_of_node.items()
        if residency.stands_where_pool_says(state.nodes[name], state.pools[pool])
    )
    violating = _violations(state)
    for policy in state.policies.values():
        eligible = [pool for pool in in_force if pool.country in policy.countries]
        reports[policy.name] = PolicyReport(
            pools=tuple(sorted(pool.name for pool in eligible)),
            nodes=sum(nodes_in[pool.name] for pool in eligible),
            regions=tuple(sorted({pool.region for pool in eligible})),
            violations=tuple(violating[policy.name]),
        )
    return reports


def _violations(state: State) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    memo: dict[tuple[str, str], tuple[str, ...]] = {}
    for node, uids in state.ledger.by_node.items():
        for uid in uids:
            charge = state.ledger.charges[uid]
            if not charge.bound or charge.tenant == FOREIGN:
                continue
            key = (charge.tenant, node)
            if key not in memo:
                memo[key] = _broken(state, charge.tenant, node)
            for policy in memo[key]:
                found[policy].append(uid)
    return found


def _broken(state: State, tenant: str, node_name: str) -> tuple[str, ...]:
    spec, node = state.tenants.get(tenant), state.nodes.get(node_name)
    if spec is None or node is None:
        # A node that is not known stands nowhere yet; its pods are judged when it is.
        return ()
    pool = state.pools.get(state.pool_of_node.get(node_name, ""))
    if pool is not None and not residency.stands_where_pool_says(node, pool):
        pool = None
    return tuple(
        name
        for name in spec.policies
        if name in state.policies
        and (pool is None or pool.country not in state.policies[name].countries)
    )

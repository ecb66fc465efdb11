"""Metrics: per tenant, pool and model, never per pod.

Gauges are read from the engine's books when they are scraped, so a series vanishes with the
object it speaks of. Counters live here, and are dropped when their tenant is gone.
"""

from __future__ import annotations

import time
from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sovereign_gpu import __version__
from sovereign_gpu.core import report
from sovereign_gpu.core.drift import Judge
from sovereign_gpu.core.eviction import Decision
from sovereign_gpu.core.fairshare import MILLION
from sovereign_gpu.core.ledger import FOREIGN
from sovereign_gpu.core.model import Release
from sovereign_gpu.core.state import State
from sovereign_gpu.telemetry.gpuclock import GpuClock

disable_created_metrics()  # type: ignore[no-untyped-call]

PREFIX = "sovereign_gpu_"
_WAIT_BUCKETS = (1, 2.5, *(5.0 * 2**i for i in range(14)))
_POOL_GAUGES = {
    "pool_capacity_gpus": ("capacity", "GPUs that the nodes of the pool have, healthy or not."),
    "pool_allocatable_gpus": ("allocatable", "GPUs on nodes that can take new pods."),
    "pool_counted_gpus": ("counted", "GPUs charged to tenants, bound or reserved."),
    "pool_reserved_gpus": ("reserved", "Charged GPUs of pods that are not bound yet."),
    "pool_foreign_gpus": ("foreign", "GPUs held by pods that no tenant is charged for."),
    "pool_free_gpus": ("free", "GPUs that could be given out now."),
    "pool_guaranteed_gpus": ("guaranteed", "Sum of the guarantees of all tenants in the pool."),
    "pool_whole_nodes_free": ("whole_nodes_free", "Nodes of which no GPU is taken."),
    "pool_largest_gang_gpus": (
        "largest_gang",
        "GPUs of the largest gang of equal pods that could get a whole node each at once.",
    ),
    "pool_nodes": ("enrolled", "Nodes with GPUs in the pool."),
    "pool_nodes_ready": ("ready", "Nodes with GPUs that are Ready and not cordoned."),
    "pool_nodes_cordoned": ("cordoned", "Nodes with GPUs that are cordoned."),
    "pool_nodes_unhealthy": ("unhealthy", "Nodes with GPUs not Ready or short of devices."),
    "pool_lost_gpus": ("lost", "GPUs that faults of nodes keep from new pods."),
    "pool_companions": ("companions", "Nodes without GPUs in the pool."),
}
_TENANT_GAUGES = {
    "tenant_guaranteed_gpus": ("guaranteed", "GPUs guaranteed to the tenant in the pool."),
    "tenant_used_gpus": ("used", "GPUs charged to the tenant, bound or reserved."),
    "tenant_allowance_gpus": ("allowance", "Guarantee and borrowing limit of the tenant."),
    "tenant_borrowed_gpus": ("borrowed", "Charged GPUs beyond the guarantee."),
    "tenant_lent_gpus": ("lent", "Guaranteed GPUs that other tenants use."),
    "tenant_reserved_gpus": ("reserved", "Charged GPUs of pods that are not bound yet."),
    "tenant_pending_gpus": ("pending_gpus", "GPUs that waiting pods ask for."),
    "tenant_pending_pods": ("pending_pods", "Pods that wait."),
    "tenant_lost_gpus": ("lost", "GPUs of the guarantee that faults keep from being served."),
    "tenant_faulty_node_gpus": ("on_faulty_nodes", "GPUs held on nodes with faults."),
}


_FAIRNESS = {
    "surplus": "Dominant share of the cluster that the tenant holds beyond its guarantees.",
    "history": "Moving average of that share, by which later turns are given.",
}


class Source(Protocol):
    """Facts about the running process that are read when scraped."""

    def operation(self) -> dict[str, tuple[str, dict[str, float]]]:
        """Return metric name -> (help, {value of the label `name`: value})."""


class DriftFacts(Protocol):
    """What is known of pods in violation."""

    judge: Judge
    decision: Decision
    outcomes: Counts[tuple[str, str]]
    """Answers to evictions, by policy and outcome."""


class MarkFacts(Protocol):
    """What became of the operator's marks on nodes and namespaces."""

    moved: Counts[str]
    """Changed by somebody else and put right, by kind."""


class GuardFacts(Protocol):
    """What is known of the policies and definitions that enforce."""

    @property
    def watched(self) -> int:
        """How many are compared with what was installed."""

    def faulty(self) -> list[tuple[str, str, str]]:
        """Return kind, name and fault of those that are not as they were installed."""


class UnboundFacts(Protocol):
    """Released pods that are not bound."""

    given_up: Counts[str]
    """Pods evicted for that, by tenant."""

    def add_to(self, reports: dict[str, report.TenantReport]) -> None:
        """Add them to what their tenants wait for."""


class Metrics(Collector):
    """Everything under /metrics."""

    def __init__(self, state: State) -> None:
        self.registry = CollectorRegistry()
        self._state = state
        self.source: Source | None = None
        self.clock = GpuClock()
        self.violations_total: Callable[[], dict[str, int]] = dict
        self.drift: DriftFacts | None = None
        self.unbound: UnboundFacts | None = None
        self.guards: GuardFacts | None = None
        self.marks: MarkFacts | None = None
        self.leads: Callable[[], bool] = lambda: True
        """Whether this process decides; a standby's books are the same, and not to be added."""
        self.orphaned: Callable[[], dict[str, list[str]]] = dict
        labels = ("tenant", "pool", "model")
        self._admissions = Counter(
            PREFIX + "admissions", "Pods released.", labels, registry=self.registry
        )
        self._refusals = Counter(
            PREFIX + "refused_releases",
            "Releases that the API server refused.",
            ("tenant",),
            registry=self.registry,
        )
        self._waits = Histogram(
            PREFIX + "wait_seconds",
            "Time from creation of a pod to its release.",
            ("tenant", "pool"),
            buckets=_WAIT_BUCKETS,
            registry=self.registry,
        )
        self.loop_seconds = Histogram(
            PREFIX + "loop_seconds",
            "Time of one turn of the decision loop.",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
            registry=self.registry,
        )
        self._seen: set[str] = set()
        """Tenants that have counters."""
        self.registry.register(self)

    def released(self, decision: Release, waited: float) -> None:
        """Count an accepted release; `waited` in seconds."""
        node = self._state.nodes.get(decision.node)
        model = report.product(node) if node else report.UNKNOWN_PRODUCT
        self._seen.add(decision.tenant)
        self._admissions.labels(decision.tenant, decision.pool, model).inc()
        self._waits.labels(decision.tenant, decision.pool).observe(waited)

    def refused(self, tenant: str) -> None:
        """Count a refused release."""
        self._seen.add(tenant)
        self._refusals.labels(tenant).inc()

    def forget_tenants(self, present: set[str]) -> None:
        """Drop the series of tenants that are gone."""
        for tenant in self._seen - present:
            self._seen.discard(tenant)
            for family in (self._admissions, self._waits, self._refusals):
                family.remove_by_labels({"tenant": tenant})
        for key in [key for key in self.clock.seconds if key[0] not in present]:
            del self.clock.seconds[key]

    def tick(self) -> None:
        """Advance the GPU-second counters; called before the books change and when scraped.

        A look goes through all nodes, so within a second of the last one nothing happens.
        """
        now = time.monotonic()
        if not self.clock.is_due(now):
            return
        held: dict[tuple[str, str], int] = defaultdict(int)
        models: dict[str, str] = {}
        for node, load in self._state.ledger.loads.items():
            if not load.bound_gpus:
                continue
            known = self._state.nodes.get(node)
            models[node] = report.product(known) if known else report.UNKNOWN_PRODUCT
        for node, model in models.items():
            for uid in self._state.ledger.by_node[node]:
                charge = self._state.ledger.charges[uid]
                if charge.bound and charge.tenant != FOREIGN and charge.demand.gpus:
                    held[charge.tenant, model] += charge.demand.gpus
        self.clock.tick(now, dict(held))

    def collect(self) -> Iterator[Metric]:
        """Yield what is read from the books, and of a standby only how it is doing."""
        leads = self.leads()
        yield GaugeMetricFamily(PREFIX + "leader", "1 for the process that decides.", int(leads))
        yield from self._process()
        if leads:
            yield from self._books()

    def _books(self) -> Iterator[Metric]:
        self.tick()
        yield from self._pools()
        yield from self._tenants()
        yield from self._given_up()
        yield from self._policies()
        yield from self._guards()
        seconds = CounterMetricFamily(
            PREFIX + "tenant_gpu_seconds",
            "GPU-seconds held by bound pods since the operator started.",
            labels=("tenant", "model"),
        )
        for (tenant, model), value in self.clock.seconds.items():
            seconds.add_metric((tenant, model), value)
        yield seconds

    def _process(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(PREFIX + "build_info", "Version.", labels=("version",))
        build.add_metric((__version__,), 1)
        yield build
        if self.source is not None:
            for name, (text, values) in self.source.operation().items():
                kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                family = kind(PREFIX + name.removesuffix("_total"), text, labels=("name",))
                for label, value in values.items():
                    family.add_metric((label,), value)
                yield family

    def _pools(self) -> Iterator[Metric]:
        reports = report.pools(self._state)
        for name, (attribute, text) in _POOL_GAUGES.items():
            family = GaugeMetricFamily(PREFIX + name, text, labels=("pool",))
            for pool, numbers in reports.items():
                family.add_metric((pool,), getattr(numbers, attribute))
            yield family
        static = GaugeMetricFamily(
            PREFIX + "pool_static_pods",
            "Static pods that hold GPUs or stand in a tenant's namespace; admitted by nobody.",
            labels=("pool",),
        )
        for pool, numbers in reports.items():
            static.add_metric((pool,), len(numbers.static))
        yield static
        models = GaugeMetricFamily(
            PREFIX + "pool_model_gpus", "GPUs by model.", labels=("pool", "model")
        )
        for pool, numbers in reports.items():
            for model, gpus in numbers.product_gpus.items():
                models.add_metric((pool, model), gpus)
        yield models
        faulty = GaugeMetricFamily(
            PREFIX + "pool_faulty_nodes",
            "Nodes with GPUs that have a fault, by kind; a node may have several.",
            labels=("pool", "kind"),
        )
        for pool, numbers in reports.items():
            for kind, (nodes, _) in numbers.losses.rows():
                faulty.add_metric((pool, kind), nodes)
        yield faulty

    def _tenants(self) -> Iterator[Metric]:
        reports = report.tenants(self._state)
        if self.unbound is not None:
            self.unbound.add_to(reports)
        for name, (attribute, text) in _TENANT_GAUGES.items():
            family = GaugeMetricFamily(PREFIX + name, text, labels=("tenant", "pool"))
            for tenant, numbers in reports.items():
                for pool, row in numbers.pools.items():
                    family.add_metric((tenant, pool), getattr(row, attribute))
            yield family
        waiting = GaugeMetricFamily(
            PREFIX + "tenant_waiting_pods",
            "Pods that wait, by reason.",
            labels=("tenant", "reason"),
        )
        for tenant, numbers in reports.items():
            for reason, wait in numbers.waiting.items():
                waiting.add_metric((tenant, reason), wait.pods)
        yield waiting
        for attribute, text in _FAIRNESS.items():
            share = GaugeMetricFamily(f"{PREFIX}tenant_{attribute}_ratio", text, labels=("tenant",))
            for tenant, numbers in reports.items():
                share.add_metric((tenant,), getattr(numbers, attribute) / MILLION)
            yield share
        orphaned = GaugeMetricFamily(
            PREFIX + "orphaned_namespaces",
            "Namespaces that belong to a tenant whose TenantQuota is gone or does not name them.",
            labels=("tenant",),
        )
        for tenant, spaces in self.orphaned().items():
            orphaned.add_metric((tenant,), len(spaces))
        yield orphaned

    def _given_up(self) -> Iterator[Metric]:
        given_up = CounterMetricFamily(
            PREFIX + "released_pods_given_up",
            "Released pods evicted because they could not be bound.",
            labels=("tenant",),
        )
        for tenant, count in self.unbound.given_up.items() if self.unbound else ():
            given_up.add_metric((tenant,), count)
        yield given_up

    def _guards(self) -> Iterator[Metric]:
        if self.marks is not None:
            moved = CounterMetricFamily(
                PREFIX + "marks_moved",
                "Labels and annotations of the operator that others changed; put right again.",
                labels=("kind",),
            )
            for kind in ("Node", "Namespace"):
                moved.add_metric((kind,), self.marks.moved[kind])
            yield moved
        if self.guards is None:
            return
        watched = GaugeMetricFamily(
            PREFIX + "guards_watched",
            "Admission policies, bindings and definitions compared with what was installed.",
        )
        watched.add_metric((), self.guards.watched)
        yield watched
        faults = GaugeMetricFamily(
            PREFIX + "guard_faults",
            "1 for each of them that is not as it was installed; must be absent.",
            labels=("kind", "name", "fault"),
        )
        for row in self.guards.faulty():
            faults.add_metric(row, 1)
        yield faults

    def _policies(self) -> Iterator[Metric]:
        ever = CounterMetricFamily(
            PREFIX + "residency_violations_found",
            "Pods ever found in violation of the policy.",
            labels=("policy",),
        )
        for policy, count in self.violations_total().items():
            ever.add_metric((policy,), count)
        yield ever
        if self.drift is None:
            return
        decision, affected = self.drift.decision, self.drift.judge.affected()
        for name, text, numbers in (
            (
                "residency_violations",
                "Pods that run where the policy does not allow it; must be 0.",
                affected,
            ),
            (
                "drift_announced_pods",
                "Pods that carry the notice of their eviction.",
                decision.announced,
            ),
            ("drift_held_pods", "Pods due for eviction that the brake holds back.", decision.held),
            (
                "drift_awaiting_confirmation",
                "1 while the policy evicts nobody until an administrator confirms it.",
                dict.fromkeys(decision.awaiting, 1),
            ),
        ):
            gauge = GaugeMetricFamily(PREFIX + name, text, labels=("policy",))
            for policy in self._state.policies:
                gauge.add_metric((policy,), numbers.get(policy, 0))
            yield gauge
        evictions = CounterMetricFamily(
            PREFIX + "drift_evictions",
            "Answers to evictions of pods in violation.",
            labels=("policy", "outcome"),
        )
        for key, count in self.drift.outcomes.items():
            evictions.add_metric(key, count)
        yield evictions

"""Numbers per tenant, pool and model; a series is there as long as what it speaks of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sovereign_gpu import names
from sovereign_gpu.core.drift import Judge
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.eviction import Decision
from sovereign_gpu.core.model import (
    Constraints,
    Namespace,
    Node,
    Pod,
    Policy,
    Pool,
    Release,
    Resources,
    Share,
    Tenant,
)
from sovereign_gpu.telemetry.gpuclock import GpuClock
from sovereign_gpu.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

POOL = Pool("munich", "DE", "eu-de-muc")
POLICY = Policy("eu-only", frozenset({"DE"}))
DEMAND = Resources(gpus=2, cpu=1000, memory=1 << 30)
MODEL = "NVIDIA-B200"


def node() -> Node:
    labels = {
        names.NODE_POOL_LABEL: "munich",
        names.REGION_LABEL: "eu-de-muc",
        names.PRODUCT_LABEL: MODEL,
    }
    room = Resources(gpus=8, cpu=64_000, memory=1 << 40)
    return Node("gpu-0", labels, (), room, room, ready=True, unschedulable=False)


def running(uid: str = "one") -> Pod:
    return Pod(uid, "acme", uid, 0.0, DEMAND, Constraints(), node="gpu-0", pool="munich")


@dataclass
class Facts:
    judge: Judge
    decision: Decision = field(default_factory=Decision)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)


@pytest.fixture
def engine() -> Engine:
    made = Engine()
    made.configure(
        [POOL], [Tenant("acme", ("acme",), ("eu-only",), (Share("munich", 4),))], [POLICY]
    )
    made.put_namespace(Namespace("acme", tenant="acme"))
    made.put_node(node())
    return made


@pytest.fixture
def metrics(engine: Engine) -> Metrics:
    made = Metrics(engine)
    made.drift = Facts(Judge(engine))
    return made


def families(metrics: Metrics) -> dict[str, Metric]:
    text = generate_latest(metrics.registry).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of one metric by the values of their labels, in order of their names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in families(metrics).values()
        for sample in family.samples
        if sample.name == f"sovereign_gpu_{name}"
    }


def test_pools_and_tenants_are_shown_from_the_books(engine: Engine, metrics: Metrics) -> None:
    engine.put_pod(running())
    assert values(metrics, "pool_capacity_gpus") == {("munich",): 8}
    assert values(metrics, "pool_counted_gpus") == {("munich",): 2}
    assert values(metrics, "pool_free_gpus") == {("munich",): 6}
    assert values(metrics, "pool_largest_gang_gpus") == {("munich",): 0}
    assert values(metrics, "tenant_used_gpus") == {("munich", "acme"): 2}
    assert values(metrics, "pool_model_gpus") == {(MODEL, "munich"): 8}
    assert values(metrics, "residency_violations") == {("eu-only",): 0}


def test_what_faults_take_is_shown_by_pool_kind_and_tenant(
    engine: Engine, metrics: Metrics
) -> None:
    engine.put_pod(running())
    assert values(metrics, "pool_lost_gpus") == {("munich",): 0}
    assert values(metrics, "pool_faulty_nodes") == {}
    engine.put_node(replace(node(), unschedulable=True))
    assert values(metrics, "pool_lost_gpus") == {("munich",): 8}
    assert values(metrics, "pool_faulty_nodes") == {("Cordoned", "munich"): 1}
    assert values(metrics, "tenant_lost_gpus") == {("munich", "acme"): 4}
    assert values(metrics, "tenant_faulty_node_gpus") == {("munich", "acme"): 2}


def test_series_vanish_with_their_objects(engine: Engine, metrics: Metrics) -> None:
    engine.put_pod(running())
    decision = Release(running(), "acme", "munich", "gpu-0", pinned=False)
    metrics.released(decision, waited=3.0)
    metrics.refused("acme")
    metrics.clock.seconds["acme", MODEL] = 1.0
    assert values(metrics, "admissions_total") == {(MODEL, "munich", "acme"): 1}
    engine.remove_pod("one")
    engine.configure([], [], [])
    metrics.forget_tenants(set())
    text = generate_latest(metrics.registry).decode()
    assert "acme" not in text
    assert "munich" not in text
    assert "eu-only" not in text


def test_a_tenant_that_was_only_ever_refused_is_forgotten_too(metrics: Metrics) -> None:
    metrics.refused("acme")
    assert values(metrics, "refused_releases_total") == {("acme",): 1}
    metrics.forget_tenants({"other"})
    assert values(metrics, "refused_releases_total") == {}


def test_tenants_that_are_present_keep_their_counters(metrics: Metrics) -> None:
    metrics.refused("acme")
    metrics.forget_tenants({"acme"})
    assert values(metrics, "refused_releases_total") == {("acme",): 1}


def test_counters_are_counters_by_name_and_by_type(engine: Engine, metrics: Metrics) -> None:
    class Process:
        def operation(self) -> dict[str, tuple[str, dict[str, float]]]:
            return {"writes_total": ("Writes.", {"release": 2}), "depth": ("Depth.", {"a": 1})}

    metrics.source = Process()
    metrics.clock.seconds["acme", MODEL] = 1.0
    metrics.violations_total = lambda: {"eu-only": 3}
    metrics.drift = Facts(Judge(engine), outcomes=Counter({("eu-only", "gone"): 2}))
    metrics.orphaned = lambda: {"gone": ["a", "b"]}
    found = families(metrics)
    counters = ("tenant_gpu_seconds", "residency_violations_found", "drift_evictions", "writes")
    for name in counters:
        family = found[f"sovereign_gpu_{name}"]
        assert family.type == "counter"
        assert [sample.name for sample in family.samples] == [f"sovereign_gpu_{name}_total"]
    assert found["sovereign_gpu_depth"].type == "gauge"
    assert values(metrics, "orphaned_namespaces") == {("gone",): 2}
    assert all(family.type != "unknown" for family in found.values())
    assert engine.pods == {}


def test_every_metric_says_what_it_means(metrics: Metrics) -> None:
    found = families(metrics)
    assert all(name.startswith("sovereign_gpu_") for name in found)
    assert [name for name, family in found.items() if not family.documentation.endswith(".")] == []


def test_gpu_seconds_are_held_gpus_times_time() -> None:
    clock = GpuClock()
    clock.tick(100.0, {("acme", MODEL): 2})
    clock.tick(110.0, {("acme", MODEL): 3})
    clock.tick(111.0, {})
    clock.tick(200.0, {})
    assert clock.seconds == {("acme", MODEL): 23.0}


def test_a_second_look_within_a_second_is_not_taken() -> None:
    clock = GpuClock()
    assert clock.is_due(5.0)
    clock.tick(5.0, {})
    assert not clock.is_due(5.5)
    assert clock.is_due(6.0)


def test_gpu_seconds_count_bound_pods_of_tenants_only(engine: Engine, metrics: Metrics) -> None:
    engine.put_pod(running())
    engine.put_namespace(Namespace("gpu-operator"))
    foreign = Pod("two", "gpu-operator", "two", 0.0, DEMAND, Constraints(), node="gpu-0")
    engine.put_pod(foreign)
    metrics.tick()
    assert metrics.clock.is_due(float("inf"))
    metrics.clock.tick(float("inf"), {})
    assert set(metrics.clock.seconds) == {("acme", MODEL)}


def test_what_becomes_of_pods_in_violation_is_shown_by_policy(
    engine: Engine, metrics: Metrics
) -> None:
    engine.put_pod(running())
    engine.put_node(replace(node(), labels={names.REGION_LABEL: "us-east-1"}))
    judge = Judge(engine)
    judge.look()
    decision = Decision(
        awaiting=frozenset({"eu-only"}),
        announced=Counter({"eu-only": 3}),
        held=Counter({"eu-only": 2}),
    )
    metrics.drift = Facts(judge, decision, Counter({("eu-only", "blocked"): 4}))
    assert values(metrics, "residency_violations") == {("eu-only",): 1}
    assert values(metrics, "drift_announced_pods") == {("eu-only",): 3}
    assert values(metrics, "drift_held_pods") == {("eu-only",): 2}
    assert values(metrics, "drift_awaiting_confirmation") == {("eu-only",): 1}
    assert values(metrics, "drift_evictions_total") == {("blocked", "eu-only"): 4}

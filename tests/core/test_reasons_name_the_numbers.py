"""Every reason to wait: when it holds, and that its message names what is asked and what is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sovereign_gpu import names
from sovereign_gpu.core import explain
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Namespace, Pod, Pool, Reason, Requirement, Resources, Share
from tests.core.build import (
    REGION,
    engine,
    munich,
    node,
    plan,
    pod,
    policy,
    put,
    tenant,
    wait,
)

GIB = 1 << 30
Case = tuple[Engine, Pod, Reason, tuple[str, ...]]


def filled(*loads: int, guaranteed: int = 64) -> Engine:
    """Nodes of eight GPUs of which so many are taken by pods of tenant bolt."""
    nodes = [node(f"n{number}") for number in range(len(loads))]
    made = engine(*nodes, tenants=(tenant(guaranteed=guaranteed), tenant("bolt", 64)))
    for each, load in zip(nodes, loads, strict=True):
        made.put_pod(pod(load, "bolt-train", gates=(), node=each.name, pool="munich"))
    return made


def held_by_another_gate() -> Case:
    waiting = pod(1, gates=(names.GATE, "kueue.x-k8s.io/admission"))
    return engine(node()), waiting, Reason.HELD, ("kueue.x-k8s.io/admission",)


def no_tenant_at_all() -> Case:
    return engine(node()), pod(1, "lost"), Reason.TENANT_QUOTA_MISSING, ("of any name", "lost")


def tenant_deleted() -> Case:
    made = engine(node())
    made.configure([munich()], [], [policy()])
    return made, pod(1), Reason.TENANT_QUOTA_MISSING, ("TenantQuota acme", "acme-train")


def namespace_no_longer_named() -> Case:
    made = engine(node(), tenants=(tenant(namespaces=("acme-infer",)),))
    made.put_namespace(Namespace("acme-train", "acme"))
    return made, pod(1), Reason.TENANT_QUOTA_MISSING, ("TenantQuota acme", "acme-train")


def policy_missing() -> Case:
    made = engine(node(), tenants=(tenant(policies=("eu", "dach", "bsi")),))
    return made, pod(1), Reason.POLICY_MISSING, ("dach, bsi",)


def pool_missing() -> Case:
    return engine(node(), pools=()), pod(1), Reason.NO_ELIGIBLE_POOL, ("GpuPool munich",)


def no_pool_named() -> Case:
    made = engine(node(), tenants=(replace(tenant(), shares=()),))
    return made, pod(1), Reason.NO_ELIGIBLE_POOL, ("TenantQuota acme", "names no pool")


def pool_clashes() -> Case:
    made = engine(node(), pools=(munich(), Pool("basel", "CH", REGION)))
    return made, pod(1), Reason.NO_ELIGIBLE_POOL, ("munich is out of force", "one country")


def pool_outside_the_policies() -> Case:
    made = engine(node(), pools=(munich(country="US"),))
    return (
        made,
        pod(1),
        Reason.NO_ELIGIBLE_POOL,
        ("munich, which lies in US", "DataResidencyPolicy eu does not admit", "allowed: DE, FR"),
    )


def more_than_the_guarantee() -> Case:
    return (
        engine(node(), tenants=(tenant(guaranteed=4),)),
        pod(5),
        Reason.NEVER_FITS,
        ("5", "at most 4"),
    )


def more_than_the_largest_node() -> Case:
    return engine(node(gpus=4)), pod(8), Reason.NEVER_FITS, ("asks for 8", "munich has 4")


def guarantee_used() -> Case:
    made = engine(node(), node("n2"), tenants=(tenant(guaranteed=6),))
    put(made, pod(4))
    numbers = ("asks for 3", "acme uses 4 of 6 guaranteed", "munich")
    return made, pod(3), Reason.QUOTA_EXHAUSTED, numbers


def pool_full() -> Case:
    return filled(8, 7), pod(2), Reason.POOL_FULL, ("asks for 2", "munich has 1 free")


def pool_full_for_faults() -> Case:
    made = filled(8, 7)
    made.put_node(node("n3", ready=False))
    return made, pod(2), Reason.POOL_FULL, ("munich has 1 free", "8 GPUs of the pool are lost")


def pool_empty_of_nodes() -> Case:
    return engine(), pod(2), Reason.POOL_FULL, ("asks for 2", "0 free")


def fragmented() -> Case:
    numbers = ("asks for 4", "munich has 6 free", "at most 3")
    return filled(5, 5), pod(4), Reason.FRAGMENTED, numbers


def no_cpu_beside_the_gpus() -> Case:
    waiting = pod(2, cpu=64_500, memory=3 * GIB)
    numbers = ("2 GPUs", "64.5 CPUs", "3.0 GiB", "16 GPUs free")
    return filled(0, 0), waiting, Reason.NODE_CONSTRAINTS, numbers


def no_node_that_is_selected() -> Case:
    waiting = pod(2)
    constraints = waiting.constraints._replace(selector=(("zone", "z"),))
    waiting = replace(waiting, constraints=constraints)
    return filled(0), waiting, Reason.NODE_CONSTRAINTS, ("8 GPUs free", "selectors, affinity")


def no_toleration_of_a_taint() -> Case:
    waiting = pod(2)
    waiting = replace(waiting, constraints=waiting.constraints._replace(tolerations=()))
    return filled(0), waiting, Reason.NODE_CONSTRAINTS, ("2 GPUs", "tolerations")


CASES = (
    held_by_another_gate,
    no_tenant_at_all,
    tenant_deleted,
    namespace_no_longer_named,
    policy_missing,
    pool_missing,
    no_pool_named,
    pool_clashes,
    pool_outside_the_policies,
    more_than_the_guarantee,
    more_than_the_largest_node,
    guarantee_used,
    pool_full,
    pool_full_for_faults,
    pool_empty_of_nodes,
    fragmented,
    no_cpu_beside_the_gpus,
    no_node_that_is_selected,
    no_toleration_of_a_taint,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_reason_and_its_numbers(case: Callable[[], Case]) -> None:
    made, waiting, reason, facts = case()

    assert put(made, waiting) == []

    found, message = wait(made, waiting)
    assert found is reason
    for fact in facts:
        assert fact in message


def test_a_refusal_is_told_in_the_words_of_the_api_server() -> None:
    made = engine(node())
    waiting = pod(1)
    put(made, waiting)
    made.take_back(waiting.uid, "lease is held by another")
    assert wait(made, waiting) == (
        Reason.HELD,
        "the API server refused the release: lease is held by another",
    )


def test_the_reasons_told_outside_of_plans() -> None:
    assert explain.starting().reason is Reason.STARTING
    found = explain.cannot_bind(3, "munich")
    assert found.reason is Reason.CANNOT_BIND
    assert "3 released pods in pool munich" in found.message


# --- several pools -------------------------------------------------------------------------
PARIS = Pool("paris", "FR", "fr-1")


def two_pools(*guaranteed: tuple[str, int], countries: tuple[str, ...] = ("DE", "FR")) -> Engine:
    return engine(
        node("m1", gpus=8),
        node("p1", gpus=8, pool="paris", labels={names.REGION_LABEL: "fr-1"}),
        pools=(munich(), PARIS),
        tenants=(replace(tenant(), shares=tuple(Share(*each) for each in guaranteed)),),
        policies=(policy("eu", *countries),),
    )


@pytest.mark.parametrize("first", ["munich", "paris"])
def test_the_preferred_pool_is_filled_first(first: str) -> None:
    second = {"munich": "paris", "paris": "munich"}[first]
    made = two_pools((first, 4), (second, 4))
    releases = put(made, *(pod(1) for _ in range(9)))
    assert [r.pool for r in releases] == [first] * 4 + [second] * 4


def test_a_pool_that_the_policies_bar_is_passed_over() -> None:
    made = two_pools(("munich", 4), ("paris", 4), countries=("FR",))
    assert [r.pool for r in put(made, pod(1))] == ["paris"]


@pytest.mark.parametrize(
    ("munich_quota", "paris_quota", "taken_in_paris", "reason"),
    [
        (4, 1, 0, Reason.QUOTA_EXHAUSTED),  # munich used up; too large for paris' guarantee
        (2, 8, 8, Reason.POOL_FULL),
        (2, 8, 3, Reason.NODE_CONSTRAINTS),
    ],
)
def test_of_several_pools_the_wait_that_may_end_by_itself_is_told(
    munich_quota: int, paris_quota: int, taken_in_paris: int, reason: Reason
) -> None:
    made = two_pools(("munich", munich_quota), ("paris", paris_quota))
    if munich_quota == 4:
        put(made, pod(4))
    made.put_pod(pod(taken_in_paris, "gpu-operator", gates=(), node="p1"))
    waiting = pod(3, cpu=70_000)
    assert put(made, waiting) == []
    assert wait(made, waiting)[0] is reason


def test_full_quota_in_one_pool_does_not_hide_nodes_of_another_from_other_shapes() -> None:
    made = two_pools(("munich", 1), ("paris", 8))
    put(made, pod(1))
    picky = pod(1)
    picky = replace(picky, constraints=picky.constraints._replace(selector=(("zone", "z"),)))
    plain = pod(1)
    assert [(r.pod.uid, r.pool) for r in put(made, picky, plain)] == [(plain.uid, "paris")]


# --- reasons that end -----------------------------------------------------------------------------
def test_what_never_fits_is_tried_again_when_a_larger_node_joins() -> None:
    made = engine(node(gpus=4))
    waiting = pod(8)
    put(made, waiting)
    assert wait(made, waiting)[0] is Reason.NEVER_FITS
    made.put_node(node("large", gpus=8))
    assert [r.node for r in plan(made)] == ["large"]


def test_a_reservation_whose_node_changed_pools_still_frees_its_own_pool() -> None:
    # Planned on n2, which then moves to another pool: the GPUs are held in munich until it ends.
    made = engine(node("n1"), node("n2"), pools=(munich(), Pool("other", "DE", REGION)))
    first, second = put(made, pod(8), pod(8))
    made.put_node(node(second.node, pool="other"))
    made.put_pod(replace(first.pod, gates=(), pool="munich", node=first.node))
    made.configure(made.pools.values(), [tenant(guaranteed=24)], made.policies.values())
    made.put_node(node("n3", gpus=8))
    waiting = pod(8)
    assert put(made, waiting) == []
    assert wait(made, waiting)[0] is Reason.POOL_FULL
    made.remove_pod(second.pod.uid)
    assert [r.node for r in plan(made)] == ["n3"]


def test_pods_of_a_policy_that_appears_start() -> None:
    made = engine(node(), policies=())
    waiting = pod(1)
    put(made, waiting)
    assert wait(made, waiting)[0] is Reason.POLICY_MISSING
    made.configure(made.pools.values(), made.tenants.values(), [policy()])
    assert len(plan(made)) == 1


def test_a_pod_that_asks_for_no_gpu_waits_for_none() -> None:
    made = filled(8, guaranteed=0)
    none = pod(0, cpu=1000)
    assert [r.pod for r in put(made, none)] == [none]


def test_selector_of_a_trial_pool_counts_like_a_label() -> None:
    trial = Pool("trial", "DE", REGION, labelled=False, selector=(Requirement("try", "Exists"),))
    made = engine(
        node("t1", pool="", labels={"try": "me"}),
        pools=(trial,),
        tenants=(replace(tenant(), shares=(Share("trial", 8),)),),
    )
    assert [(r.pool, r.node) for r in put(made, pod(8))] == [("trial", "t1")]


def test_demand_with_devices_lost_below_capacity() -> None:
    broken = node("n1", gpus=8, allocatable=Resources(5, 64_000, 1024))
    made = engine(broken)
    five, six = pod(5), pod(6)
    assert [r.pod.uid for r in put(made, six, five)] == [five.uid]
    assert wait(made, six)[0] is Reason.POOL_FULL

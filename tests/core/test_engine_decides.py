"""What the engine releases, in which order, and what it counts while the cluster changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sovereign_gpu import names
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import (
    Constraints,
    Namespace,
    Pod,
    Pool,
    Reason,
    Release,
    Resources,
    Toleration,
)
from tests.core.build import REGION, engine, munich, node, plan, pod, policy, put, tenant, wait


def landed(release: Release, *, node_name: str = "") -> Pod:
    """The pod as the watch shows it after the release."""
    return replace(
        release.pod,
        gates=(),
        pool=release.pool,
        planned_node=release.node,
        released_by="leader/1",
        node=node_name,
    )


def counted(made: Engine) -> tuple[int, int]:
    """Used and reserved GPUs of acme in munich."""
    usage = made.ledger.usage.get(("acme", "munich"))
    return (usage.used, usage.reserved) if usage else (0, 0)


# --- the way of one pod -------------------------------------------------------------------------
def test_a_pod_is_counted_from_the_decision_to_its_end() -> None:
    made = engine(node())
    (release,) = put(made, pod(3))
    assert (release.tenant, release.pool, release.node) == ("acme", "munich", "n1")
    assert counted(made) == (0, 3)
    made.put_pod(landed(release))
    assert counted(made) == (0, 3)
    assert not made.assumed
    made.put_pod(landed(release, node_name="n1"))
    assert counted(made) == (3, 0)
    made.put_pod(replace(landed(release, node_name="n1"), deleting=True))
    assert counted(made) == (3, 0)
    made.remove_pod(release.pod.uid)
    assert counted(made) == (0, 0)


def test_an_unanswered_decision_stays_counted_and_is_not_decided_again() -> None:
    made = engine(node())
    (release,) = put(made, pod(3))
    assert put(made, replace(release.pod, message="still gated")) == []
    made.configure(made.pools.values(), made.tenants.values(), made.policies.values())
    assert plan(made) == []
    assert counted(made) == (0, 3)


def test_a_refused_pod_is_held_and_freed_and_tried_again_when_placed() -> None:
    made = engine(node(gpus=4), tenants=(tenant(), tenant("bolt")))
    (release,) = put(made, pod(4))
    other = pod(4, "bolt-train")
    assert put(made, other) == []

    made.take_back(release.pod.uid, "no")

    assert counted(made) == (0, 0)
    assert [r.pod.uid for r in plan(made)] == [other.uid]
    made.remove_pod(other.uid)
    assert plan(made) == []
    made.place(made.pods[release.pod.uid])
    assert [r.pod.uid for r in plan(made)] == [release.pod.uid]


def test_taking_back_what_was_seen_to_land_changes_nothing() -> None:
    made = engine(node())
    (release,) = put(made, pod(3))
    made.put_pod(landed(release))
    made.take_back(release.pod.uid, "late answer")
    assert counted(made) == (0, 3)
    assert not made.stopped


def test_a_refused_pod_that_is_being_deleted_is_not_reported_as_waiting() -> None:
    made = engine(node())
    (release,) = put(made, pod(3))
    made.put_pod(replace(release.pod, deleting=True))
    assert counted(made) == (0, 3)
    made.take_back(release.pod.uid, "no")
    assert counted(made) == (0, 0)
    assert not made.stopped


def test_a_gated_pod_that_is_being_deleted_does_not_wait() -> None:
    made = engine()
    waiting = pod(1)
    put(made, waiting)
    put(made, replace(waiting, deleting=True))
    assert not made.queues
    assert not made.stopped


# --- states that arrive late ------------------------------------------------------------------
@pytest.mark.parametrize(
    "overtaken",
    [
        {"gates": (names.GATE,), "pool": "", "planned_node": "", "node": ""},
        {"node": ""},
        {"deleting": False},
    ],
)
def test_a_state_that_was_overtaken_is_ignored(overtaken: dict[str, object]) -> None:
    made = engine(node())
    (release,) = put(made, pod(3))
    newest = replace(landed(release, node_name="n1"), deleting=True)
    made.put_pod(newest)
    assert put(made, replace(newest, **overtaken)) == []  # type: ignore[arg-type]
    assert made.pods[newest.uid] == newest
    assert counted(made) == (3, 0)
    assert not made.queues


def test_removing_another_gate_is_news_and_adding_one_is_not() -> None:
    made = engine(node())
    held = pod(1, gates=("other/gate", names.GATE))
    put(made, held)
    ready = replace(held, gates=(names.GATE,))
    assert len(put(made, ready)) == 1
    made.put_pod(held)
    assert made.pods[held.uid] == ready


# --- order ---------------------------------------------------------------------------------------
def test_priority_first_then_age() -> None:
    made = engine(node())
    old, young, urgent = pod(1), pod(1), pod(1, priority=1)
    assert [r.pod.uid for r in put(made, young, old, urgent)] == [urgent.uid, old.uid, young.uid]


def test_no_pod_is_overtaken_by_a_later_one_of_its_shape() -> None:
    made = engine(node(gpus=4))
    first, second = pod(4), pod(4)
    (release,) = put(made, first, second)
    made.take_back(release.pod.uid, "no")
    made.place(first)
    assert [r.pod.uid for r in plan(made)] == [first.uid]


def test_a_large_pod_that_does_not_fit_lets_smaller_ones_pass() -> None:
    made = engine(node(gpus=4))
    put(made, pod(2))
    large, small = pod(4), pod(2)
    assert [r.pod.uid for r in put(made, large, small)] == [small.uid]


def test_a_size_that_no_longer_fits_is_passed_over_for_all_its_shapes() -> None:
    made = engine(node(), tenants=(tenant(guaranteed=5),))
    pods = [pod(4), pod(4, cpu=1000), pod(1), pod(4, cpu=2000)]
    assert [r.pod.uid for r in put(made, *pods)] == [pods[0].uid, pods[2].uid]
    assert {wait(made, p)[0] for p in (pods[1], pods[3])} == {Reason.QUOTA_EXHAUSTED}


def test_tenants_take_turns_by_how_full_their_guarantees_are() -> None:
    made = engine(
        *(node(f"n{n}") for n in range(4)), tenants=(tenant(guaranteed=4), tenant("bolt", 12))
    )
    pods = [pod(1, f"{name}-train") for name in ("acme", "bolt") for _ in range(12)]
    order = [r.tenant for r in put(made, *pods)]
    assert order[:8].count("bolt") == 6
    assert order.count("acme") == 4
    assert order.count("bolt") == 12


def test_a_tenant_without_guarantee_comes_last() -> None:
    made = engine(node(), tenants=(tenant(guaranteed=0), tenant("bolt")))
    releases = put(made, pod(0), pod(1, "bolt-train"), pod(1, "bolt-train"))
    assert [r.tenant for r in releases] == ["bolt", "bolt", "acme"]


def test_the_limit_holds_and_the_rest_stays_due() -> None:
    made = engine(node(), tenants=(tenant(), tenant("bolt")))
    for _ in range(3):
        made.put_pod(pod(1))
        made.put_pod(pod(1, "bolt-train"))
    assert made.plan(0) == []
    assert [len(made.plan(4)), len(made.plan(4)), len(made.plan(4))] == [4, 2, 0]
    assert not made.due


def test_told_twice_nothing_changes() -> None:
    made = engine(node())
    waiting = pod(9)
    put(made, waiting)
    made.put_node(node())
    made.put_namespace(Namespace("acme-train", "acme"))
    made.put_pod(waiting)
    assert not made.due
    made.remove_pod("nobody")
    assert len(made.queues["acme"]) == 1


# --- nodes ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "unusable",
    [
        {"unschedulable": True},
        {"ready": False},
        {"labels": {names.REGION_LABEL: "us-east-1"}},
        {"pool": "elsewhere"},
        {"allocatable": Resources(0, 64_000, 1024)},
    ],
)
def test_nothing_is_sent_to_a_node_that_is_not_usable(unusable: dict[str, object]) -> None:
    made = engine(node(**unusable))  # type: ignore[arg-type]
    waiting = pod(1)
    assert put(made, waiting) == []
    assert wait(made, waiting)[0] is Reason.POOL_FULL
    made.put_node(node())
    assert [r.pod.uid for r in plan(made)] == [waiting.uid]


def test_a_cordon_holds_for_pods_that_tolerate_everything() -> None:
    made = engine(node(unschedulable=True))
    tolerant = Constraints(tolerations=(Toleration(operator="Exists"),))
    assert put(made, pod(1, constraints=tolerant)) == []


def test_pods_on_a_lost_node_stay_charged_and_their_node_is_not_offered() -> None:
    made = engine(node(), tenants=(tenant(guaranteed=8),))
    (release,) = put(made, pod(8))
    made.put_pod(landed(release, node_name="n1"))
    made.remove_node("n1")
    made.remove_node("n1")
    made.put_node(node("n2"))
    waiting = pod(8)
    assert put(made, waiting) == []
    assert wait(made, waiting)[0] is Reason.QUOTA_EXHAUSTED
    made.remove_pod(release.pod.uid)
    assert [r.node for r in plan(made)] == ["n2"]


def test_a_reservation_keeps_its_place_while_its_node_is_away() -> None:
    made = engine(node())
    (release,) = put(made, pod(6))
    made.put_pod(landed(release))
    made.remove_node("n1")
    made.put_node(node())
    waiting = pod(4)
    assert put(made, waiting) == []
    reason, message = wait(made, waiting)
    assert reason is Reason.POOL_FULL
    assert "munich has 2 free" in message


def test_a_pod_bound_elsewhere_than_planned_gives_its_plan_back() -> None:
    made = engine(node("n1"), node("n2"))
    (release,) = put(made, pod(8))
    made.put_pod(landed(release))
    other = ({"n1", "n2"} - {release.node}).pop()
    made.put_pod(landed(release, node_name=other))
    assert [r.node for r in put(made, pod(8))] == [release.node]


def test_a_bound_pod_counts_in_the_pool_of_its_node() -> None:
    made = engine(node(), pools=(munich(), Pool("other", "DE", REGION)))
    put(made, pod(2, gates=(), node="n1", pool="other"))
    assert counted(made) == (2, 0)
    made.put_node(node(pool="other"))
    assert made.ledger.counted("acme", "other") == 2


# --- those whom nobody released -----------------------------------------------------------------
def test_foreign_use_takes_room_and_no_quota() -> None:
    made = engine(node())
    made.put_pod(pod(6, "gpu-operator", gates=(), node="n1"))
    waiting = pod(3)
    assert put(made, waiting) == []
    assert wait(made, waiting)[0] is Reason.POOL_FULL
    assert counted(made) == (0, 0)
    assert [r.pod.demand.gpus for r in put(made, pod(2))] == [2]


def test_pods_older_than_the_installation_count_where_they_run_or_may_run() -> None:
    made = engine(node())
    put(made, pod(2, gates=(), node="n1"), pod(3, gates=()))
    assert counted(made) == (2, 3)
    put(made, pod(1, "gpu-operator", gates=()))
    assert made.ledger.counted("", "") == 1


def test_cpu_pods_count_where_they_are_bound_and_not_before() -> None:
    made = engine(node(cpu=8000))
    idle = pod(0, gates=(), cpu=6000)
    put(made, idle)
    assert not made.ledger.charges
    put(made, replace(idle, node="n1"))
    waiting = pod(1, cpu=4000)
    assert put(made, waiting) == []
    assert wait(made, waiting)[0] is Reason.NODE_CONSTRAINTS


# --- configuration ------------------------------------------------------------------------------
def test_a_lowered_quota_evicts_nobody_and_releases_nobody_until_below() -> None:
    made = engine(node(), tenants=(tenant(guaranteed=8),))
    releases = put(made, pod(2), pod(2), pod(2))
    made.configure([munich()], [tenant(guaranteed=4)], [policy()])
    waiting = pod(1)
    assert put(made, waiting) == []
    assert "uses 6 of 4" in wait(made, waiting)[1]
    made.remove_pod(releases[0].pod.uid)
    assert plan(made) == []
    made.remove_pod(releases[1].pod.uid)
    assert [r.pod.uid for r in plan(made)] == [waiting.uid]


def test_a_namespace_that_changes_tenant_takes_its_pods_along() -> None:
    both = ("acme-train", "shared")
    made = engine(node(), tenants=(tenant(namespaces=both), tenant("bolt", namespaces=("shared",))))
    made.put_namespace(Namespace("shared", "acme"))
    put(made, pod(2, "shared", gates=(), node="n1"))
    waiting = pod(16, "shared")
    put(made, waiting)
    made.put_namespace(Namespace("shared", "bolt"))
    assert counted(made) == (0, 0)
    assert made.ledger.counted("bolt", "munich") == 2
    assert made.queues.keys() == {"bolt"}
    made.remove_namespace("shared")
    assert wait(made, waiting)[0] is Reason.TENANT_QUOTA_MISSING
    made.remove_namespace("shared")
    assert made.ledger.counted("", "munich") == 2


def test_a_pool_that_is_deleted_is_not_used_and_comes_back_with_its_nodes() -> None:
    made = engine(node())
    made.configure([], [tenant()], [policy()])
    waiting = pod(1)
    assert put(made, waiting) == []
    assert not made.pool_of_node
    made.configure([munich()], [tenant()], [policy()])
    assert len(plan(made)) == 1


def test_a_tenant_that_is_gone_leaves_its_pods_counted_and_gated() -> None:
    made = engine(node())
    (release,) = put(made, pod(2))
    made.put_pod(landed(release, node_name="n1"))
    waiting = pod(16)
    put(made, waiting)
    made.configure([munich()], [], [policy()])
    assert plan(made) == []
    assert counted(made) == (2, 0)
    assert wait(made, waiting)[0] is Reason.TENANT_QUOTA_MISSING

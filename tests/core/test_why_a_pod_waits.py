"""Why one pod waits, pool by pool, what would admit it, and whether anybody has to act."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sovereign_gpu.core import advice, why
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Constraints, Node, Pod, Reason, Resources, Share, Wait
from sovereign_gpu.core.notice import Notice
from sovereign_gpu.core.sovereignty import Need
from sovereign_gpu.core.why import Why
from sovereign_gpu.names import GATE
from tests.core.build import (
    TOLERATES_GPUS,
    engine,
    munich,
    node,
    plan,
    pod,
    policy,
    put,
    tenant,
)

NOW = 10_000.0
GIB = 1 << 30
LIMITS = "spec.pools[munich].guaranteed or borrowingLimit of TenantQuota acme"


def ask(made: Engine, waiting: Pod) -> Why:
    found = why.find(made, waiting.namespace, waiting.name)
    assert found is not None
    return why.why(made, found, NOW)


def stuck(made: Engine, waiting: Pod) -> Why:
    """Put a pod, let the engine plan, and ask."""
    put(made, waiting)
    return ask(made, waiting)


def picky(**selector: str) -> Constraints:
    return Constraints(tuple(selector.items()), tolerations=(TOLERATES_GPUS,))


# --- in the tenant's order --------------------------------------------------------------------
def test_a_full_allowance_names_what_is_missing_and_where() -> None:
    made = engine(node(), tenants=(tenant(shares=(Share("munich", 3, borrowing_limit=1),)),))
    put(made, pod(3), pod(1))
    said = stuck(made, pod(2, priority=7))
    assert (said.state, said.reason) == ("Waiting", Reason.QUOTA_EXHAUSTED)
    assert said.admits == (
        "2 more GPUs of tenant acme's allowance in munich: pods of its own that hold them have to "
        f"finish, or {LIMITS} be raised"
    )
    assert said.passes_by_itself
    (pool,) = said.pools
    assert (pool.guaranteed, pool.borrowing_limit, pool.allowance) == (3, 1, 4)
    assert (pool.used, pool.borrowed, pool.free, pool.largest) == (4, 1, 4, 4)
    assert (pool.whole_nodes_free, pool.reason, pool.admits) == (0, said.reason, said.admits)
    assert (said.gpus, said.priority, said.tenant) == (2, 7, "acme")


def test_position_and_gpus_ahead_follow_the_order_of_service() -> None:
    made = engine(node(), tenants=(tenant(guaranteed=2),))
    put(made, pod(2))
    before, last = pod(2), pod(1)
    put(made, before, last, pod(1, priority=9), pod(9))
    said = ask(made, last)
    assert (said.position, said.pods_waiting, said.pods_ahead, said.gpus_ahead) == (3, 3, 2, 3)


def test_numbers_are_those_of_this_moment_and_not_of_the_last_try() -> None:
    made = engine(node(), tenants=(tenant(guaranteed=4),))
    first, waiting = pod(3), pod(2)
    put(made, first, waiting)
    assert "1 more GPUs" in ask(made, waiting).admits
    made.put_pod(replace(pod(1), gates=(), pool="munich", planned_node="n1"))
    # Nothing was planned since: the pod still shows the old numbers.
    assert "2 more GPUs" in ask(made, waiting).admits


def test_a_pod_that_nothing_keeps_out_is_next() -> None:
    made = engine(node())
    waiting = pod(1)
    made.put_pod(waiting)
    said = ask(made, waiting)
    assert (said.state, said.reason) == ("Waiting", "")
    assert said.message == "nothing keeps it out at this moment"
    assert (said.admits, said.passes_by_itself) == ("its turn, which comes at once", True)
    assert said.pools[0].admits == ""


def test_guarantees_that_others_borrow_come_back() -> None:
    made = engine(
        node(),
        tenants=(
            tenant("acme", 4),
            tenant("bolt", shares=(Share("munich", 4, borrowing_limit=4),)),
        ),
    )
    put(made, *(pod(2, "bolt-train") for _ in range(4)))
    said = stuck(made, pod(3))
    assert said.reason == Reason.GUARANTEE_LENT
    assert said.admits == (
        "3 more free GPUs in munich: pods have to finish there, or nodes to return"
    )
    assert said.passes_by_itself
    assert "bolt" not in str(said)


def test_what_others_keep_is_not_lent() -> None:
    made = engine(
        node(),
        tenants=(
            tenant("acme", shares=(Share("munich", 1, borrowing_limit=7),)),
            tenant("bolt", shares=(Share("munich", 7, lending_limit=0),)),
        ),
    )
    said = stuck(made, pod(2))
    assert said.reason == Reason.QUOTA_EXHAUSTED
    assert said.admits == (
        "1 GPUs in munich that others may lend: pods have to finish there, or "
        "spec.pools[munich].guaranteed of TenantQuota acme be raised"
    )
    assert "bolt" not in str(said)


def test_scattered_gpus_have_to_come_together_on_one_node() -> None:
    made = engine(node("n1"), node("n2"))
    put(made, *(pod(4, gates=(), node=name, pool="munich") for name in ("n1", "n2")))
    said = stuck(made, pod(6))
    assert said.reason == Reason.FRAGMENTED
    assert said.admits == (
        "2 more free GPUs on one node of munich: pods have to finish there, or the pod has to "
        "ask for 4"
    )


def test_nodes_that_drain_for_a_guarantee_are_left_alone() -> None:
    made = engine(
        node(),
        tenants=(tenant("acme", shares=(Share("munich", 0, borrowing_limit=8),)), tenant("bolt")),
    )
    put(made, pod(4, "bolt-train"), pod(8, "bolt-train"))
    said = stuck(made, pod(2))
    assert said.reason == Reason.FRAGMENTED
    assert (
        said.admits == "its turn on the nodes of munich that drain for pods within their guarantee"
    )
    assert said.passes_by_itself


# --- nodes that do not do ---------------------------------------------------------------------
def large(name: str = "n1", **fields: object) -> Node:
    return node(name, cpu=64_000, memory=64 * GIB, **fields)


def test_selectors_that_admit_no_node_have_to_change() -> None:
    said = stuck(engine(large()), pod(1, constraints=picky(disk="fast")))
    assert said.reason == Reason.NODE_CONSTRAINTS
    assert said.admits == (
        "other selectors, affinity or tolerations: they admit none of the 1 usable nodes of munich"
    )
    assert not said.passes_by_itself


def test_a_pod_larger_than_the_nodes_it_admits_has_to_shrink() -> None:
    said = stuck(engine(large()), pod(1, cpu=65_000, memory=GIB))
    assert said.admits == (
        "a smaller pod: none of the 1 nodes of munich that it admits has 1 GPUs, 65 CPUs and "
        "1.0 GiB"
    )
    assert not said.passes_by_itself


def test_nodes_that_are_full_of_cpu_become_free_again() -> None:
    made = engine(large("n1", labels={"disk": "fast"}), large("n2"))
    put(made, pod(1, cpu=60_000, constraints=picky(disk="fast")))
    said = stuck(made, pod(1, cpu=8_000, memory=GIB, constraints=picky(disk="fast")))
    assert said.admits == (
        "1 GPUs, 8 CPUs and 1.0 GiB free on one of the 1 nodes of munich that it admits: pods have "
        "to finish there"
    )
    assert said.passes_by_itself


# --- what only people can change --------------------------------------------------------------
def test_a_pod_larger_than_every_node_is_told_the_largest() -> None:
    said = stuck(engine(node()), pod(9))
    assert (said.reason, said.passes_by_itself) == (Reason.NEVER_FITS, False)
    assert said.admits == "at most 8 GPUs per pod in pool munich"
    assert said.position is None


@pytest.mark.parametrize("nodes", [(), (node(),)], ids=["before the nodes", "with nodes"])
def test_a_pod_beyond_the_allowance_is_told_the_allowance(nodes: tuple[Node, ...]) -> None:
    said = stuck(engine(*nodes, tenants=(tenant(guaranteed=4),)), pod(5))
    assert said.reason == Reason.NEVER_FITS
    assert said.admits == f"at most 4 GPUs per pod in pool munich, or {LIMITS} raised"


def test_a_missing_policy_is_named() -> None:
    said = stuck(engine(node(), policies=()), pod(1))
    assert said.reason == Reason.POLICY_MISSING
    assert said.admits == "DataResidencyPolicy eu, as soon as it is created"
    assert not said.passes_by_itself


def test_a_missing_pool_is_named_and_shows_nothing_free() -> None:
    said = stuck(engine(pools=()), pod(1))
    assert said.reason == Reason.NO_ELIGIBLE_POOL
    assert said.admits == "a GpuPool munich, or another pool in spec.pools of TenantQuota acme"
    assert (said.pools[0].free, said.pools[0].largest) == (0, 0)


def test_a_contested_region_needs_one_country() -> None:
    made = engine(node(), pools=(munich(), munich(name="secret", country="FR")))
    said = stuck(made, pod(1))
    assert said.admits == "one country for region eu-de-muc in all GpuPools"
    assert "secret" not in str(said)


def test_a_pool_abroad_needs_another_pool_or_another_policy() -> None:
    said = stuck(engine(node(), policies=(policy("eu", "FR"),)), pod(1))
    assert said.admits == (
        "a pool that eu admit in spec.pools of TenantQuota acme, or DE in spec.countries of "
        "DataResidencyPolicy eu"
    )


def test_a_pool_that_was_refused_and_is_admitted_by_now_needs_nobody() -> None:
    made, before = engine(node()), Wait(Reason.NO_ELIGIBLE_POOL, "as it was")
    said = advice.in_pool(made, tenant(), Share("munich", 8), pod(1), before)
    assert said.passes


def test_a_pool_that_lacks_an_attribute_needs_it() -> None:
    asking = policy("eu", "DE", needs=(Need("backup"),))
    said = stuck(engine(node(), policies=(asking,)), pod(1))
    assert said.admits == (
        "a pool that eu admit in spec.pools of TenantQuota acme, or backup of GpuPool munich as "
        "DataResidencyPolicy eu requires it"
    )


def test_of_several_pools_the_most_hopeful_speaks_and_each_is_shown() -> None:
    shares = (Share("absent", 8), Share("munich", 1))
    made = engine(node(), tenants=(tenant(shares=shares),))
    put(made, pod(1))
    said = stuck(made, pod(1))
    assert said.reason == Reason.QUOTA_EXHAUSTED
    assert [each.reason for each in said.pools] == ["NoEligiblePool", "QuotaExhausted"]


def test_a_tenant_without_pools_needs_one() -> None:
    said = stuck(engine(node(), tenants=(tenant(shares=()),)), pod(1))
    assert said.reason == Reason.NO_ELIGIBLE_POOL
    assert (said.admits, said.pools) == ("a pool in spec.pools of TenantQuota acme", ())


def test_without_a_quota_the_namespace_needs_one() -> None:
    made = engine(node())
    made.configure(made.pools.values(), (), made.policies.values())
    said = stuck(made, pod(1))
    assert (said.state, said.reason) == ("Held", Reason.TENANT_QUOTA_MISSING)
    assert said.admits == "a TenantQuota that names namespace acme-train in spec.namespaces"
    assert not said.passes_by_itself


def test_the_gates_of_others_go_first() -> None:
    said = stuck(engine(node()), pod(1, gates=(GATE, "example.com/data")))
    assert (said.state, said.reason) == ("Held", Reason.HELD)
    assert said.admits == "the removal of the other gates by whoever set them"
    assert said.passes_by_itself
    assert said.position is None


def test_a_refused_release_is_tried_again() -> None:
    made = engine(node())
    waiting = pod(1)
    put(made, waiting)
    made.take_back(waiting.uid, "denied by a webhook")
    said = ask(made, waiting)
    assert said.reason == Reason.HELD
    assert "denied by a webhook" in said.message
    assert said.admits == "a release that the API server accepts; it is tried again"


# --- no longer waiting ------------------------------------------------------------------------
def test_a_release_under_way_says_where_to() -> None:
    made = engine(node())
    waiting = pod(1)
    put(made, waiting)
    said = ask(made, waiting)
    assert (said.state, said.reason) == ("Released", "")
    assert (said.pool, said.node, said.position) == ("munich", "n1", None)
    assert said.message == "released; kube-scheduler has not bound it yet"
    assert said.passes_by_itself


def test_a_released_pod_that_fits_nowhere_shows_the_schedulers_words() -> None:
    made = engine(node())
    said = stuck(made, pod(1, gates=(), pool="munich", unschedulable="0/1 nodes are available"))
    assert (said.reason, said.message) == (Reason.CANNOT_BIND, "0/1 nodes are available")
    assert said.admits == "a node that kube-scheduler accepts for it"
    assert not said.passes_by_itself


def test_a_running_pod_says_where_and_since_when() -> None:
    made = engine(node())
    said = stuck(made, pod(1, gates=(), pool="munich", node="n1", bound=NOW - 90, created=100.0))
    assert (said.state, said.message) == ("Running", "bound to node n1")
    assert (said.pool, said.node, said.bound_seconds) == ("munich", "n1", 90)
    assert said.age_seconds == 9900
    assert said.pools[0].reason == ""


def test_a_running_pod_that_is_deleted_still_counts() -> None:
    made = engine(node())
    said = stuck(made, pod(1, gates=(), pool="munich", node="n1", deleting=True))
    assert said.message.endswith("it is being deleted and counts until it is gone")
    assert said.bound_seconds is None


def test_a_running_pod_whose_eviction_is_announced_says_when_and_why() -> None:
    notice = Notice((("eu", 1_000),), "n1", "the node moved to US", 4_600)
    made = engine(node())
    said = stuck(made, pod(1, gates=(), pool="munich", node="n1", notice=notice.text()))
    assert said.message == (
        "bound to node n1; to be evicted after 1970-01-01T01:16:40Z: the node moved to US"
    )


def test_a_pod_deleted_before_its_release_is_going() -> None:
    said = stuck(engine(node()), pod(1, deleting=True))
    assert (said.state, said.message) == ("Ending", "deleted before it was released")


def test_a_pod_of_nobody_runs_without_a_tenant() -> None:
    said = stuck(engine(node()), pod(1, "gpu-operator", gates=(), node="n1"))
    assert (said.state, said.tenant, said.pools) == ("Running", "", ())


# --- finding it -------------------------------------------------------------------------------
def test_of_two_pods_of_a_name_the_newer_is_meant() -> None:
    made = engine(node())
    old, new = pod(1, name="same"), pod(1, name="same")
    put(made, new, old)
    assert why.find(made, "acme-train", "same") == new
    assert why.find(made, "acme-train", "other") is None
    assert why.find(made, "bolt-train", "same") is None


def test_asking_changes_nothing() -> None:
    made = engine(node(), tenants=(tenant(guaranteed=4),))
    waiting = pod(3)
    put(made, pod(2), waiting)
    before = (set(made.due), dict(made.assumed), {k: set(v) for k, v in made.blocked.items()})
    ask(made, waiting)
    assert before == (made.due, made.assumed, made.blocked)
    assert plan(made) == []


def test_a_pod_without_gpus_fits_like_any_other() -> None:
    waiting = pod(0, cpu=65_000)
    assert stuck(engine(large()), waiting).reason == Reason.NODE_CONSTRAINTS
    assert waiting.demand == Resources(0, 65_000, 0)

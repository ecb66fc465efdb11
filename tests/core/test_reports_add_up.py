"""The numbers of status and metrics, read from books whose truth is known."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from sovereign_gpu import names
from sovereign_gpu.core import report
from sovereign_gpu.core.drift import Judge
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Namespace, Owner, Pool, Reason, Requirement, Resources, Share
from tests.core.build import REGION, engine, munich, node, plan, pod, policy, put, tenant
from tests.core.driver import Drive

B200 = {names.PRODUCT_LABEL: "NVIDIA-B200"}


def busy() -> Engine:
    """A pool with every kind of node, and pods of two tenants and of nobody."""
    made = engine(
        node("n1", labels=B200),
        node("n2", labels=B200),
        node("n3", labels=B200, allocatable=Resources(6, 64_000, 1024)),
        node("n4", gpus=4),
        node("cordoned", labels=B200, unschedulable=True),
        node("silent", labels=B200, ready=False),
        node("abroad", labels={**B200, names.REGION_LABEL: "us-1"}),
        node("companion", gpus=0),
        tenants=(tenant(guaranteed=10), tenant("bolt", 20)),
    )
    put(
        made,
        pod(8, gates=(), node="n1", pool="munich"),
        pod(2, gates=(), planned_node="n2", pool="munich"),
        pod(3, "bolt-train", gates=(), node="n2", pool="munich"),
        pod(1, "gpu-operator", gates=(), node="n4"),
    )
    return made


def policies(made: Engine) -> dict[str, report.PolicyReport]:
    """What a judge who sees all of it for the first time makes of the policies."""
    judge = Judge(made)
    judge.look()
    return report.policies(made, judge.offences)


def test_the_numbers_of_a_pool() -> None:
    found = report.pools(busy())["munich"]
    assert (found.enrolled, found.companions, found.misplaced) == (7, 1, 1)
    assert (found.ready, found.cordoned, found.unhealthy) == (5, 1, 2)
    assert (found.capacity, found.allocatable) == (52, 26)
    assert (found.counted, found.reserved, found.foreign) == (13, 2, 1)
    assert (found.free, found.whole_nodes_free) == (26 - 8 - 2 - 3 - 1, 1)
    assert found.guaranteed == 30
    assert found.products == Counter({"NVIDIA-B200": 6, report.UNKNOWN_PRODUCT: 1})
    assert found.product_gpus == Counter({"NVIDIA-B200": 48, report.UNKNOWN_PRODUCT: 4})


def test_the_largest_gang_is_of_equal_pods_on_whole_free_nodes() -> None:
    def gang(*sizes: int, taken: int = 0, astray: int = 0) -> int:
        made = engine(*(node(f"n{i}", gpus=gpus) for i, gpus in enumerate(sizes)))
        if taken:
            made.put_pod(pod(taken, gates=(), node="n0", pool="munich"))
        if astray:
            made.put_pod(pod(astray, gates=(), pool="munich"))
        return report.pools(made)["munich"].largest_gang

    assert gang() == gang(0) == 0
    assert gang(8, 8, 8) == 24
    assert gang(8, 8, 8, taken=1) == 16
    assert gang(8, 4, 4) == 12  # three pods of 4 on nodes of their own
    assert gang(8, 2, 2) == 8
    assert gang(8, 8, astray=3) == 8  # released, and no node of it is known
    assert gang(8, astray=8) == 0


def test_a_pool_that_claims_nodes_of_another_is_named_as_rival() -> None:
    trial = Pool("trial", "DE", REGION, labelled=False, selector=(Requirement("try", "Exists"),))
    made = engine(node(labels={"try": "me"}), node("n2"), pools=(munich(), trial))
    found = report.pools(made)
    assert found["munich"].rivals == {"trial"}
    assert found["trial"] == report.PoolReport()


def test_more_promised_or_lost_than_there_is_shows_nothing_free() -> None:
    made = engine(node("n1"), node("n2"))
    put(made, pod(8), pod(8))
    made.remove_node("n1")
    assert report.pools(made)["munich"].free == 0


def test_use_of_a_pool_that_is_gone_is_in_no_pool_and_stays_with_its_tenant() -> None:
    made = busy()
    made.configure([], [tenant()], [policy()])
    assert report.pools(made) == {}
    row = report.tenants(made)["acme"].pools["munich"]
    assert (row.guaranteed, row.used, row.reserved) == (16, 10, 2)


def test_the_numbers_of_a_tenant() -> None:
    made = busy()
    first, second, large = pod(1), pod(1), pod(9)
    foreign = pod(4, gates=("other/gate", names.GATE))
    put(made, second, first, large, foreign)
    found = report.tenants(made)["acme"]
    row = found.pools["munich"]
    assert (row.guaranteed, row.used, row.reserved) == (10, 10, 2)
    assert (row.pending_pods, row.pending_gpus) == (4, 15)
    assert found.waiting.keys() == {Reason.QUOTA_EXHAUSTED, Reason.NEVER_FITS, Reason.HELD}
    exhausted = found.waiting[Reason.QUOTA_EXHAUSTED]
    assert (exhausted.pods, exhausted.gpus, exhausted.oldest) == (2, 2, first.created)
    assert "uses 10 of 10" in exhausted.message
    assert found.waiting[Reason.HELD].gpus == 4


def test_the_message_of_a_reason_is_that_of_its_oldest_pod() -> None:
    made = engine(node(), tenants=(tenant(guaranteed=2),))
    young, old, middle = pod(4, created=9.0), pod(3, created=1.0), pod(5, created=5.0)
    put(made, young, old, middle)
    row = report.tenants(made)["acme"].waiting[Reason.NEVER_FITS]
    assert (row.pods, row.gpus, row.oldest) == (3, 12, 1.0)
    assert "asks for 3" in row.message


def test_pods_that_no_plan_has_looked_at_are_pending_without_a_reason() -> None:
    made = engine(node())
    made.put_pod(pod(2))
    found = report.tenants(made)["acme"]
    assert (found.pools["munich"].pending_pods, found.pools["munich"].pending_gpus) == (1, 2)
    assert not found.waiting


def test_pods_are_pending_in_the_pool_that_their_wait_speaks_of() -> None:
    made = engine(
        node("m1"),
        node("p1", pool="paris", labels={names.REGION_LABEL: "fr-1"}),
        pools=(munich(), Pool("paris", "FR", "fr-1")),
        tenants=(replace(tenant(), shares=(Share("munich", 1), Share("paris", 8))),),
    )
    put(made, pod(2, cpu=99_000), pod(2, cpu=99_000), pod(9))
    rows = report.tenants(made)["acme"].pools
    assert (rows["munich"].pending_pods, rows["munich"].pending_gpus) == (1, 9)
    assert (rows["paris"].pending_pods, rows["paris"].pending_gpus) == (2, 4)


def test_a_tenant_without_object_is_shown_while_it_runs_or_waits() -> None:
    made = busy()
    put(made, pod(2, "acme-train"))
    made.configure([munich()], [tenant("bolt", 20)], [policy()])
    plan(made)
    found = report.tenants(made)
    assert found.keys() == {"acme", "bolt"}
    assert found["acme"].pools["munich"].used == 10
    assert found["acme"].waiting[Reason.TENANT_QUOTA_MISSING].gpus == 2


def test_gated_pods_of_ungoverned_namespaces_belong_to_no_tenant() -> None:
    made = engine(node())
    put(made, pod(1, "nobody"))
    assert report.tenants(made).keys() == {"acme"}


def test_a_tenant_without_pools_shows_its_pending_pods_under_no_pool() -> None:
    made = engine(node(), tenants=(replace(tenant(), shares=()),))
    put(made, pod(2))
    assert report.tenants(made)["acme"].pools[""].pending_gpus == 2


# --- policies ------------------------------------------------------------------------------
def test_what_is_eligible_leaves_out_clashes_and_nodes_that_stand_elsewhere() -> None:
    made = engine(
        node("n1"),
        node("n2", gpus=0),
        node("n3", labels={names.REGION_LABEL: "us-1"}),
        node("n4", pool="basel", labels={names.REGION_LABEL: "ch-1"}),
        pools=(munich(), Pool("basel", "CH", "ch-1"), Pool("bern", "DE", "ch-1")),
        policies=(policy("eu"), policy("all", "DE", "CH")),
    )
    found = policies(made)
    for name in ("eu", "all"):
        assert (found[name].pools, found[name].nodes) == (("munich",), 2)
        assert found[name].regions == (REGION,)


@pytest.mark.parametrize(
    ("where", "violates"),
    [
        (node(), False),
        (node(pool=""), True),
        (node(labels={names.REGION_LABEL: "us-1"}), True),
        (node(pool="ohio", labels={names.REGION_LABEL: "us-1"}), True),
    ],
)
def test_a_pod_that_runs_where_its_policy_does_not_allow_is_a_violation(
    where: object, *, violates: bool
) -> None:
    made = engine(where, pools=(munich(), Pool("ohio", "US", "us-1")))  # type: ignore[arg-type]
    running = pod(0, gates=(), node="n1", cpu=100)
    put(made, running, pod(1, "gpu-operator", gates=(), node="n1"), pod(1, gates=()))
    assert policies(made)["eu"].violations == ([running.uid] if violates else [])


def test_only_the_policies_that_are_broken_count() -> None:
    made = engine(
        node(),
        tenants=(tenant(policies=("eu", "fr", "gone")),),
        policies=(policy(), policy("fr", "FR")),
    )
    running = [pod(1, gates=(), node="n1") for _ in range(2)]
    put(made, *running)
    found = policies(made)
    assert found["eu"].violations == []
    assert set(found["fr"].violations) == {p.uid for p in running}
    assert sum(found["fr"].places.values()) == 2


def test_a_pod_whose_node_or_tenant_is_not_known_is_not_judged() -> None:
    made = engine(pools=())
    put(made, pod(1, gates=(), node="not-seen-yet"))
    assert policies(made)["eu"].violations == []
    made.put_node(node("not-seen-yet", pool=""))
    assert len(policies(made)["eu"].violations) == 1
    made.put_namespace(Namespace("acme-train", "somebody"))
    assert policies(made)["eu"].violations == []


def test_a_verdict_of_before_a_policy_was_deleted_counts_for_nobody() -> None:
    made = engine(node(pool=""), policies=(policy(), policy("fr", "FR")))
    put(made, pod(1, gates=(), node="n1"))
    judge = Judge(made)
    judge.look()
    made.configure([munich()], [tenant()], [policy("fr", "FR")])
    assert report.policies(made, judge.offences)["fr"].violations == []


# --- and at random -------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(30))
def test_reports_agree_with_the_objects_at_any_moment(seed: int) -> None:
    drive = Drive(seed)
    for _ in range(10):
        drive.run(30)
        made = drive.engine
        pools, tenants = report.pools(made), report.tenants(made)
        policies(made)
        waiting = [p for p in made.pods.values() if names.GATE in p.gates and not p.deleting]
        waiting = [p for p in waiting if p.uid not in made.assumed and made.tenant_of(p.namespace)]
        rows = [row for each in tenants.values() for row in each.pools.values()]
        assert sum(row.pending_pods for row in rows) == len(waiting)
        assert sum(row.pending_gpus for row in rows) == sum(p.demand.gpus for p in waiting)
        for name, found in pools.items():
            used = sum(t.pools[name].used for t in tenants.values() if name in t.pools)
            assert found.counted == used
            charges = [c for c in made.ledger.charges.values() if c.pool == name]
            assert found.counted + found.foreign == sum(c.demand.gpus for c in charges)
            assert 0 <= found.free <= found.allocatable <= found.capacity


def test_static_pods_with_gpus_or_in_a_namespace_of_a_tenant_are_named() -> None:
    made = busy()
    kubelet = Owner("v1", "Node", "n1", "n1-uid")
    put(
        made,
        pod(1, "kube-system", gates=(), node="n1", owner=kubelet, name="miner"),
        pod(0, "acme-train", gates=(), node="n1", owner=kubelet, name="listener"),
        pod(0, "kube-system", gates=(), node="n1", owner=kubelet, name="proxy"),
        pod(1, "kube-system", gates=(), node="elsewhere", owner=kubelet, name="away"),
    )
    found = report.pools(made)["munich"].static
    assert sorted(found) == ["acme-train/listener", "kube-system/miner"]

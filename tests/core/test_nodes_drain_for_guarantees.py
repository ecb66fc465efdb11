"""A pod of several GPUs within its tenant's guarantee is not starved by smaller ones."""

from __future__ import annotations

from dataclasses import replace

from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Pod, Reason, Share
from tests.core.build import engine, node, plan, pod, put, tenant, wait

BORROWER = tenant("bolt", shares=(Share("munich", 0, borrowing_limit=64),))


def crowded(*sizes: int, **fields: object) -> tuple[Engine, list[list[Pod]]]:
    """Nodes of eight GPUs on which the borrower holds so many, as pods of one GPU each."""
    made = engine(tenants=(tenant(guaranteed=64), BORROWER))
    held = []
    for number, size in enumerate(sizes):
        made.put_node(node(f"n{number}", **fields))
        pods = [
            replace(pod(1, "bolt-train"), gates=(), node=f"n{number}", pool="munich")
            for _ in range(size)
        ]
        put(made, *pods)
        held.append(pods)
    return made, held


def claimed(made: Engine) -> set[str]:
    nodes = made.claims.nodes.get("munich", 0)
    return {name for name, bit in made.feasible.bits.items() if bit & nodes}


def test_the_emptiest_node_drains_for_a_large_pod() -> None:
    made, held = crowded(7, 5, 6)
    large = pod(8)
    put(made, large)
    assert claimed(made) == {"n1"}
    small = pod(3, "bolt-train")
    put(made, small)
    reason, message = wait(made, small)
    assert reason is Reason.FRAGMENTED
    assert "left to drain for larger pods" in message
    for each in held[1]:
        made.remove_pod(each.uid)
    assert [each.pod for each in plan(made)] == [large]
    assert not claimed(made)


def test_borrowers_still_fill_the_nodes_that_nobody_claims() -> None:
    made, _ = crowded(7, 5, 6)
    put(made, pod(8))
    assert [each.node for each in put(made, pod(2, "bolt-train"))] == ["n2"]


def test_later_pods_of_any_tenant_stay_off_and_earlier_ones_do_not() -> None:
    made, _ = crowded(7)
    early, late = pod(1, created=1.0), pod(1, created=9e9)
    large = pod(8, created=1000.0)
    put(made, large)
    assert put(made, late) == []
    assert [each.pod for each in put(made, early)] == [early]


def test_within_a_tenant_priority_decides_who_goes_ahead() -> None:
    made, _ = crowded(6)
    put(made, pod(8, created=5.0))
    assert put(made, pod(1, created=4.0, priority=-1)) == []
    urgent = pod(1, created=6.0, priority=1)
    assert [each.pod for each in put(made, urgent)] == [urgent]


def test_one_node_is_claimed_for_each_pod_that_the_guarantee_covers() -> None:
    made, _ = crowded(5, 5, 5, 5, 5, 5, 5, 5, 5, 5)
    put(made, *(pod(8) for _ in range(9)))
    assert len(claimed(made)) == 8  # 64 guaranteed, 8 each


def test_claims_end_with_the_pods_they_are_for() -> None:
    made, _ = crowded(5, 5)
    large = [pod(8), pod(8)]
    put(made, *large)
    assert claimed(made) == {"n0", "n1"}
    waiting = pod(3, "bolt-train")
    put(made, waiting)
    made.remove_pod(large[0].uid)
    assert [each.pod for each in plan(made)] == [waiting]
    assert len(claimed(made)) == 1
    made.remove_pod(large[1].uid)
    plan(made)
    assert not claimed(made)


def test_a_claim_stays_where_it_is_while_others_become_emptier() -> None:
    made, held = crowded(5, 6)
    put(made, pod(8))
    for each in held[1][:4]:
        made.remove_pod(each.uid)
    plan(made)
    assert claimed(made) == {"n0"}


def test_a_node_that_leaves_is_claimed_no_more() -> None:
    made, _ = crowded(5, 6)
    put(made, pod(8))
    made.remove_node("n0")
    plan(made)
    assert claimed(made) == {"n1"}


def test_a_node_that_becomes_unusable_is_exchanged() -> None:
    made, _ = crowded(5, 6)
    large = pod(8)
    put(made, large)
    made.put_node(replace(made.nodes["n0"], ready=False))
    plan(made)
    assert claimed(made) == {"n1"}


def test_no_node_is_claimed_that_infrastructure_or_selectors_keep_from_the_pod() -> None:
    made, _ = crowded(5)
    made.put_pod(replace(pod(1, "gpu-operator"), gates=(), node="n0"))
    put(made, pod(8))
    assert not claimed(made)
    other, _ = crowded(5, cpu=1000)
    put(other, pod(8, cpu=2000), pod(4, cpu=500))
    assert claimed(other) == {"n0"}  # for the one that could run there


def test_a_lowered_guarantee_gives_the_nodes_back() -> None:
    made, _ = crowded(5)
    put(made, pod(8))
    assert claimed(made)
    pools, policies = made.pools.values(), made.policies.values()
    made.configure(pools, (tenant(guaranteed=4), BORROWER), policies)
    plan(made)
    assert not claimed(made)


def test_each_tenant_claims_nodes_of_its_own() -> None:
    made = engine(
        node("n0"), node("n1"), tenants=(tenant(guaranteed=8), tenant("cobra", 8), BORROWER)
    )
    for name in ("n0", "n1"):
        put(made, replace(pod(3, "bolt-train"), gates=(), node=name, pool="munich"))
    put(made, pod(8), pod(8, "cobra-train"))
    assert claimed(made) == {"n0", "n1"}
    assert {tenant for pool in made.claims.of.values() for tenant in pool} == {"acme", "cobra"}
    extra = pod(8, "cobra-train")
    put(made, extra)  # beyond the guarantee: no claim
    assert len(made.claims.of["munich"]["cobra"].line.members) == 2
    assert made.claims.of["munich"]["cobra"].nodes.bit_count() == 1


def test_a_pod_that_somebody_else_lets_start_takes_back_what_is_claimed_beyond_the_guarantee() -> (
    None
):
    made, _ = crowded(7)
    put(made, pod(8))
    assert claimed(made) == {"n0"}
    put(made, pod(60, gates=(), pool="munich"))
    assert not claimed(made)

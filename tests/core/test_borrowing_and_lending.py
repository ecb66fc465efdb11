from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sovereign_gpu.core import lending, report
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Node, Pod, Pool, Reason, Share, Tenant
from tests.core.build import engine, munich, node, plan, pod, policy, put, tenant, wait


def sharing(name: str, guaranteed: int, borrows: int = 0, lends: int | None = None) -> Tenant:
    return tenant(name, shares=(Share("munich", guaranteed, borrows, lends),))


def two(acme: Tenant, bolt: Tenant, nodes: int = 1) -> Engine:
    return engine(*(node(f"n{n}") for n in range(nodes)), tenants=(acme, bolt))


def ones(count: int, tenant_name: str) -> list[Pod]:
    return [pod(1, f"{tenant_name}-train") for _ in range(count)]


def holds(made: Engine, name: str) -> int:
    return made.ledger.counted(name, "munich")


def test_an_unused_guarantee_is_lent_up_to_the_borrowing_limit() -> None:
    made = two(sharing("acme", 2, borrows=3), sharing("bolt", 6))
    waiting = ones(8, "acme")
    put(made, *waiting)
    assert holds(made, "acme") == 5
    reason, message = wait(made, waiting[-1])
    assert reason is Reason.QUOTA_EXHAUSTED
    assert "uses 5 of 5 (2 guaranteed, up to 3 borrowed)" in message


def test_without_a_borrowing_limit_nobody_borrows() -> None:
    made = two(sharing("acme", 2), sharing("bolt", 6))
    put(made, *ones(8, "acme"))
    assert holds(made, "acme") == 2


def test_what_is_guaranteed_to_nobody_can_be_borrowed() -> None:
    made = two(sharing("acme", 2, borrows=8), sharing("bolt", 1, lends=0))
    put(made, *ones(8, "acme"))
    assert holds(made, "acme") == 7


def test_what_a_tenant_does_not_lend_stays_free_for_it() -> None:
    made = two(sharing("acme", 2, borrows=8), sharing("bolt", 6, lends=2))
    waiting = ones(8, "acme")
    put(made, *waiting)
    assert holds(made, "acme") == 4
    reason, message = wait(made, waiting[-1])
    assert reason is Reason.QUOTA_EXHAUSTED
    assert "4 are free, 4 of them kept for tenants that do not lend them" in message
    assert len(put(made, *ones(4, "bolt"))) == 4
    assert len(put(made, *ones(1, "bolt"))) == 0


def test_ones_own_kept_part_is_no_obstacle() -> None:
    made = two(sharing("acme", 4, borrows=4, lends=0), sharing("bolt", 0))
    assert len(put(made, pod(6))) == 1


def test_kept_gpus_that_are_freed_wake_the_borrower() -> None:
    made = two(sharing("acme", 0, borrows=8), sharing("bolt", 8, lends=4))
    held = ones(8, "bolt")
    put(made, *held)
    put(made, *ones(8, "acme"))
    assert holds(made, "acme") == 0
    for number, each in enumerate(held[:4], 1):
        made.remove_pod(each.uid)
        plan(made)
        assert holds(made, "acme") == number
    made.remove_pod(held[4].uid)
    plan(made)
    assert holds(made, "acme") == 4


def test_a_guarantee_that_is_lent_says_so_and_comes_back_as_pods_end() -> None:
    made = two(sharing("acme", 0, borrows=8), sharing("bolt", 8))
    held = ones(8, "acme")
    put(made, *held)
    waiting = pod(2, "bolt-train")
    put(made, waiting, *ones(4, "acme"))
    reason, message = wait(made, waiting)
    assert reason is Reason.GUARANTEE_LENT
    assert "asks for 2 GPUs; 0 of 8 guaranteed are used, but pool munich has 0 free" in message
    assert "8 lent" in message
    made.remove_pod(held[0].uid)
    assert plan(made) == []  # not to the borrower, who asked for one only
    made.remove_pod(held[1].uid)
    assert [each.pod for each in plan(made)] == [waiting]


def test_what_others_never_lend_is_not_given_away_in_the_place_of_what_was_lent() -> None:
    made = engine(
        node(),
        tenants=(sharing("acme", 0, borrows=8), sharing("bolt", 4), sharing("cobra", 4, lends=0)),
    )
    held = ones(4, "acme")
    put(made, *held)  # lent by bolt
    waiting = pod(1, "bolt-train")
    put(made, waiting)
    reason, message = wait(made, waiting)
    assert reason is Reason.GUARANTEE_LENT
    assert "pool munich has 0 free" in message
    assert len(put(made, *ones(4, "cobra"))) == 4
    made.remove_pod(held[0].uid)
    assert [each.pod for each in plan(made)] == [waiting]


def test_a_shortage_that_nobody_borrowed_is_shared_by_whoever_comes_first() -> None:
    made = engine(node(gpus=4), tenants=(sharing("bolt", 4), sharing("cobra", 4, lends=0)))
    assert len(put(made, *ones(4, "bolt"))) == 4


def test_whoever_is_below_its_guarantee_goes_before_whoever_borrows() -> None:
    made = two(sharing("acme", 0, borrows=8), sharing("bolt", 4))
    found = put(made, *ones(8, "acme"), *ones(4, "bolt"))
    assert [each.tenant for each in found] == ["bolt"] * 4 + ["acme"] * 4


def test_the_surplus_is_divided_by_weight() -> None:
    acme, bolt = sharing("acme", 0, borrows=48), sharing("bolt", 0, borrows=48)
    made = two(replace(acme, weight=5), bolt, nodes=6)
    put(made, *ones(60, "acme"), *ones(60, "bolt"))
    assert (holds(made, "acme"), holds(made, "bolt")) == (40, 8)


def test_the_dominant_share_counts_cpu_and_memory_too() -> None:
    made = two(sharing("acme", 0, borrows=16), sharing("bolt", 0, borrows=16), nodes=2)
    hungry = [pod(1, cpu=24_000) for _ in range(16)]
    put(made, *hungry, *ones(16, "bolt"))
    # Three GPUs with 72 of 128 cores, against ten of sixteen GPUs.
    assert (holds(made, "acme"), holds(made, "bolt")) == (4, 12)


def test_a_guarantee_in_the_second_pool_goes_before_borrowing_in_the_first() -> None:
    paris = Pool("paris", "FR", "fr-1")
    shares = (Share("munich", 1, borrowing_limit=8), Share("paris", 2))
    made = engine(
        node("m"),
        node("p", pool="paris", labels={"topology.kubernetes.io/region": "fr-1"}),
        pools=(munich(), paris),
        tenants=(tenant(shares=shares),),
    )
    assert [each.pool for each in put(made, *ones(5, "acme"))] == [
        "munich",
        *["paris"] * 2,
        *["munich"] * 2,
    ]


def test_pods_larger_than_guarantee_and_limit_never_fit() -> None:
    made = two(sharing("acme", 2, borrows=3), sharing("bolt", 0))
    waiting = pod(6)
    put(made, waiting)
    reason, message = wait(made, waiting)
    assert reason is Reason.NEVER_FITS
    assert "at most 5 (2 guaranteed, up to 3 borrowed) in pool munich" in message


def test_a_full_pool_is_a_full_pool_for_borrowers() -> None:
    made = two(sharing("acme", 1, borrows=8), sharing("bolt", 7))
    put(made, *ones(7, "bolt"), *ones(1, "acme"))
    waiting = pod(1)
    put(made, waiting)
    assert wait(made, waiting)[0] is Reason.POOL_FULL


def test_a_lowered_limit_takes_nothing_away_and_gives_nothing_more() -> None:
    acme, bolt = sharing("acme", 2, borrows=4), sharing("bolt", 2)
    made = two(acme, bolt)
    put(made, *ones(6, "acme"))
    made.configure([munich()], [sharing("acme", 2, borrows=1), bolt], [policy()])
    assert holds(made, "acme") == 6
    assert put(made, *ones(1, "acme")) == []
    assert made.lending.borrowed == {"munich": 4}


def test_pods_of_a_tenant_without_a_share_count_as_borrowed() -> None:
    acme, bolt = sharing("acme", 8), sharing("bolt", 8)
    made = two(acme, bolt)
    put(made, *ones(6, "acme"))
    made.configure([munich()], [replace(acme, shares=()), bolt], [policy()])
    waiting = pod(4, "bolt-train")
    put(made, waiting)
    assert wait(made, waiting)[0] is Reason.GUARANTEE_LENT


def test_the_report_says_who_lends_and_who_borrows() -> None:
    made = engine(
        *(node(f"n{n}") for n in range(3)),
        tenants=(
            sharing("acme", 2, borrows=20),
            sharing("bolt", 12),
            sharing("cobra", 6, lends=3),
        ),
    )
    put(made, *ones(14, "acme"))
    found = report.tenants(made)
    rows = {name: each.pools["munich"] for name, each in found.items()}
    assert (rows["acme"].allowance, rows["acme"].used, rows["acme"].borrowed) == (22, 14, 12)
    # Four GPUs are guaranteed to nobody; eight come from what bolt and cobra may lend, 12 and 3.
    assert (rows["bolt"].lent, rows["cobra"].lent, rows["acme"].lent) == (6, 2, 0)
    assert found["acme"].surplus == found["acme"].share == 500_000  # 12 of 24 GPUs


@given(
    guarantees=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    used=st.lists(st.integers(0, 60), min_size=6, max_size=6),
    kept=st.lists(st.integers(0, 40), min_size=6, max_size=6),
    capacity=st.integers(0, 200),
)
def test_lent_is_what_borrowers_use_of_idle_guarantees(
    guarantees: list[int], used: list[int], kept: list[int], capacity: int
) -> None:
    names = [f"t{number}" for number in range(len(guarantees))]
    shares = {
        name: Share("p", guaranteed, 100, max(0, guaranteed - keeps))
        for name, guaranteed, keeps in zip(names, guarantees, kept, strict=False)
    }
    counted = dict(zip(names, used, strict=False))
    found = lending.lent(shares, counted, capacity)
    for name, gpus in found.items():
        idle = max(0, shares[name].guaranteed - counted[name])
        assert 0 <= gpus <= min(idle, shares[name].guaranteed - shares[name].kept)
    borrowed = sum(max(0, counted[name] - shares[name].guaranteed) for name in names)
    assert sum(found.values()) <= borrowed


def test_a_pool_without_gpus_lends_nothing() -> None:
    companion: Node = node("c", gpus=0)
    made = engine(companion, tenants=(sharing("acme", 2, borrows=3),))
    assert report.tenants(made)["acme"].surplus == 0

"""A floor counts what is free on its nodes and names the one that `packing` chooses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_gpu import names
from sovereign_gpu.core.ledger import Load
from sovereign_gpu.core.model import Constraints, NodeTerm, Requirement, Resources
from sovereign_gpu.core.packing import DEVICE, Ask
from sovereign_gpu.core.placement import Census, Floor, Seat, ask, seat
from tests.core.build import engine, node, pod, put


def place(number: int, gpus: int, cpu: int, memory: int, taken: int = 0) -> Seat:
    found = node(f"n{number}", gpus, cpu=cpu, memory=memory)
    return seat(found, 1 << number, Load(gpus=min(gpus, taken)))


_places = st.builds(
    place,
    st.integers(0, 5),
    st.integers(0, 4),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 3),
)
_changes = st.lists(_places | st.integers(0, 5).map(lambda n: f"n{n}"), max_size=12)
_demands = st.builds(Resources, st.integers(0, 4), st.integers(0, 3), st.integers(0, 3))


def fits(found: Seat, demand: Resources, allowed: int) -> bool:
    enough = all(have >= need for have, need in zip(found.free, demand, strict=True))
    return bool(found.bit & allowed) and enough


@given(_changes, st.lists(st.tuples(_demands, st.integers(0, 63)), min_size=1, max_size=4))
def test_a_node_is_named_if_and_only_if_the_demand_fits_one(
    changes: list[Seat | str], asked: list[tuple[Resources, int]]
) -> None:
    floor, seats = Floor(), dict[str, Seat]()
    for change in changes:
        if isinstance(change, str):
            floor.put(change, None)
            seats.pop(change, None)
        else:
            floor.put(change.node.name, change)
            seats[change.node.name] = change
        for demand, allowed in asked:
            fitting = {name for name, s in seats.items() if fits(s, demand, allowed)}
            found = floor.choose(demand, allowed)
            assert (found is None) == (not fitting)
            if found is not None:
                assert found.node.name in fitting
                spares = floor.spares(demand, allowed, found.node.name, 2)
                others = fitting - {found.node.name}
                assert len(set(spares)) == len(spares) == min(2, len(others))
                assert set(spares) <= others
    assert floor.largest() == max((s.free.gpus for s in seats.values()), default=0)
    assert floor.spare == sum(s.spare for s in seats.values())
    untouched = [s for s in seats.values() if s.free.gpus == s.node.allocatable.gpus]
    assert floor.whole_nodes_free() == sum(1 for s in untouched if s.free.gpus)
    assert floor.nodes() == sum(s.bit for s in seats.values())


def test_a_node_that_lost_devices_below_its_load_has_nothing_free_and_owes_nothing() -> None:
    broken = node(gpus=8, allocatable=Resources(2, 1000, 1000))
    found = seat(broken, 1, Load(gpus=8, cpu=400, memory=1400, bound_gpus=8))
    assert (found.free, found.spare) == (Resources(0, 600, -400), 0)


def test_reservations_are_not_free_and_not_bound() -> None:
    found = seat(node(gpus=8), 1, Load(gpus=6, cpu=0, memory=0, bound_gpus=2))
    assert (found.free.gpus, found.spare) == (2, 6)


def _wants(*models: str, operator: str = "In") -> Requirement:
    return Requirement(names.PRODUCT_LABEL, operator, models)


@pytest.mark.parametrize(
    ("constraints", "models"),
    [
        (Constraints(), ()),
        (Constraints(selector=(("zone", "a"),)), ()),
        (Constraints(selector=(("zone", "a"), (names.PRODUCT_LABEL, "B200"))), ("B200",)),
        (Constraints(terms=(NodeTerm((_wants("H100", "B200"),)),)), ("B200", "H100")),
        (Constraints(terms=(NodeTerm((_wants("H100"),)), NodeTerm((_wants("B200"),)))),
         ("B200", "H100")),
        (Constraints(terms=(NodeTerm((_wants("H100"),)), NodeTerm())), ()),
        (Constraints(terms=(NodeTerm((_wants("H100", operator="NotIn"),)),)), ()),
    ],
)  # fmt: skip
def test_the_models_that_a_pod_may_have_are_read_from_its_constraints(
    constraints: Constraints, models: tuple[str, ...]
) -> None:
    assert ask(Resources(2, 3, 4), constraints) == Ask(2, DEVICE, 3, 4, models)
    assert ask(Resources(0, 3, 4)) == Ask(0, 0, 3, 4)


def test_what_waits_and_runs_decides_what_room_is_kept_for() -> None:
    # Both nodes have a GPU free for a pod that asks for no CPU; only n1 has CPU for the others.
    made = engine(node("n1", gpus=2, cpu=16_000), node("n2", gpus=4, cpu=2_000))
    made.put_pod(pod(1, "gpu-operator", gates=(), node="n1"))
    made.put_pod(pod(1, "gpu-operator", gates=(), node="n2"))
    for _ in range(40):
        made.put_pod(pod(1, "elsewhere", cpu=8_000, gates=("example.com/later",)))
    (release,) = put(made, pod(1))
    assert release.node == "n2"


def test_what_the_best_node_had_is_forgotten_with_it() -> None:
    floor = Floor()
    for number, memory in enumerate((1, 5, 9)):
        floor.put(f"n{number}", place(number, 4, number, memory))
    floor.put("n0", None)
    floor.put("n2", None)
    assert floor.choose(Resources(1, 1, 6), 0b111) is None
    assert floor.choose(Resources(1, 1, 6), 0b111) is None
    found = floor.choose(Resources(1, 1, 5), 0b111)
    assert found is not None
    assert found.node.name == "n1"


def test_a_node_that_claims_any_number_of_devices_costs_one_entry() -> None:
    floor = Floor()
    floor.put("liar", place(0, 10**18, 0, 0))
    assert floor.largest() == 10**18
    assert floor.choose(Resources(10**17, 0, 0), 1) is floor.seats["liar"]


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(("", "p", "q")), st.integers(0, 8)),
        max_size=12,
    )
)
def test_the_census_knows_the_largest_node_of_each_pool(rows: list[tuple[str, str, int]]) -> None:
    census, last = Census(), dict[str, tuple[str, int]]()
    for name, pool, gpus in rows:
        census.put(name, pool, gpus)
        last[name] = (pool, gpus)
    for pool in ("p", "q"):
        assert census.largest(pool) == max((g for p, g in last.values() if p == pool), default=0)
    for name in last:
        census.put(name, "", 0)
    assert census == Census()

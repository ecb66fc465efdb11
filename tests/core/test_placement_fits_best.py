"""The fullest node that still fits is chosen, by GPUs, CPU and memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sovereign_gpu.core.ledger import Load
from sovereign_gpu.core.model import Resources
from sovereign_gpu.core.placement import Census, Floor, Seat, seat
from tests.core.build import node


def place(number: int, gpus: int, cpu: int, memory: int) -> Seat:
    found = node(f"n{number}", gpus, cpu=cpu, memory=memory)
    return seat(found, 1 << number, None)


_places = st.builds(
    place, st.integers(0, 5), st.integers(0, 4), st.integers(0, 3), st.integers(0, 3)
)
_changes = st.lists(_places | st.integers(0, 5).map(lambda n: f"n{n}"), max_size=12)
_demands = st.builds(Resources, st.integers(0, 4), st.integers(0, 3), st.integers(0, 3))


@given(_changes, st.lists(st.tuples(_demands, st.integers(0, 63)), min_size=1, max_size=4))
def test_the_choice_is_a_fullest_of_all_that_fit(
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
            fitting = {
                name: s.free.gpus
                for name, s in seats.items()
                if s.bit & allowed and all(a >= d for a, d in zip(s.free, demand, strict=True))
            }
            found = floor.choose(demand, allowed)
            assert (found is None) == (not fitting)
            if found is not None:
                assert found.free.gpus == fitting[found.node.name] == min(fitting.values())
                spares = floor.spares(demand, allowed, found.node.name, 2)
                others = fitting.keys() - {found.node.name}
                assert len(set(spares)) == len(spares) == min(2, len(others))
                assert set(spares) <= others
    assert floor.largest() == max((s.free.gpus for s in seats.values()), default=0)
    assert floor.spare == sum(s.spare for s in seats.values())
    assert floor.whole_nodes_free() == sum(1 for s in seats.values() if s.free.gpus)


def test_a_node_that_lost_devices_below_its_load_has_nothing_free_and_owes_nothing() -> None:
    broken = node(gpus=8, allocatable=Resources(2, 1000, 1000))
    found = seat(broken, 1, Load(gpus=8, cpu=400, memory=1400, bound_gpus=8))
    assert (found.free, found.spare) == (Resources(0, 600, -400), 0)


def test_reservations_are_not_free_and_not_bound() -> None:
    found = seat(node(gpus=8), 1, Load(gpus=6, cpu=0, memory=0, bound_gpus=2))
    assert (found.free.gpus, found.spare) == (2, 6)


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

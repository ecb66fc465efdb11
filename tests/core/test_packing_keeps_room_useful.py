"""The choice of a node is the least loss of room that typical pods could use, by its definition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_gpu.core.packing import DEVICE, Ask, Devices, Gauge, Mix, Room, ways, whole
from sovereign_gpu.core.shelves import Choice, Shelves

HALF = DEVICE // 2
KINDS = ("", "a", "b")


def one(units: int = DEVICE, cpu: int = 0, memory: int = 0, **more: tuple[str, ...]) -> Ask:
    return Ask(1, units, cpu, memory, **more)


def runs(devices: Iterable[int]) -> Devices:
    return tuple(sorted(Counter(units for units in devices if units).items()))


def flat(devices: Devices) -> list[int]:
    return [units for units, number in devices for _ in range(number)]


# --- the definition, slowly --------------------------------------------------------------------
def placed(ask: Ask, room: Room) -> list[Room]:
    """Everything that may be left when the pod is put there."""
    cpu, memory = room.cpu - ask.cpu, room.memory - ask.memory
    if min(cpu, memory) < 0 or (ask.kinds and room.kind not in ask.kinds):
        return []
    devices = flat(room.devices)
    if ask.gpus == 1:
        left = [
            [*devices[:i], units - ask.units, *devices[i + 1 :]]
            for i, units in enumerate(devices)
            if units >= ask.units
        ]
    else:
        full = devices.count(DEVICE)
        rest = [units for units in devices if units != DEVICE]
        left = [[*rest, *[DEVICE] * (full - ask.gpus)]] if full >= ask.gpus else []
    return [room._replace(devices=runs(each), cpu=cpu, memory=memory) for each in left]


def reached(ask: Ask, room: Room) -> int:
    """Units on the devices that pods of one shape open when as many as fit stand side by side."""
    pods, left = 0, room
    while options := placed(ask, left):
        left, pods = options[0], pods + 1
    usable = sum(units for units in flat(room.devices) if units >= ask.units)
    return min(pods * ask.gpus * DEVICE, usable)


def worth(gauge: Gauge, room: Room) -> int:
    return sum(weight * reached(ask, room) for ask, weight in gauge.shapes)


# --- random small cases ------------------------------------------------------------------------
units = st.sampled_from((DEVICE, DEVICE, HALF, DEVICE // 3, DEVICE // 7, 2 * DEVICE // 3))
sizes = st.integers(0, 5)
kinds = st.sampled_from(((), (), ("a",), ("a", "b")))
asks = st.one_of(
    st.builds(Ask, st.just(1), units, sizes, sizes, kinds),
    st.builds(Ask, st.integers(2, 4), st.just(DEVICE), sizes, sizes, kinds),
)
rooms = st.builds(
    lambda devices, cpu, memory, more, kind: Room(
        runs(devices), cpu, memory, len(devices) + more, kind
    ),
    st.lists(units, max_size=4),
    st.integers(-1, 12),
    st.integers(-1, 12),
    st.integers(0, 1),
    st.sampled_from(KINDS),
)
mixes = st.lists(st.tuples(asks, st.integers(1, 9)), max_size=5)


def weighed(mix: Iterable[tuple[Ask, int]], nodes: Iterable[Room]) -> Gauge:
    gauge = Gauge()
    gauge.weigh(list(mix), Counter((room.size, room.kind) for room in nodes))
    return gauge


def untouched(room: Room) -> bool:
    return bool(room.size) and room.devices == whole(room.size)


@given(mixes, st.lists(rooms, min_size=1, max_size=4))
def test_worth_is_the_weighted_room_that_typical_pods_reach(
    mix: list[tuple[Ask, int]], nodes: list[Room]
) -> None:
    gauge = weighed(mix, nodes)
    nothing = Gauge()
    for room in nodes * 2:  # the second time from memory
        alone = nothing.worth(room)
        assert bool(alone) == untouched(room)
        assert gauge.worth(room) == worth(gauge, room) + alone
        assert gauge.worth(room) <= gauge.ceiling(room.devices, room.size, room.kind)


@given(asks, rooms)
def test_a_pod_may_take_any_device_that_has_enough_and_nothing_else(ask: Ask, room: Room) -> None:
    found = [] if room.cpu < ask.cpu or room.memory < ask.memory else ways(ask, room.devices)
    if ask.kinds and room.kind not in ask.kinds:
        found = []
    assert set(found) == {each.devices for each in placed(ask, room)}
    assert len(set(found)) == len(found)


@given(
    mixes,
    st.lists(rooms, min_size=1, max_size=6),
    st.lists(st.tuples(asks | st.just(Ask(0, 0, 2, 1)), st.integers(0, 63)), max_size=8),
)
def test_every_choice_loses_least_of_all_that_fit(
    mix: list[tuple[Ask, int]], nodes: list[Room], pods: list[tuple[Ask, int]]
) -> None:
    shelves = Shelves()
    for ask, number in mix * 32:  # enough to be weighed
        shelves.mix.add(ask, number)
    for number, room in enumerate(nodes):
        shelves.put(room, 1 << number)
    now = dict(enumerate(nodes))
    for ask, allowed in pods:
        found = shelves.choose(ask, allowed)
        losses = {
            (number, after): shelves.gauge.worth(room) - shelves.gauge.worth(after)
            for number, room in now.items()
            if 1 << number & allowed
            for after in (placed(ask, room) if ask.gpus else carried(ask, room))
        }
        assert (found is None) == (not losses)
        taking = [number for number in now if any(number == n for n, _ in losses)]
        assert union(shelves.fitting(ask, allowed)) == sum(1 << number for number in taking)
        if found is None:
            continue
        number = found.nodes.bit_length() - 1
        assert found.room == now[number]
        assert losses[number, found.after] == min(losses.values())
        assert ties_go_to_the_fullest(found, now, losses)
        shelves.remove(found.room, 1 << number)
        shelves.put(found.after, 1 << number)
        now[number] = found.after
    assert shelves.largest() == max(sum(flat(room.devices)) for room in now.values())
    emptiest = [sum(flat(now[n].devices)) for each in shelves.emptiest() for n in bits(each)]
    assert emptiest == sorted(emptiest, reverse=True)
    assert len(emptiest) == len(now)


def carried(ask: Ask, room: Room) -> list[Room]:
    after = room._replace(cpu=room.cpu - ask.cpu, memory=room.memory - ask.memory)
    return [after] if min(after.cpu, after.memory) >= 0 else []


def ties_go_to_the_fullest(
    found: Choice, now: dict[int, Room], losses: dict[tuple[int, Room], int]
) -> bool:
    least = min(losses.values())
    free = {sum(flat(now[n].devices)) for (n, _), loss in losses.items() if loss == least}
    return sum(flat(found.room.devices)) == min(free)


def union(sets: Iterable[int]) -> int:
    nodes = 0
    for each in sets:
        assert not each & nodes
        nodes |= each
    return nodes


def bits(nodes: int) -> list[int]:
    return [number for number in range(nodes.bit_length()) if nodes >> number & 1]


# --- stories -----------------------------------------------------------------------------------
def hall(*nodes: Room, typical: dict[Ask, int] | None = None) -> Shelves:
    shelves = Shelves()
    for ask, number in (typical or {}).items():
        shelves.mix.add(ask, number)
    for number, room in enumerate(nodes):
        shelves.put(room, 1 << number)
    return shelves


def put(shelves: Shelves, *pods: Ask) -> list[int | None]:
    """Place pods one after the other; return the numbers of their nodes."""
    numbers: list[int | None] = []
    for ask in pods:
        choice = shelves.choose(ask, (1 << 64) - 1)
        if choice is None:
            numbers.append(None)
            continue
        bit = choice.nodes & -choice.nodes
        shelves.remove(choice.room, bit)
        shelves.put(choice.after, bit)
        numbers.append(bit.bit_length() - 1)
    return numbers


def node(gpus: int, cpu: int = 96, memory: int = 96, *, size: int = 8, kind: str = "") -> Room:
    return Room(whole(gpus), cpu, memory, size, kind)


def test_small_pods_fill_broken_nodes_until_whole_ones_are_all_that_is_left() -> None:
    shelves = hall(node(8), node(8), node(5), node(3))
    assert put(shelves, *[one(cpu=12)] * 8) == [3, 3, 3, 2, 2, 2, 2, 2]
    assert put(shelves, Ask(8, DEVICE, 96, 0), Ask(8, DEVICE, 96, 0)) == [0, 1]


@pytest.mark.parametrize("known", [True, False])
def test_whole_nodes_stay_whole_whether_or_not_anything_is_known(*, known: bool) -> None:
    typical = {one(cpu=12): 900, Ask(8, DEVICE, 96, 0): 4} if known else {}
    small = node(2, size=2)
    shelves = hall(small, node(3), node(8), typical=typical)
    # Best fit alone would break up the node of two.
    assert put(shelves, one(cpu=12), one(cpu=12), one(cpu=12)) == [1, 1, 1]


def test_a_pod_that_needs_little_cpu_goes_where_cpu_is_short() -> None:
    # Six GPUs free, and CPU for one typical pod: five of them are no room for anybody else.
    starved, healthy = node(6, cpu=14), node(2, cpu=24)
    shelves = hall(starved, healthy, typical={one(cpu=12): 100, one(cpu=2): 3})
    assert put(shelves, one(cpu=2)) == [0]
    assert put(shelves, one(cpu=12), one(cpu=12), one(cpu=12)) == [1, 1, 0]


def test_a_pod_that_may_go_anywhere_spares_the_model_that_others_need() -> None:
    nodes = (node(2, size=8, kind="rare"), *[node(4, size=8, kind="common")] * 9)
    typical = {one(cpu=2): 90, one(cpu=2, kinds=("rare",)): 10}
    assert put(hall(*nodes, typical=typical), one(cpu=2)) == [1]
    assert put(hall(*nodes, typical={one(cpu=2): 100}), one(cpu=2)) == [0]


def test_parts_of_devices_are_cut_from_devices_that_are_cut_already() -> None:
    cut = Room(((HALF, 1), (DEVICE, 3)), 96, 96, 4)
    shelves = hall(cut, typical={one(HALF): 50, one(): 50})
    choice = shelves.choose(one(HALF), 1)
    assert choice is not None
    assert choice.after.devices == ((DEVICE, 3),)


def test_memory_that_nobody_has_is_looked_for_once() -> None:
    shelves = hall(node(4, memory=8), node(4, memory=9, cpu=1), node(4, memory=3))
    shelves.remove(node(4, memory=9, cpu=1), 2)
    for _ in range(2):
        assert put(shelves, one(memory=9)) == [None]
    assert put(shelves, one(memory=8)) == [0]


@given(st.lists(asks, max_size=40))
def test_the_same_pods_go_to_the_same_nodes(pods: list[Ask]) -> None:
    nodes = [node(8), node(4), node(8, kind="a"), node(2, kind="b")]
    assert put(hall(*nodes), *pods) == put(hall(*nodes), *pods)


# --- what is typical -----------------------------------------------------------------------------
def test_a_shape_weighs_by_its_pods_its_size_and_how_few_gpus_admit_it() -> None:
    typical = [(one(), 8), (one(HALF), 8), (Ask(4, DEVICE, 0, 0), 8), (one(kinds=("a",)), 8)]
    gauge = Gauge()
    gauge.weigh(typical, {(4, "a"): 1, (4, "b"): 1, (2, "b"): 4})
    weights = [Fraction(weight, gauge.shapes[0][1]) for _, weight in gauge.shapes]
    # 16 GPUs admit the first two, 8 on nodes of four the third, 4 of one model the last.
    for found, meant in zip(weights, (1, 2, Fraction(1, 2), 4), strict=True):
        assert abs(found - meant) < Fraction(1, 10_000)


def test_shapes_that_no_node_admits_weigh_nothing() -> None:
    gauge = Gauge()
    gauge.weigh([(Ask(8, DEVICE, 0, 0), 5), (one(kinds=("c",)), 5)], {(4, "a"): 2})
    assert gauge.shapes == []


def test_what_was_too_large_for_every_node_counts_when_a_larger_one_joins() -> None:
    shelves = hall(node(4, size=4), typical={Ask(8, DEVICE, 0, 0): 64})
    put(shelves, one())
    assert shelves.gauge.shapes == []
    shelves.put(node(8), 1 << 1)
    put(shelves, one())
    assert [ask.gpus for ask, _ in shelves.gauge.shapes] == [8]
    shelves.remove(node(8), 1 << 1)
    shelves.put(node(8), 1 << 1)
    assert put(shelves, Ask(8, DEVICE, 0, 0)) == [1]


def test_pods_are_counted_and_weighed_anew_only_after_enough_news() -> None:
    mix = Mix()
    for number in range(31):
        mix.add(one(cpu=number), 1)
    mix.add(Ask(0, 0, 1, 1), 5)  # asks for no GPU: leaves the room for those that do
    assert mix.version == 0
    mix.add(one(cpu=0), 1)
    assert mix.version == 1
    mix.add(one(), 1000)
    assert mix.version == 2
    for _ in range(343):
        mix.add(one(), -1)
    assert mix.version == 2
    mix.add(one(), -1)
    assert mix.version == 3
    assert mix.asks[one()] == 658  # one() is one(cpu=0) as well
    mix.add(one(), -658)
    assert one() not in mix.asks


def test_few_shapes_stand_for_many_pods_that_differ_a_little() -> None:
    mix = Mix()
    for number in range(1000):
        mix.add(one(cpu=1024 + number, memory=number % 2 + 2), 1)
    mix.add(one(cpu=1500, memory=2), 7)
    mix.add(Ask(8, DEVICE, 9, 9), 3)
    assert mix.typical() == [(one(cpu=1500, memory=2), 1007), (Ask(8, DEVICE, 9, 9), 3)]
    assert mix.typical(1) == [(one(cpu=1500, memory=2), 1007)]


def test_no_more_is_remembered_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("packing", "shelves"):
        monkeypatch.setattr(f"sovereign_gpu.core.{module}.MOST_REMEMBERED", 4)
    gauge = weighed([(one(), 1)], [node(8)])
    for cpu in range(40):
        assert gauge.worth(node(1 + cpu % 8, cpu=cpu)) == gauge.worth(node(1 + cpu % 8, cpu=cpu))
        assert len(gauge._known) <= 4  # noqa: SLF001
        assert len(gauge._rows) <= 4  # noqa: SLF001
    shelves = hall(*[node(gpus) for gpus in range(9)])
    assert put(shelves, *[one()] * 36) == [n for n in range(1, 8) for _ in range(n)] + [8] * 8
    assert len(shelves._ways) <= 4  # noqa: SLF001

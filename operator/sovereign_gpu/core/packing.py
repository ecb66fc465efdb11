"""Which node a pod takes from the others that will come: the rule that keeps room useful.

Weng et al., "Beware of Fragmentation" (USENIX ATC '23), measure how much of a node's free GPU
room typical demands could use, and place a pod where that shrinks least. This is their gradient
with three changes, each worth GPUs on their own pod lists (`bench.openb`):

* Room counts only as far as pods of a shape fit side by side. A node with six GPUs free and CPU
  for one more pod offers one GPU, not six.
* A shape's weight is how often it is asked for, by the room it takes, so that room is counted in
  pods; and by how few GPUs admit it, so that a pod that may go anywhere spares rare models.
* Nodes of which nothing is taken count a little by themselves, whatever is asked for.

Everything is an integer: a device has `DEVICE` units, which halves to eighths, sevenths and
thousandths divide, so that a simulator may share devices and runs the same code.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

DEVICE = 21_000
"""Units of one GPU."""
_ONE = 1 << 20
"""Sum of the weights of all shapes."""
_WHOLE = _ONE >> 8
"""Weight of a node of which nothing is taken: it breaks ties and outweighs no real demand."""
_MOST_SHAPES = 64
_MOST_REMEMBERED = 1 << 15
_FEWEST_NEWS = 32
"""Pods that come or go before shapes are weighed anew; of many pods, a half of them."""

Devices = tuple[tuple[int, int], ...]
"""Free units and number of devices that have as much, ascending; devices in full use left out."""


class Room(NamedTuple):
    """What is free on a node."""

    devices: Devices
    cpu: int
    memory: int
    size: int
    """Devices of the node, free or not."""
    kind: str = ""
    """GPU model."""


class Ask(NamedTuple):
    """What a pod takes: `gpus` devices, `units` of each, on a node of one of `kinds` (or any)."""

    gpus: int
    units: int
    cpu: int
    memory: int
    kinds: tuple[str, ...] = ()


class _Row(NamedTuple):
    """What one shape could do with the devices of a node, CPU and memory left aside."""

    cpu: int
    memory: int
    pods: int
    """That fit side by side."""
    step: int
    """Units of the devices that one pod opens."""
    reach: int
    """Free units of all devices that a pod could take a part of."""
    weight: int


def whole(devices: int) -> Devices:
    """Return that many devices of which nothing is taken."""
    return ((DEVICE, devices),) if devices > 0 else ()


def ways(ask: Ask, devices: Devices) -> list[Devices]:
    """Return what may be left of the devices; a part of one is taken from any that has it."""
    if not ask.gpus:
        return [devices]
    fitting = [run for run in devices if run[0] >= ask.units]
    if sum(number for _, number in fitting) < ask.gpus:
        return []
    starts = fitting if ask.gpus == 1 else fitting[:1]
    return [_taken(ask, devices, units) for units, _ in starts]


def _taken(ask: Ask, devices: Devices, least: int) -> Devices:
    left: Counter[int] = Counter(dict(devices))
    missing = ask.gpus
    for units, number in devices:
        if units >= least and missing:
            used = min(missing, number)
            missing -= used
            left[units] -= used
            left[units - ask.units] += used
    return tuple(sorted((units, number) for units, number in left.items() if units and number))


@dataclass(slots=True)
class Mix:
    """What pods ask for, of those that run and those that wait."""

    asks: Counter[Ask] = field(default_factory=Counter)
    version: int = 0
    """Grows when enough came or went that shapes should be weighed anew."""
    _news: int = 0
    _pods: int = 0

    def add(self, ask: Ask, pods: int) -> None:
        """Count pods that came (or, below 0, went)."""
        if not ask.gpus:
            return
        self.asks[ask] += pods
        if not self.asks[ask]:
            del self.asks[ask]
        self._pods += pods
        self._news += abs(pods)
        if self._news >= max(_FEWEST_NEWS, self._pods // 2):
            self._news = 0
            self.version += 1

    def typical(self, most: int = _MOST_SHAPES) -> list[tuple[Ask, int]]:
        """Return up to `most` shapes, each with the number of pods that it stands for.

        Of pods that differ a little in CPU and memory, the commonest stands for all.
        """
        if len(self.asks) <= most:
            return _ranked(self.asks)
        alike: dict[tuple[object, ...], list[tuple[int, Ask]]] = {}
        for ask, pods in self.asks.items():
            sizes = ask.units.bit_length(), ask.cpu.bit_length(), ask.memory.bit_length()
            alike.setdefault((ask.gpus, ask.kinds, sizes), []).append((pods, ask))
        merged = {max(group)[1]: sum(pods for pods, _ in group) for group in alike.values()}
        return _ranked(merged)[:most]


def _ranked(asks: Mapping[Ask, int]) -> list[tuple[Ask, int]]:
    return sorted(asks.items(), key=lambda item: (-item[1], item[0]))


def _row(ask: Ask, devices: Devices, weight: int = 1) -> _Row | None:
    slots = reach = 0
    for units, number in devices:
        if units >= ask.units:
            slots += units // ask.units * number
            reach += units * number
    pods = slots // ask.gpus
    if not pods:
        return None
    return _Row(ask.cpu, ask.memory, pods, ask.gpus * DEVICE, reach, weight)


@dataclass(slots=True)
class Gauge:
    """Says what room is worth, by the shapes that are typical."""

    shapes: list[tuple[Ask, int]] = field(default_factory=list)
    """With weights."""
    _rows: dict[tuple[Devices, str], list[_Row]] = field(default_factory=dict)
    _known: dict[Room, int] = field(default_factory=dict)

    def weigh(self, typical: list[tuple[Ask, int]], nodes: Mapping[tuple[int, str], int]) -> None:
        """Weigh shapes anew, given the number of nodes by size and kind."""
        raw: list[tuple[Ask, int]] = []
        for ask, pods in typical:
            supply = 0
            for (size, kind), number in nodes.items():
                row = _row(ask, whole(size)) if not ask.kinds or kind in ask.kinds else None
                supply += number * min(row.pods * row.step, row.reach) if row else 0
            if supply:
                raw.append((ask, pods * _ONE * _ONE // (ask.gpus * ask.units * supply)))
        total = sum(weight for _, weight in raw)
        self.shapes = [(ask, weight * _ONE // total) for ask, weight in raw if weight]
        self._rows.clear()
        self._known.clear()

    def worth(self, room: Room) -> int:
        """Return how much of the room typical pods could use, in weighted units."""
        known = self._known.get(room)
        if known is None:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            known = self._known[room] = self._measure(room)
        return known

    def ceiling(self, devices: Devices, size: int, kind: str) -> int:
        """Return what no room with these devices exceeds, whatever CPU and memory it has."""
        rows = self.rows(devices, kind)
        most = sum(row.weight * min(row.pods * row.step, row.reach) for row in rows)
        return most + _untouched(devices, size)

    def _measure(self, room: Room) -> int:
        worth = _untouched(room.devices, room.size)
        cpu, memory = room.cpu, room.memory
        if cpu < 0 or memory < 0:
            return worth
        for row in self.rows(room.devices, room.kind):
            pods = row.pods
            if pods * row.cpu > cpu:
                pods = cpu // row.cpu
            if pods * row.memory > memory:
                pods = memory // row.memory
            if pods > 0:
                worth += row.weight * min(pods * row.step, row.reach)
        return worth

    def rows(self, devices: Devices, kind: str) -> list[_Row]:
        """Return what each shape could do with the devices of a node of this kind."""
        rows = self._rows.get((devices, kind))
        if rows is None:
            if len(self._rows) >= _MOST_REMEMBERED:
                self._rows.clear()
            rows = self._rows[devices, kind] = [
                row
                for ask, weight in self.shapes
                if (not ask.kinds or kind in ask.kinds)
                and (row := _row(ask, devices, weight)) is not None
            ]
        return rows


def _untouched(devices: Devices, size: int) -> int:
    return _WHOLE * DEVICE * size if devices and devices == whole(size) else 0


class Choice(NamedTuple):
    """Where a pod goes."""

    room: Room
    """What is free there now."""
    after: Room
    """What is left there afterwards."""
    nodes: int
    """Set of the nodes that are free alike; a bit for each."""


@dataclass(slots=True)
class _Shelf:
    """Nodes whose devices are free alike, ordered by worth, then CPU, then memory."""

    ways: dict[tuple[int, int], tuple[list[Devices], int]] = field(default_factory=dict)
    """By count and units asked for: what may be left, and what that is worth at most."""
    order: list[tuple[int, Room]] = field(default_factory=list)
    nodes: dict[Room, int] = field(default_factory=dict)
    """A bit for each node."""
    cpu: int = 0
    memory: int = 0
    """No node has more than these."""
    exact: bool = True
    """Some node has as much; if not, the next search that fails sets them right."""

    def put(self, gauge: Gauge, room: Room, bit: int) -> None:
        if room not in self.nodes:
            insort(self.order, (gauge.worth(room), room))
            self.cpu = max(self.cpu, room.cpu)
            self.memory = max(self.memory, room.memory)
        self.nodes[room] = self.nodes.get(room, 0) | bit

    def remove(self, gauge: Gauge, room: Room, bit: int) -> None:
        self.nodes[room] ^= bit
        if not self.nodes[room]:
            del self.nodes[room]
            del self.order[bisect_left(self.order, (gauge.worth(room), room))]
            if room.cpu == self.cpu or room.memory == self.memory:
                self.exact = False

    def fitting(self, ask: Ask, allowed: int) -> Iterator[tuple[int, Room]]:
        """Yield rooms with CPU and memory for the pod, and their worth, the least worth first."""
        if ask.cpu > self.cpu or ask.memory > self.memory:
            return
        found = False
        for worth, room in self.order:
            if room.cpu >= ask.cpu and room.memory >= ask.memory and self.nodes[room] & allowed:
                found = True
                yield worth, room
        if not found and not self.exact:
            self.cpu = max(room.cpu for room in self.nodes)
            self.memory = max(room.memory for room in self.nodes)
            self.exact = True


@dataclass(slots=True)
class Shelves:
    """The nodes of one pool by what is free on them, and the choice among them.

    Nodes that are free alike are looked at once, and of those with the same devices free the
    least useful first: as soon as what is left could not be worth more anywhere, the rest of
    them cannot lose less, and is not looked at.
    """

    mix: Mix = field(default_factory=Mix)
    gauge: Gauge = field(default_factory=Gauge)
    _by: dict[tuple[Devices, int, str], _Shelf] = field(default_factory=dict)
    _order: list[tuple[int, Devices, int, str]] = field(default_factory=list)
    """The keys, fewest free units first."""
    _sizes: Counter[tuple[int, str]] = field(default_factory=Counter)
    _version: int = 0

    def put(self, room: Room, bit: int) -> None:
        """Add a node."""
        key = room.devices, room.size, room.kind
        if key not in self._by:
            self._by[key] = _Shelf()
            insort(self._order, (_units(room.devices), *key))
        self._by[key].put(self.gauge, room, bit)
        if (room.size, room.kind) not in self._sizes:
            self._version = -1  # what shapes were too large or too choosy for may be here now
        self._sizes[room.size, room.kind] += 1

    def remove(self, room: Room, bit: int) -> None:
        """Take a node out, given what was free on it."""
        key = room.devices, room.size, room.kind
        self._by[key].remove(self.gauge, room, bit)
        if not self._by[key].nodes:
            del self._by[key]
            del self._order[bisect_left(self._order, (_units(room.devices), *key))]
        self._sizes[room.size, room.kind] -= 1
        if not self._sizes[room.size, room.kind]:
            del self._sizes[room.size, room.kind]

    def fitting(self, ask: Ask, allowed: int) -> Iterator[int]:
        """Yield sets of nodes of `allowed` that take the pod, the fewest free devices first."""
        for shelf, _, _ in self._shelves(ask):
            for _, room in shelf.fitting(ask, allowed):
                yield shelf.nodes[room] & allowed

    def largest(self) -> int:
        """Return the units free on the emptiest node."""
        return self._order[-1][0] if self._order else 0

    def emptiest(self) -> Iterator[int]:
        """Yield sets of nodes, the most free devices first."""
        for _, devices, size, kind in reversed(self._order):
            nodes = 0
            for each in self._by[devices, size, kind].nodes.values():
                nodes |= each
            yield nodes

    def choose(self, ask: Ask, allowed: int) -> Choice | None:
        """Return where the pod takes least worth, of nodes of the set `allowed` that take it.

        Ties go to the node with fewest units free, then least worth, CPU and memory.
        """
        if self._version != self.mix.version:
            self._weigh()
        best: Choice | None = None
        least = 0
        worth_of = self.gauge.worth
        for shelf, left, most in self._shelves(ask):
            for worth, room in shelf.fitting(ask, allowed):
                if best is not None and worth - most >= least:
                    break
                cpu, memory = room.cpu - ask.cpu, room.memory - ask.memory
                for devices in left:
                    after = Room(devices, cpu, memory, room.size, room.kind)
                    loss = worth - worth_of(after)
                    if best is None or loss < least:
                        best, least = Choice(room, after, shelf.nodes[room] & allowed), loss
        return best

    def _shelves(self, ask: Ask) -> Iterator[tuple[_Shelf, list[Devices], int]]:
        """Yield shelves with devices for the pod, what may be left of those, and its ceiling."""
        count, units, kinds = ask.gpus, ask.units, ask.kinds
        for _, devices, size, kind in self._order[bisect_left(self._order, (count * units,)) :]:
            if kinds and kind not in kinds:
                continue
            shelf = self._by[devices, size, kind]
            known = shelf.ways.get((count, units))
            if known is None:
                left = ways(ask, devices)
                most = max((self.gauge.ceiling(each, size, kind) for each in left), default=0)
                known = shelf.ways[count, units] = left, most
            if known[0]:
                yield shelf, *known

    def _weigh(self) -> None:
        self._version = self.mix.version
        self.gauge.weigh(self.mix.typical(), self._sizes)
        for shelf in self._by.values():
            shelf.ways.clear()
            shelf.order = sorted((self.gauge.worth(room), room) for room in shelf.nodes)


def _units(devices: Devices) -> int:
    return sum(units * number for units, number in devices)

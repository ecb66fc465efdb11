"""Where pods go: the nodes of a pool by what is free on them, and the choice among them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from sovereign_gpu.core.packing import MOST_REMEMBERED, Ask, Devices, Gauge, Mix, Room, ways


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
    """Finds the node on which a pod takes least worth from the pods that will come.

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
    _ways: dict[tuple[int, int, Devices, int, str], tuple[list[Devices], int]] = field(
        default_factory=dict
    )
    """What may be left of devices when some are taken, and what that is worth at most."""
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
            known = self._ways.get((count, units, devices, size, kind))
            if known is None:
                if len(self._ways) >= MOST_REMEMBERED:
                    self._ways.clear()
                left = ways(ask, devices)
                most = max((self.gauge.ceiling(each, size, kind) for each in left), default=0)
                known = self._ways[count, units, devices, size, kind] = left, most
            if known[0]:
                yield self._by[devices, size, kind], *known

    def _weigh(self) -> None:
        self._version = self.mix.version
        self.gauge.weigh(self.mix.typical(), self._sizes)
        self._ways.clear()
        for shelf in self._by.values():
            shelf.order = sorted((self.gauge.worth(room), room) for room in shelf.nodes)


def _units(devices: Devices) -> int:
    return sum(units * number for units, number in devices)

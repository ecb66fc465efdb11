"""What room on a node is worth to the pods that will come: the rule that nodes are chosen by.

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

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

DEVICE = 21_000
"""Units of one GPU."""
_ONE = 1 << 20
"""Sum of the weights of all shapes."""
_FINE = 1 << 100
"""Of large pools and large pods not even the last digit of a weight is to be lost."""
_WHOLE = _ONE >> 10
"""Weight of a node of which nothing is taken: it breaks ties and outweighs no real demand."""
_MOST_SHAPES = 64
MOST_REMEMBERED = 1 << 15
"""Answers kept of one kind; at the bound they are forgotten and found again."""
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
    """What a pod takes: `gpus` devices, `units` of each, on a node of one of `kinds` (or any).

    A part of a device can be asked for of one only; several devices are taken whole.
    """

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
    """Return what may be left of the devices; a part is taken of any one that has it."""
    if not ask.gpus:
        return [devices]
    return [
        _taken(ask, devices, units)
        for units, number in devices
        if units >= ask.units and number >= ask.gpus
    ]


def _taken(ask: Ask, devices: Devices, units: int) -> Devices:
    left: Counter[int] = Counter(dict(devices))
    left[units] -= ask.gpus
    left[units - ask.units] += ask.gpus
    return tuple(sorted((rest, number) for rest, number in left.items() if rest and number))


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
                raw.append((ask, pods * _FINE // (ask.gpus * ask.units * supply)))
        total = sum(weight for _, weight in raw)
        self.shapes = [(ask, weight * _ONE // total) for ask, weight in raw if weight]
        self._rows.clear()
        self._known.clear()

    def worth(self, room: Room) -> int:
        """Return how much of the room typical pods could use, in weighted units."""
        known = self._known.get(room)
        if known is None:
            if len(self._known) >= MOST_REMEMBERED:
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
            if len(self._rows) >= MOST_REMEMBERED:
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

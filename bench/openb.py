"""How full a heterogeneous cluster gets before pods stop fitting: `python -m bench.openb`.

Replays the pod lists of Alibaba's openb trace (cluster-trace-gpu-v2023) on its 1,213 GPU nodes as
Weng et al. (USENIX ATC '23) do: pods arrive in random order, nothing ends, what does not fit is
dropped; the figure is the share of all GPUs that is allocated when the pods that arrived ask for
as many as there are. `Pack` is the operator's own rule, `Gradient` the rule of that paper in the
same machinery, so that both meet the same pods. Both learn what is typical from the pods that
arrived so far, as the operator does; with `--knows list` they know the whole list beforehand, as
in the published figures of FGD.
"""

from __future__ import annotations

import argparse
import json
import time
from bisect import insort
from collections.abc import Iterator, Mapping
from csv import DictReader
from pathlib import Path
from random import Random
from statistics import mean
from typing import NamedTuple

from bench import traces
from sovereign_gpu.core.packing import DEVICE, Ask, Devices, Gauge, Mix, Room, ways, whole
from sovereign_gpu.core.shelves import Shelves

RESULTS = Path(__file__).parent / "results" / "openb.json"
LISTS = ("default", "multigpu20", "multigpu40", "gpuspec20")
PUBLISHED = {
    "BestFit": (92.86, 93.73, 95.10, 88.46),
    "FGD": (95.23, 95.53, 96.91, 94.66),
}
"""Percent of GPUs allocated, per list, mean of ten seeds."""
_MILLI = DEVICE // 1000
_ARRIVING = 1.3
"""Demand of the pods drawn, by the GPUs that exist."""
_TRIES = 64
_PLENTY = 1 << 62


class Trace(NamedTuple):
    """Nodes as they are when empty, and what the pods of a list ask for."""

    nodes: list[Room]
    pods: list[Ask]

    @property
    def units(self) -> int:
        """All GPUs there are."""
        return DEVICE * sum(node.size for node in self.nodes)


def read(data: Path | None, name: str) -> Trace:
    """Return a pod list and the nodes it is replayed on."""
    nodes = [
        Room(
            whole(int(row["gpu"])),
            int(row["cpu_milli"]),
            int(row["memory_mib"]),
            int(row["gpu"]),
            row["model"],
        )
        for row in _rows(traces.find(data, "openb_node_list_gpu_node.csv"))
    ]
    pods = [_ask(row) for row in _rows(traces.find(data, f"openb_pod_list_{name}.csv"))]
    return Trace(nodes, pods)


def _rows(file: Path) -> Iterator[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        yield from DictReader(lines)


def _ask(row: dict[str, str]) -> Ask:
    count = int(row["num_gpu"])
    return Ask(
        count,
        int(row["gpu_milli"]) * _MILLI if count else 0,
        int(row["cpu_milli"]),
        int(row["memory_mib"]),
        tuple(sorted(filter(None, (row.get("gpu_spec") or "").split("|")))),
    )


def arrivals(trace: Trace, rng: Random) -> Iterator[Ask]:
    """Yield the pods in random order, then random ones again."""
    order = list(trace.pods)
    rng.shuffle(order)
    yield from order
    asked = sum(ask.gpus * ask.units for ask in order)
    while asked < _ARRIVING * trace.units:
        ask = rng.choice(trace.pods)
        asked += ask.gpus * ask.units
        yield ask


class FragmentationGauge(Gauge):
    """Weng et al.'s measure: room is useful to a shape if one pod of it can run there at all."""

    def weigh(self, typical: list[tuple[Ask, int]], nodes: Mapping[tuple[int, str], int]) -> None:
        """Weigh shapes by how often they are asked for."""
        super().weigh([], nodes)
        self.shapes = typical

    def ceiling(self, devices: Devices, size: int, kind: str) -> int:
        """Return the worth with CPU and memory for every pod."""
        return self.worth(Room(devices, _PLENTY, _PLENTY, size, kind))

    def _measure(self, room: Room) -> int:
        return sum(
            row.weight * row.reach
            for row in self.rows(room.devices, room.kind)
            if row.cpu <= room.cpu and row.memory <= room.memory
        )


class Pack:
    """The operator's rule."""

    gauge: type[Gauge] = Gauge

    def __init__(self, trace: Trace, _rng: Random, *, knows_list: bool) -> None:
        self._mix = Mix()
        self._learns = not knows_list
        if knows_list:
            for ask in trace.pods:
                self._mix.add(ask, 1)
        self._shelves = Shelves(self._mix, self.gauge())
        for number, node in enumerate(trace.nodes):
            self._shelves.put(node, 1 << number)
        self._all = (1 << len(trace.nodes)) - 1

    def place(self, ask: Ask) -> bool:
        """Put the pod where least is lost."""
        if self._learns:
            self._mix.add(ask, 1)
        choice = self._shelves.choose(ask, self._all)
        if choice is None:
            return False
        bit = choice.nodes & -choice.nodes
        self._shelves.remove(choice.room, bit)
        self._shelves.put(choice.after, bit)
        return True


class Gradient(Pack):
    """The rule of the published FGD."""

    gauge = FragmentationGauge


class BestFit:
    """Least CPU and GPUs left, both as a share of the largest node; the fullest device."""

    def __init__(self, trace: Trace, _rng: Random, *, knows_list: bool) -> None:  # noqa: ARG002
        self._cpu = max(node.cpu for node in trace.nodes)
        self._units = DEVICE * max(node.size for node in trace.nodes)
        self._order = sorted((self._left(node), node) for node in trace.nodes)

    def _left(self, room: Room) -> int:
        units = sum(units * number for units, number in room.devices)
        return room.cpu * self._units + units * self._cpu

    def place(self, ask: Ask) -> bool:
        """Put the pod on the first node that takes it: it takes as much from any."""
        for index, (_, room) in enumerate(self._order):
            left = after(ask, room)
            if left:
                del self._order[index]
                insort(self._order, (self._left(left[0]), left[0]))
                return True
        return False


class Anywhere:
    """A random node that takes the pod, and a random device of it."""

    def __init__(self, trace: Trace, rng: Random, *, knows_list: bool) -> None:  # noqa: ARG002
        self._rng = rng
        self._nodes = list(trace.nodes)

    def place(self, ask: Ask) -> bool:
        """Put the pod anywhere."""
        number = self._find(ask)
        if number is None:
            return False
        self._nodes[number] = self._rng.choice(after(ask, self._nodes[number]))
        return True

    def _find(self, ask: Ask) -> int | None:
        # The same as a choice among those that fit, which is only looked for when they are few.
        for _ in range(_TRIES):
            number = self._rng.randrange(len(self._nodes))
            if after(ask, self._nodes[number]):
                return number
        fitting = [number for number, room in enumerate(self._nodes) if after(ask, room)]
        return self._rng.choice(fitting) if fitting else None


POLICIES: dict[str, type[Anywhere | BestFit | Pack]] = {
    "Random": Anywhere,
    "BestFit": BestFit,
    "Gradient": Gradient,
    "Pack": Pack,
}


def after(ask: Ask, room: Room) -> list[Room]:
    """Return what may be left of a room, the fullest device taken first; nothing: it does not fit.

    A device is one of several alike, so each way counts once.
    """
    cpu, memory = room.cpu - ask.cpu, room.memory - ask.memory
    if cpu < 0 or memory < 0 or (ask.kinds and room.kind not in ask.kinds):
        return []
    return [room._replace(devices=left, cpu=cpu, memory=memory) for left in ways(ask, room.devices)]


def replay(trace: Trace, policy: str, seed: int, *, knows_list: bool) -> float:
    """Return the percent of GPUs allocated when as many as exist were asked for."""
    rng = Random(seed)  # noqa: S311 – repeatable on purpose
    chooser = POLICIES[policy](trace, rng, knows_list=knows_list)
    asked = allocated = 0
    for ask in arrivals(trace, rng):
        units = ask.gpus * ask.units
        asked += units
        if asked > trace.units:
            break
        if chooser.place(ask):
            allocated += units
    return 100 * allocated / trace.units


def main() -> None:
    """Replay, print a table, write the raw figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.openb", description=__doc__)
    parser.add_argument("--list", dest="lists", action="append", choices=LISTS)
    parser.add_argument("--policy", dest="policies", action="append", choices=list(POLICIES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--knows", choices=["arrived", "list"], default="arrived")
    traces.add_option(parser)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    lists, policies = options.lists or LISTS, options.policies or list(POLICIES)
    rows = []
    columns = [*policies, *(f"{name}, published" for name in PUBLISHED)]
    print(f"{'GPUs allocated, %':<18}" + "".join(f"{column:>20}" for column in columns))
    for name in lists:
        trace = read(options.data, name)
        figures = []
        for policy in policies:
            start = time.perf_counter()
            values = [
                replay(trace, policy, seed, knows_list=options.knows == "list")
                for seed in range(options.seeds)
            ]
            seconds = time.perf_counter() - start
            figures.append(mean(values))
            rows.append(
                {
                    "list": name,
                    "policy": policy,
                    "knows": options.knows if issubclass(POLICIES[policy], Pack) else "nothing",
                    "percent": [round(value, 3) for value in values],
                    "mean": round(figures[-1], 2),
                    "seconds per replay": round(seconds / options.seeds, 2),
                }
            )
        figures += [figures_of[LISTS.index(name)] for figures_of in PUBLISHED.values()]
        print(f"{name:<18}" + "".join(f"{figure:>20.2f}" for figure in figures), flush=True)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

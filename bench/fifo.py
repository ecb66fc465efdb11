"""The queue to beat: strictly first come, first served, on one set of nodes.

Whoever stands first is started first, and all others wait for it. It is simulated apart from the
product, so that the waits published for it show whether a bench reads a trace as others do.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable

from bench.traces import Job

GPUS_PER_NODE = 8


class Hall:
    """Nodes of eight GPUs, in sets by how many are free."""

    def __init__(self, nodes: int) -> None:
        """Begin with `nodes` empty nodes."""
        self._free = [GPUS_PER_NODE] * nodes
        self._with: list[set[int]] = [set() for _ in range(GPUS_PER_NODE + 1)]
        self._with[GPUS_PER_NODE].update(range(nodes))

    def take(self, gpus: int) -> list[tuple[int, int]] | None:
        """Take whole nodes, and the rest on the fullest node where it fits.

        Returns:
            Nodes with the GPUs taken on each, or None (and nothing is taken) if it does not fit.
        """
        whole, rest = divmod(gpus, GPUS_PER_NODE)
        taken: list[tuple[int, int]] = []
        for part in [GPUS_PER_NODE] * whole + [rest] * bool(rest):
            node = self._fullest(part)
            if node is None:
                self.give_back(taken)
                return None
            taken.append((node, part))
            self._move(node, -part)
        return taken

    def give_back(self, taken: Iterable[tuple[int, int]]) -> None:
        """Free what `take` returned."""
        for node, gpus in taken:
            self._move(node, gpus)

    def _fullest(self, gpus: int) -> int | None:
        return next((min(nodes) for nodes in self._with[gpus:] if nodes), None)

    def _move(self, node: int, gpus: int) -> None:
        self._with[self._free[node]].remove(node)
        self._free[node] += gpus
        self._with[self._free[node]].add(node)


def starts(jobs: Iterable[Job], nodes: int) -> dict[int, int]:
    """Return when each job starts, by its number.

    Args:
        jobs: in the order of their submission.
        nodes: how many there are.

    Raises:
        ValueError: a job is larger than all nodes together.
    """
    hall, queue = Hall(nodes), deque(jobs)
    begun: dict[int, int] = {}
    ends: list[tuple[int, int, list[tuple[int, int]]]] = []
    now = 0
    while queue:
        job = queue.popleft()
        now = max(now, job.submitted)
        while ends and ends[0][0] <= now:
            hall.give_back(heapq.heappop(ends)[2])
        while (taken := hall.take(job.gpus)) is None:
            if not ends:
                raise ValueError(f"a job of {job.gpus} GPUs on {nodes} nodes")
            now = ends[0][0]
            while ends and ends[0][0] <= now:
                hall.give_back(heapq.heappop(ends)[2])
        begun[job.number] = now
        heapq.heappush(ends, (now + job.seconds, job.number, taken))
    return begun

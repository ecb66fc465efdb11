"""Who waits, per tenant: lines of pods of one shape, served by priority, then age.

Pods of one shape are interchangeable for the engine, so what holds for the first of a line holds
for all of it: none can starve behind a later one of the same size, and a pass over a tenant costs
its lines, not its pods.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import NamedTuple

from sovereign_gpu.core.model import Constraints, Pod, Resources, Wait


class Shape(NamedTuple):
    """What makes two waiting pods interchangeable."""

    priority: int
    demand: Resources
    constraints: Constraints


class Stop(NamedTuple):
    """Why pods wait, and the pool that this speaks of."""

    pool: str
    wait: Wait
    elastic: bool = False
    """It may end when nodes of the pool, or what they carry, change."""


@dataclass(slots=True)
class Size:
    """All lines of pods that ask for the same number of GPUs."""

    lines: dict[Shape, Line] = field(default_factory=dict)
    stop: Stop | None = None
    """What stops every one of them, whatever else they ask for."""


@dataclass(slots=True)
class Line:
    """Waiting pods of one shape."""

    shape: Shape
    size: Size
    members: dict[str, Pod] = field(default_factory=dict)
    stop: Stop | None = None
    """What stopped this line when it was last tried."""
    _heap: list[tuple[float, str]] = field(default_factory=list)

    def add(self, pod: Pod) -> None:
        """Let a pod join; its age decides its place."""
        if pod.uid not in self.members:
            heapq.heappush(self._heap, (pod.created, pod.uid))
        self.members[pod.uid] = pod

    def first(self) -> Pod | None:
        """Return the oldest member."""
        while self._heap:
            pod = self.members.get(self._heap[0][1])
            if pod is not None:
                return pod
            heapq.heappop(self._heap)  # left the line earlier; removed lazily
        return None

    def key(self) -> tuple[int, float, str] | None:
        """Return the line's place among others: priority, then age of its first pod."""
        first = self.first()
        return None if first is None else (-self.shape.priority, first.created, first.uid)

    @property
    def wait(self) -> Wait | None:
        """Why the line waits; None: not tried yet."""
        stop = self.size.stop or self.stop
        return stop.wait if stop else None

    @property
    def pool(self) -> str:
        """The pool that the wait speaks of; empty: none in particular."""
        stop = self.size.stop or self.stop
        return stop.pool if stop else ""

    @property
    def gpus(self) -> int:
        """GPUs the whole line asks for."""
        return self.shape.demand.gpus * len(self.members)


@dataclass(slots=True)
class Queue:
    """All waiting pods of one tenant."""

    lines: dict[Shape, Line] = field(default_factory=dict)
    sizes: dict[int, Size] = field(default_factory=dict)
    """By GPUs of a pod: most reasons to wait hold for all pods of a size."""
    _line_of: dict[str, Line] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of waiting pods."""
        return len(self._line_of)

    def add(self, pod: Pod) -> Line:
        """Queue a pod, or replace what is known of it."""
        shape = Shape(pod.priority, pod.demand, pod.constraints)
        present = self._line_of.get(pod.uid)
        if present is not None and present.shape != shape:
            self.remove(pod.uid)
        line = self.lines.get(shape)
        if line is None:
            size = self.sizes.get(shape.demand.gpus)
            if size is None:
                size = self.sizes[shape.demand.gpus] = Size()
            line = self.lines[shape] = size.lines[shape] = Line(shape, size)
        line.add(pod)
        self._line_of[pod.uid] = line
        return line

    def remove(self, uid: str) -> bool:
        """Take a pod out; returns whether it was queued."""
        line = self._line_of.pop(uid, None)
        if line is None:
            return False
        del line.members[uid]
        if not line.members:
            self._drop(line.shape)
        return True

    def _drop(self, shape: Shape) -> None:
        del self.lines[shape]
        gpus = shape.demand.gpus
        del self.sizes[gpus].lines[shape]
        if not self.sizes[gpus].lines:
            del self.sizes[gpus]

    def line_of(self, uid: str) -> Line | None:
        """Return the line a pod stands in."""
        return self._line_of.get(uid)

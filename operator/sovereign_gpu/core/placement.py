"""Which node of a pool a pod may count on.

Nodes of a pool lie in buckets by free GPUs, so that a choice looks at the fullest nodes that
still fit (best fit) and never at all of them; CPU, memory and the pod's own constraints are
checked on the few that are looked at.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from sovereign_gpu.core.ledger import Load
from sovereign_gpu.core.model import Node, Resources

_NO_LOAD = Load()


@dataclass(slots=True)
class Seat:
    """A usable node of a pool with what is free on it."""

    node: Node
    bit: int
    """The node in sets of nodes (`feasibility`)."""
    free: Resources
    spare: int
    """GPUs of the node that no bound pod holds; reservations are taken off per pool."""


def seat(node: Node, bit: int, load: Load | None) -> Seat:
    """Return the node's seat under the given load."""
    load = load or _NO_LOAD
    room = node.allocatable
    return Seat(
        node=node,
        bit=bit,
        free=Resources(
            max(0, room.gpus - load.gpus), room.cpu - load.cpu, room.memory - load.memory
        ),
        # Bound pods beyond what is allocatable (a failed device) are shown, not held against
        # other nodes.
        spare=max(0, room.gpus - load.bound_gpus),
    )


@dataclass(slots=True)
class _Bucket:
    """Seats with the same number of free GPUs."""

    seats: dict[int, Seat] = field(default_factory=dict)
    """By bit."""
    nodes: int = 0
    cpu: int = 0
    memory: int = 0
    """No seat has more than these."""
    exact: bool = True
    """Some seat has as much; if not, the next search that fails sets them right."""

    def put(self, new: Seat) -> None:
        self.seats[new.bit] = new
        self.nodes |= new.bit
        self.cpu = max(self.cpu, new.free.cpu)
        self.memory = max(self.memory, new.free.memory)

    def remove(self, bit: int) -> None:
        free = self.seats.pop(bit).free
        self.nodes ^= bit
        if free.cpu == self.cpu or free.memory == self.memory:
            self.exact = False

    def fitting(self, demand: Resources, allowed: int) -> Iterator[Seat]:
        if demand.cpu > self.cpu or demand.memory > self.memory:
            return
        left = self.nodes & allowed
        while left:
            bit = left & -left
            free = self.seats[bit].free
            if free.cpu >= demand.cpu and free.memory >= demand.memory:
                yield self.seats[bit]
            left ^= bit
        if not self.exact:
            self.cpu = max(s.free.cpu for s in self.seats.values())
            self.memory = max(s.free.memory for s in self.seats.values())
            self.exact = True


@dataclass(slots=True)
class Floor:
    """The usable nodes of one pool."""

    seats: dict[str, Seat] = field(default_factory=dict)
    buckets: dict[int, _Bucket] = field(default_factory=dict)
    """By free GPUs; a dict, because a kubelet may claim any number of devices."""
    _sizes: list[int] = field(default_factory=list)
    spare: int = 0
    """GPUs on usable nodes that no bound pod holds."""

    def put(self, name: str, new: Seat | None) -> None:
        """Replace what is known of a node (None: it is not usable)."""
        old = self.seats.pop(name, None)
        if old is not None:
            self.spare -= old.spare
            bucket = self.buckets[old.free.gpus]
            bucket.remove(old.bit)
            if not bucket.seats:
                del self.buckets[old.free.gpus]
                del self._sizes[bisect_left(self._sizes, old.free.gpus)]
        if new is None:
            return
        if new.free.gpus not in self.buckets:
            self.buckets[new.free.gpus] = _Bucket()
            insort(self._sizes, new.free.gpus)
        self.seats[name] = new
        self.buckets[new.free.gpus].put(new)
        self.spare += new.spare

    def largest(self) -> int:
        """GPUs free on the emptiest node."""
        return self._sizes[-1] if self._sizes else 0

    def nodes(self) -> int:
        """Return the set of all usable nodes of the pool."""
        nodes = 0
        for bucket in self.buckets.values():
            nodes |= bucket.nodes
        return nodes

    def whole_nodes_free(self) -> int:
        """Nodes with GPUs of which none is taken."""
        return sum(
            1 for s in self.seats.values() if s.free.gpus and s.free.gpus == s.node.allocatable.gpus
        )

    def fitting(self, demand: Resources, allowed: int) -> Iterator[Seat]:
        """Yield the nodes of the set `allowed` on which the demand fits, the fullest first."""
        for gpus in self._sizes[bisect_left(self._sizes, demand.gpus) :]:
            yield from self.buckets[gpus].fitting(demand, allowed)

    def choose(self, demand: Resources, allowed: int) -> Seat | None:
        """Return the fullest node of the set `allowed` on which the demand fits, if any does."""
        return next(self.fitting(demand, allowed), None)

    def spares(self, demand: Resources, allowed: int, but: str, most: int) -> tuple[str, ...]:
        """Return the names of up to `most` such nodes besides `but`."""
        others = (s.node.name for s in self.fitting(demand, allowed) if s.node.name != but)
        return tuple(islice(others, most))

    def emptiest(self, demand: Resources, allowed: int) -> Iterator[Seat]:
        """Yield the nodes of the set `allowed` that could carry the demand if they were empty.

        The emptiest first: they have least to wait for.
        """
        for gpus in reversed(self._sizes):
            bucket = self.buckets[gpus]
            left = bucket.nodes & allowed
            while left:
                bit = left & -left
                room = bucket.seats[bit].node.allocatable
                if all(have >= need for have, need in zip(room, demand, strict=True)):
                    yield bucket.seats[bit]
                left ^= bit


@dataclass(slots=True)
class Census:
    """How many GPUs the nodes of each pool have, usable or not."""

    _of: dict[str, tuple[str, int]] = field(default_factory=dict)
    _sizes: dict[str, Counter[int]] = field(default_factory=dict)

    def put(self, name: str, pool: str, gpus: int) -> None:
        """Note where a node belongs; an empty pool: nowhere."""
        old = self._of.pop(name, None)
        if old is not None:
            sizes = self._sizes[old[0]]
            sizes[old[1]] -= 1
            if not sizes[old[1]]:
                del sizes[old[1]]
            if not sizes:
                del self._sizes[old[0]]
        if pool:
            self._of[name] = (pool, gpus)
            self._sizes.setdefault(pool, Counter())[gpus] += 1

    def largest(self, pool: str) -> int:
        """GPUs of the largest node of a pool, 0 without nodes."""
        return max(self._sizes.get(pool, ()), default=0)

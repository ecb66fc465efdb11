"""Which node of a pool a pod may count on.

A floor knows the usable nodes of a pool by name, its `shelves` by what is free, and make the
choice by the rule of `packing`. Here devices are whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from sovereign_gpu.core.ledger import Load
from sovereign_gpu.core.model import Constraints, Node, Resources
from sovereign_gpu.core.packing import DEVICE, Ask, Room, whole
from sovereign_gpu.core.shelves import Shelves
from sovereign_gpu.names import PRODUCT_LABEL

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
    room: Room
    """The same as `free`, in the words of `packing`."""


def seat(node: Node, bit: int, load: Load | None) -> Seat:
    """Return the node's seat under the given load."""
    load = load or _NO_LOAD
    size = node.allocatable
    free = Resources(max(0, size.gpus - load.gpus), size.cpu - load.cpu, size.memory - load.memory)
    kind = node.labels.get(PRODUCT_LABEL, "")
    return Seat(
        node=node,
        bit=bit,
        free=free,
        # Bound pods beyond what is allocatable (a failed device) are shown, not held against
        # other nodes.
        spare=max(0, size.gpus - load.bound_gpus),
        room=Room(whole(free.gpus), free.cpu, free.memory, size.gpus, kind),
    )


def ask(demand: Resources, constraints: Constraints | None = None) -> Ask:
    """Return what a pod takes; its constraints say which GPU models it may have."""
    kinds = _models(constraints) if constraints else ()
    return Ask(demand.gpus, DEVICE if demand.gpus else 0, demand.cpu, demand.memory, kinds)


def _models(constraints: Constraints) -> tuple[str, ...]:
    # Only what keeps models apart matters: shapes that may use few of them are weighed by it.
    # Which nodes a pod may really use is `feasibility`.
    for key, value in constraints.selector:
        if key == PRODUCT_LABEL:
            return (value,)
    models: set[str] = set()
    for term in constraints.terms or ():
        named = [r.values for r in term.labels if r.key == PRODUCT_LABEL and r.operator == "In"]
        if not named:
            return ()
        models.update(*named)
    return tuple(sorted(models))


@dataclass(slots=True)
class Floor:
    """The usable nodes of one pool."""

    shelves: Shelves = field(default_factory=Shelves)
    seats: dict[str, Seat] = field(default_factory=dict)
    spare: int = 0
    """GPUs on usable nodes that no bound pod holds."""
    _nodes: int = 0
    _by_bit: dict[int, Seat] = field(default_factory=dict)

    def put(self, name: str, new: Seat | None) -> None:
        """Replace what is known of a node (None: it is not usable)."""
        old = self.seats.pop(name, None)
        if old is not None:
            self.spare -= old.spare
            self._nodes ^= old.bit
            del self._by_bit[old.bit]
            self.shelves.remove(old.room, old.bit)
        if new is not None:
            self.spare += new.spare
            self._nodes ^= new.bit
            self.seats[name] = self._by_bit[new.bit] = new
            self.shelves.put(new.room, new.bit)

    def largest(self) -> int:
        """GPUs free on the emptiest node."""
        return self.shelves.largest() // DEVICE

    def nodes(self) -> int:
        """Return the set of all usable nodes of the pool."""
        return self._nodes

    def whole_nodes_free(self) -> int:
        """Nodes with GPUs of which none is taken."""
        return self._untouched().total()

    def largest_gang(self, spare: int) -> int:
        """GPUs that equal pods could get at once, each on an own node of which nothing is taken.

        Args:
            spare: GPUs of the pool that may be given out at all.
        """
        nodes = most = 0
        for size, number in sorted(self._untouched().items(), reverse=True):
            nodes += number
            most = max(most, size * min(nodes, spare // size))
        return most

    def _untouched(self) -> Counter[int]:
        """Count nodes of which no GPU is taken by how many they have."""
        seats = self.seats.values()
        return Counter(s.free.gpus for s in seats if s.free.gpus and s.free.gpus == s.room.size)

    def choose(self, demand: Resources, allowed: int) -> Seat | None:
        """Return the node of the set `allowed` on which the demand wastes least, if it fits any."""
        choice = self.shelves.choose(ask(demand), allowed)
        return None if choice is None else self._by_bit[choice.nodes & -choice.nodes]

    def spares(self, demand: Resources, allowed: int, but: str, most: int) -> tuple[str, ...]:
        """Return the names of up to `most` other nodes that take it, the fullest first."""
        found = (
            each.node.name
            for nodes in self.shelves.fitting(ask(demand), allowed)
            for each in self._seats(nodes)
        )
        return tuple(islice((name for name in found if name != but), most))

    def _seats(self, nodes: int) -> Iterator[Seat]:
        while nodes:
            bit = nodes & -nodes
            yield self._by_bit[bit]
            nodes ^= bit

    def emptiest(self, demand: Resources, allowed: int) -> Iterator[Seat]:
        """Yield the nodes of the set `allowed` that could carry the demand if they were empty.

        The emptiest first: they have least to wait for.
        """
        for nodes in self.shelves.emptiest():
            for each in self._seats(nodes & allowed):
                size = each.node.allocatable
                if all(have >= need for have, need in zip(size, demand, strict=True)):
                    yield each


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

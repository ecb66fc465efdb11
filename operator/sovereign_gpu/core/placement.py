"""Which node of a pool a pod may count on.

Nodes of a pool lie in buckets by free GPUs, so that a choice looks at the fullest nodes that
still fit (best fit) and never at all of them; CPU, memory and the pod's own constraints are
checked on the few that are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sovereign_gpu.core.ledger import Load
from sovereign_gpu.core.matching import feasible
from sovereign_gpu.core.model import Constraints, Node, Resources

_NO_LOAD = Load()


@dataclass(slots=True)
class Seat:
    """A usable node of a pool with what is free on it."""

    node: Node
    free: Resources
    spare: int
    """GPUs of the node that no bound pod holds; reservations are taken off per pool."""


def seat(node: Node, load: Load | None) -> Seat:
    """Return the node's seat under the given load."""
    load = load or _NO_LOAD
    room = node.allocatable
    return Seat(
        node=node,
        free=Resources(
            max(0, room.gpus - load.gpus), room.cpu - load.cpu, room.memory - load.memory
        ),
        # Bound pods beyond what is allocatable (a failed device) are shown, not held against
        # other nodes.
        spare=max(0, room.gpus - load.bound_gpus),
    )


@dataclass(slots=True)
class Floor:
    """The usable nodes of one pool."""

    seats: dict[str, Seat] = field(default_factory=dict)
    buckets: list[dict[str, Seat]] = field(default_factory=list)
    spare: int = 0
    """GPUs on usable nodes that no bound pod holds."""

    def put(self, name: str, new: Seat | None) -> None:
        """Replace what is known of a node (None: it is not usable)."""
        old = self.seats.pop(name, None)
        if old is not None:
            self.spare -= old.spare
            del self.buckets[old.free.gpus][name]
        if new is None:
            return
        while len(self.buckets) <= new.free.gpus:
            self.buckets.append({})
        self.seats[name] = new
        self.buckets[new.free.gpus][name] = new
        self.spare += new.spare

    def largest(self) -> int:
        """GPUs free on the emptiest node."""
        return next((g for g in range(len(self.buckets) - 1, 0, -1) if self.buckets[g]), 0)

    def whole_nodes_free(self) -> int:
        """Nodes with GPUs of which none is taken."""
        return sum(
            1
            for gpus in range(1, len(self.buckets))
            for s in self.buckets[gpus].values()
            if s.free.gpus == s.node.allocatable.gpus
        )

    def choose(self, demand: Resources, allowed: frozenset[str] | set[str]) -> Seat | None:
        """Return the fullest node of `allowed` on which the demand fits, if there is one."""
        for gpus in range(max(1, demand.gpus), len(self.buckets)):
            for name, candidate in self.buckets[gpus].items():
                free = candidate.free
                if free.cpu >= demand.cpu and free.memory >= demand.memory and name in allowed:
                    return candidate
        return None


@dataclass(slots=True)
class FeasibleNodes:
    """Per constraints, the names of the nodes they admit; kept up as nodes change."""

    nodes: dict[str, Node]
    sets: dict[Constraints, set[str]] = field(default_factory=dict)

    def of(self, constraints: Constraints) -> set[str]:
        """Return the nodes that pods with these constraints may use."""
        found = self.sets.get(constraints)
        if found is None:
            found = {name for name, node in self.nodes.items() if feasible(constraints, node)}
            self.sets[constraints] = found
        return found

    def refresh(self, name: str, node: Node | None) -> None:
        """Judge one node again for all constraints that are in use."""
        for constraints, names in self.sets.items():
            if node is not None and feasible(constraints, node):
                names.add(name)
            else:
                names.discard(name)

    def keep_only(self, in_use: set[Constraints]) -> None:
        """Forget constraints that no waiting pod has."""
        for constraints in self.sets.keys() - in_use:
            del self.sets[constraints]

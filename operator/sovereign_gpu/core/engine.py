"""The one place that decides which pod may start: state in, releases out.

`Engine` is told what the API server shows (`State`'s methods) and asked to `plan`. It counts a
release the moment it decides it and only forgets it when told that the API server refused
(`take_back`) or the pod is gone, so that a lost answer can never count twice.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from sovereign_gpu.core import explain
from sovereign_gpu.core.ledger import Charge
from sovereign_gpu.core.model import Pod, Reason, Release, Tenant, Wait
from sovereign_gpu.core.placement import Seat
from sovereign_gpu.core.queue import Line, Queue, Stop
from sovereign_gpu.core.state import State

_NODES_SAY_NO = frozenset(
    {Reason.POOL_FULL, Reason.FRAGMENTED, Reason.NODE_CONSTRAINTS, Reason.NEVER_FITS}
)
"""Waits that may end when nodes or their load change."""
_SPARES = 3
"""Nodes named besides the one that is counted on, where a pod is steered."""
_HOPE = (
    Reason.QUOTA_EXHAUSTED,
    Reason.POOL_FULL,
    Reason.FRAGMENTED,
    Reason.NODE_CONSTRAINTS,
    Reason.NEVER_FITS,
    Reason.NO_ELIGIBLE_POOL,
    Reason.POLICY_MISSING,
)
"""Of several pools, the wait that is reported is the one most likely to end by itself."""


@dataclass(slots=True)
class Engine(State):
    """Decides; see the module."""

    def plan(self, limit: int) -> list[Release]:
        """Decide up to `limit` releases and charge them; the emptiest guarantee goes first.

        Tenants that are not finished when the limit is reached stay due for the next call.
        """
        releases: list[Release] = []
        turns = [(self._fill(name), name) for name in sorted(self.due) if name in self.queues]
        self.due.clear()
        heapq.heapify(turns)
        passes = {name: _Pass(self, name) for _, name in turns}
        while turns:
            if len(releases) >= limit:
                self.due.update(name for _, name in turns)
                break
            _, name = heapq.heappop(turns)
            release = passes[name].next()
            if release is not None:
                releases.append(release)
                heapq.heappush(turns, (self._fill(name), name))
        return releases

    def take_back(self, uid: str, refusal: str) -> None:
        """Undo a decision that the API server refused.

        The pod is held with the refusal as its reason until its next change or `State.place`, so
        that a lasting refusal cannot become a loop.
        """
        if self.assumed.pop(uid, None) is None:
            return
        self.charge(uid, None)
        pod = self.pods.get(uid)
        if pod is not None and not pod.deleting:
            self.stopped[uid] = explain.refused(refusal)

    def _fill(self, name: str) -> tuple[int, str]:
        # How full the tenant's guarantees are, in parts of 2**32; the name makes ties stable.
        guaranteed = counted = 0
        for pool, gpus, *_ in self.tenants[name].shares:
            guaranteed += gpus
            counted += self.ledger.counted(name, pool)
        return ((counted << 32) // guaranteed if guaranteed else 1 << 32, name)

    def screen(self, tenant: Tenant, gpus: int) -> Stop | None:
        """Return why no pod of this size can start in any pool, None if one might."""
        stops = []
        for name, guaranteed, *_ in tenant.shares:
            wait = self._refusal(tenant, name, guaranteed, gpus)
            if wait is None:
                return None
            stops.append(Stop(name, wait))
        return self._stopped_by(tenant, stops)

    def try_line(self, tenant: Tenant, line: Line) -> Release | Stop:
        """Release the first pod of the line to the first pool that takes it."""
        stops = []
        demand = line.shape.demand
        for name, guaranteed, *_ in tenant.shares:
            wait = self._refusal(tenant, name, guaranteed, demand.gpus)
            if wait is None:
                admitted = self.feasible.of(line.shape.constraints)
                seat = self.floors[name].choose(demand, admitted)
                if seat is not None:
                    return self._commit(tenant, name, seat, line)
                wait = explain.node_constraints(name, demand, self.spare(name))
            stops.append(Stop(name, wait))
        return self._stopped_by(tenant, stops)

    def _stopped_by(self, tenant: Tenant, stops: list[Stop]) -> Stop:
        for stop in stops:
            if stop.wait.reason in _NODES_SAY_NO:
                self.blocked[stop.pool].add(tenant.name)
        nothing = Stop("", explain.no_pool_named(tenant))
        return min(stops, key=lambda stop: _HOPE.index(stop.wait.reason), default=nothing)

    def _refusal(self, tenant: Tenant, name: str, guaranteed: int, gpus: int) -> Wait | None:
        """Return what stops all pods of this size in one pool, whatever their constraints."""
        barred = self.barred.get((tenant.name, name))
        if barred is not None or not gpus:
            return barred
        largest_node = self.census.largest(name)
        if gpus > guaranteed or (largest_node and gpus > largest_node):
            return explain.never_fits(name, gpus, guaranteed, largest_node)
        counted = self.ledger.counted(tenant.name, name)
        if counted + gpus > guaranteed:
            return explain.quota_exhausted(tenant.name, name, gpus, counted, guaranteed)
        return self._lack(name, gpus)

    def _lack(self, pool: str, gpus: int) -> Wait | None:
        spare, largest = self.spare(pool), self.floors[pool].largest()
        if spare < gpus:
            return explain.pool_full(pool, gpus, max(0, spare))
        return explain.fragmented(pool, gpus, spare, largest) if largest < gpus else None

    def _commit(self, tenant: Tenant, pool: str, seat: Seat, line: Line) -> Release:
        pod = line.first()
        if pod is None:
            raise AssertionError("a line without members was tried")
        self.dequeue(pod.uid)
        node = seat.node.name
        pinned = _may_be_pinned(pod)
        spares: tuple[str, ...] = ()
        if not pinned and _may_be_steered(pod):
            allowed = self.feasible.of(line.shape.constraints)
            spares = self.floors[pool].spares(pod.demand, allowed, node, _SPARES)
        self.assumed[pod.uid] = pool
        self.charge(pod.uid, Charge(tenant.name, pool, node, pod.demand, bound=False))
        return Release(pod, tenant.name, pool, node, pinned, spares)


@dataclass(slots=True)
class _Pass:
    """One walk over a tenant's lines; what cannot move is not asked again in this walk.

    Within a plan quota and capacity only shrink, so a refusal holds until its end.
    """

    engine: Engine
    name: str
    _open: set[int] | None = None
    """Sizes (GPUs of a pod) that nothing but the nodes can refuse; None: not begun."""
    _heap: list[tuple[tuple[int, float, str], Line]] = field(default_factory=list)

    def next(self) -> Release | None:
        """Return the tenant's next release, or None when no line of it can move."""
        tenant = self.engine.tenants[self.name]
        queue = self.engine.queues.get(self.name)
        if queue is None:
            return None
        self._begin(tenant, queue)
        while self._open and self._heap:
            _, line = heapq.heappop(self._heap)
            if line.shape.demand.gpus not in self._open:
                continue
            result = self.engine.try_line(tenant, line)
            if isinstance(result, Release):
                if key := line.key():
                    heapq.heappush(self._heap, (key, line))
                return result
            line.stop = result
        return None

    def _begin(self, tenant: Tenant, queue: Queue) -> None:
        first = self._open is None
        sizes = queue.sizes.keys() if self._open is None else self._open & queue.sizes.keys()
        self._open = set()
        for gpus in sizes:
            stop = queue.sizes[gpus].stop = self.engine.screen(tenant, gpus)
            if stop is None:
                self._open.add(gpus)
        if first:
            self._heap = [
                (key, line)
                for gpus in self._open
                for line in queue.sizes[gpus].lines.values()
                if (key := line.key())
            ]
            heapq.heapify(self._heap)


def _may_be_steered(pod: Pod) -> bool:
    # kube-scheduler looks at a sample of a large pool, in which the node we count on may be
    # missing; a few named nodes are all looked at. Terms of the pod's own stay as they are.
    return not pod.follows_others and pod.shape.required is None


def _may_be_pinned(pod: Pod) -> bool:
    # A pin cannot be undone: only where an owner would replace the pod, and only where nothing
    # the engine does not see (volumes, other pods, ports) takes part in the choice.
    return pod.controlled and not pod.follows_others

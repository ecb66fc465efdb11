"""The one place that decides which pod may start: state in, releases out.

`Engine` is told what the API server shows (`State`'s methods) and asked to `plan`. It counts a
release the moment it decides it and only forgets it when told that the API server refused
(`take_back`) or the pod is gone, so that a lost answer can never count twice.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from sovereign_gpu.core import explain, residency
from sovereign_gpu.core.ledger import Charge
from sovereign_gpu.core.model import Pod, Pool, Reason, Release, Tenant, Wait
from sovereign_gpu.core.placement import Floor, Seat
from sovereign_gpu.core.queue import Line
from sovereign_gpu.core.state import State

_CAPACITY = frozenset({Reason.POOL_FULL, Reason.FRAGMENTED, Reason.NODE_CONSTRAINTS})
_HOPE = (
    Reason.QUOTA_EXHAUSTED,
    Reason.POOL_FULL,
    Reason.FRAGMENTED,
    Reason.NODE_CONSTRAINTS,
    Reason.NEVER_FITS,
    Reason.NO_ELIGIBLE_POOL,
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
        if uid in self.pods:
            self.stopped[uid] = explain.refused(refusal)

    def _fill(self, name: str) -> tuple[int, str]:
        # How full the tenant's guarantees are, in parts of 2**32; the name makes ties stable.
        tenant = self.tenants.get(name)
        if tenant is None:
            return (0, name)
        guaranteed = sum(gpus for _, gpus in tenant.guaranteed)
        counted = sum(self.ledger.counted(name, pool) for pool, _ in tenant.guaranteed)
        return ((counted << 32) // guaranteed if guaranteed else 1 << 32, name)

    def try_line(self, tenant: Tenant, line: Line) -> Release | None:
        """Release the first pod of the line if any pool of the tenant takes it."""
        waits: list[tuple[int, str, Wait]] = []
        for pool_name, guaranteed in tenant.guaranteed:
            verdict = self._verdict(tenant, pool_name, guaranteed, line)
            if isinstance(verdict, Seat):
                return self._commit(tenant, pool_name, verdict, line)
            if verdict.reason in _CAPACITY:
                self.capacity_blocked[pool_name].add(tenant.name)
            waits.append((_HOPE.index(verdict.reason), pool_name, verdict))
        if waits:
            _, line.pool, line.wait = min(waits, key=lambda wait: wait[0])
        else:
            line.pool, line.wait = "", explain.no_pool_named(tenant)
        return None

    def _verdict(self, tenant: Tenant, name: str, guaranteed: int, line: Line) -> Seat | Wait:
        pool, floor, demand = self.pools.get(name), self.floors.get(name), line.shape.demand
        if pool is None or floor is None or name in self.clashes:
            return explain.pool_absent(name, self.clashes.get(name))
        if not residency.allows(tenant, pool, self.policies):
            return explain.not_allowed(tenant, pool)
        largest_node = self.largest_node.get(name, 0)
        if demand.gpus > guaranteed or (largest_node and demand.gpus > largest_node):
            return explain.never_fits(name, demand, guaranteed, largest_node)
        counted = self.ledger.counted(tenant.name, name)
        if counted + demand.gpus > guaranteed:
            return explain.quota_exhausted(tenant.name, name, demand, counted, guaranteed)
        return self._seat_in(pool, floor, line)

    def _seat_in(self, pool: Pool, floor: Floor, line: Line) -> Seat | Wait:
        demand = line.shape.demand
        spare = floor.spare - self.ledger.reserved_in.get(pool.name, 0)
        if spare < demand.gpus:
            return explain.pool_full(pool.name, demand, max(0, spare))
        if floor.largest() < demand.gpus:
            return explain.fragmented(pool.name, demand, spare, floor.largest())
        found = floor.choose(demand, self.feasible.of(line.shape.constraints))
        return found or explain.node_constraints(pool.name, demand, spare)

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
        line.wait = None
        return Release(pod, tenant.name, pool, node, pinned, spares)


@dataclass(slots=True)
class _Pass:
    """One walk over a tenant's lines; a line that cannot move is not asked again in this walk."""

    engine: Engine
    name: str
    _heap: list[tuple[tuple[int, float, str], Line]] | None = None
    _refused: dict[int, tuple[str, Wait]] = field(default_factory=dict)
    """Per size in GPUs, a wait that does not depend on nodes, so that it holds for the size."""

    def next(self) -> Release | None:
        """Return the tenant's next release, or None when no line of it can move."""
        tenant = self.engine.tenants.get(self.name)
        queue = self.engine.queues.get(self.name)
        if tenant is None or queue is None:
            return None
        missing = residency.missing(tenant, self.engine.policies)
        if missing:
            for line in queue.lines.values():
                line.pool, line.wait = "", explain.policy_missing(missing)
            return None
        if self._heap is None:
            self._heap = [(key, line) for line in queue.lines.values() if (key := line.key())]
            heapq.heapify(self._heap)
        while self._heap:
            _, line = heapq.heappop(self._heap)
            known = self._refused.get(line.shape.demand.gpus)
            if known is not None:
                line.pool, line.wait = known
                continue
            release = self.engine.try_line(tenant, line)
            if release is not None:
                if key := line.key():
                    heapq.heappush(self._heap, (key, line))
                return release
            if line.wait is not None and line.wait.reason not in _CAPACITY:
                self._refused[line.shape.demand.gpus] = (line.pool, line.wait)
        return None


_SPARES = 3


def _may_be_steered(pod: Pod) -> bool:
    # kube-scheduler looks at a sample of a large pool, in which the node we count on may be
    # missing; a few named nodes are all looked at. Terms of the pod's own stay as they are.
    return not pod.follows_others and pod.shape.required is None


def _may_be_pinned(pod: Pod) -> bool:
    # A pin cannot be undone: only where an owner would replace the pod, and only where nothing
    # the engine does not see (volumes, other pods, ports) takes part in the choice.
    return pod.controlled and not pod.follows_others

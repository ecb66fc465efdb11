"""The one place that decides which pod may start: state in, releases out.

`Engine` is told what the API server shows (`State`'s methods) and asked to `plan`. It counts a
release the moment it decides it and only forgets it when told that the API server refused
(`take_back`) or the pod is gone, so that a lost answer can never count twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from sovereign_gpu.core import explain, fairshare
from sovereign_gpu.core.claims import Claim
from sovereign_gpu.core.ledger import FOREIGN, Charge
from sovereign_gpu.core.model import Placement, Pod, Reason, Release, Resources, Share, Tenant, Wait
from sovereign_gpu.core.placement import Seat
from sovereign_gpu.core.queue import Line, Queue, Stop
from sovereign_gpu.core.state import State

_CLAIMANTS = 4
"""Lines asked for a node to claim; some cannot use any."""
_LAST = (1 << 62, 0.0, "")
_SPARES = 3
"""Nodes named besides the one that is counted on, where a pod is steered."""
_HOPE = (
    Reason.QUOTA_EXHAUSTED,
    Reason.GUARANTEE_LENT,
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
        """Decide up to `limit` releases and charge them.

        First whoever is below its guarantee, the emptiest guarantee before others; then, from
        what is left, whoever may borrow, the smallest weighted surplus before others. Tenants
        that are not finished when the limit is reached stay due for the next call.
        """
        releases: list[Release] = []
        turns = [(0, self._fill(name), name) for name in sorted(self.due) if name in self.queues]
        self.due.clear()
        heapq.heapify(turns)
        passes = {name: _Pass(self, name) for _, _, name in turns}
        while turns:
            if len(releases) >= limit:
                self.due.update(name for _, _, name in turns)
                break
            _, _, name = heapq.heappop(turns)
            walk = passes[name]
            release = walk.next()
            if release is not None:
                releases.append(release)
            elif not walk.borrows and self._may_borrow(name):
                walk = passes[name] = _Pass(self, name, borrows=True)
            else:
                continue
            key = self._surplus(name) if walk.borrows else self._fill(name)
            heapq.heappush(turns, (int(walk.borrows), key, name))
        return releases

    def advance(self, now: float) -> None:
        """Let the history of borrowing go on until `now`, seconds since the epoch."""
        self.history.advance(now, self.tenants.values(), self.surplus)

    def resume(self) -> None:
        """Take over the stored histories of borrowing: somebody else decided until now."""
        for tenant in self.tenants.values():
            if tenant.history is not None:
                self.history.restore(tenant.name, tenant.history)

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

    def surplus(self, tenant: Tenant) -> int:
        """Return what the tenant holds beyond its guarantees, in parts of `fairshare.ONE`."""
        return fairshare.surplus(tenant, self.ledger.usage, self.capacity)

    def _surplus(self, name: str) -> int:
        tenant = self.tenants[name]
        return (self.surplus(tenant) + self.history.average.get(name, 0)) // tenant.weight

    def _fill(self, name: str) -> int:
        # How full the tenant's guarantees are, in parts of 2**32.
        guaranteed = counted = 0
        for share in self.tenants[name].shares:
            guaranteed += share.guaranteed
            counted += min(share.guaranteed, self.ledger.counted(name, share.pool))
        return (counted << 32) // guaranteed if guaranteed else 1 << 32

    def _may_borrow(self, name: str) -> bool:
        return name in self.queues and any(s.borrowing_limit for s in self.tenants[name].shares)

    def screen(self, tenant: Tenant, gpus: int, *, borrows: bool) -> Stop | None:
        """Return why no pod of this size can start in any pool, None if one might."""
        stops = []
        for share in tenant.shares:
            stop = self._refusal(tenant, share, gpus, borrows=borrows)
            if stop is None:
                return None
            stops.append(stop)
        return self._stopped_by(tenant, stops)

    def try_line(self, tenant: Tenant, line: Line, *, borrows: bool) -> Release | Stop:
        """Release the first pod of the line to the first pool that takes it."""
        stops = []
        for share in tenant.shares:
            found, claimed = self._seat_for(tenant, share, line, borrows=borrows)
            if isinstance(found, Seat):
                return self._commit(tenant, share.pool, found, line, claimed)
            stops.append(found)
        return self._stopped_by(tenant, stops)

    def obstacle(self, tenant: Tenant, share: Share, line: Line) -> Stop | None:
        """Return what keeps the pods of the line out of one pool at this moment, if anything."""
        counted = self.ledger.counted(tenant.name, share.pool)
        borrows = counted + line.shape.demand.gpus > share.guaranteed
        found, _ = self._seat_for(tenant, share, line, borrows=borrows)
        return found if isinstance(found, Stop) else None

    def _seat_for(
        self, tenant: Tenant, share: Share, line: Line, *, borrows: bool
    ) -> tuple[Seat | Stop, int]:
        """Return a seat in the pool or what is in the way, and the nodes that others claim."""
        pool, demand = share.pool, line.shape.demand
        stop = self._refusal(tenant, share, demand.gpus, borrows=borrows)
        if stop is not None:
            return stop, 0
        admitted = self.feasible.of(line.shape.constraints)
        claimed = self.claims.barred(tenant.name, pool, line, borrows=borrows)
        seat = self._choose(pool, demand, admitted & ~claimed)
        return seat or self._no_seat(pool, demand, admitted if claimed else 0), claimed

    def _choose(self, pool: str, demand: Resources, allowed: int) -> Seat | None:
        floor, certain = self.floors[pool], allowed
        for name in self.doubted:
            certain &= ~self.feasible.bits[name]
        seat = floor.choose(demand, certain)
        if seat is None and certain != allowed:
            seat = floor.choose(demand, allowed)
        return seat

    def _no_seat(self, pool: str, demand: Resources, admitted: int) -> Stop:
        spare = self.spare(pool)
        if self.floors[pool].choose(demand, admitted) is not None:
            return Stop(pool, explain.claimed(pool, demand.gpus, spare), elastic=True)
        return Stop(pool, explain.node_constraints(pool, demand, spare), elastic=True)

    def _stopped_by(self, tenant: Tenant, stops: list[Stop]) -> Stop:
        for stop in stops:
            if stop.elastic:
                self.blocked[stop.pool].add(tenant.name)
        return hopeful(stops) if stops else Stop("", explain.no_pool_named(tenant))

    def _refusal(self, tenant: Tenant, share: Share, gpus: int, *, borrows: bool) -> Stop | None:
        """Return what stops all pods of this size in one pool, whatever their constraints."""
        pool = share.pool
        barred = self.barred.get((tenant.name, pool))
        if barred is not None or not gpus:
            return Stop(pool, barred) if barred else None
        largest_node = self.census.largest(pool)
        if gpus > share.allowance or (largest_node and gpus > largest_node):
            wait = explain.never_fits(share, gpus, largest_node)
            return Stop(pool, wait, elastic=gpus <= share.allowance)
        counted = self.ledger.counted(tenant.name, pool)
        if counted + gpus > (share.allowance if borrows else share.guaranteed):
            return Stop(pool, explain.quota_exhausted(tenant.name, share, gpus, counted))
        within = counted + gpus <= share.guaranteed
        lack = self._lack(tenant, share, gpus, counted if within else None)
        return Stop(pool, lack, elastic=True) if lack else None

    def _lack(self, tenant: Tenant, share: Share, gpus: int, counted: int | None) -> Wait | None:
        # `counted` is there for whoever is within its guarantee; others only get what is lent.
        pool = share.pool
        spare, largest = self.spare(pool), self.floors[pool].largest()
        borrowed = self.lending.borrowed.get(pool, 0)
        kept = self.lending.kept_by_others(tenant.name, pool)
        if spare < gpus:
            if counted is not None and borrowed:
                return explain.guarantee_lent(share, gpus, counted, max(0, spare), borrowed)
            return explain.pool_full(pool, gpus, max(0, spare), self.faults.lost[pool])
        if spare - kept < gpus:
            if counted is None:
                return explain.not_lent(share, gpus, spare, kept)
            # What others never lend is not given away in the place of what this tenant lent. A
            # shortage that is there without any borrowing (lost nodes) is another matter.
            if borrowed >= gpus - (spare - kept):
                return explain.guarantee_lent(share, gpus, counted, max(0, spare - kept), borrowed)
        return explain.fragmented(pool, gpus, spare, largest) if largest < gpus else None

    def _commit(self, tenant: Tenant, pool: str, seat: Seat, line: Line, claimed: int) -> Release:
        pod = line.first()
        if pod is None:
            raise AssertionError("a line without members was tried")
        self.dequeue(pod.uid)
        node = seat.node.name
        placement = self.pools[pool].placement
        pinned = placement is Placement.PACK and _may_be_pinned(pod)
        spares: tuple[str, ...] = ()
        if placement is Placement.PACK and not pinned and _may_be_steered(pod):
            allowed = self.feasible.of(line.shape.constraints) & ~claimed
            spares = self.floors[pool].spares(pod.demand, allowed, node, _SPARES)
        self.assumed[pod.uid] = pool
        self.charge(pod.uid, Charge(tenant.name, pool, node, pod.demand, bound=False))
        return Release(pod, tenant.name, pool, node, pinned, spares, placement)

    # --- nodes that drain for pods within their guarantee ------------------------------------
    def renew_claims(self, tenant: Tenant) -> None:
        """Claim nodes for the tenant's first pods that its guarantee covers and nodes refuse."""
        for share in tenant.shares:
            if self.claims.put(tenant.name, share.pool, self._claim(tenant, share)):
                self._wake(share.pool)

    def _claim(self, tenant: Tenant, share: Share) -> Claim | None:
        pool = share.pool
        headroom = share.guaranteed - self.ledger.counted(tenant.name, pool)
        queue = self.queues.get(tenant.name)
        if queue is None or headroom <= 1 or (tenant.name, pool) in self.barred:
            return None
        before = self.claims.get(tenant.name, pool)
        if before is not None and _drains(before.line, headroom):
            # One node after the other: a new choice each time would serve nobody.
            return self._claim_for(before.line, pool, headroom, before)
        if not self.floors[pool].nodes() & ~self.claims.nodes.get(pool, 0):
            return None
        waiting = (
            (line.key(), line)
            for gpus, size in queue.sizes.items()
            if 1 < gpus <= headroom
            for line in size.lines.values()
            if line.wait is not None
        )
        for _, line in heapq.nsmallest(_CLAIMANTS, waiting, key=lambda each: each[0] or _LAST):
            claim = self._claim_for(line, pool, headroom, None)
            if claim is not None:
                return claim
        return None

    def _can_drain(self, seat: Seat, gpus: int) -> bool:
        # What belongs to no tenant is infrastructure: it does not end.
        charges = self.ledger.charges
        held = (charges[uid] for uid in self.ledger.by_node.get(seat.node.name, ()))
        foreign = sum(charge.demand.gpus for charge in held if charge.tenant == FOREIGN)
        return seat.node.allocatable.gpus - foreign >= gpus

    def _claim_for(
        self, line: Line, pool: str, headroom: int, before: Claim | None
    ) -> Claim | None:
        demand = line.shape.demand
        wanted = min(len(line.members), headroom // demand.gpus)
        nodes = before.nodes & self.floors[pool].nodes() if before is not None else 0
        while nodes.bit_count() > wanted:
            nodes &= nodes - 1
        missing = wanted - nodes.bit_count()
        if missing:
            allowed = self.feasible.of(line.shape.constraints) & ~self.claims.nodes.get(pool, 0)
            found = self.floors[pool].emptiest(demand, allowed)
            ending = (seat.bit for seat in found if self._can_drain(seat, demand.gpus))
            for bit in islice(ending, missing):
                nodes |= bit
        return Claim(line, line.key() or _LAST, nodes) if nodes else None


def hopeful(stops: Iterable[Stop]) -> Stop:
    """Return the one of several obstacles that is most likely to end by itself."""
    return min(stops, key=lambda stop: _HOPE.index(stop.wait.reason))


@dataclass(slots=True)
class _Pass:
    """One walk over a tenant's lines; what cannot move is not asked again in this walk.

    Within a plan quota and capacity only shrink, so a refusal holds until its end.
    """

    engine: Engine
    name: str
    borrows: bool = False
    """Beyond guarantees; a first walk within them comes before."""
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
            result = self.engine.try_line(tenant, line, borrows=self.borrows)
            if isinstance(result, Release):
                if key := line.key():
                    heapq.heappush(self._heap, (key, line))
                return result
            line.stop = result
        if not self.borrows:
            self.engine.renew_claims(tenant)
        return None

    def _begin(self, tenant: Tenant, queue: Queue) -> None:
        first = self._open is None
        sizes = queue.sizes.keys() if self._open is None else self._open & queue.sizes.keys()
        self._open = set()
        for gpus in sizes:
            stop = queue.sizes[gpus].stop = self.engine.screen(tenant, gpus, borrows=self.borrows)
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


def _drains(line: Line, headroom: int) -> bool:
    """Whether a line that claimed nodes still waits for them, and may have them."""
    return bool(line.members) and line.wait is not None and line.shape.demand.gpus <= headroom


def _may_be_steered(pod: Pod) -> bool:
    # kube-scheduler looks at a sample of a large pool, in which the node we count on may be
    # missing; a few named nodes are all looked at. Terms of the pod's own stay as they are.
    return not pod.follows_others and pod.shape.required is None


def _may_be_pinned(pod: Pod) -> bool:
    # A pin cannot be undone: only where an owner would replace the pod, and only where nothing
    # the engine does not see (volumes, other pods, ports) takes part in the choice.
    return pod.controlled and not pod.follows_others

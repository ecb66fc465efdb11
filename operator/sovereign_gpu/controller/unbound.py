"""Released pods that are not bound: notices them, says so, and gives up those that will never be.

A pod is tied to nodes when its required node affinity names them; so is what the engine pinned. If
all of them are gone or take nothing new, or kube-scheduler says that it cannot place the pod, and
that lasts, waiting is pointless: the pod is evicted and its owner makes a new one, which is planned
anew. A kube-scheduler that has not looked yet says nothing, so its silence gives nobody up. What
could still be bound stays charged.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from sovereign_gpu import names
from sovereign_gpu.cluster.backoff import Backoff
from sovereign_gpu.controller.evictions import Evictions, Outcome
from sovereign_gpu.core import explain
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.eviction import Brake
from sovereign_gpu.core.model import Constraints, Pod, Reason
from sovereign_gpu.core.report import TenantReport, WaitReport

log = logging.getLogger(__name__)

_NOTICED_AFTER = 25.0
"""Seconds without a node after which a released pod is reported; that it is looked at and written
now and then takes the rest of half a minute."""
_HOPELESS_FOR = 30.0
"""Seconds for which it must have been hopeless to place a pod before it is given up."""
_DOUBTED_FOR = 300.0
"""Seconds for which a node is avoided that did not take a pod although it fits by the books."""
_AGAIN = Backoff(30.0, 600.0)
"""Between giving up pods of one owner and giving up those that it made instead."""


class _Failure(NamedTuple):
    """The last time that pods of an owner were given up."""

    at: float
    pause: float

    @property
    def again_at(self) -> float:
        return self.at + self.pause


@dataclass(slots=True)
class Unbound:
    """Knows since when released pods wait for a node; see the module."""

    engine: Engine
    evictions: Evictions
    clock: Callable[[], float] = time.monotonic
    given_up: Counter[str] = field(default_factory=Counter)
    """Pods evicted because they could not be bound, by tenant, since the start."""
    _since: dict[str, float] = field(default_factory=dict)
    _hopeless_since: dict[str, float] = field(default_factory=dict)
    _failures: dict[str, _Failure] = field(default_factory=dict)
    """By uid of the owner."""
    _doubts: dict[str, float] = field(default_factory=dict)
    """Doubted nodes, and until when."""
    _brake: Brake | None = None

    def settle(self, uid: str, pod: Pod | None) -> None:
        """Note what the watch shows of a pod."""
        if pod is None or pod.node or names.GATE in pod.gates or not pod.demand.gpus:
            self._since.pop(uid, None)
            self._hopeless_since.pop(uid, None)
        else:
            self._since.setdefault(uid, self.clock())

    def add_to(self, reports: dict[str, TenantReport]) -> None:
        """Add the pods that wait too long for a node to what their tenants wait for."""
        limit = self.clock() - _NOTICED_AFTER
        for uid, since in self._since.items():
            charge = self.engine.ledger.charges.get(uid)
            if since > limit or charge is None or charge.tenant not in reports:
                continue
            row = reports[charge.tenant].waiting.setdefault(Reason.CANNOT_BIND, WaitReport())
            row.pods += 1
            row.gpus += charge.demand.gpus
            row.message = explain.cannot_bind(row.pods, charge.pool).message

    def look(self) -> None:
        """Give up what has been hopeless for long enough, and doubt nodes that refused."""
        now = self.clock()
        if self._brake is None:
            self._brake = Brake(now)
        self._forget(now)
        room = self._brake.room(now, len(self.engine.ledger.charges))
        for uid in self._since:
            pod = self.engine.pods.get(uid)
            why = self._hopeless(pod) if pod is not None and not pod.deleting else ""
            if pod is None or not why:
                self._hopeless_since.pop(uid, None)
            elif now - self._hopeless_since.setdefault(uid, now) >= _HOPELESS_FOR:
                self._doubt(pod, now)
                if room > 0 and self._give_up(pod, why, now, self._brake):
                    room -= 1

    # --- one pod ----------------------------------------------------------------------------
    def _hopeless(self, pod: Pod) -> str:
        """Return why no node will take the pod, empty while one might."""
        nodes = _tied_to(pod.constraints)
        if not pod.pool or not nodes:
            return ""
        if pod.unschedulable:
            return f"kube-scheduler finds no place for it on {_listed(nodes)}: {pod.unschedulable}"
        shut = [self._shut(name) for name in nodes]
        return "; ".join(shut) if all(shut) else ""

    def _shut(self, name: str) -> str:
        if name not in self.engine.nodes:
            return f"node {name} is gone"
        for fault in self.engine.faults.of.get(name, ()):
            if fault.closes:
                return f"node {name} takes no new pods: {fault.message}"
        return ""

    def _give_up(self, pod: Pod, why: str, now: float, brake: Brake) -> bool:
        pool = self.engine.pools.get(pod.pool)
        if not pod.controlled and not (pool and pool.delete_bare_pods):
            return False
        owner = pod.owner.uid if pod.owner else pod.uid
        failure = self._failures.get(owner)
        # Pods that were there when it last failed belong to that failure; those that were made
        # since have failed again.
        again = failure is not None and self._since[pod.uid] >= failure.at
        if failure is not None and again and now < failure.again_at:
            return False
        message = f"released pod {pod.name} is deleted, because {why}"
        done = partial(self._ended, pod, brake, now)
        if not self.evictions.evict(pod, Reason.CANNOT_BIND, message, done):
            return False
        brake.take(now)
        if failure is None:
            self._failures[owner] = _Failure(now, _AGAIN.first)
        elif again:
            self._failures[owner] = _Failure(now, _AGAIN.next(failure.pause))
        return True

    def _ended(self, pod: Pod, brake: Brake, asked_at: float, outcome: Outcome) -> None:
        if outcome is Outcome.GONE:
            self.given_up[self.engine.tenant_of(pod.namespace)] += 1
        elif outcome in {Outcome.BLOCKED, Outcome.REFUSED}:
            brake.give_back(asked_at)

    # --- nodes ------------------------------------------------------------------------------
    def _doubt(self, pod: Pod, now: float) -> None:
        # What is gone or shut is no surprise; a node that looks fine and was refused is.
        for name in _tied_to(pod.constraints):
            if not self._shut(name):
                if name not in self._doubts:
                    log.warning("node %s does not take a pod that fits: %s", name, pod.name)
                self._doubts[name] = now + _DOUBTED_FOR
                self.engine.doubt(name)

    def _forget(self, now: float) -> None:
        for name in [name for name, until in self._doubts.items() if until <= now]:
            del self._doubts[name]
            self.engine.trust(name)
        quiet = [o for o, failure in self._failures.items() if now > failure.again_at + _AGAIN.most]
        for owner in quiet:
            del self._failures[owner]
        for tenant in self.given_up.keys() - self.engine.tenants.keys():
            del self.given_up[tenant]


def _tied_to(constraints: Constraints) -> tuple[str, ...]:
    """Return the nodes outside which the pod cannot go, none if it is not tied to any by name."""
    nodes: dict[str, None] = {}
    for term in constraints.terms or ():
        named = [r.values for r in term.fields if r.key == "metadata.name" and r.operator == "In"]
        if not named:
            return ()
        nodes.update(dict.fromkeys(set(named[0]).intersection(*named[1:])))
    return tuple(sorted(nodes))


def _listed(nodes: tuple[str, ...]) -> str:
    return f"node {nodes[0]}" if len(nodes) == 1 else f"nodes {', '.join(nodes)}"

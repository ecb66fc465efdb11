"""The loop: take what changed, let the engine decide, send what it decided.

One task owns the engine. It hands changes over in an order that makes sense (namespaces and
nodes before pods), never blocks the event loop for long, and plans only as far ahead as the
writer can send soon, so that a decision is fresh when it leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from sovereign_gpu.cluster.informer import Informer
from sovereign_gpu.cluster.observed import Observed
from sovereign_gpu.cluster.store import Store
from sovereign_gpu.cluster.writer import Lane, Writer
from sovereign_gpu.controller.drift import Drift
from sovereign_gpu.controller.egress import EgressPolicies
from sovereign_gpu.controller.guards import Guards
from sovereign_gpu.controller.marks import Marks
from sovereign_gpu.controller.registry import Registry
from sovereign_gpu.controller.releases import Releaser
from sovereign_gpu.controller.reports import Reports
from sovereign_gpu.controller.selfaudit import SelfAudit
from sovereign_gpu.controller.unbound import Unbound
from sovereign_gpu.controller.waits import Waits
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Namespace, Node, Pod
from sovereign_gpu.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_BATCH = 512
"""Changes taken in before the event loop gets a turn."""
_AHEAD = 64
"""Releases decided beyond what is in flight."""
_REPORT_EVERY = 2.0
"""Seconds between two reports while things change, and between two looks while they do not."""
_GATHER = 0.2
"""Seconds that news after a quiet time waits for more, so that both are one write."""
_RETRY_EVERY = 10.0
"""Seconds between tries of marks that were not accepted."""
_COMPARE_EVERY = 60.0
"""Seconds between looks at all marks."""


def _today() -> date:
    return datetime.now(UTC).date()


@dataclass(slots=True)
class Stores:
    """What the informers fill."""

    pods: Store[Pod]
    nodes: Store[Node]
    namespaces: Store[Namespace]


@dataclass(slots=True)
class Controller:
    """Owns the engine; see the module."""

    engine: Engine
    stores: Stores
    registry: Registry
    releaser: Releaser
    marks: Marks
    drift: Drift
    unbound: Unbound
    waits: Waits
    reports: Reports
    egress: EgressPolicies
    guards: Guards
    writer: Writer
    metrics: Metrics
    wake: asyncio.Event
    informers: tuple[Informer[Pod] | Informer[Node] | Informer[Namespace] | Informer[Observed], ...]
    audit: SelfAudit
    resources_read: asyncio.Event
    """Set when the custom resources were listed completely."""
    started: bool = False
    """It decides: everything was read, and this process is the leader."""
    following: bool = False
    """Everything was read once; changes are taken in and nothing is decided."""
    turned_at: float = field(default_factory=time.monotonic)
    """Monotonic time of the last turn, for liveness."""
    _confirmed: asyncio.Event = field(default_factory=asyncio.Event)
    """This process leads, and the stores show what its predecessor wrote."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    """Something changed since the last report."""
    _changed_pods: dict[str, Pod | None] = field(default_factory=dict)
    """Pods of the last batch."""
    _day: date = date.min
    """The day (UTC) on which attributes of pools were last looked at: some run out."""
    _compared_at: float = float("-inf")
    _retried_at: float = float("-inf")

    async def run(self) -> None:
        """Work until cancelled: follow what happens, and decide once `lead` was called."""
        await self._first_look()
        while not self._confirmed.is_set():
            await self._follow()
        await self._begin()
        reporting = asyncio.create_task(self._report())
        try:
            while True:
                await self._turn()
        finally:
            reporting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reporting

    async def lead(self, since: float) -> None:
        """Let the decisions begin, once the stores show all that was written until then.

        Args:
            since: monotonic time from which on nobody else decides.
        """
        await self._read_once()
        await asyncio.gather(*(informer.confirm(since) for informer in self.informers))
        self._confirmed.set()
        self.wake.set()

    async def _read_once(self) -> None:
        for informer in self.informers:
            await informer.health.synced.wait()
        await self.resources_read.wait()

    async def _first_look(self) -> None:
        await self._read_once()
        self._configure_books()
        while self._take(_BATCH):
            await asyncio.sleep(0)
            self.turned_at = time.monotonic()
        self.following = True

    async def _follow(self) -> None:
        """Take in what changed, as somebody who does not decide."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self.wake.wait()
        self.wake.clear()
        if self.registry.changed or self._day != _today():
            self._configure_books()
        if self._take(_BATCH):
            self.wake.set()
        self.turned_at = time.monotonic()
        await asyncio.sleep(0)

    async def _begin(self) -> None:
        while self._take(_BATCH):
            await asyncio.sleep(0)
            self.turned_at = time.monotonic()
        self.engine.advance(time.time())
        self._configure()
        self.engine.resume()
        self.started = True
        log.info(
            "know %d pods, %d nodes, %d namespaces; deciding from here",
            len(self.stores.pods),
            len(self.stores.nodes),
            len(self.stores.namespaces),
        )

    async def _turn(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self.wake.wait()
        self.wake.clear()
        begun = time.perf_counter()
        if self.registry.changed or self._day != _today():
            self._configure()
        more = self._take(_BATCH)
        now = time.time()
        self.drift.look(now)
        self.engine.advance(now)
        released = self._plan()
        self.waits.hurry(self._changed_pods)
        behind = self.drift.judge.behind
        if more or released or behind or (self.engine.due and self._room()):
            self.wake.set()
        elapsed = time.perf_counter() - begun
        if more or released or behind:
            self._news.set()
            self.metrics.loop_seconds.observe(elapsed)
        self.turned_at = time.monotonic()
        # A burst is taken in one go, and the writer gets its turn.
        await asyncio.sleep(0)

    def _room(self) -> int:
        return _AHEAD - self.writer.queued(Lane.RELEASE)

    def _plan(self) -> int:
        room = self._room()
        if room <= 0 or not self.engine.due:
            return 0
        releases = self.engine.plan(room)
        for release in releases:
            self.releaser.send(release)
        return len(releases)

    def _configure_books(self) -> None:
        self.registry.changed = False
        self._day = _today()
        # Before pods are taken in: charging 20,000 once is cheaper than charging them twice.
        self.engine.configure(*self.registry.specs(self._day))
        self.drift.judge.everything()

    def _configure(self) -> None:
        self._news.set()
        self.metrics.tick()
        self._configure_books()
        self.marks.everything(self.engine.nodes)
        self._compared_at = time.monotonic()

    def _take(self, limit: int) -> bool:
        """Take in up to `limit` changes; True if any were there."""
        taken = 0
        for name, namespace in self.stores.namespaces.drain(limit).items():
            taken += 1
            if namespace is None:
                self.engine.remove_namespace(name)
            else:
                self.engine.put_namespace(namespace)
                if self.started:
                    self.marks.namespace(name)
            self.drift.judge.everything()
        for name, node in self.stores.nodes.drain(limit).items():
            taken += 1
            if node is None:
                self.engine.remove_node(name)
            else:
                self.engine.put_node(node)
                if self.started:
                    self.marks.node(name)
            self.drift.judge.node(name)
        pods = self._changed_pods = self.stores.pods.drain(limit)
        if pods and self.started:
            self.metrics.tick()
        for uid, pod in pods.items():
            taken += 1
            if pod is None:
                self.engine.remove_pod(uid)
            else:
                self.engine.put_pod(pod)
            self.drift.judge.pod(uid)
            self.unbound.settle(uid, pod)
        return taken > 0

    async def _report(self) -> None:
        """Report soon after a change, and not again too soon; without changes now and then."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REPORT_EVERY):
                    await self._news.wait()
            pause = 0.0
            if self._news.is_set():
                await asyncio.sleep(_GATHER)
                self._news.clear()
                pause = _REPORT_EVERY - _GATHER
            try:
                self._look()
            except Exception:
                log.exception("reporting")
            await asyncio.sleep(pause)

    def _look(self) -> None:
        self.unbound.look()
        self.waits.look()
        self._compare()
        self.egress.look()
        self.guards.look()
        self.reports.look()
        self.metrics.forget_tenants(
            {*self.engine.tenants, *(t for t, _ in self.engine.ledger.usage)}
        )

    def _compare(self) -> None:
        now = time.monotonic()
        if now - self._compared_at > _COMPARE_EVERY:
            self.marks.everything(self.engine.nodes)
            self._compared_at = self._retried_at = now
        elif now - self._retried_at > _RETRY_EVERY:
            self.marks.retry()
            self._retried_at = now

    def operation(self) -> dict[str, tuple[str, dict[str, float]]]:
        """Return facts about the process for `Metrics.source`."""
        counters, now = self.writer.counters, time.monotonic()
        watched = {i.name: i.health for i in (*self.informers, *self.guards.informers)}
        return {
            "watch_last_contact_seconds": (
                "Seconds since the API server last sent anything on the watch.",
                {name: now - health.last_contact for name, health in watched.items()},
            ),
            "watch_events_total": (
                "Events received since start.",
                {name: health.events for name, health in watched.items()},
            ),
            "watch_relists_total": (
                "Complete lists since start.",
                {name: health.relists for name, health in watched.items()},
            ),
            "watch_failures_total": (
                "Broken watches and lists since start.",
                {name: health.failures for name, health in watched.items()},
            ),
            "watch_unreadable": (
                "Objects that exist and are not understood; must be 0.",
                {name: len(health.unreadable) for name, health in watched.items()},
            ),
            "writes_accepted_total": ("Writes accepted since start.", dict(counters.accepted)),
            "writes_refused_total": ("Writes refused since start.", dict(counters.refused)),
            "writes_unknown_total": ("Writes without a clear answer.", dict(counters.unknown)),
            "writer_throttled_total": (
                "Answers that made the writer send less at a time.",
                {"all": counters.throttled},
            ),
            "writer": (
                "Requests in flight and their present limit.",
                {"in_flight": self.writer.in_flight, "limit": self.writer.limit},
            ),
            "self_audit_difference": (
                "Pods and GPUs that the books count otherwise than a fresh list; must be 0.",
                {"pods": self.audit.differing_pods, "gpus": self.audit.differing_gpus},
            ),
            "self_audits_total": (
                "Comparisons of the books with a fresh list since start.",
                {"all": self.audit.completed},
            ),
            "self_audit_success_timestamp_seconds": (
                "When the books were last compared with a fresh list; 0: not yet.",
                {"all": self.audit.succeeded_at},
            ),
            "tasks": ("Tasks of the event loop.", {"all": len(asyncio.all_tasks())}),
            "assumed_releases": (
                "Releases decided that the watch does not show yet.",
                {"pods": len(self.engine.assumed)},
            ),
        }

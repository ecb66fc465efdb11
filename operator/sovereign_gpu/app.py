"""The composition root: builds every part, owns the order of start and end.

Start: credentials, health, informers and custom resources, which every process follows; the lease;
then, as the leader, decisions.
End (SIGTERM): no new decisions, writes in flight finish, the lease is given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from aiohttp import web

from sovereign_gpu import __version__, names
from sovereign_gpu.cluster.errors import ConfigurationError
from sovereign_gpu.cluster.informer import Informer
from sovereign_gpu.cluster.kinds import NAMESPACES, NODES, PODS
from sovereign_gpu.cluster.lease import Lease, LeaseLostError
from sovereign_gpu.cluster.observed import EGRESS_POLICIES
from sovereign_gpu.cluster.session import Api, load_credentials
from sovereign_gpu.cluster.store import Store
from sovereign_gpu.cluster.writer import Writer
from sovereign_gpu.controller.drift import Drift
from sovereign_gpu.controller.egress import EgressPolicies
from sovereign_gpu.controller.events import Events
from sovereign_gpu.controller.evictions import Evictions
from sovereign_gpu.controller.fence import Fence
from sovereign_gpu.controller.guards import guards
from sovereign_gpu.controller.loop import Controller, Stores
from sovereign_gpu.controller.marks import Marks
from sovereign_gpu.controller.policystatus import PolicyStatus
from sovereign_gpu.controller.registry import Registry
from sovereign_gpu.controller.releases import Releaser
from sovereign_gpu.controller.reports import Reports
from sovereign_gpu.controller.role import Role
from sovereign_gpu.controller.selfaudit import SelfAudit
from sovereign_gpu.controller.status import StatusMaker
from sovereign_gpu.controller.unbound import Unbound
from sovereign_gpu.controller.waits import Waits
from sovereign_gpu.core.drift import Judge
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.fairshare import History
from sovereign_gpu.handlers import resources
from sovereign_gpu.readapi.reviews import Reviews
from sovereign_gpu.readapi.server import ReadApi
from sovereign_gpu.settings import Settings
from sovereign_gpu.telemetry import health
from sovereign_gpu.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

Serve = Callable[[str, int], Awaitable[web.AppRunner]]
"""Listens on host and port."""

_STUCK_AFTER = 30.0
"""Seconds without a turn of the loop after which the process is not alive."""
_SILENT_AFTER = 180.0
"""Seconds without a word from a watch after which the process is not ready."""
_LEASE_FIRST = 2.0
"""Seconds that reading the cluster waits for the lease, if that is free, and the fence."""
_DRAIN = 20.0
"""Seconds that writes in flight have to end; below the chart's termination grace period."""


class Operator:
    """One process of the operator."""

    def __init__(
        self, settings: Settings, *, api: Api | None = None, engine: Engine | None = None
    ) -> None:
        """`api` and `engine` take the place of what the settings say.

        Raises:
            ConfigurationError: the API server cannot be reached with these settings.
        """
        self._settings = settings
        self._api = api or _api(settings)
        self._role = Role(self._api, settings.lease_namespace, settings.pod)
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._leading = False
        engine = engine or Engine(history=History(settings.half_life))
        registry = Registry(self._wake.set)
        writer = Writer(
            self._api, most=settings.writes_in_flight, allowed=lambda: self._lease.valid
        )
        metrics = Metrics(engine)
        self._lease = Lease(
            self._api,
            settings.lease_namespace,
            names.LEASE,
            # A restarted container has the same host name and must not pass for its predecessor.
            holder=f"{settings.identity}_{secrets.token_hex(4)}",
            duration=settings.lease_seconds,
        )
        self._fence = Fence(
            self._api,
            settings.lease_namespace,
            signature=lambda: self._lease.token,
            sure=self._lease.sure,
        )
        releaser = Releaser(
            api=self._api,
            writer=writer,
            engine=engine,
            metrics=metrics,
            fence=self._fence,
            signature=lambda: self._lease.token,
            wake=self._wake.set,
            # Sent in the last moment of our lease, it ends before the next leader starts.
            timeout=min(10.0, settings.lease_seconds / 3 + 1),
        )
        stores = Stores(Store(self._wake), Store(self._wake), Store(self._wake))
        marks = Marks(engine, writer)
        events = Events(writer, self._lease.holder)
        marks.on_moved = events.marks_moved
        evictions = Evictions(engine, writer, events)
        drift, unbound = Drift(Judge(engine), evictions), Unbound(engine, evictions)
        watch = guards(self._api, settings.admission, events, self._wake)
        policies = PolicyStatus(engine, drift, watch.sentence)
        packets = Informer(self._api, EGRESS_POLICIES, Store(self._wake))
        pods = Informer(self._api, PODS, stores.pods)
        maker = StatusMaker(engine, unbound, marks, lambda: self._controller.started, policies)
        self._controller = Controller(
            engine=engine,
            stores=stores,
            registry=registry,
            releaser=releaser,
            marks=marks,
            drift=drift,
            unbound=unbound,
            waits=Waits(engine, writer),
            reports=Reports(registry, writer, maker, events),
            egress=EgressPolicies(engine, writer, packets.store),
            guards=watch,
            writer=writer,
            metrics=metrics,
            wake=self._wake,
            informers=(
                Informer(self._api, NAMESPACES, stores.namespaces),
                Informer(self._api, NODES, stores.nodes),
                pods,
                packets,
            ),
            audit=SelfAudit(self._api, engine, stores.pods, pods.passed),
            resources_read=asyncio.Event(),
        )
        self._read_api = ReadApi(
            engine,
            Reviews(self._api),
            lambda: self._leading and self._lease.valid and self._controller.started,
        )
        metrics.source = self._controller
        metrics.orphaned = marks.orphaned
        metrics.violations_total = lambda: policies.violations_total
        metrics.drift = drift
        metrics.unbound = unbound
        metrics.guards = watch
        metrics.marks = marks
        metrics.leads = lambda: self._leading and self._controller.started

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT (0) or until the lease is lost (1).

        Raises:
            ConfigurationError: an address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        gc.set_threshold(50_000, 20, 50)  # few, long-lived records; scanning them is waste
        async with contextlib.AsyncExitStack() as open_ones:
            open_ones.push_async_callback(self._api.close)
            await self._listen(open_ones)
            tasks = [
                asyncio.create_task(self._follow(), name="follow"),
                asyncio.create_task(self._lead(), name="lead"),
                asyncio.create_task(self._serve_resources(), name="kopf"),
                asyncio.create_task(self._stop.wait(), name="stop"),
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                return self._reason(done)
            finally:
                await self._end(tasks)

    async def _serve_resources(self) -> None:
        controller = self._controller
        await resources.serve(controller.registry, self._api.credentials, controller.resources_read)

    async def _listen(self, open_ones: contextlib.AsyncExitStack) -> None:
        probes = partial(health.serve, checks=self._checks(), metrics=self._controller.metrics)
        servers: list[tuple[str, tuple[str, int], Serve]] = [
            ("listen", (self._settings.host, self._settings.port), probes)
        ]
        if self._settings.read_api is not None:
            servers.append(("read-api", self._settings.read_api, self._read_api.serve))
        for flag, (host, port), serve in servers:
            try:
                runner = await serve(host, port)
            except OSError as error:
                raise ConfigurationError(f"--{flag}: {host}:{port}: {error.strerror}") from error
            open_ones.push_async_callback(runner.cleanup)

    def _reason(self, done: Iterable[asyncio.Task[Any]]) -> int:
        for task in done:
            error = task.exception()
            if error is None:
                continue
            lost = error.subgroup(LeaseLostError) if isinstance(error, ExceptionGroup) else None
            if lost is not None:
                log.error("the lease is lost: %s; ending at once", lost.exceptions[0])
                self._leading = False
            else:
                log.error("task %s failed", task.get_name(), exc_info=error)
            return 1
        return 0 if self._stop.is_set() else 1

    async def _end(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        grace = _DRAIN if self._leading else 0.0
        settled = await self._controller.writer.close(grace)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._leading and settled:
            await self._lease.give_back()
            await self._role.leave()
        elif self._leading:
            log.warning("a release may still land; the next leader waits until the lease is over")

    async def _follow(self) -> None:
        """Know everything at any time, so that a standby decides soon after it becomes leader."""
        await self._role.leave()
        # Lists that begin when nobody else can release any more need not be made again.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEASE_FIRST):
                await self._lease.tried.wait()
                if self._lease.valid:
                    await self._fence.written.wait()
        async with asyncio.TaskGroup() as group:
            for informer in self._controller.informers:
                group.create_task(informer.run())
            for guard in self._controller.guards.informers:
                group.create_task(guard.run())
            group.create_task(
                resources.resync(
                    self._api, self._controller.registry, self._controller.resources_read
                )
            )
            group.create_task(self._controller.run())

    async def _lead(self) -> None:
        await self._lease.acquire()
        self._leading = True
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lease.hold())
            group.create_task(self._decide())

    async def _decide(self) -> None:
        await self._fence.put()
        since = time.monotonic()
        # What a predecessor was told last may not have reached our watches yet.
        await resources.read_surely(self._api, self._controller.registry)
        await self._controller.lead(since)
        await self._role.take()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fence.keep())
            group.create_task(self._controller.audit.run())

    def _checks(self) -> health.Checks:
        def alive() -> str:
            if not self._controller.following:
                return ""
            idle = time.monotonic() - self._controller.turned_at
            return f"the loop last turned {idle:.0f} s ago" if idle > _STUCK_AFTER else ""

        def ready() -> str:
            if not (self._controller.started if self._leading else self._controller.following):
                return "reading the cluster"
            for informer in self._controller.informers:
                silent = time.monotonic() - informer.health.last_contact
                if silent > _SILENT_AFTER:
                    return f"no word on {informer.name} for {silent:.0f} s"
                for sentence in informer.health.unreadable.values():
                    return f"not understood and so not counted right: {informer.name} {sentence}"
            return ""

        return health.Checks(alive, ready)


def _api(settings: Settings) -> Api:
    credentials = load_credentials(settings.kubeconfig)
    return Api(credentials, user_agent=f"sovereign-gpu/{__version__}")


async def run(settings: Settings) -> int:
    """Build and run one operator; returns the exit code."""
    log.info("sovereign-gpu %s, group %s", __version__, names.GROUP)
    with contextlib.suppress(asyncio.CancelledError):
        return await Operator(settings).run()
    return 0

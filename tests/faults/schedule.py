"""Plays schedules of faults and changes, and finds the smallest part of one that still fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from sovereign_gpu import names
from sovereign_gpu.cluster.errors import ClusterError
from tests.contract import virtual_time
from tests.faults.actions import Action, actions
from tests.faults.line import WEATHERS
from tests.faults.oracle import Oracle, Violation, gates
from tests.faults.process import Process
from tests.faults.server import LEASES, Server
from tests.faults.world import QUOTAS, TENANT_OF, TENANTS, World

_SETTLED_WITHIN = 120.0
"""Seconds after the last fault in which the operator must have recovered."""
_AUDITED_WITHIN = 300.0
"""Seconds in which the operator must have compared its books with a list then."""
_DRAINED_WITHIN = 240.0
"""Seconds in which every pod must have run to its end then."""
_EPOCH = 1_795_000_000.0


@dataclass(slots=True)
class Outcome:
    """What came of a schedule."""

    releases: int = 0
    recovered: float = 0.0
    """Seconds from the last fault until all was settled."""


def run(seed: int, planned: list[Action] | None = None) -> Outcome:
    """Run a schedule; all randomness follows from the seed.

    Raises:
        Violation: something happened that must not, or something that must did not.
    """
    random.seed(seed)
    with _quiet():
        return virtual_time.run(_Stage(seed, actions(seed) if planned is None else planned).play())


def smallest(seed: int, failing: list[Action]) -> list[Action]:
    """Leave out actions as long as the schedule fails, half of them first, single ones last."""
    size = max(1, len(failing) // 2)
    while True:
        start, removed = 0, False
        while start < len(failing):
            tried = failing[:start] + failing[start + size :]
            if _fails(seed, tried):
                failing, removed = tried, True
            else:
                start += size
        if size == 1 and not removed:
            return failing
        size = max(1, size // 2)


def _fails(seed: int, planned: list[Action]) -> bool:
    try:
        run(seed, planned)
    except Violation:
        return True
    return False


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@dataclass(slots=True)
class _Stage:
    seed: int
    planned: list[Action]
    shift: float = 0.0
    """Seconds that the wall clock is off."""
    processes: list[Process] = field(default_factory=list)
    started: int = 0
    violation: asyncio.Future[None] | None = None
    server: Any = None
    world: Any = None
    oracle: Any = None
    chance: random.Random = field(default_factory=random.Random)

    async def play(self) -> Outcome:
        loop = asyncio.get_running_loop()
        self.violation = loop.create_future()
        begun = loop.time()

        def wall() -> float:
            return _EPOCH + loop.time() - begun + self.shift

        with (
            mock.patch.object(time, "monotonic", loop.time),
            mock.patch.object(time, "time", wall),
        ):
            self._set_up(loop)
            story = asyncio.create_task(self._story())
            await asyncio.wait([story, self.violation], return_when=asyncio.FIRST_COMPLETED)
            if self.violation.done():
                story.cancel()
            outcome = Outcome(self.oracle.releases)
            try:
                result = (await asyncio.gather(story, return_exceptions=True))[0]
                if self.violation.done():
                    self.violation.result()
                if isinstance(result, BaseException):
                    raise result
                outcome.recovered = result
            finally:
                await self._clear_away()
            outcome.releases = self.oracle.releases
            return outcome

    def _set_up(self, loop: asyncio.AbstractEventLoop) -> None:
        self.chance = random.Random(self.seed ^ 0x5EED)  # noqa: S311
        self.server = Server(loop.time)
        self.oracle = Oracle(self.server, TENANT_OF)
        self.server.on_release = self._released
        self.world = World(self.server, self.chance)
        self.world.furnish()
        for _ in range(2):
            self._start()

    def _released(self, pod: Any) -> None:
        try:
            self.oracle.took_effect(pod)
        except Violation as found:
            self._violated(found)

    def _violated(self, found: Violation) -> None:
        if self.violation is not None and not self.violation.done():
            self.violation.set_exception(found)

    def _start(self) -> None:
        self.started += 1
        self.processes.append(
            Process(f"op{self.started}", self.server, self.chance, self.oracle, self._violated)
        )

    async def _clear_away(self) -> None:
        for process in self.processes:
            process.kill()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    # --- the story ------------------------------------------------------------------------------
    async def _story(self) -> float:
        loop = asyncio.get_running_loop()
        asyncio.create_task(self.world.schedule())  # noqa: RUF006 – until `_clear_away`
        asyncio.create_task(self._keep_up())  # noqa: RUF006
        begun = loop.time()
        for action in self.planned:
            await asyncio.sleep(max(0.0, begun + action.at - loop.time()))
            getattr(self, f"_do_{action.name}")(*action.args)
        self._heal()
        healed = loop.time()
        await self._until(self._settled, _SETTLED_WITHIN, self._what_is_wrong)
        recovered = loop.time() - healed
        await self._audit()
        await self._until(self._drained, _DRAINED_WITHIN, self._who_waits)
        return recovered

    async def _audit(self) -> None:
        """Let the operator hold its own books against a list."""
        end = asyncio.get_running_loop().time() + _AUDITED_WITHIN
        while True:
            leader = self._leader()
            try:
                if leader is not None:
                    await leader.audit.audit()
                    break
            except ClusterError:
                """Its process may be about to end, or its watch silent."""
            if asyncio.get_running_loop().time() > end:
                raise Violation("no self-audit was completed")
            await asyncio.sleep(1.0)
        if leader.audit.differing_pods:
            raise Violation(f"the self-audit counts {leader.audit.differing_gpus} GPUs otherwise")

    async def _keep_up(self) -> None:
        """Start anew what has ended, as kubelets do."""
        while True:
            await asyncio.sleep(self.chance.uniform(0.5, 4.0))
            for process in [p for p in self.processes if p.task.done()]:
                process.line.kill()
                self.processes.remove(process)
                self._start()

    async def _until(
        self, condition: Callable[[], bool], seconds: float, sentence: Callable[[], str]
    ) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not condition():
            if loop.time() > end:
                raise Violation(f"{sentence()} {seconds:.0f} s after the last fault")
            await asyncio.sleep(0.5)

    def _heal(self) -> None:
        self.server.fence_lag = 0.0
        self.world.mend_nodes()
        self._do_make_namespaces()
        for tenant in TENANTS:
            self.world.quota(tenant, None)
        for process in self.processes:
            process.line.weather, process.line.lag = WEATHERS["fine"], 0.0
            process.resources_broken = False

    def _leader(self) -> Process | None:
        leaders = [process for process in self.processes if process.leads]
        return leaders[0] if len(leaders) == 1 else None

    def _settled(self) -> bool:
        return not self._what_is_wrong()

    def _what_is_wrong(self) -> str:
        leader = self._leader()
        if leader is None:
            return f"{sum(p.leads for p in self.processes)} processes lead"
        if leader.busy or leader.behind:
            return "releases without an answer"
        books = {
            (tenant, pool): usage.counted
            for (tenant, pool), usage in leader.engine.ledger.usage.items()
            if tenant in TENANTS and usage.counted
        }
        if books != self.oracle.recount():
            return f"the books say {books}, a recount {self.oracle.recount()}"
        known = {uid for uid, pod in leader.engine.pods.items() if names.GATE in pod.gates}
        if known != {pod["metadata"]["uid"] for pod in self.world.waiting()}:
            return "the books know other waiting pods than there are"
        return ""

    def _drained(self) -> bool:
        self.world.finish(1.0)
        return not self.world.pods() or all(
            pod["metadata"]["namespace"] == "infra" for pod in self.world.pods()
        )

    def _who_waits(self) -> str:
        leader = getattr(self._leader(), "name", "nobody")
        told = [
            f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            + (" waits" if names.GATE in gates(pod) else " is released")
            for pod in self.world.pods()
        ]
        return f"{len(told)} pods have not run ({', '.join(told[:4])}), led by {leader}:"

    # --- what happens ---------------------------------------------------------------------------
    def _process(self, index: int) -> Process:
        """Return the leader (0) or a standby (1)."""
        ordered = sorted(self.processes, key=lambda process: not process.leads)
        return ordered[index % len(ordered)]

    def _do_create(self, namespace: str, count: int, size: int, more: dict[str, Any]) -> None:
        for _ in range(count):
            self.world.create(namespace, size, **more)

    def _do_finish(self, share: float) -> None:
        self.world.finish(share)

    def _do_delete(self, share: float) -> None:
        self.world.delete(share)

    def _do_quota(self, tenant: str, guaranteed: int) -> None:
        self.world.quota(tenant, guaranteed)

    def _do_delete_quota(self, tenant: str) -> None:
        self.server.remove(QUOTAS, tenant)

    def _do_usual_quota(self, tenant: str) -> None:
        self.world.quota(tenant, None)

    def _do_break_node(self, node: str, how: str) -> None:
        self.world.break_node(node, how)

    def _do_mend_nodes(self) -> None:
        self.world.mend_nodes()

    def _do_foreign(self, node: str, gpus: int) -> None:
        self.world.create_foreign(node, gpus)

    def _do_delete_namespace(self, name: str) -> None:
        self.world.delete_namespace(name)

    def _do_make_namespaces(self) -> None:
        for name in TENANT_OF:
            self.world.namespace(name)

    def _do_weather(self, index: int, name: str, seconds: float) -> None:
        line = self._process(index).line
        line.weather = WEATHERS[name]

        def over() -> None:
            line.weather = WEATHERS["fine"]

        asyncio.get_running_loop().call_later(seconds, over)

    def _do_lag(self, index: int, seconds: float) -> None:
        line = self._process(index).line
        line.lag = seconds
        line.end()  # the next watches are late

    def _do_cut(self, index: int) -> None:
        self._process(index).line.cut()

    def _do_end(self, index: int) -> None:
        self._process(index).line.end()

    def _do_expire(self, index: int) -> None:
        self._process(index).line.expire()

    def _do_repeat(self, index: int, count: int) -> None:
        self._process(index).line.repeat(count)

    def _do_silence(self, index: int, seconds: float) -> None:
        self._process(index).line.silence(seconds)

    def _do_blind(self, index: int, seconds: float) -> None:
        process = self._process(index)
        process.resources_broken = True

        def over() -> None:
            process.resources_broken = False

        asyncio.get_running_loop().call_later(seconds, over)

    def _do_kill(self, index: int) -> None:
        self._process(index).kill()

    def _do_terminate(self, index: int) -> None:
        self._process(index).terminate()

    def _do_fence_lag(self, seconds: float) -> None:
        self.server.fence_lag = seconds

    def _do_delete_lease(self) -> None:
        self.server.remove(LEASES, "sovereign-gpu")

    def _do_clock(self, seconds: float) -> None:
        self.shift += seconds

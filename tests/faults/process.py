"""The operator as it is, as one of several processes in one event loop with virtual time.

Left out are its sockets: kopf's watch is played by `_serve_resources`, probes are not served.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from sovereign_gpu import settings
from sovereign_gpu.app import Operator
from sovereign_gpu.controller.records import Kind
from sovereign_gpu.controller.selfaudit import SelfAudit
from sovereign_gpu.core.fairshare import History
from sovereign_gpu.handlers.resources import PLURALS
from tests.faults.line import Line
from tests.faults.oracle import JudgedEngine, Oracle
from tests.faults.server import Change, Server
from tests.faults.world import RESOURCES

_KINDS: dict[str, Kind] = {f"{RESOURCES}/{plural}": kind for kind, plural in PLURALS.items()}


class Process(Operator):
    """One process of the operator; `name` is its identity in the lease."""

    def __init__(
        self, name: str, server: Server, chance: random.Random, oracle: Oracle, on_violation: Any
    ) -> None:
        self.name = name
        self.line = Line(server, chance)
        self.engine = JudgedEngine(
            history=History(3600.0), oracle=oracle, process=name, on_violation=on_violation
        )
        wanted = settings.read(["--listen", "127.0.0.1:0", "--identity", name], {})
        super().__init__(wanted, api=self.line, engine=self.engine)
        self._chance = chance
        self._server = server
        self.resources_broken = False
        """The watch of the custom resources misses what happens, deletions for good."""
        self.task = asyncio.create_task(self.run(), name=name)

    @property
    def leads(self) -> bool:
        """Whether it decides."""
        return self._leading and self._controller.started and not self.task.done()

    @property
    def busy(self) -> bool:
        """Whether it has decided releases that the API server has not answered, or not shown."""
        return bool(self.engine.assumed)

    @property
    def behind(self) -> bool:
        """Whether changes wait to be taken in."""
        controller = self._controller
        stores = controller.stores
        waiting = (stores.pods, stores.nodes, stores.namespaces)
        return controller.registry.changed or any(store.waiting for store in waiting)

    @property
    def audit(self) -> SelfAudit:
        """Return the comparison of the books with a fresh list."""
        return self._controller.audit

    def kill(self) -> None:
        """End it as SIGKILL does: nothing is sent any more, what is on its way arrives."""
        self.line.kill()
        self.task.cancel()

    def terminate(self) -> None:
        """End it as SIGTERM does."""
        self._stop.set()

    async def _listen(self, open_ones: Any) -> None:
        """Serve nothing."""

    async def _serve_resources(self) -> None:
        controller = self._controller
        await controller.resources_read.wait()
        loop = asyncio.get_running_loop()

        def changed(collection: str, change: Change) -> None:
            kind = _KINDS.get(collection)
            body = change.after or change.before
            if kind is None or body is None or self.line.dead or self.resources_broken:
                return
            feed = controller.registry.put if change.after else controller.registry.remove
            loop.call_later(self._delay(), feed, kind, body)

        self._server.listeners.append(changed)
        try:
            await asyncio.Event().wait()
        finally:
            self._server.listeners.remove(changed)

    def _delay(self) -> float:
        return self._chance.uniform(0.0, 0.05 + self.line.lag)

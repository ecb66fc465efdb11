"""Tells each waiting pod why: at once if waiting cannot help, else when that has held a moment.

One write per pod and reason word: the message is that of the moment and its numbers age, but the
word does not lie – it is written again when it changes and lasts. Whoever wants today's numbers
asks the read API.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from sovereign_gpu.cluster import patches
from sovereign_gpu.cluster.errors import ApiError, UncertainError
from sovereign_gpu.cluster.session import STRATEGIC_PATCH
from sovereign_gpu.cluster.writer import Lane, Write, Writer
from sovereign_gpu.controller.releases import pod_path
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import LASTING, Pod, Reason, Wait
from sovereign_gpu.names import GATE

log = logging.getLogger(__name__)

_FIRST_AFTER, _AGAIN_AFTER = 1.5, 60.0
"""Seconds a reason must hold before the first, and before any later notice."""
_WORDS = frozenset(Reason)
_BACKLOG = 64
"""Notices handed to the writer at a time; as they are answered, the next ones follow."""


@dataclass(slots=True)
class _Told:
    reason: str
    """The word that holds now."""
    since: float
    told: str
    """The word the pod shows."""


@dataclass(slots=True)
class Waits:
    """Remembers what each waiting pod was told."""

    engine: Engine
    writer: Writer
    _known: dict[str, _Told] = field(default_factory=dict)
    _due: dict[str, Wait] = field(default_factory=dict)
    """What is to be told and was not handed to the writer yet."""

    def look(self) -> None:
        """Tell pods whose reason has held long enough."""
        now = time.monotonic()
        waiting: dict[str, Wait] = dict(self.engine.stopped)
        for queue in self.engine.queues.values():
            for line in queue.lines.values():
                if line.wait is not None:
                    waiting.update(dict.fromkeys(line.members, line.wait))
        for uid in self._known.keys() - waiting.keys():
            del self._known[uid]
        due = {uid: wait for uid, wait in waiting.items() if self._is_due(uid, wait, now)}
        self._due = _urgent(due) | due
        self._hand_over()

    def hurry(self, changed: Iterable[str]) -> None:
        """Look at pods (uids) that changed just now, so that what cannot pass is told at once."""
        now = time.monotonic()
        due: dict[str, Wait] = {}
        for uid in changed:
            wait = self._wait_of(uid)
            if wait is not None and self._is_due(uid, wait, now):
                due[uid] = wait
        if due:
            # What cannot pass does not stand behind thousands that wait for others to finish.
            self._due = _urgent(due) | self._due | due
        self._hand_over()

    def _wait_of(self, uid: str) -> Wait | None:
        pod = self.engine.pods.get(uid)
        if pod is None or GATE not in pod.gates:
            return None
        stopped = self.engine.stopped.get(uid)
        queue = self.engine.queues.get(self.engine.tenant_of(pod.namespace))
        line = queue.line_of(uid) if queue is not None else None
        return stopped or (line.wait if line is not None else None)

    def _is_due(self, uid: str, wait: Wait, now: float) -> bool:
        known = self._known.get(uid)
        if known is None:
            shown = self.engine.pods[uid].message.partition(":")[0]
            known = self._known[uid] = _Told(wait.reason, now, shown)
        elif known.reason != wait.reason:
            known.reason, known.since = wait.reason, now
        if known.told == wait.reason:
            return False
        if known.told in _WORDS:
            return now - known.since >= _AGAIN_AFTER
        return wait.reason in LASTING or now - known.since >= _FIRST_AFTER

    def _hand_over(self) -> None:
        room = _BACKLOG - self.writer.queued(Lane.REPORT)
        while self._due and room > 0:
            uid = next(iter(self._due))
            wait = self._due.pop(uid)
            pod = self.engine.pods.get(uid)
            if pod is not None and GATE in pod.gates and uid not in self.engine.assumed:
                room -= 1
                self._tell(pod, wait)

    def _tell(self, pod: Pod, wait: Wait) -> None:
        self._known[pod.uid].told = wait.reason

        def answered(error: ApiError | UncertainError | None) -> None:
            known = self._known.get(pod.uid)
            if error is not None and known is not None:
                known.told = ""
                log.debug("telling %s/%s: %s", pod.namespace, pod.name, error)
            self._hand_over()

        body = {
            "metadata": {"uid": pod.uid},
            **patches.waiting(f"{wait.reason}: {wait.message}"),
        }
        path = f"{pod_path(pod)}/status"
        self.writer.submit(
            Write(Lane.REPORT, f"pod/{pod.uid}", "PATCH", path, body, STRATEGIC_PATCH, answered)
        )


def _urgent(due: dict[str, Wait]) -> dict[str, Wait]:
    return {uid: wait for uid, wait in due.items() if wait.reason in LASTING}

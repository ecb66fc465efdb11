"""Tells each waiting pod why, once it has waited for the same reason for a few seconds.

One write per pod and reason word: the message is that of the moment and its numbers age, but the
word does not lie – it is written again when it changes and lasts.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from sovereign_gpu.cluster import patches
from sovereign_gpu.cluster.errors import ApiError, UncertainError
from sovereign_gpu.cluster.session import STRATEGIC_PATCH
from sovereign_gpu.cluster.writer import Lane, Write, Writer
from sovereign_gpu.controller.releases import pod_path
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Pod, Reason, Wait

log = logging.getLogger(__name__)

_FIRST_AFTER, _AGAIN_AFTER = 5.0, 60.0
"""Seconds a reason must hold before the first, and before any later notice."""
_WORDS = frozenset(Reason)
_BACKLOG = 64
"""Notices handed to the writer at a time; the rest waits for the next look."""


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
        room = _BACKLOG - self.writer.queued(Lane.REPORT)
        for uid, wait in waiting.items():
            if self._due(uid, wait, now) and room > 0:
                room -= 1
                self._tell(self.engine.pods[uid], wait)

    def _due(self, uid: str, wait: Wait, now: float) -> bool:
        known = self._known.get(uid)
        if known is None:
            shown = self.engine.pods[uid].message.partition(":")[0]
            known = self._known[uid] = _Told(wait.reason, now, shown)
        elif known.reason != wait.reason:
            known.reason, known.since = wait.reason, now
        if known.told == wait.reason:
            return False
        first = known.told not in _WORDS
        return now - known.since >= (_FIRST_AFTER if first else _AGAIN_AFTER)

    def _tell(self, pod: Pod, wait: Wait) -> None:
        self._known[pod.uid].told = wait.reason

        def answered(error: ApiError | UncertainError | None) -> None:
            known = self._known.get(pod.uid)
            if error is not None and known is not None:
                known.told = ""
                log.debug("telling %s/%s: %s", pod.namespace, pod.name, error)

        body = {
            "metadata": {"uid": pod.uid},
            **patches.waiting(f"{wait.reason}: {wait.message}"),
        }
        path = f"{pod_path(pod)}/status"
        self.writer.submit(
            Write(Lane.REPORT, f"pod/{pod.uid}", "PATCH", path, body, STRATEGIC_PATCH, answered)
        )

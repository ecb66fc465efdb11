"""Ends running pods the way a cluster's owners can object to: through the eviction subresource.

PodDisruptionBudgets are asked, the pod ends gracefully, and a uid in the request makes sure that
no other pod of that name is hit. Callers are level-triggered: they ask for as long as they want a
pod gone; here it is decided when the API server is asked again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from sovereign_gpu.cluster import patches
from sovereign_gpu.cluster.backoff import Backoff
from sovereign_gpu.cluster.errors import CONFLICT, NOT_FOUND, ApiError, UncertainError
from sovereign_gpu.cluster.session import MERGE_PATCH
from sovereign_gpu.cluster.writer import Lane, Write, Writer
from sovereign_gpu.controller.events import Events, Subject
from sovereign_gpu.controller.releases import pod_path
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Pod

log = logging.getLogger(__name__)

_PAUSE = Backoff(5.0, 60.0)
"""Before the API server is asked again to evict a pod that it did not evict."""
_TIMEOUT = 10.0
_TELL_AGAIN = 60.0
"""Seconds in which an owner hears one kind of news once, however many pods it has."""


class Outcome(StrEnum):
    """What became of the request to evict a pod."""

    GONE = "gone"
    """It ends, or had ended."""
    BLOCKED = "blocked"
    """A PodDisruptionBudget does not allow it now."""
    REFUSED = "refused"
    """The API server said no for another reason."""
    UNKNOWN = "unknown"
    """No clear answer."""


Done = Callable[[Outcome], None]
Answer = Callable[[ApiError | UncertainError | None], None]


@dataclass(slots=True)
class _Asked:
    under_way: bool = True
    pause: float = _PAUSE.first
    again_at: float = 0.0


@dataclass(slots=True)
class Evictions:
    """Evicts pods, and says so where their owners look."""

    engine: Engine
    writer: Writer
    events: Events
    clock: Callable[[], float] = time.monotonic
    _asked: dict[str, _Asked] = field(default_factory=dict)
    _told: dict[tuple[str, str], float] = field(default_factory=dict)
    _forget_at: float = 0.0

    def evict(
        self,
        pod: Pod,
        reason: str,
        message: str,
        done: Done,
        wanted: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Ask the API server to evict a pod, unless it was asked and it is too soon to ask again.

        Args:
            pod: its uid must match the stored pod's, or nothing is evicted.
            reason: CamelCase word of the event that its owner gets once the eviction is accepted.
            message: sentence of that event.
            done: called once with the outcome; not at all if the operator ends before.
            wanted: asked right before the request leaves, which may be a while later.

        Returns:
            Whether the request was made.
        """
        self._forget(self.clock())
        if self.busy(pod.uid):
            return False
        self._asked.setdefault(pod.uid, _Asked()).under_way = True
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": pod.namespace},
            "deleteOptions": {"preconditions": {"uid": pod.uid}},
        }
        self.writer.submit(
            Write(
                lane=Lane.STATE,
                key=f"eviction/{pod.uid}",
                method="POST",
                path=f"{pod_path(pod)}/eviction",
                body=body,
                content_type="application/json",
                done=partial(self._answered, pod, reason, message, done),
                timeout=_TIMEOUT,
                wanted=wanted,
            )
        )
        return True

    def _answered(
        self,
        pod: Pod,
        reason: str,
        message: str,
        done: Done,
        error: ApiError | UncertainError | None,
    ) -> None:
        outcome = _outcome(error)
        asked = self._asked.setdefault(pod.uid, _Asked())
        asked.under_way = False
        # Also after an acceptance: the watch needs a moment to show that the pod is ending.
        asked.again_at = self.clock() + asked.pause
        asked.pause = _PAUSE.next(asked.pause)
        if error is None:
            log.info("evicted %s/%s: %s", pod.namespace, pod.name, message)
            self.tell(pod, reason, message)
        else:
            log.warning("evicting %s/%s: %s: %s", pod.namespace, pod.name, outcome, error)
        done(outcome)

    def busy(self, uid: str) -> bool:
        """Whether the eviction of a pod is under way, or was answered too short a time ago."""
        asked = self._asked.get(uid)
        return asked is not None and (asked.under_way or self.clock() < asked.again_at)

    def tell(self, pod: Pod, reason: str, message: str, *, warning: bool = True) -> None:
        """Post an event on the pod's owner, on the pod itself if it has none.

        An owner of many pods hears the same reason once a minute, with the first pod's message.
        """
        subject = _subject(pod)
        now = self.clock()
        if now < self._told.get((subject.uid, reason), 0.0):
            return
        self._told[subject.uid, reason] = now + _TELL_AGAIN
        self.events.post(subject, reason, message, warning=warning)

    def annotate(self, pod: Pod, key: str, value: str | None, done: Answer) -> None:
        """Set an annotation of ours on a pod, or remove it (None); `done` gets the answer."""
        body = patches.metadata(annotations={key: value})
        body["metadata"]["uid"] = pod.uid
        self.writer.submit(
            Write(
                Lane.STATE,
                f"pod/{pod.uid}/{key}",
                "PATCH",
                pod_path(pod),
                body,
                MERGE_PATCH,
                done,
                timeout=_TIMEOUT,
            )
        )

    def _forget(self, now: float) -> None:
        if now < self._forget_at:
            return
        self._forget_at = now + _TELL_AGAIN
        for uid in [uid for uid in self._asked if uid not in self.engine.pods]:
            if not self._asked[uid].under_way:
                del self._asked[uid]
        for key in [key for key, until in self._told.items() if until <= now]:
            del self._told[key]


def _outcome(error: ApiError | UncertainError | None) -> Outcome:
    if error is None:
        return Outcome.GONE
    if isinstance(error, UncertainError):
        return Outcome.UNKNOWN
    if error.budget:
        return Outcome.BLOCKED
    other_pod = error.status == CONFLICT and "UID" in error.message
    return Outcome.GONE if error.status == NOT_FOUND or other_pod else Outcome.REFUSED


def _subject(pod: Pod) -> Subject:
    owner = pod.owner
    # A static pod's owner is its node, which has no namespace; its tenant looks at the pod.
    if owner is None or owner.kind == "Node":
        return Subject("v1", "Pod", pod.name, pod.uid, pod.namespace)
    return Subject(owner.api_version, owner.kind, owner.name, owner.uid, pod.namespace)

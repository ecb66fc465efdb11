"""Carries out what is decided about pods in violation, and remembers what was sent for a moment.

Verdicts follow every change at once; decisions follow within a second, because they depend on the
clock as well. The pods are the record: after a restart everything is decided again from them.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from sovereign_gpu import names
from sovereign_gpu.cluster.errors import ApiError, UncertainError
from sovereign_gpu.cluster.writer import Lane
from sovereign_gpu.controller.evictions import Evictions, Outcome
from sovereign_gpu.core.drift import Judge
from sovereign_gpu.core.eviction import Brake, Decision, Evict, decide, still_due
from sovereign_gpu.core.model import Pod
from sovereign_gpu.core.notice import Notice

log = logging.getLogger(__name__)

_JUDGED_AT_ONCE = 500
"""Pods; the event loop gets a turn before the next ones."""
_EVERY, _REST = 1.0, 20.0
"""Seconds between decisions; when thousands of pods are guilty, so many times what one took."""
_AT_ONCE = 64
"""Notices handed to the writer at a time; the rest waits for the next decision."""
_SHOWN_WITHIN, _RETRY_AFTER = 30.0, 10.0
"""Seconds that the watch has to show a notice, and before one that was refused is sent again."""


@dataclass(slots=True)
class Drift:
    """Announces, withdraws and evicts; see the module."""

    judge: Judge
    evictions: Evictions
    clock: Callable[[], float] = time.monotonic
    decision: Decision = field(default_factory=Decision)
    """The latest."""
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Answers to evictions since the start, by policy and outcome."""
    _brake: Brake | None = None
    _decide_at: float = float("-inf")
    _sent: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Pods that were sent a notice or its removal: what they showed then, and until when the watch
    may lag."""

    def look(self, now: float) -> None:
        """Judge what changed, a part of it if it is much; now and then decide and act.

        Args:
            now: seconds since the epoch; notices carry such times.
        """
        self.judge.look(_JUDGED_AT_ONCE)
        tick = self.clock()
        if self.judge.behind or tick < self._decide_at:
            return
        if self._brake is None:
            self._brake = Brake(tick)
        room = self._brake.room(tick, len(self.judge.running))
        self._settle(tick)
        self.decision = decide(self.judge, now, room, self._busy)
        self._tell(tick)
        for each in self.decision.evict:
            self._evict(each, self._brake, tick)
        self._decide_at = tick + max(_EVERY, _REST * (self.clock() - tick))

    def evicted(self, policy: str) -> int:
        """Return how many pods were evicted for a policy since the start."""
        return self.outcomes[policy, Outcome.GONE]

    def _settle(self, tick: float) -> None:
        pods = self.judge.state.pods
        self._sent = {
            uid: (before, until)
            for uid, (before, until) in self._sent.items()
            if until > tick and uid in pods and pods[uid].notice == before
        }

    def _busy(self, uid: str) -> bool:
        # A notice on its way may be its withdrawal, after which the grace begins anew.
        return uid in self._sent or self.evictions.busy(uid)

    def _tell(self, tick: float) -> None:
        room = _AT_ONCE - self.evictions.writer.queued(Lane.STATE)
        wanted: list[tuple[Pod, Notice | None]] = [
            *((pod, notice) for pod, notice in self.decision.announce),
            *((each.pod, None) for each in self.decision.withdraw),
        ]
        for pod, notice in wanted:
            if room <= 0:
                return
            if pod.uid not in self._sent:
                room -= 1
                self._write(pod, notice, tick)

    def _write(self, pod: Pod, notice: Notice | None, tick: float) -> None:
        self._sent[pod.uid] = (pod.notice, tick + _SHOWN_WITHIN)

        def answered(error: ApiError | UncertainError | None) -> None:
            if error is None:
                self._announced(pod, notice)
            else:
                log.warning("notice on %s/%s: %s", pod.namespace, pod.name, error)
                self._sent[pod.uid] = (pod.notice, self.clock() + _RETRY_AFTER)

        text = None if notice is None else notice.text()
        self.evictions.annotate(pod, names.DRIFT_NOTICE, text, answered)

    def _announced(self, pod: Pod, notice: Notice | None) -> None:
        if notice is None:
            message = f"pod {pod.name} is not evicted: it runs where its policies allow it"
            self.evictions.tell(pod, "EvictionWithdrawn", message, warning=False)
            return
        policies = ", ".join(policy for policy, _ in notice.policies)
        message = (
            f"pod {pod.name} will be evicted after {notice.deadline}, because policy {policies} "
            f"does not allow where it runs: {notice.cause}"
        )
        self.evictions.tell(pod, "EvictionAnnounced", message)

    def _evict(self, each: Evict, brake: Brake, tick: float) -> None:
        message = f"pod {each.pod.name} is evicted: {each.notice.cause}"
        done = partial(self._ended, each.policies, brake, tick)
        wanted = partial(self._still_wanted, each)
        if self.evictions.evict(each.pod, "EvictedForResidency", message, done, wanted):
            brake.take(tick)

    def _still_wanted(self, each: Evict) -> bool:
        """Whether an eviction that waited for its turn would be decided again."""
        self.judge.look()
        return still_due(self.judge, each)

    def _ended(
        self, policies: tuple[str, ...], brake: Brake, asked_at: float, outcome: Outcome
    ) -> None:
        for policy in policies:
            self.outcomes[policy, outcome] += 1
        if outcome in (Outcome.BLOCKED, Outcome.REFUSED):
            brake.give_back(asked_at)

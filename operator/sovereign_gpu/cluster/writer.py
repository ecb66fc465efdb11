"""Sends writes: bounded, adaptive, in order per object, releases before everything else.

An answer is either accepted, refused (nothing was written) or unknown. An unknown answer is never
given up for a release: the same patch is sent again until the API server answers it, because it
may have landed. Other writes are level-triggered, so a lost one is simply decided again.

A retry waits without a place of its own and takes one when its time comes, so that neither a
storm of errors nor objects that nobody can write raise what is in flight or keep others waiting.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sovereign_gpu.cluster.backoff import Backoff, jittered
from sovereign_gpu.cluster.errors import (
    TOO_MANY_REQUESTS,
    ApiError,
    UncertainError,
    UnwantedError,
)
from sovereign_gpu.cluster.session import METADATA_ONLY, Api

log = logging.getLogger(__name__)

_MOST_PAUSE = 10.0
"""Seconds that the server may make us pause at most."""
_STORM = 2.0
"""Seconds between first tries when nothing is answered any more."""
_LEAST = 2.0
"""Requests in flight at the worst of times: one may hang."""
_ONE_SIGN = 1.0
"""Seconds in which many answers to one overload count as one."""


class Lane(StrEnum):
    """Which writes go first."""

    RELEASE = "release"
    STATE = "state"
    """Labels of nodes, metadata of namespaces: releases depend on them."""
    REPORT = "report"
    """Status, conditions, events."""


_USUAL = tuple(Lane)
_TURNS = {
    # A burst of releases may last a minute; labels and status must not stand still for it.
    4: (Lane.STATE, Lane.RELEASE, Lane.REPORT),
    12: (Lane.STATE, Lane.RELEASE, Lane.REPORT),
    0: (Lane.REPORT, Lane.RELEASE, Lane.STATE),
}
_CYCLE = 16


@dataclass(frozen=True, slots=True)
class Write:
    """One request to come."""

    lane: Lane
    key: str
    """Object and aspect; a queued write of the same key is replaced by a newer one."""
    method: str
    path: str
    body: Any
    content_type: str
    done: Callable[[ApiError | UncertainError | None], Awaitable[None] | None]
    """Called with None (accepted), ApiError (refused), UncertainError (unknown, given up); not at
    all for a write that a newer one replaced or that `close` dropped."""
    persist: bool = False
    """Send again until answered."""
    timeout: float = 30.0
    wanted: Callable[[], bool] = lambda: True
    """Asked right before it is sent, each time; if not, `done` gets an UnwantedError."""


@dataclass(slots=True)
class Counters:
    """What happened so far, by lane."""

    accepted: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    throttled: int = 0


@dataclass(slots=True, eq=False)
class _Attempt:
    write: Write
    delay: float
    number: int = 0
    unknown: bool = False
    """An earlier try may have landed."""


class Writer:
    """Keeps up to `limit` requests in flight; halves that when the server asks for less."""

    def __init__(
        self,
        api: Api,
        *,
        most: int = 32,
        allowed: Callable[[], bool] = lambda: True,
        retry: Backoff = Backoff(0.1, 5.0),  # noqa: B008 – immutable
    ) -> None:
        """`allowed` is asked before every request; what is not allowed stays queued."""
        self._api = api
        self._most = most
        self._allowed = allowed
        self._retry = retry
        self.limit = float(most)
        self._queues: dict[Lane, dict[str, Write]] = {lane: {} for lane in Lane}
        self._retries: list[tuple[float, int, _Attempt]] = []
        self._busy: set[str] = set()
        self._asking: set[_Attempt] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sequence = 1
        self._resume_at = 0.0
        self._slowed_at = float("-inf")
        self._failed_first_tries = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._closed = False
        self._unsettled = False
        self.counters = Counters()

    @property
    def in_flight(self) -> int:
        """Requests sent and not answered."""
        return len(self._asking)

    @property
    def retrying(self) -> int:
        """Writes that wait to be sent again."""
        return len(self._retries)

    def queued(self, lane: Lane) -> int:
        """Writes of a lane that were not sent yet."""
        return len(self._queues[lane])

    def submit(self, write: Write) -> None:
        """Take a write; after `close` it is dropped (the next leader decides it again)."""
        if self._closed:
            return
        if write.lane is Lane.RELEASE:
            # What was still to be said about the waiting pod would be wrong by then.
            for lane in (Lane.STATE, Lane.REPORT):
                self._queues[lane].pop(write.key, None)
        self._queues[write.lane][write.key] = write
        self._pump()

    async def close(self, grace: float) -> bool:
        """Send nothing more, let what is in flight end within `grace` seconds.

        Returns:
            Whether no release can still take effect: only then may another leader start at once.
        """
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for queue in self._queues.values():
            queue.clear()
        self._unsettled |= any(attempt.unknown for _, _, attempt in self._retries)
        self._retries.clear()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        self._unsettled |= any(attempt.write.persist for attempt in self._asking)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return not self._unsettled

    # --- which one is next ------------------------------------------------------------------
    def _pump(self) -> None:
        if self._closed or not self._allowed():
            return
        now = asyncio.get_running_loop().time()
        while now >= self._resume_at and self.in_flight < max(1, int(self.limit)):
            attempt = self._next(now)
            if attempt is None:
                break
            attempt.number += 1
            self._asking.add(attempt)
            task = asyncio.create_task(self._send(attempt))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._come_back(now)

    def _come_back(self, now: float) -> None:
        """Look again when a pause or the pause of a retry is over."""
        moments = [max(due, self._resume_at) for due, _, _ in self._retries[:1]]
        if any(self._queues.values()):
            moments.append(self._resume_at)
        at = min((moment for moment in moments if moment > now), default=None)
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        loop = asyncio.get_running_loop()
        self._timer = None if at is None else loop.call_at(at, self._look_again)

    def _look_again(self) -> None:
        self._timer_at = None
        self._pump()

    def _next(self, now: float) -> _Attempt | None:
        # Retries may hang as they did before: half of the places are out of their reach.
        tried_before = sum(1 for attempt in self._asking if attempt.number > 1)
        if self._retries and self._retries[0][0] <= now and tried_before < max(1, self.limit // 2):
            return heapq.heappop(self._retries)[2]
        write = self._fresh()
        if write is None:
            return None
        self._busy.add(write.key)
        return _Attempt(write, self._retry.first)

    def _fresh(self) -> Write | None:
        turn = self._sequence % _CYCLE
        for lane in _TURNS.get(turn, _USUAL):
            if lane is Lane.REPORT and turn and self.in_flight >= max(1, self.limit // 2):
                continue  # reports never take the last places, but for their turn
            queue = self._queues[lane]
            for key, write in queue.items():
                if key not in self._busy:
                    del queue[key]
                    self._sequence += 1
                    return write
        return None

    # --- sending it -------------------------------------------------------------------------
    async def _send(self, attempt: _Attempt) -> None:
        write = attempt.write
        error = await self._ask(write)
        self._asking.discard(attempt)
        if self._learn(attempt, error):
            self._again(attempt)
            return
        self._pump()  # the place is free, whatever is done with the answer
        try:
            outcome = write.done(error)
            if outcome is not None:
                await outcome
        except Exception:
            log.exception("handling the answer to %s %s", write.method, write.path)
        self._busy.discard(write.key)
        self._pump()

    def _again(self, attempt: _Attempt) -> None:
        write = attempt.write
        if self._closed or (not write.persist and write.key in self._queues[write.lane]):
            self._busy.discard(write.key)  # a newer one, or the next leader's, takes its place
        else:
            due = asyncio.get_running_loop().time() + jittered(attempt.delay)
            attempt.delay = self._retry.next(attempt.delay)
            self._sequence += 1
            heapq.heappush(self._retries, (due, self._sequence, attempt))
        self._pump()

    async def _ask(self, write: Write) -> ApiError | UncertainError | None:
        if not write.wanted():
            return UnwantedError()
        try:
            await self._api.request(
                write.method,
                write.path,
                write.body,
                content_type=write.content_type,
                accept=METADATA_ONLY,
                timeout=write.timeout,
            )
        except (ApiError, UncertainError) as error:
            return error
        except Exception as error:
            log.exception("sending %s %s", write.method, write.path)
            return UncertainError(f"{type(error).__name__}: {error}")
        return None

    def _learn(self, attempt: _Attempt, error: ApiError | UncertainError | None) -> bool:
        """Draw conclusions from an answer; whether to send the write again."""
        write = attempt.write
        if isinstance(error, UncertainError):
            return self._learn_nothing(attempt, error)
        if isinstance(error, UnwantedError):
            return False
        if error is not None and error.status == TOO_MANY_REQUESTS and not error.budget:
            self._slow_down(error.retry_after or attempt.delay)
            return True
        self._failed_first_tries = 0
        if error is not None:
            error.unsettled = attempt.unknown
            self._count(self.counters.refused, write)
            return False
        self._count(self.counters.accepted, write)
        self.limit = min(self._most, self.limit + 1 / self.limit)
        return False

    def _learn_nothing(self, attempt: _Attempt, error: UncertainError) -> bool:
        write = attempt.write
        attempt.unknown = write.persist
        self._count(self.counters.unknown, write)
        log.warning("no clear answer (attempt %d): %s", attempt.number, error)
        if attempt.number == 1 or error.retry_after:
            # First tries tell about the server; later ones only about their own object.
            pause = 0.0
            if self._failed_first_tries:
                pause = min(self._retry.first * 2.0 ** min(self._failed_first_tries, 16), _STORM)
            self._failed_first_tries += 1
            self._slow_down(max(pause, error.retry_after or 0.0))
        if write.persist and self._closed:
            self._unsettled = True
        return write.persist

    def _slow_down(self, pause: float) -> None:
        now = asyncio.get_running_loop().time()
        self.counters.throttled += 1
        if now - self._slowed_at > _ONE_SIGN:
            self._slowed_at = now
            self.limit = max(min(_LEAST, self._most), self.limit / 2)
        self._resume_at = max(self._resume_at, now + min(pause, _MOST_PAUSE))

    def _count(self, counter: dict[str, int], write: Write) -> None:
        counter[write.lane] = counter.get(write.lane, 0) + 1

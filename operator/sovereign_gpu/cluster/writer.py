"""Sends writes: bounded, adaptive, in order per object, releases before everything else.

An answer is either accepted, refused (nothing was written) or unknown. An unknown answer is never
given up for a release: the same patch is sent again until the API server answers it, because it
may have landed. Other writes are level-triggered, so a lost one is simply decided again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sovereign_gpu.cluster.errors import TOO_MANY_REQUESTS, ApiError, UncertainError
from sovereign_gpu.cluster.session import METADATA_ONLY, Api

log = logging.getLogger(__name__)


class Lane(StrEnum):
    """Which writes go first."""

    RELEASE = "release"
    STATE = "state"
    """Labels of nodes, metadata of namespaces: releases depend on them."""
    REPORT = "report"
    """Status, conditions, events."""


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
    """Called with None (accepted), ApiError (refused), UncertainError (unknown, given up)."""
    persist: bool = False
    """Send again until answered."""
    timeout: float = 30.0


@dataclass(slots=True)
class Counters:
    """What happened so far, by lane."""

    accepted: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    throttled: int = 0


class Writer:
    """Keeps up to `limit` requests in flight; halves that when the server asks for less."""

    def __init__(self, api: Api, *, most: int = 32) -> None:
        self._api = api
        self._most = most
        self.limit = float(most)
        self._queues: dict[Lane, dict[str, Write]] = {lane: {} for lane in Lane}
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._active = 0
        self._resume_at = 0.0
        self._slowed_at = float("-inf")
        self._closed = False
        self.counters = Counters()

    @property
    def in_flight(self) -> int:
        """Requests sent and not answered."""
        return self._active

    def queued(self, lane: Lane) -> int:
        """Writes of a lane that were not sent yet."""
        return len(self._queues[lane])

    def submit(self, write: Write) -> None:
        """Take a write; after `close` it is dropped (the next leader decides it again)."""
        if self._closed:
            return
        self._queues[write.lane][write.key] = write
        self._pump()

    async def close(self, grace: float) -> None:
        """Take nothing more, let what is in flight end within `grace` seconds."""
        self._closed = True
        for queue in self._queues.values():
            queue.clear()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._tasks:
            task.cancel()

    def _pump(self) -> None:
        while self._active < self.limit:
            write = self._next()
            if write is None:
                return
            self._busy.add(write.key)
            self._active += 1
            task = asyncio.create_task(self._send(write))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next(self) -> Write | None:
        for lane, queue in self._queues.items():
            if lane is Lane.REPORT and self._active >= max(1, self.limit // 2):
                return None  # reports never take the last places
            for key, write in queue.items():
                if key not in self._busy:
                    del queue[key]
                    return write
        return None

    async def _send(self, write: Write) -> None:
        try:
            result = await self._until_answered(write)
            outcome = write.done(result)
            if outcome is not None:
                await outcome
        except Exception:
            log.exception("handling the answer to %s %s", write.method, write.path)
        finally:
            self._busy.discard(write.key)
            self._leave()

    async def _until_answered(self, write: Write) -> ApiError | UncertainError | None:
        delay = 0.1
        attempt = 0
        while True:
            attempt += 1
            await self._politely()
            try:
                await self._api.request(
                    write.method,
                    write.path,
                    write.body,
                    content_type=write.content_type,
                    accept=METADATA_ONLY,
                    timeout=write.timeout,
                )
            except ApiError as error:
                if error.status != TOO_MANY_REQUESTS:
                    self._count(self.counters.refused, write)
                    return error
                self._slow_down(error.retry_after or delay)
            except UncertainError as error:
                self._slow_down(0.0)
                self._count(self.counters.unknown, write)
                log.warning("no clear answer (attempt %d): %s", attempt, error)
                if not write.persist or self._closed:
                    return error
            else:
                self._count(self.counters.accepted, write)
                self.limit = min(self._most, self.limit + 1 / self.limit)
                return None
            # One object that nobody can write must not keep the place of all others.
            self._leave()
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 – jitter
            self._active += 1
            delay = min(delay * 2, 5.0)

    def _leave(self) -> None:
        self._active -= 1
        if not self._closed:
            self._pump()

    async def _politely(self) -> None:
        pause = self._resume_at - asyncio.get_running_loop().time()
        if pause > 0:
            await asyncio.sleep(pause)

    def _slow_down(self, pause: float) -> None:
        now = asyncio.get_running_loop().time()
        self.counters.throttled += 1
        if now - self._slowed_at > 1.0:  # many answers to one overload are one sign of it
            self._slowed_at = now
            self.limit = max(1.0, self.limit / 2)
        self._resume_at = max(self._resume_at, now + min(pause, 10.0))

    def _count(self, counter: dict[str, int], write: Write) -> None:
        counter[write.lane] = counter.get(write.lane, 0) + 1

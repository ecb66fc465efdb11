"""Who may write: one holder of a coordination.k8s.io/v1 Lease.

Rules as in client-go's leaderelection: a lease is taken over only after it was seen unchanged for
its whole duration on our own monotonic clock, so clocks need not agree. Unlike there,

- the taker waits a margin on top, in which late writes of the old holder run out;
- the holder counts its time from when it *asked* for the renewal, and the writer asks `valid`
  before each request, so that a process that was stopped for a while cannot write on;
- a lease that is not there is made at once, so that nobody else can, and held for its whole
  duration before it counts: somebody may have deleted it under its holder;
- the holder gives it back when it ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sovereign_gpu.cluster.errors import CONFLICT, NOT_FOUND, ApiError, ClusterError, UncertainError
from sovereign_gpu.cluster.session import Api

log = logging.getLogger(__name__)

MARGIN = 2.0
"""Seconds after expiry in which the old holder's requests in flight end."""
_NEVER = float("-inf")


class LeaseLostError(ClusterError):
    """Someone else holds the lease, or it could not be renewed in time: stop writing at once."""


@dataclass(slots=True)
class Lease:
    """Our view of the lease object."""

    api: Api
    namespace: str
    name: str
    holder: str
    duration: float = 15.0
    """Seconds it holds without renewal; the holder stops writing after two thirds of it."""
    transitions: int = 0
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    """It was looked at, with whatever result."""
    _valid_until: float = _NEVER
    _version: str | None = None
    """Resource version last seen; empty when there was no lease."""
    _seen_at: float = _NEVER
    """When that version was seen first."""
    _counts_from: float = _NEVER
    """Until then whoever held a lease that was deleted may not know that it is lost."""
    _theirs: float = 0.0
    """Duration that the last holder stated."""
    _object: dict[str, Any] = field(default_factory=dict)

    @property
    def token(self) -> str:
        """Return what a release is signed with: `<holder>/<transitions>`."""
        return f"{self.holder}/{self.transitions}"

    @property
    def valid(self) -> bool:
        """Whether we hold it now, on our own clock."""
        return self._held and _now() >= self._counts_from

    @property
    def _held(self) -> bool:
        return _now() < self._valid_until

    async def acquire(self) -> None:
        """Wait until the lease is ours and nobody else's write can still be under way."""
        while True:
            try:
                if await self._try():
                    await self._outlast()
                    log.info("holding lease %s/%s as %s", self.namespace, self.name, self.token)
                    return
            except ClusterError as error:
                log.warning("lease %s/%s: %s", self.namespace, self.name, error)
            finally:
                self.tried.set()
            # One small read a second: what is given back is taken at once.
            pause = min(1.0, self.duration / 4)
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 – jitter

    async def sure(self) -> bool:
        """Renew it now; whether it is ours by the API server's word."""
        try:
            return await self._renew() and self.valid
        except LeaseLostError:
            return False

    async def _outlast(self) -> None:
        """Hold a lease that was made anew until it counts.

        Raises:
            LeaseLostError: it was taken or deleted, or could not be renewed meanwhile.
        """
        while (left := self._counts_from - _now()) > 0:
            await asyncio.sleep(min(left, self.duration / 5))
            await self._renew()
            if not self._held:
                raise LeaseLostError("the lease could not be renewed in time")

    async def hold(self) -> None:
        """Renew for ever.

        Raises:
            LeaseLostError: the lease is someone else's or gone, or could not be renewed in time.
        """
        pause = self.duration / 5
        while True:
            try:
                async with asyncio.timeout_at(self._valid_until):
                    await asyncio.sleep(pause)
                    renewed = await self._renew()
            except TimeoutError:
                raise LeaseLostError("the lease could not be renewed in time") from None
            pause = self.duration / (5 if renewed else 15)

    async def give_back(self) -> None:
        """Let the next holder start at once; errors do not matter any more."""
        self._valid_until = _NEVER  # it may be another's before we have the answer
        try:
            await self._put_ours({**self._spec(renewing=True), "holderIdentity": ""})
        except ClusterError as error:
            log.warning("giving the lease back: %s", error)
        finally:
            self._valid_until = _NEVER

    async def _try(self) -> bool:
        try:
            self._remember(await self._get())
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            self._remember({})
            self._counts_from = _now() + max(self._theirs, self.duration) + MARGIN
        spec = self._object.get("spec") or {}
        holder = spec.get("holderIdentity")
        # The holder's own duration counts, also after the lease is gone: ours may be another.
        self._theirs = float(spec.get("leaseDurationSeconds") or self._theirs)
        free = not self._object or holder in (None, "", self.holder)
        if not free and _now() - self._seen_at < max(self._theirs, self.duration) + MARGIN:
            return False
        ours = holder == self.holder  # taken by a write whose answer got lost
        self.transitions = int(spec.get("leaseTransitions") or 0) + (not ours)
        try:
            await self._put(self._spec(renewing=ours))
        except ApiError as error:
            if error.status == CONFLICT:
                return False
            raise
        return self._held

    async def _renew(self) -> bool:
        try:
            await self._put_ours(self._spec(renewing=True))
        except LeaseLostError:
            self._valid_until = _NEVER
            raise
        except ClusterError as error:
            log.warning("renewing the lease: %s", error)
            return False
        return True

    async def _put_ours(self, spec: dict[str, Any]) -> None:
        try:
            await self._put(spec)
        except ApiError as error:
            # Our last write may have landed without our seeing the answer, or somebody labelled it.
            if error.status not in (CONFLICT, NOT_FOUND):
                raise
            if not await self._still_ours():
                raise LeaseLostError("another process took the lease, or deleted it") from error
            await self._put(spec)

    async def _still_ours(self) -> bool:
        """Read the lease; whether we are the holder.

        Raises:
            ClusterError: it could not be read, so that nobody knows.
        """
        try:
            self._remember(await self._get())
        except ApiError as error:
            if error.status == NOT_FOUND:
                return False
            raise
        spec = self._object.get("spec") or {}
        return (spec.get("holderIdentity"), spec.get("leaseTransitions")) == (
            self.holder,
            self.transitions,
        )

    def _remember(self, current: dict[str, Any]) -> None:
        version = current["metadata"]["resourceVersion"] if current else ""
        if version != self._version:
            self._version, self._seen_at = version, _now()
        self._object = current

    def _spec(self, *, renewing: bool) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        acquired = (self._object.get("spec") or {}).get("acquireTime") if renewing else None
        return {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": max(1, round(self.duration)),
            "acquireTime": acquired or now,
            "renewTime": now,
            "leaseTransitions": self.transitions,
        }

    # --- requests -----------------------------------------------------------------------------
    @property
    def _folder(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"

    async def _get(self) -> dict[str, Any]:
        return _parsed(
            await self.api.request("GET", f"{self._folder}/{self.name}", timeout=self.duration / 3)
        )

    async def _put(self, spec: dict[str, Any]) -> None:
        """Write the lease as we last saw it, with another spec; others' labels stay."""
        asked = _now()
        meta = {"name": self.name, "namespace": self.namespace}
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {**self._object.get("metadata", {}), **meta},
            "spec": {**(self._object.get("spec") or {}), **spec},
        }
        method, path = ("PUT", f"{self._folder}/{self.name}")
        if not self._object:
            method, path = ("POST", self._folder)
        answer = await self.api.request(method, path, body, timeout=self.duration / 3)
        self._remember(_parsed(answer))
        self._valid_until = asked + self.duration * 2 / 3


def _parsed(answer: bytes) -> dict[str, Any]:
    try:
        found = json.loads(answer)
        found["metadata"]["resourceVersion"]
    except (ValueError, TypeError, KeyError) as error:
        raise UncertainError(f"the answer is no lease: {error}") from error
    return dict(found)


def _now() -> float:
    return asyncio.get_running_loop().time()

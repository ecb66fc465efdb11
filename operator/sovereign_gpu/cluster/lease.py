"""Who may write: one holder of a coordination.k8s.io/v1 Lease.

Rules as in client-go's leaderelection: a lease is taken over only after it was seen unchanged for
its whole duration on our own monotonic clock, so clocks need not agree. Unlike there, the holder
gives it back when it ends, and the taker waits a margin in which late writes of the old holder
run out.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sovereign_gpu.cluster.errors import CONFLICT, NOT_FOUND, ApiError, ClusterError
from sovereign_gpu.cluster.session import Api

log = logging.getLogger(__name__)

MARGIN = 2.0
"""Seconds after expiry in which the old holder's requests in flight end."""


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
    transitions: int = 0
    _version: str = ""
    _seen_at: float = field(default=float("-inf"))
    _object: dict[str, Any] = field(default_factory=dict)

    @property
    def _path(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"

    @property
    def token(self) -> str:
        """Return what a release is signed with: `<holder>/<transitions>`."""
        return f"{self.holder}/{self.transitions}"

    async def acquire(self) -> None:
        """Wait until the lease is ours and nobody else's write can still be under way."""
        while True:
            try:
                if await self._try():
                    log.info("holding lease %s/%s as %s", self.namespace, self.name, self.token)
                    return
            except ClusterError as error:
                log.warning("lease %s/%s: %s", self.namespace, self.name, error)
            pause = min(2.0, self.duration / 4)
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 – jitter

    async def hold(self) -> None:
        """Renew for ever.

        Raises:
            LeaseLostError: the lease is someone else's, or renewing failed for two thirds of it.
        """
        deadline = time.monotonic() + self.duration * 2 / 3
        while True:
            try:
                async with asyncio.timeout_at(
                    asyncio.get_running_loop().time() + self.duration / 2
                ):
                    await self._write("PUT", self._spec(renewing=True))
                deadline = time.monotonic() + self.duration * 2 / 3
            except ApiError as error:
                if error.status in (CONFLICT, NOT_FOUND) and not await self._still_ours():
                    raise LeaseLostError("another process took the lease") from error
                log.warning("renewing the lease: %s", error)
            except (ClusterError, TimeoutError) as error:
                log.warning("renewing the lease: %s", error or "timed out")
            if time.monotonic() > deadline:
                raise LeaseLostError("the lease could not be renewed in time")
            await asyncio.sleep(self.duration / 5)

    async def give_back(self) -> None:
        """Let the next holder start at once; errors do not matter any more."""
        try:
            await self._write("PUT", {**self._spec(renewing=True), "holderIdentity": ""})
        except (ClusterError, TimeoutError) as error:
            log.warning("giving the lease back: %s", error)

    async def _try(self) -> bool:
        try:
            current = await self.api.get(f"{self._path}/{self.name}")
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            await self._write("POST", self._spec(renewing=False))
            return True
        self._remember(current)
        if current["spec"].get("holderIdentity"):
            # The holder's own duration counts: ours may be set differently.
            theirs = float(current["spec"].get("leaseDurationSeconds", self.duration))
            if time.monotonic() - self._seen_at < theirs + MARGIN:
                return False
        self.transitions = int(current["spec"].get("leaseTransitions", 0)) + 1
        try:
            await self._write("PUT", self._spec(renewing=False))
        except ApiError as error:
            if error.status == CONFLICT:
                return False
            raise
        return True

    async def _still_ours(self) -> bool:
        try:
            current = await self.api.get(f"{self._path}/{self.name}")
        except ClusterError:
            return True  # not known; the deadline decides
        self._remember(current)
        spec = current["spec"]
        return (spec.get("holderIdentity"), spec.get("leaseTransitions")) == (
            self.holder,
            self.transitions,
        )

    def _remember(self, current: dict[str, Any]) -> None:
        version = current["metadata"]["resourceVersion"]
        if version != self._version:
            self._version, self._seen_at = version, time.monotonic()
        self._object = current

    def _spec(self, *, renewing: bool) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        acquired = self._object.get("spec", {}).get("acquireTime") if renewing else None
        return {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": max(1, round(self.duration)),
            "acquireTime": acquired or now,
            "renewTime": now,
            "leaseTransitions": self.transitions,
        }

    async def _write(self, method: str, spec: dict[str, Any]) -> None:
        metadata = {"name": self.name, "namespace": self.namespace}
        if method == "PUT":
            metadata["resourceVersion"] = self._version
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }
        path = self._path if method == "POST" else f"{self._path}/{self.name}"
        answer = await self.api.request(method, path, body, timeout=self.duration / 2)
        self._remember(json.loads(answer))

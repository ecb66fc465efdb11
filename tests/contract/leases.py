"""A lease on an API server in memory, so that contests for it pass in virtual time."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from typing import Any, cast

from sovereign_gpu.cluster.errors import ApiError, UncertainError
from sovereign_gpu.cluster.lease import Lease
from sovereign_gpu.cluster.session import Api

FOLDER = "/apis/coordination.k8s.io/v1/namespaces/system/leases"


class MemoryApi:
    """One lease object, without a socket, so that time can be virtual."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] | None = None
        self.version = 100
        self.fault: Callable[[str], Exception | None] = lambda _: None
        """Asked for each request by method; what it returns is raised."""
        self.lands = False
        """A write that a fault answers took effect all the same."""
        self.before: Callable[[], float] = lambda: 0.0
        """Seconds until a request takes effect."""
        self.after: Callable[[], float] = lambda: 0.0
        """Seconds from there to the answer."""
        self.requests: list[tuple[str, dict[str, Any] | None]] = []

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        timeout: float,  # noqa: ASYNC109
    ) -> bytes:
        assert path == (FOLDER if method == "POST" else f"{FOLDER}/l")
        self.requests.append((method, copy.deepcopy(body)))
        try:
            async with asyncio.timeout(timeout):
                await asyncio.sleep(self.before())
                fault = self.fault(method)
                if fault is None or (self.lands and isinstance(fault, UncertainError)):
                    self._apply(method, body)
                answer = json.dumps(self.stored).encode()
                await asyncio.sleep(self.after())
        except TimeoutError as error:
            raise UncertainError("timed out") from error
        if fault is not None:
            raise fault
        return answer

    def _apply(self, method: str, body: Any) -> None:
        if method != "POST" and self.stored is None:
            raise ApiError(404, "not found")
        if method == "GET":
            return
        if method == "POST" and self.stored is not None:
            raise ApiError(409, "already exists")
        if self.stored is not None:
            asked = body["metadata"]["resourceVersion"]
            if asked != self.stored["metadata"]["resourceVersion"]:
                raise ApiError(409, "the object has been modified")
        self.write(body)

    def write(self, body: dict[str, Any]) -> None:
        """Store it, as anybody may."""
        self.version += 1
        self.stored = copy.deepcopy(body)
        self.stored.setdefault("metadata", {})["resourceVersion"] = str(self.version)

    def held_by(self, holder: str, **spec: Any) -> None:
        """Store a lease of somebody."""
        base = {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 4}
        self.write({"metadata": {"name": "l"}, "spec": {**base, **spec}})


def lease(api: MemoryApi, holder: str = "me", duration: float = 15.0) -> Lease:
    return Lease(cast("Api", api), "system", "l", holder, duration)


def now() -> float:
    return asyncio.get_running_loop().time()


async def taken(api: MemoryApi) -> Lease:
    if api.stored is None:
        api.held_by("")
    mine = lease(api)
    await mine.acquire()
    return mine

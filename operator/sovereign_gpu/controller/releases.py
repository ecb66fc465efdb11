"""Carries a decision to the API server and its answer back to the engine.

Accepted: the gate is gone for good. Refused: nothing was written, but somebody else may have
changed the pod, so it is read again before its GPUs are given to another. Unknown: the writer
asks until it knows; the GPUs stay charged meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sovereign_gpu import names
from sovereign_gpu.cluster import decode, patches, wire
from sovereign_gpu.cluster.errors import NOT_FOUND, ApiError, ClusterError, UncertainError
from sovereign_gpu.cluster.session import JSON_PATCH, Api
from sovereign_gpu.cluster.writer import Lane, Write, Writer
from sovereign_gpu.controller.fence import Fence
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Pod, Release
from sovereign_gpu.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_RETRY_REFUSED = 10.0
"""Seconds before a refused pod is tried again."""
_RETRY_FENCED = 1.0
"""The same, when the API server has not heard yet that we lead."""
_READ_AGAIN = 1.0
"""Seconds before a pod that could not be read is read again."""


@dataclass(slots=True)
class Releaser:
    """Sends releases; knows which are under way."""

    api: Api
    writer: Writer
    engine: Engine
    metrics: Metrics
    fence: Fence
    signature: Callable[[], str]
    """What releases are signed with: the lease's token."""
    wake: Callable[[], None]
    timeout: float
    """Seconds for one request; less than the lease, so that a lost leader's writes run out."""

    def send(self, decision: Release) -> None:
        """Send one decision."""
        pod = decision.pod
        self.writer.submit(
            Write(
                lane=Lane.RELEASE,
                key=f"pod/{pod.uid}",
                method="PATCH",
                path=pod_path(pod),
                body=patches.release(decision, self.engine.pools[decision.pool], self.signature()),
                content_type=JSON_PATCH,
                done=partial(self._answered, decision),
                persist=True,
                timeout=self.timeout,
            )
        )

    async def _answered(self, decision: Release, error: ApiError | UncertainError | None) -> None:
        pod = decision.pod
        if error is None:
            log.debug(
                "released %s/%s to pool %s node %s",
                pod.namespace,
                pod.name,
                decision.pool,
                decision.node,
            )
            self.metrics.released(decision, waited=max(0.0, time.time() - pod.created))
        elif isinstance(error, ApiError):
            log.warning("release of %s/%s refused: %s", pod.namespace, pod.name, error)
            self.metrics.refused(decision.tenant)
            await self._look_again(pod, error)
        # Unknown and given up happens only while we end: the next leader reads the truth.

    async def _look_again(self, pod: Pod, refusal: ApiError) -> None:
        if refusal.unsettled:
            # An earlier try may still be on its way; it cannot outlast its own time-out.
            await asyncio.sleep(self.timeout)
        while True:
            try:
                content = await self.api.request("GET", pod_path(pod))
                break
            except ApiError as error:
                if error.status == NOT_FOUND:
                    self.engine.remove_pod(pod.uid)
                    self.wake()
                    return
                log.warning("reading %s/%s: %s", pod.namespace, pod.name, error)
            except ClusterError as error:
                log.warning("reading %s/%s: %s", pod.namespace, pod.name, error)
            await asyncio.sleep(_READ_AGAIN)  # stays charged until we know
        if pod.uid not in self.engine.pods:
            return  # gone while we asked; putting it back would leave a ghost that holds GPUs
        source = wire.POD.validate_json(content)
        current = decode.pod(source)
        if current.uid != pod.uid or source.get("status", {}).get("phase") in decode.TERMINAL:
            self.engine.remove_pod(pod.uid)
        elif names.GATE not in current.gates:
            self.engine.put_pod(current)  # an earlier try of ours had landed
        else:
            self.engine.take_back(pod.uid, refusal.message)
            fenced = self.fence.refused(refusal)
            if fenced:
                self.fence.doubt()
            pause = _RETRY_FENCED if fenced else _RETRY_REFUSED
            asyncio.get_running_loop().call_later(pause, self._retry, pod.uid)
        self.wake()

    def _retry(self, uid: str) -> None:
        pod = self.engine.pods.get(uid)
        if pod is not None:
            self.engine.place(pod)
            self.wake()


def pod_path(pod: Pod) -> str:
    """Return the path of a pod in the API."""
    return f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"

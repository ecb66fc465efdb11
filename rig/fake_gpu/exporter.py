"""Answers scrapes: asks the kubelet who has which device, and pods how busy they are."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from typing import TYPE_CHECKING, Any, Final

import grpc

from rig.fake_gpu import metrics, names, utilisation
from rig.fake_gpu.server import identity
from rig.fake_gpu.wire import channel, pod_services, podresources

if TYPE_CHECKING:
    from collections.abc import AsyncIterable
    from pathlib import Path

    from rig.fake_gpu.api import Api, Objects
    from rig.fake_gpu.scenario import Scenario

ASK_SECONDS: Final = 2.0
log = logging.getLogger(__name__)

Holder = tuple[str, str, str]
"""Namespace, pod and container."""


class Exporter:
    """Measures one node.

    Args:
        api: the API server, for the annotations of pods.
        node: name of the node.
        pod_resources: the kubelet's socket for who has which device.
    """

    def __init__(self, api: Api, node: str, pod_resources: Path) -> None:
        self._api = api
        self._node = node
        self._pod_resources = pod_resources
        self._counters = metrics.Counters()
        self._scenario: Scenario | None = None
        self._pods: Objects = {}
        self._refused: set[str] = set()

    @property
    def ready(self) -> bool:
        """Whether there is something to measure."""
        return self._scenario is not None

    async def run(self, scenarios: AsyncIterable[Scenario]) -> None:
        """Follow the scenarios and the pods of the node until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_scenarios(scenarios))
            group.create_task(self._follow_pods())

    async def _follow_scenarios(self, scenarios: AsyncIterable[Scenario]) -> None:
        async for scenario in scenarios:
            self._scenario = scenario

    async def _follow_pods(self) -> None:
        async for pods in self._api.follow("/api/v1/pods", f"spec.nodeName={self._node}"):
            self._pods = pods

    async def scrape(self) -> str:
        """Return what Prometheus gets; empty before the first scenario is known."""
        scenario = self._scenario
        if scenario is None:
            return ""
        machine = scenario.machine(self._node)
        uses = self._uses(await holders(self._pod_resources), scenario)
        levels = {gpu.uuid: metrics.level_of(gpu, uses) for gpu in machine.gpus}
        self._counters.advance(time.monotonic(), levels)
        label = scenario.hostname_label
        return metrics.text(metrics.entities(machine, uses, scenario.xids, self._counters, label))

    def _uses(self, held: dict[str, Holder], scenario: Scenario) -> dict[str, metrics.Use]:
        pods = {
            (each["metadata"]["namespace"], each["metadata"]["name"]): each
            for each in self._pods.values()
        }
        uses = {}
        for device, (namespace, pod, container) in held.items():
            level = self._level(pods.get((namespace, pod)), device, scenario)
            uses[device] = metrics.Use(namespace, pod, container, level)
        return uses

    def _level(self, pod: dict[str, Any] | None, device: str, scenario: Scenario) -> int:
        script = utilisation.parse(scenario.utilisation)
        if pod is None:
            return script.level(0.0, device)
        written = pod["metadata"].get("annotations", {}).get(names.UTILISATION)
        if written is not None:
            try:
                script = utilisation.parse(written)
            except ValueError as error:
                self._complain(pod["metadata"], error)
        return script.level(_age(pod), device)

    def _complain(self, metadata: dict[str, Any], error: ValueError) -> None:
        # Once per pod: a scrape every few seconds would repeat it for ever.
        if metadata["uid"] not in self._refused:
            self._refused.add(metadata["uid"])
            log.warning("pod %s/%s: %s", metadata["namespace"], metadata["name"], error)


def _age(pod: dict[str, Any]) -> float:
    started = pod.get("status", {}).get("startTime")
    if started is None:
        return 0.0
    return max(0.0, time.time() - dt.datetime.fromisoformat(started).timestamp())


async def holders(socket: Path) -> dict[str, Holder]:
    """Return who holds which NVIDIA device, as the kubelet says; nobody when it cannot be asked."""
    if identity(socket) is None:
        return {}
    try:
        async with channel(socket) as connection:
            stub = pod_services.PodResourcesListerStub(connection)
            request = podresources.ListPodResourcesRequest()
            answer = await stub.List(request, timeout=ASK_SECONDS)
    except grpc.aio.AioRpcError as error:
        log.warning("%s: %s", socket, error.details())
        return {}
    return {
        device: (pod.namespace, pod.name, container.name)
        for pod in answer.pod_resources
        for container in pod.containers
        for held in container.devices
        if held.resource_name.startswith(names.NVIDIA)
        for device in held.device_ids
    }

"""How much of a node a pod needs, counted as kube-scheduler counts it.

Rule (k8s.io/component-helpers/resource, `PodRequests`): containers and sidecars (init
containers that restart always) add up; an ordinary init container runs beside the sidecars
declared before it; the pod needs the larger of both; requests given for the whole pod replace
the sum for the resources they name; overhead comes on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sovereign_gpu.core.model import Resources
from sovereign_gpu.core.quantity import parse
from sovereign_gpu.names import GPU_RESOURCE

Requests = Mapping[str, str]

MOST_GPUS = 1 << 20
"""More GPUs than this count as this many. Anyone may ask for 10**18 of them, and a kubelet may
claim to have them; sums over all objects must stay within what status fields hold."""


def resources(requests: Requests) -> Resources:
    """Return the three resources the engine places by; others are left to kube-scheduler."""
    return Resources(
        gpus=min(MOST_GPUS, parse(requests.get(GPU_RESOURCE, "0"))),
        cpu=parse(requests.get("cpu", "0"), 1000),
        memory=parse(requests.get("memory", "0")),
    )


def pod_demand(
    containers: Iterable[Requests],
    init_containers: Sequence[tuple[Requests, bool]] = (),
    *,
    whole_pod: Requests | None = None,
    overhead: Requests | None = None,
) -> Resources:
    """Return what the pod takes from its node.

    Args:
        containers: requests of each container.
        init_containers: (requests, restarts always) of each init container, in order.
        whole_pod: requests at pod level, if the pod has them.
        overhead: what the runtime class adds.
    """
    running = _sum(resources(requests) for requests in containers)
    sidecars = Resources()
    peak = Resources()
    for requests, restarts_always in init_containers:
        needs = resources(requests)
        if restarts_always:
            sidecars = _add(sidecars, needs)
            peak = _larger(peak, sidecars)
        else:
            peak = _larger(peak, _add(sidecars, needs))
    total = _larger(_add(running, sidecars), peak)
    if whole_pod:
        stated = resources(whole_pod)
        total = Resources(
            gpus=stated.gpus if GPU_RESOURCE in whole_pod else total.gpus,
            cpu=stated.cpu if "cpu" in whole_pod else total.cpu,
            memory=stated.memory if "memory" in whole_pod else total.memory,
        )
    return _add(total, resources(overhead)) if overhead else total


def _add(a: Resources, b: Resources) -> Resources:
    return Resources(a.gpus + b.gpus, a.cpu + b.cpu, a.memory + b.memory)


def _larger(a: Resources, b: Resources) -> Resources:
    return Resources(max(a.gpus, b.gpus), max(a.cpu, b.cpu), max(a.memory, b.memory))


def _sum(parts: Iterable[Resources]) -> Resources:
    total = Resources()
    for part in parts:
        total = _add(total, part)
    return total

"""Pods as the API server sends them, and as they are read."""

from __future__ import annotations

import json
from typing import Any

from sovereign_gpu import names
from sovereign_gpu.cluster import decode, wire
from sovereign_gpu.core.model import Pod

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def pod(
    name: str = "p",
    *,
    uid: str = "",
    namespace: str = "a",
    gpus: int = 1,
    gated: bool = True,
    phase: str = "Pending",
    node: str = "",
    meta: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """Return a pod; `spec` adds to the spec."""
    if gated:
        spec.setdefault("schedulingGates", [{"name": names.GATE}])
    if node:
        spec["nodeName"] = node
    requests = {"cpu": "1500m", "memory": "2Gi", names.GPU_RESOURCE: str(gpus)}
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid or f"uid-{namespace}-{name}",
            "resourceVersion": "1",
            "creationTimestamp": "2026-11-23T12:00:00Z",
            **(meta or {}),
        },
        "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}], **spec},
        "status": {"phase": phase},
    }


def read(source: dict[str, Any]) -> Pod:
    """Return what the core is told of a pod."""
    return decode.pod(wire.POD.validate_json(json.dumps(source)))

"""From what the API server sends to what the core reads.

Strings and constraints that many objects share are interned, so that 20,000 pods of a few shapes
hold one copy of each shape and compare by identity.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from sovereign_gpu import names
from sovereign_gpu.cluster import wire
from sovereign_gpu.core.demand import pod_demand, resources
from sovereign_gpu.core.model import (
    Constraints,
    Namespace,
    Node,
    NodeTerm,
    Owner,
    PatchShape,
    Pod,
    Requirement,
    Resources,
    Taint,
    Toleration,
)

TERMINAL = frozenset({"Succeeded", "Failed"})
_PLACED_BY = frozenset({"cpu", "memory", names.GPU_RESOURCE})
"""Resources the engine counts on nodes; what else a pod asks for, kube-scheduler must look at."""

T = TypeVar("T")
_shared: dict[Any, Any] = {}
_SHARED_LIMIT = 50_000


def _share(value: T) -> T:
    if len(_shared) > _SHARED_LIMIT:
        _shared.clear()  # a bound on memory; only sharing is lost
    # By type: a named tuple equals the plain one, and gate names could be those of a taint.
    found: T = _shared.setdefault((value.__class__, value), value)
    return found


@lru_cache(maxsize=8192)
def timestamp(text: str) -> float:
    """Return an RFC 3339 time as seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


def pod(source: wire.PodWire) -> Pod:
    """Return the record of one pod."""
    meta, spec, status = source["metadata"], source["spec"], source.get("status", {})
    labels, annotations = meta.get("labels", {}), meta.get("annotations", {})
    affinity = spec.get("affinity") or {}
    gates = tuple(gate["name"] for gate in spec.get("schedulingGates", ()))
    return Pod(
        uid=meta["uid"],
        namespace=_share(meta["namespace"]),
        name=meta["name"],
        created=timestamp(meta["creationTimestamp"]),
        demand=_share(_demand(spec)),
        constraints=_share(_constraints(spec, affinity)),
        priority=spec.get("priority", 0),
        gates=_share(gates),
        node=_share(spec.get("nodeName", "")),
        deleting="deletionTimestamp" in meta,
        pool=_share(labels.get(names.POOL_LABEL, "")),
        released_by=_share(annotations.get(names.RELEASED_BY, "")),
        planned_node=_planned(annotations.get(names.DECISION)),
        owner=_share(_owner(meta)),
        follows_others=_follows_others(spec, affinity),
        shape=_share(_shape(source)),
        message=_share(_gate_message(status)) if gates else "",
        unschedulable="" if gates or spec.get("nodeName") else _unschedulable(status),
        notice=annotations.get(names.DRIFT_NOTICE, ""),
        bound=_bound(status) if spec.get("nodeName") else 0.0,
    )


def node(source: wire.NodeWire) -> Node:
    """Return the record of one node."""
    meta, spec, status = source["metadata"], source.get("spec", {}), source.get("status", {})
    allocatable = resources(status.get("allocatable", {}))
    capacity = resources(status.get("capacity", {}))
    return Node(
        name=meta["name"],
        labels={_share(k): _share(v) for k, v in meta.get("labels", {}).items()},
        taints=tuple(
            _share(Taint(t.get("key", ""), t.get("value", ""), t.get("effect", "")))
            for t in spec.get("taints", ())
        ),
        capacity=_share(capacity),
        allocatable=_share(allocatable),
        ready=any(
            condition.get("type") == "Ready" and condition.get("status") == "True"
            for condition in status.get("conditions", ())
        ),
        unschedulable=spec.get("unschedulable", False),
        conditions=_share(
            tuple(
                sorted(
                    (condition.get("type", ""), condition.get("status", ""))
                    for condition in status.get("conditions", ())
                    if condition.get("type") != "Ready"
                )
            )
        ),
        machine=status.get("nodeInfo", {}).get("systemUUID", ""),
        provider_id=spec.get("providerID", ""),
    )


def namespace(source: wire.NamespaceWire) -> Namespace:
    """Return the record of one namespace."""
    meta = source["metadata"]
    labels, annotations = meta.get("labels", {}), meta.get("annotations", {})
    marks: list[tuple[str, str]] = [
        (key, labels[key]) for key in names.NAMESPACE_LABELS if key in labels
    ]
    marks += [(key, annotations[key]) for key in names.NAMESPACE_ANNOTATIONS if key in annotations]
    return Namespace(
        name=meta["name"],
        tenant=labels.get(names.TENANT_LABEL, ""),
        marks=tuple(sorted(marks)),
        deleting="deletionTimestamp" in meta,
    )


def _requests(container: wire.Container) -> dict[str, str]:
    return container.get("resources", {}).get("requests", {})


def _demand(spec: wire.PodSpec) -> Resources:
    return pod_demand(
        [_requests(container) for container in spec.get("containers", ())],
        [
            (_requests(container), container.get("restartPolicy") == "Always")
            for container in spec.get("initContainers", ())
        ],
        whole_pod=spec.get("resources", {}).get("requests"),
        overhead=spec.get("overhead"),
    )


def _constraints(spec: wire.PodSpec, affinity: wire.Affinity) -> Constraints:
    required = affinity.get("nodeAffinity", {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    return Constraints(
        selector=tuple(sorted(spec.get("nodeSelector", {}).items())),
        terms=None
        if required is None
        else tuple(map(_term, required.get("nodeSelectorTerms", ()))),
        tolerations=tuple(
            Toleration(
                t.get("key", ""),
                t.get("operator", "Equal"),
                t.get("value", ""),
                t.get("effect", ""),
            )
            for t in spec.get("tolerations", ())
        ),
    )


def _term(term: wire.Term) -> NodeTerm:
    return NodeTerm(
        tuple(map(_requirement, term.get("matchExpressions", ()))),
        tuple(map(_requirement, term.get("matchFields", ()))),
    )


def _requirement(source: wire.Expression) -> Requirement:
    return Requirement(source["key"], source["operator"], tuple(source.get("values", ())))


def _asked_for(spec: wire.PodSpec) -> set[str]:
    requests = [spec.get("resources", {}).get("requests", {}), spec.get("overhead", {})]
    requests += map(_requests, (*spec.get("containers", ()), *spec.get("initContainers", ())))
    return {name for each in requests for name in each}


def _follows_others(spec: wire.PodSpec, affinity: wire.Affinity) -> bool:
    if "podAffinity" in affinity or "podAntiAffinity" in affinity:
        return True
    if spec.get("topologySpreadConstraints"):
        return True
    if any("persistentVolumeClaim" in v or "ephemeral" in v for v in spec.get("volumes", ())):
        return True
    if _asked_for(spec) - _PLACED_BY:
        return True
    return any(
        port.get("hostPort")
        for container in (*spec.get("containers", ()), *spec.get("initContainers", ()))
        for port in container.get("ports", ())
    )


def _shape(source: wire.PodWire) -> PatchShape:
    meta, spec = source["metadata"], source["spec"]
    node_affinity = spec.get("affinity", {}).get("nodeAffinity", {})
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return PatchShape(
        labels="labels" in meta,
        annotations="annotations" in meta,
        affinity="affinity" in spec,
        node_affinity="nodeAffinity" in spec.get("affinity", {}),
        preferred=bool(node_affinity.get("preferredDuringSchedulingIgnoredDuringExecution")),
        required=None
        if required is None
        else tuple(
            (bool(term.get("matchExpressions")), bool(term.get("matchFields")))
            for term in required.get("nodeSelectorTerms", ())
        ),
    )


def _planned(decision: str | None) -> str:
    if not decision:
        return ""
    try:
        planned = json.loads(decision).get("node", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return planned if isinstance(planned, str) else ""


def _owner(meta: wire.ObjectMeta) -> Owner | None:
    for owner in meta.get("ownerReferences", ()):
        if owner.get("controller"):
            return Owner(
                _share(owner.get("apiVersion", "")),
                _share(owner.get("kind", "")),
                owner.get("name", ""),
                owner.get("uid", ""),
            )
    return None


def _unschedulable(status: wire.PodStatus) -> str:
    for condition in status.get("conditions", ()):
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return condition.get("message", "") or "Unschedulable"
    return ""


def _bound(status: wire.PodStatus) -> float:
    for condition in status.get("conditions", ()):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "True":
            moment = condition.get("lastTransitionTime")
            return timestamp(moment) if moment else 0.0
    return 0.0


def _gate_message(status: wire.PodStatus) -> str:
    for condition in status.get("conditions", ()):
        if condition.get("type") == "PodScheduled":
            return condition.get("message", "")
    return ""

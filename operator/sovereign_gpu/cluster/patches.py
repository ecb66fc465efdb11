"""The bodies of our writes, as RFC 6902 and merge patches; pure.

A release is one JSON patch that tests the uid, removes the gate and narrows the node affinity.
The first test that fails refuses the whole patch, so it cannot touch another pod of the same
name, nor release twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from sovereign_gpu import names
from sovereign_gpu.core.model import Placement, Pod, Pool, Release, Requirement

Json = dict[str, Any]

JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_WEIGHT = 100


def release(decision: Release, pool: Pool, released_by: str) -> list[Json]:
    """Return the JSON patch that lets the pod go to its pool."""
    pod = decision.pod
    said = {
        "pool": decision.pool,
        "node": decision.node,
        "pinned": decision.pinned,
        "placement": str(decision.placement),
    }
    return [
        *lift(pod.uid, pod.gates.index(names.GATE)),
        *_entries("labels", {names.POOL_LABEL: decision.pool}, exists=pod.shape.labels),
        *_entries(
            "annotations",
            {
                names.DECISION: json.dumps(said, separators=(",", ":")),
                names.RELEASED_BY: released_by,
            },
            exists=pod.shape.annotations,
        ),
        *_affinity(pod, decision, pool),
    ]


def lift(uid: str, gate: int) -> list[Json]:
    """Return the JSON patch that removes our gate, found at that place, and no other."""
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": f"/spec/schedulingGates/{gate}/name", "value": names.GATE},
        {"op": "remove", "path": f"/spec/schedulingGates/{gate}"},
    ]


def waiting(message: str) -> Json:
    """Return the strategic merge patch that tells a gated pod's user why it waits.

    It speaks in the PodScheduled condition that the API server set for the gate: kubectl shows it
    as SchedulingGated, and kube-scheduler overwrites it once the pod is released, so it can never
    outlive its truth.
    """
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "SchedulingGated",
        "message": message,
    }
    return {"status": {"conditions": [condition]}}


def metadata(
    *,
    labels: Mapping[str, str | None] | None = None,
    annotations: Mapping[str, str | None] | None = None,
) -> Json:
    """Return the merge patch that sets labels and annotations; None removes a key."""
    parts = {"labels": labels, "annotations": annotations}
    return {"metadata": {name: dict(part) for name, part in parts.items() if part}}


def _entries(part: str, entries: Mapping[str, str], *, exists: bool) -> list[Json]:
    if not exists:
        return [{"op": "add", "path": f"/metadata/{part}", "value": dict(entries)}]
    return [
        {"op": "add", "path": f"/metadata/{part}/{_escaped(key)}", "value": value}
        for key, value in entries.items()
    ]


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _on_node(node: str) -> Json:
    return {"key": "metadata.name", "operator": "In", "values": [node]}


def _in_pool(pool: Pool, *, several: bool) -> list[Json]:
    """Return terms that match the nodes of a pool, as `residency.pool_of` sees them.

    A label that is not there or has one value takes two terms; if one must do, the nodes of a
    Selector pool that carry its label besides are left out.
    """
    ours = Requirement(names.NODE_POOL_LABEL, "In", (pool.name,))
    free = Requirement(names.NODE_POOL_LABEL, "DoesNotExist")
    labels = (ours,) if pool.labelled else (free, ours) if several else (free,)
    return [
        {"matchExpressions": [_expression(r) for r in (label, *pool.selector)]} for label in labels
    ]


def _expression(rule: Requirement) -> Json:
    values = {"values": list(rule.values)} if rule.values else {}
    return {"key": rule.key, "operator": rule.operator, **values}


def _affinity(pod: Pod, decision: Release, pool: Pool) -> list[Json]:
    terms = _terms(decision, pool)
    preferred = None
    if not decision.pinned and decision.placement is not Placement.DELEGATE:
        preferred = {"weight": _WEIGHT, "preference": {"matchFields": [_on_node(decision.node)]}}
    base = "/spec/affinity/nodeAffinity"
    if pod.shape.node_affinity:
        return [*_required(pod, terms), *_prefer(pod, preferred)]
    fresh: Json = {_REQUIRED: {"nodeSelectorTerms": terms}}
    if preferred:
        fresh[_PREFERRED] = [preferred]
    if pod.shape.affinity:
        return [{"op": "add", "path": base, "value": fresh}]
    return [{"op": "add", "path": "/spec/affinity", "value": {"nodeAffinity": fresh}}]


def _terms(decision: Release, pool: Pool) -> list[Json]:
    """Return the alternatives of which the pod must take one."""
    if decision.pinned:
        return [{"matchFields": [_on_node(decision.node)]}]
    if decision.spares:
        return [{"matchFields": [_on_node(name)]} for name in (decision.node, *decision.spares)]
    return _in_pool(pool, several=decision.pod.shape.required is None)


def _required(pod: Pod, terms: list[Json]) -> list[Json]:
    base = f"/spec/affinity/nodeAffinity/{_REQUIRED}"
    if pod.shape.required is None:
        return [{"op": "add", "path": base, "value": {"nodeSelectorTerms": terms}}]
    # With terms of the pod's own there is one of ours, and each of theirs is narrowed by it.
    (ours,) = terms
    ops: list[Json] = []
    for index, (has_expressions, has_fields) in enumerate(pod.shape.required):
        if not has_expressions and not has_fields:
            continue  # an empty term matches nothing; adding to it would let it match
        term = f"{base}/nodeSelectorTerms/{index}"
        ops += _append(f"{term}/matchFields", ours.get("matchFields", []), exists=has_fields)
        ops += _append(
            f"{term}/matchExpressions", ours.get("matchExpressions", []), exists=has_expressions
        )
    return ops


def _append(path: str, items: list[Json], *, exists: bool) -> list[Json]:
    if not exists:
        return [{"op": "add", "path": path, "value": items}] if items else []
    return [{"op": "add", "path": f"{path}/-", "value": item} for item in items]


def _prefer(pod: Pod, preferred: Json | None) -> list[Json]:
    if preferred is None:
        return []
    base = f"/spec/affinity/nodeAffinity/{_PREFERRED}"
    return _append(base, [preferred], exists=pod.shape.preferred)

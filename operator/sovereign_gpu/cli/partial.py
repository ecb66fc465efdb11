"""What a tenant may read without the operator: its pods, and what is written on them.

A waiting pod carries its reason in the PodScheduled condition ("Reason: sentence"), written when it
began to hold; totals stand in the status of the TenantQuota, for those who may read it.
"""

from __future__ import annotations

import time
from typing import Any

from sovereign_gpu import names
from sovereign_gpu.cli.cluster import PLURALS, Cluster, NotAllowedError, missing
from sovereign_gpu.cli.question import FailedError, Question
from sovereign_gpu.cluster.kinds import PODS
from sovereign_gpu.cluster.reading import Kind
from sovereign_gpu.core.model import LASTING, Pod, Reason
from sovereign_gpu.core.views import HELD, RELEASED, WAITING, age
from sovereign_gpu.core.why import RUNNING
from sovereign_gpu.names import GATE

_OWN = f"/apis/{names.GROUP}/{names.VERSION}"
_WORDS = frozenset(Reason)


def answer(cluster: Cluster, question: Question) -> dict[str, Any]:
    """Return what the user may read of the answer.

    Raises:
        FailedError: they may not even read that, or there is no such pod.
    """
    try:
        match question.view:
            case "top":
                return _top(cluster, question.namespace)
            case "nodes":
                return _pools(cluster)
        rows = [_row(pod, time.time()) for pod in _pods(cluster, question.namespace)]
    except NotAllowedError as error:
        raise FailedError(str(error)) from error
    if question.view == "queue":
        return {"items": [row for row in rows if row["state"] != RUNNING]}
    found = [row for row in rows if row["name"] == question.pod]
    if not found:
        raise missing(question)
    return _why(found[-1])


def _pods(cluster: Cluster, namespace: str) -> list[Pod]:
    if not namespace:
        return cluster.all(PODS)
    within = Kind(
        path=f"/api/v1/namespaces/{namespace}/pods",
        lists=PODS.lists,
        events=PODS.events,
        decode=PODS.decode,
        key=PODS.key,
        field_selector=PODS.field_selector,
    )
    pods = cluster.all(within)
    return sorted(pods, key=lambda pod: (-pod.priority, pod.created, pod.uid))


def _row(pod: Pod, now: float) -> dict[str, Any]:
    word, _, sentence = pod.message.partition(": ")
    reason, message = (word, sentence) if word in _WORDS else ("", "")
    state = RELEASED
    if pod.node:
        state, message = RUNNING, f"bound to node {pod.node}"
    elif GATE in pod.gates:
        state = HELD if reason == Reason.HELD else WAITING
    elif pod.unschedulable:
        reason, message = Reason.CANNOT_BIND.value, pod.unschedulable
    return {
        "name": pod.name,
        "namespace": pod.namespace,
        "pool": pod.pool,
        "node": pod.node,
        "state": state,
        "gpus": pod.demand.gpus,
        "priority": pod.priority,
        "ageSeconds": age(pod.created, now),
        "reason": reason,
        "message": message,
    }


def _why(row: dict[str, Any]) -> dict[str, Any]:
    untold = "the operator has not told it why" if row["state"] == WAITING else "not bound yet"
    return {
        **row,
        "message": row["message"] or untold,
        "admits": "",
        "passesByItself": row["reason"] not in LASTING,
        "pools": [],
    }


def _top(cluster: Cluster, namespace: str) -> dict[str, Any]:
    rows = []
    for quota in _quotas(cluster, namespace):
        spec, status = quota["spec"], quota.get("status", {})
        for pool in status.get("pools", ()):
            row = {"tenant": quota["metadata"]["name"], "pool": pool["name"], **pool}
            rows.append({**row, "weight": spec.get("weight")})
    return {"items": rows, "others": []}


def _quotas(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    path = f"{_OWN}/{PLURALS['TenantQuota']}"
    try:
        return list(cluster.get(path).document()["items"])
    except NotAllowedError:
        if not namespace:
            raise
    labels = cluster.get(f"/api/v1/namespaces/{namespace}").document()["metadata"]["labels"]
    tenant = labels.get(names.TENANT_LABEL)
    if not tenant:
        raise FailedError(f"namespace {namespace} belongs to no tenant")
    return [cluster.get(f"{path}/{tenant}").document()]


def _pools(cluster: Cluster) -> dict[str, Any]:
    rows = []
    for pool in cluster.get(f"{_OWN}/{PLURALS['GpuPool']}").document()["items"]:
        status = pool.get("status", {})
        nodes, gpus = status.get("nodes", {}), status.get("gpus", {})
        rows.append(
            {
                "pool": pool["metadata"]["name"],
                "region": pool["spec"]["location"]["region"],
                "nodes": nodes.get("enrolled"),
                "gpus": gpus.get("capacity"),
                "free": gpus.get("free"),
                "wholeNodesFree": gpus.get("wholeNodesFree"),
                "unhealthy": nodes.get("unhealthy"),
            }
        )
    return {"items": rows}

"""A small cluster around the API server: users, nodes, kube-scheduler, kubelets."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

from sovereign_gpu import names
from sovereign_gpu.cluster.kinds import NODES, PODS
from tests.cluster.pods import REQUIRED
from tests.cluster.pods import pod as pod_body
from tests.faults.oracle import gates, gpus
from tests.faults.server import FINISHED, LEASES, NAMESPACE, NAMESPACES, Json, Server

RESOURCES = f"/apis/{names.GROUP}/{names.VERSION}"
QUOTAS = f"{RESOURCES}/tenantquotas"
POOLS = {"munich": ("DE", "muc", 3), "paris": ("FR", "par", 2), "texas": ("US", "tx", 1)}
"""Country, region, nodes of eight GPUs."""
TENANTS: dict[str, dict[str, Any]] = {
    "alpha": {
        "namespaces": ["alpha-train", "alpha-serve"],
        "residencyPolicies": ["eu"],
        "pools": [
            {"name": "munich", "guaranteed": 8, "borrowingLimit": 8},
            {"name": "paris", "guaranteed": 4, "borrowingLimit": 4},
        ],
    },
    "beta": {
        "namespaces": ["beta"],
        "residencyPolicies": ["eu"],
        "pools": [
            {"name": "munich", "guaranteed": 8, "lendingLimit": 4},
            {"name": "paris", "guaranteed": 8, "borrowingLimit": 4},
        ],
    },
    "gamma": {
        "namespaces": ["gamma"],
        "residencyPolicies": ["german"],
        "pools": [
            {"name": "munich", "guaranteed": 8, "borrowingLimit": 16},
            {"name": "paris", "guaranteed": 4},
        ],
    },
}
"""`gamma` may not use Paris, whatever its quota says."""
TENANT_OF = {space: name for name, spec in TENANTS.items() for space in spec["namespaces"]}
_PERIOD = 0.7
"""Seconds between two looks of kube-scheduler."""


def resource(kind: str, name: str, spec: Json, generation: int = 1) -> Json:
    """Return a custom resource."""
    meta = {"name": name, "uid": f"uid-{name}", "generation": generation}
    meta["creationTimestamp"] = "2026-11-23T12:00:00Z"
    api = f"{names.GROUP}/{names.VERSION}"
    return {"apiVersion": api, "kind": kind, "metadata": meta, "spec": spec}


@dataclass(slots=True)
class World:
    """See the module."""

    server: Server
    chance: random.Random
    nodes: dict[str, Json] = field(default_factory=dict)
    """Every node as it is when nothing is wrong with it."""
    _number: int = 0

    def furnish(self) -> None:
        """Make pools, policies, tenants, namespaces and nodes, and a lease that nobody holds."""
        put = self.server.put
        for name, (country, region, count) in POOLS.items():
            place = {"country": country, "region": region}
            spec: Json = {"nodes": {"enrolment": "Labelled"}, "location": place}
            put(f"{RESOURCES}/gpupools", name, resource("GpuPool", name, spec))
            for number in range(count):
                self.nodes[f"{name}-{number}"] = _node(name, f"{name}-{number}", region)
        for name, allowed in (("eu", {"sets": ["EU"]}), ("german", {"include": ["DE"]})):
            spec = {"countries": allowed, "enforcement": "Deny"}
            kind = "DataResidencyPolicy"
            put(f"{RESOURCES}/dataresidencypolicies", name, resource(kind, name, spec))
        for each in self.nodes.values():
            put(NODES.path, each["metadata"]["name"], each)
        for name in (*TENANT_OF, "infra", NAMESPACE):
            self.namespace(name)
        for name in TENANTS:
            self.quota(name, None)
        put(LEASES, "sovereign-gpu", {"metadata": {"name": "sovereign-gpu"}, "spec": {}})

    def namespace(self, name: str) -> None:
        """Make a namespace, if it is not there."""
        if name not in self.server.objects[NAMESPACES]:
            self.server.put(NAMESPACES, name, {"metadata": {"name": name}})

    def quota(self, tenant: str, guaranteed: int | None) -> None:
        """Write a tenant's quota, in all pools the same; None: as it is usually."""
        stored = self.server.objects[QUOTAS].get(tenant)
        generation = stored["metadata"]["generation"] + 1 if stored else 1
        spec = dict(TENANTS[tenant])
        if guaranteed is not None:
            spec["pools"] = [{"name": p["name"], "guaranteed": guaranteed} for p in spec["pools"]]
        if stored is None:
            self.server.put(QUOTAS, tenant, resource("TenantQuota", tenant, spec))
        elif stored["spec"] != spec:
            body = {**stored, "spec": spec}
            body["metadata"] = {**stored["metadata"], "generation": generation}
            self.server.put(QUOTAS, tenant, body)

    # --- what users do --------------------------------------------------------------------------
    def create(self, namespace: str, gpu_count: int, *, owned: bool, priority: int) -> None:
        """Make one waiting pod, if its namespace is there."""
        if namespace not in self.server.objects[NAMESPACES]:
            return
        self._number += 1
        name = f"p{self._number}"
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j"}
        meta = {"ownerReferences": [{**owner, "controller": True}]} if owned else {}
        body = pod_body(name, namespace=namespace, gpus=gpu_count, meta=meta, priority=priority)
        self.server.put(PODS.path, body["metadata"]["uid"], body)

    def create_foreign(self, node: str, gpu_count: int) -> None:
        """Let infrastructure take GPUs of a node that has them left."""
        if self._left(node) < gpu_count:
            return
        self._number += 1
        name = f"foreign{self._number}"
        body = pod_body(
            name, namespace="infra", gpus=gpu_count, gated=False, node=node, phase="Running"
        )
        self.server.put(PODS.path, body["metadata"]["uid"], body)

    def finish(self, share: float) -> None:
        """Let a part of the running pods end."""
        for pod in self.pods():
            if pod["spec"].get("nodeName") and self.chance.random() < share:
                phase = self.chance.choice(FINISHED)
                self.server.edit(PODS.path, pod["metadata"]["uid"], {"status": {"phase": phase}})

    def delete(self, share: float) -> None:
        """Delete a part of all pods."""
        for pod in self.pods():
            if self.chance.random() < share:
                self.server.remove(PODS.path, pod["metadata"]["uid"])

    def delete_namespace(self, name: str) -> None:
        """Delete a namespace with all that is in it."""
        for pod in self.pods():
            if pod["metadata"]["namespace"] == name:
                self.server.remove(PODS.path, pod["metadata"]["uid"])
        self.server.remove(NAMESPACES, name)

    def pods(self) -> list[Json]:
        """Return the pods that are not finished."""
        found = self.server.objects[PODS.path].values()
        return [pod for pod in found if pod["status"]["phase"] not in FINISHED]

    def waiting(self) -> list[Json]:
        """Return the pods that wait for us."""
        return [pod for pod in self.pods() if names.GATE in gates(pod)]

    # --- what nodes do --------------------------------------------------------------------------
    def break_node(self, name: str, how: str) -> None:
        """Let a node be `gone`, `down` or `cordoned`, or have `half` of its GPUs."""
        if how == "gone":
            self.server.remove(NODES.path, name)
        elif how == "down":
            conditions = [{"type": "Ready", "status": "False"}]
            self.server.edit(NODES.path, name, {"status": {"conditions": conditions}})
        elif how == "cordoned":
            self.server.edit(NODES.path, name, {"spec": {"unschedulable": True}})
        else:
            left = {"status": {"allocatable": {names.GPU_RESOURCE: "4"}}}
            self.server.edit(NODES.path, name, left)

    def mend_nodes(self) -> None:
        """Let all nodes be there and well."""
        for name, usual in self.nodes.items():
            stored = self.server.objects[NODES.path].get(name)
            if stored is None:
                self.server.put(NODES.path, name, usual)
                continue
            body = {**usual, "metadata": stored["metadata"]}
            if (body["spec"], body["status"]) != (stored.get("spec"), stored.get("status")):
                self.server.put(NODES.path, name, body)

    # --- kube-scheduler -------------------------------------------------------------------------
    async def schedule(self) -> None:
        """Bind released pods where their affinity and the free GPUs allow it, for ever."""
        while True:
            await asyncio.sleep(_PERIOD)
            for pod in self.pods():
                if not gates(pod) and not pod["spec"].get("nodeName"):
                    self._bind(pod)

    def _bind(self, pod: Json) -> None:
        fitting = [
            name
            for name, node in sorted(self.server.objects[NODES.path].items())
            if _ready(node) and _admits(pod, node) and self._left(name) >= gpus(pod)
        ]
        uid = pod["metadata"]["uid"]
        if fitting:
            node = self.chance.choice(fitting)
            body = {"spec": {"nodeName": node}, "status": {"phase": "Running"}}
            self.server.edit(PODS.path, uid, body)
            return
        said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        said["message"] = "0/6 nodes are available"
        if pod["status"].get("conditions") != [said]:
            self.server.edit(PODS.path, uid, {"status": {"conditions": [said]}})

    def _left(self, node: str) -> int:
        stored = self.server.objects[NODES.path].get(node)
        if stored is None:
            return 0
        held = sum(gpus(pod) for pod in self.pods() if pod["spec"].get("nodeName") == node)
        return int(stored["status"]["allocatable"][names.GPU_RESOURCE]) - held


def _node(pool: str, name: str, region: str) -> Json:
    room = {"cpu": "200", "memory": "2Ti", names.GPU_RESOURCE: "8"}
    labels = {names.NODE_POOL_LABEL: pool, names.REGION_LABEL: region}
    status = {
        "capacity": room,
        "allocatable": room,
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": status}


def _ready(node: Json) -> bool:
    ready = any(
        c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"]
    )
    return ready and not node["spec"].get("unschedulable")


def _admits(pod: Json, node: Json) -> bool:
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {}).get(REQUIRED)
    if affinity is None:
        return True
    return any(_matches(term, node) for term in affinity["nodeSelectorTerms"])


def _matches(term: Json, node: Json) -> bool:
    labels = node["metadata"]["labels"]
    for each in term.get("matchFields", ()):
        if node["metadata"]["name"] not in each["values"]:
            return False
    for each in term.get("matchExpressions", ()):
        found = labels.get(each["key"])
        if each["operator"] == "In" and found not in each["values"]:
            return False
        if each["operator"] == "DoesNotExist" and found is not None:
            return False
    return True

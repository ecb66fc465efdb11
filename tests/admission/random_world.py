"""Carries out random requests against a cluster with the operator dead, and judges what became.

The judge reads the API server as an administrator and knows nothing of the policies: only what
must never be, whatever was asked.
"""

from __future__ import annotations

import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rig.client import MERGE_PATCH, NOT_FOUND
from sovereign_gpu import names
from tests.admission.world import (
    GOVERNED,
    HOME,
    RESIDENCY_LABEL,
    STRICT,
    WARNED,
    World,
    namespace_path,
    pod,
    pods_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rig.client import Client, Response
    from tests.admission.random_ops import Op

AT_ONCE = 4
CONFINED = (GOVERNED, STRICT)
KEPT = ("gated", "running", "unbound")
_GROUPS = {"Deployment": "apis/apps/v1", "DaemonSet": "apis/apps/v1", "Job": "apis/batch/v1"}
_PATHS = {
    "services": "/api/v1/namespaces/{}/services",
    "persistentvolumeclaims": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "networkpolicies": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
}
OWN_MARKS = (names.POD_METADATA_PREFIX,)


@dataclass
class Arena:
    """The cluster under random attack."""

    world: World
    careless: Client
    marks: dict[str, Any] = field(default_factory=dict)
    """Protected marks of nodes and namespaces as they were at the start."""
    released: set[str] = field(default_factory=set)
    """GPU pods without a gate that somebody with the right let go, by uid."""
    marked: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By uid, our marks on pods that the operator wrote."""

    def __post_init__(self) -> None:
        self.marks = self.protected()
        self.released = {each["metadata"]["uid"] for each in self._ungated()}
        for space in CONFINED:
            for each in self.world.admin.items(pods_path(space)):
                self.marked[each["metadata"]["uid"]] = _own_marks(each["metadata"])

    # --- acting -----------------------------------------------------------------------------
    def act(self, ops: Iterable[Op]) -> list[int]:
        """Send all requests, several at a time; return their statuses."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return [answer.status for answer in pool.map(self._send, ops)]

    def _client(self, who: str) -> Client:
        return self.careless if who == "careless" else getattr(self.world, who)

    def _node(self, word: str) -> str:
        return getattr(self.world, word, word)

    def _filled(self, body: Any) -> Any:
        """Replace `@home` and kin by names of nodes."""
        if isinstance(body, dict):
            return {key: self._filled(part) for key, part in body.items()}
        if isinstance(body, list | tuple):
            return [self._filled(part) for part in body]
        return self._node(body[1:]) if isinstance(body, str) and body.startswith("@") else body

    def _send(self, op: Op) -> Response:
        ways: dict[str, Callable[[Client, Op], Response]] = {
            "create-pod": self._create,
            "patch-pod": self._patch,
            "bind": self._bind,
            "old-bind": self._bind,
            "patch-node": self._patch_node,
            "create-node": self._create_node,
            "patch-space": self._space,
            "evict": self._evict,
            "way-out": self._way_out,
        }
        return ways.get(op.kind, self._workload)(self._client(op.who), op)

    def _create(self, client: Client, op: Op) -> Response:
        body = self._filled(op.body)
        made = {**body, "metadata": {**body["metadata"], "name": op.name}}
        return client.create(pods_path(op.space), made)

    def _patch(self, client: Client, op: Op) -> Response:
        path = f"{pods_path(op.space)}/{op.name}" + (f"/{op.part}" if op.part else "")
        answer = client.patch(path, self._filled(op.body))
        if op.who == "operator" and answer.ok:
            meta = answer.body["metadata"]
            self.released.add(meta["uid"])
            self.marked[meta["uid"]] |= _own_marks(meta)
        return answer

    def _patch_node(self, client: Client, op: Op) -> Response:
        labels, taints = op.body
        change: dict[str, Any] = {"metadata": {"labels": labels}}
        if taints is not ...:
            change["spec"] = {"taints": taints}
        path = f"/api/v1/nodes/{self._node(op.name)}"
        return client.patch(path + (f"/{op.part}" if op.part else ""), change)

    def _create_node(self, client: Client, op: Op) -> Response:
        return client.create("/api/v1/nodes", {"metadata": {"name": op.name, "labels": op.body}})

    def _evict(self, client: Client, op: Op) -> Response:
        metadata = {"name": op.name, "namespace": op.space}
        return client.create(
            f"{pods_path(op.space)}/{op.name}/eviction",
            {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata},
        )

    def _way_out(self, client: Client, op: Op) -> Response:
        plural, spec = op.body
        path = _PATHS[plural].format(op.space)
        return client.create(path, {"metadata": {"name": "out"}, "spec": spec})

    def _bind(self, client: Client, op: Op) -> Response:
        body = op.body
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": op.name, "labels": body["labels"]},
            "target": {"kind": body["kind"], "name": self._node(body["node"])},
        }
        door = "bindings" if op.kind == "old-bind" else f"pods/{op.name}/binding"
        return client.create(f"{namespace_path(op.space)}/{door}", binding)

    def _workload(self, client: Client, op: Op) -> Response:
        spec = self._filled(op.body)
        labels = {"app": op.name}
        template = {"metadata": {"labels": labels}, "spec": spec}
        selector = {} if op.kind == "Job" else {"selector": {"matchLabels": labels}}
        if op.kind != "Job":
            template["spec"] = {**spec, "restartPolicy": "Always"}
        else:
            template["spec"] = {**spec, "restartPolicy": "Never"}
        body = {"metadata": {"name": op.name}, "spec": {**selector, "template": template}}
        path = f"/{_GROUPS[op.kind]}/namespaces/{op.space}/{op.kind.lower()}s"
        return client.create(path, body)

    def _space(self, client: Client, op: Op) -> Response:
        path = namespace_path(op.space)
        if op.part != "finalize":
            return client.patch(path + (f"/{op.part}" if op.part else ""), op.body, MERGE_PATCH)
        body = self.world.admin.get(path).must()
        for part, wanted in op.body["metadata"].items():
            held = body["metadata"].setdefault(part, {})
            for key, value in wanted.items():
                held.pop(key, None) if value is None else held.update({key: value})
        return client.replace(f"{path}/finalize", body)

    # --- judging ----------------------------------------------------------------------------
    def wrong(self) -> list[str]:
        """Return what must not be."""
        now = self.protected()
        found = [
            f"{name}: {json.dumps(before)} became {json.dumps(now.get(name))}"
            for name, before in self.marks.items()
            if now.get(name) != before
        ]
        found += [f"{name} has marks: {now[name]}" for name in now.keys() - self.marks.keys()]
        nodes = {
            each["metadata"]["name"]: each["metadata"].get("labels", {})
            for each in self.world.admin.items("/api/v1/nodes")
        }
        for space in CONFINED:
            for each in self.world.admin.items(pods_path(space)):
                found += self._of_pod(each, nodes)
        found += [
            f"{_name(each)} has lost its gate"
            for each in self._ungated()
            if each["metadata"]["uid"] not in self.released
        ]
        return found

    def _of_pod(self, body: Any, nodes: dict[str, dict[str, str]]) -> list[str]:
        spec, meta = body["spec"], body["metadata"]
        found = []
        node = spec.get("nodeName")
        if node:
            labels = nodes.get(node, {})
            if labels.get(names.REGION_LABEL) != HOME:
                found.append(f"{_name(body)} is bound to {node} in {labels}")
            elif not _is_mirror(body) and labels.get(RESIDENCY_LABEL) != names.NODE_ALLOWED:
                found.append(f"{_name(body)} is bound to {node}, which no policy allows")
        strange = _own_marks(meta) - self.marked[meta["uid"]]
        if strange:
            found.append(f"{_name(body)} carries {sorted(strange)}")
        if meta["namespace"] == STRICT:
            images = [each["image"] for each in spec["containers"] + spec.get("initContainers", [])]
            if any(not image.startswith("registry.invalid/") for image in images):
                found.append(f"{_name(body)} runs {images}")
        return found

    def _ungated(self) -> list[Any]:
        return [
            each
            for space in (*CONFINED, WARNED)
            for each in self.world.admin.items(pods_path(space))
            if _gpus(each)
            and not _is_mirror(each)
            and {"name": names.GATE} not in each["spec"].get("schedulingGates", [])
        ]

    def protected(self) -> dict[str, Any]:
        """Return the marks that only the operator and enrolling administrators write."""
        found = {}
        for each in self.world.admin.items("/api/v1/nodes"):
            labels = each["metadata"].get("labels", {})
            own = {k: v for k, v in labels.items() if "sovereign-gpu.node-restriction" in k}
            if own:
                found[f"Node {each['metadata']['name']}"] = own
        for each in self.world.admin.items("/api/v1/namespaces"):
            meta = each["metadata"]
            notes = {**meta.get("labels", {}), **meta.get("annotations", {})}
            own = {k: v for k, v in notes.items() if k.startswith(names.POD_METADATA_PREFIX)}
            if own:
                found[f"Namespace {meta['name']}"] = own
        return found

    def controls(self) -> list[str]:
        """Return what ordinary people can no longer do."""
        world = self.world
        tried = {
            "a pod without GPUs": world.create(world.tenant, GOVERNED, pod()),
            "a GPU pod that waits": world.create(world.tenant, GOVERNED, pod(gpus=1)),
            "a pod of nobody": world.create(world.tenant, "free", pod()),
            "a pod with allowed contents": world.create(world.tenant, STRICT, pod()),
            "a kubelet's heartbeat": world.patch(
                world.kubelet, f"/api/v1/nodes/{world.home}/status", {"status": {"phase": ""}}
            ),
        }
        return [f"{what}: {answer.message}" for what, answer in tried.items() if not answer.ok]

    def clear(self) -> None:
        """Delete what was made."""
        admin = self.world.admin
        for space in ("acme-train", "acme-strict", "acme-old", "free", "gpu-operator"):
            for kind, group in _GROUPS.items():
                path = f"/{group}/namespaces/{space}/{kind.lower()}s/work"
                admin.delete(path, propagationPolicy="Background")
            for path in _PATHS.values():
                admin.delete(f"{path.format(space)}/out")
            for each in admin.items(pods_path(space)):
                if each["metadata"]["name"] not in KEPT:
                    path = f"{pods_path(space)}/{each['metadata']['name']}"
                    admin.patch(path, {"metadata": {"finalizers": None}})
                    admin.delete(path, gracePeriodSeconds=0)
        if admin.get("/api/v1/nodes/made").status != NOT_FOUND:
            admin.delete("/api/v1/nodes/made")


def _name(body: Any) -> str:
    meta = body["metadata"]
    return f"pod {meta['namespace']}/{meta['name']}"


def _is_mirror(body: Any) -> bool:
    owners = body["metadata"].get("ownerReferences", [])
    return any(each["kind"] == "Node" and each.get("controller") for each in owners)


def _gpus(body: Any) -> bool:
    spec = body["spec"]
    parts = spec["containers"] + spec.get("initContainers", [])
    limits = [each.get("resources", {}).get("limits", {}) for each in parts]
    return bool(spec.get("resourceClaims")) or any(
        "nvidia.com/" in k for lim in limits for k in lim
    )


def _own_marks(meta: dict[str, Any]) -> set[str]:
    """Return the keys that only the operator writes."""
    own = (*meta.get("labels", {}), *meta.get("annotations", {}))
    return {key for key in own if key.startswith(OWN_MARKS) and key != names.REQUESTED_BY}

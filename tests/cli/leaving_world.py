"""A cluster of a few objects that is taken leave of: lists, and changes that are carried out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from sovereign_gpu import names
from tests.cli.stand import Stand

DEPLOYMENTS = "/apis/apps/v1/deployments"
LEASES = "/apis/coordination.k8s.io/v1/leases"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/sovereign-gpu-system/leases/sovereign-gpu"
TEMPLATES = (
    "/apis/apps/v1/daemonsets",
    "/apis/apps/v1/statefulsets",
    "/apis/batch/v1/jobs",
    "/apis/batch/v1/cronjobs",
)
EU = names.NODE_RESIDENCY_PREFIX + "eu-only"
DE = names.NODE_RESIDENCY_PREFIX + "de-only"


def meta(name: str, namespace: str = "acme", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", **more}}


def pod(
    name: str, *gates: str, node: str = "", selects: tuple[str, ...] = (), **spec: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {"nodeSelector": dict.fromkeys(selects, names.NODE_ALLOWED), **spec}
    if gates:
        found["schedulingGates"] = [{"name": gate} for gate in gates]
    if node:
        found["nodeName"] = node
    return {**meta(name), "spec": found}


def node(name: str, *labels: str) -> dict[str, Any]:
    present = {**dict.fromkeys(labels, names.NODE_ALLOWED), names.NODE_POOL_LABEL: "munich"}
    return meta(name, "", labels=present)


def maker(name: str, *selects: str, **status: Any) -> dict[str, Any]:
    pods = {"spec": {"nodeSelector": dict.fromkeys(selects, names.NODE_ALLOWED)}}
    return {**meta(name), "spec": {"template": pods}, "status": status}


@dataclass
class World:
    """A cluster of which the changes are carried out."""

    stand: Stand
    lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in (DEPLOYMENTS, LEASES, *TEMPLATES):
            self.put(path)
        for path in ("pods", "namespaces", "nodes"):
            self.put(f"/api/v1/{path}")
        self.stand.accept = self.accept

    def put(self, path: str, *items: dict[str, Any]) -> None:
        self.lists[path] = list(items)
        self.stand.answers[path] = (200, {"metadata": {}, "items": self.lists[path]})

    def pods(self, *items: dict[str, Any]) -> None:
        self.put("/api/v1/pods", *items)
        for each in items:
            self.stand.answers[path_of(each["metadata"]["name"])] = (200, each)

    def accept(self, path: str, body: Any) -> None:
        """Remove what a patch removes."""
        *_, collection, name = path.split("/")
        found = next(
            each for each in self.lists[f"/api/v1/{collection}"] if each["metadata"]["name"] == name
        )
        if isinstance(body, list):
            del found["spec"]["schedulingGates"][int(body[-1]["path"].rpartition("/")[2])]
            return
        for part, entries in body["metadata"].items():
            for key in entries:
                del found["metadata"][part][key]

    def labels(self, name: str) -> set[str]:
        (found,) = (e for e in self.lists["/api/v1/nodes"] if e["metadata"]["name"] == name)
        return set(found["metadata"]["labels"]) - {names.NODE_POOL_LABEL}

    def document(self, *words: str) -> Any:
        code, out, err = self.stand.type("uninstall", *words, "-o", "json")
        assert code == 0, (out, err)
        return json.loads(out)


def path_of(name: str) -> str:
    return f"/api/v1/namespaces/acme/pods/{name}"

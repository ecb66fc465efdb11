"""What the admission policies cost the API server, per request.

`python -m bench.policies` sends dry runs (admission happens, nothing is stored) to an API server
with no other work, and reads its CPU time from the kernel: with no policy, and with all.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from typing import Any

from bench import audit, burst
from rig import bulk, nodes, product, users
from rig.control_plane import Rig
from sovereign_gpu import names

REQUESTS = 1500
WARM_UP = 100
ROUNDS = 3
IN_FLIGHT = 8
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
SPACE = "/api/v1/namespaces/governed/pods"
_SIGNATURE = "leader/1"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        with Rig("policies", kwok=False) as rig:
            node = prepare(rig)
            for kind, requests in kinds(rig, node, gated=False):
                _note(found, "without", kind, cost(rig, requests))
            product.install(rig)
            govern(rig)
            for kind, requests in kinds(rig, node, gated=True):
                # The operator's own writes are judged by more rules than an administrator's.
                user = audit.OPERATOR if kind == "release" else users.PLATFORM_ADMIN
                _note(found, "with", kind, cost(rig, requests, user))
            rig.destroy()
    rows = {
        kind: {way: statistics.median(v) for way, v in ways.items()} for kind, ways in found.items()
    }
    for kind, ways in rows.items():
        print(f"{kind:<8} without {ways['without']:.2f} ms, with {ways['with']:.2f} ms")
    burst.RESULTS.mkdir(exist_ok=True)
    (burst.RESULTS / "policies.json").write_text(json.dumps(rows, indent=1) + "\n")


def _note(
    found: dict[str, dict[str, list[float]]], way: str, kind: str, milliseconds: float
) -> None:
    found.setdefault(kind, {}).setdefault(way, []).append(milliseconds)


def prepare(rig: Rig) -> str:
    """Write a namespace, a node and pods to change; return the node."""
    admin = rig.client(users.PLATFORM_ADMIN)
    admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "governed"}}).must()
    (node,) = nodes.create_nodes(rig, 1, ready=False)
    admin.create(LEASES, {"metadata": {"name": node}, "spec": {"holderIdentity": node}}).must()
    admin.create(SPACE, _pod("gated") | {"spec": _gated()}).must()
    plain = {"containers": [{"name": "main", "image": "example.com/load:1"}]}
    admin.create(SPACE, _pod("free") | {"spec": plain}).must()
    return node


def _gated() -> dict[str, Any]:
    gate = [{"name": names.GATE}]
    return {**burst.pod(0, {})["spec"], "schedulingGates": gate}


def govern(rig: Rig) -> None:
    """Give the namespace a tenant, as the operator would."""
    led = {"metadata": {"annotations": {names.LEADER: _SIGNATURE}}}
    path = f"/api/v1/namespaces/{product.NAMESPACE}"
    rig.client(users.PLATFORM_ADMIN).patch(path, led).must()
    body = {
        "metadata": {
            "labels": {names.TENANT_LABEL: "t"},
            "annotations": {names.RESIDENCY: "eu-only", names.REGIONS: "eu-de-muc"},
        }
    }
    rig.client(users.PLATFORM_ADMIN).patch("/api/v1/namespaces/governed", body).must()


def _pod(name: str) -> dict[str, Any]:
    return burst.pod(0, {}) | {"metadata": {"name": name, "namespace": "governed"}}


def kinds(rig: Rig, node: str, *, gated: bool) -> Iterator[tuple[str, list[bulk.Request]]]:
    """Yield the four writes in the life of a pod, and the two that a node repeats."""
    uid = rig.client(users.PLATFORM_ADMIN).get(f"{SPACE}/gated").must()["metadata"]["uid"]
    dry = "?dryRun=All"
    yield "create", [("POST", SPACE + dry, _pod(f"p{i}")) for i in range(REQUESTS)]
    yield "release", [("PATCH", f"{SPACE}/gated{dry}", _release(uid, node))] * REQUESTS
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "free"},
        "target": {"kind": "Node", "name": node},
    }
    yield "binding", [("POST", f"{SPACE}/free/binding{dry}", binding)] * REQUESTS
    status = {"status": {"message": "governed" if gated else "free"}}
    yield "status", [("PATCH", f"{SPACE}/gated/status{dry}", status)] * REQUESTS
    beat = {"status": {"phase": "governed" if gated else "free"}}
    lease = {"spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}
    yield "lease", [("PATCH", f"{LEASES}/{node}{dry}", lease)] * REQUESTS
    yield "node", [("PATCH", f"/api/v1/nodes/{node}/status{dry}", beat)] * REQUESTS


def _release(uid: str, node: str) -> list[dict[str, Any]]:
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    terms = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    notes = {names.DECISION: "{}", names.RELEASED_BY: _SIGNATURE}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/spec/schedulingGates/0/name", "value": names.GATE},
        {"op": "remove", "path": "/spec/schedulingGates/0"},
        {"op": "add", "path": "/metadata/labels", "value": {names.POOL_LABEL: "p"}},
        {"op": "add", "path": "/metadata/annotations", "value": notes},
        {"op": "add", "path": "/spec/affinity", "value": {"nodeAffinity": required}},
    ]


def cost(rig: Rig, requests: list[bulk.Request], user: str = users.PLATFORM_ADMIN) -> float:
    """Return the API server's CPU milliseconds per request."""
    server = rig.pids()["kube-apiserver"]
    bulk.send(rig, user, requests[:WARM_UP], IN_FLIGHT)
    before = burst.cpu(server)
    bulk.send(rig, user, requests, IN_FLIGHT)
    return 1000 * (burst.cpu(server) - before) / len(requests)


if __name__ == "__main__":
    main()

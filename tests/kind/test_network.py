"""The cluster itself: pods of all nodes reach each other, by address, service and name."""

from __future__ import annotations

import contextlib
import json
from functools import partial
from typing import TYPE_CHECKING

import pytest

from rig.client import wait_for
from rig.errors import RigError
from tests.kind.world import INTERPRETER, SECONDS, condition, pod_spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kind.world import World

NAMESPACE = "gpu-operator"
"""Exempt by name, so that its pods may run on every node."""
SERVE = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["NODE"].encode())
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
ASK = """
import json, sys, urllib.request
def ask(host):
    with urllib.request.urlopen(f"http://{host}:8000/", timeout=10) as answer:
        return answer.read().decode()
print(json.dumps([ask(each) for each in sys.argv[1:]]))
"""


@pytest.fixture
def servers(product: World) -> Iterator[dict[str, tuple[str, str]]]:
    """A server on every node: name and address of its pod, by node."""
    admin = product.admin
    labels = {"app": "server"}
    spec = pod_spec(code=SERVE, restartPolicy="Always", tolerations=[{"operator": "Exists"}])
    field = {"fieldRef": {"fieldPath": "spec.nodeName"}}
    spec["terminationGracePeriodSeconds"] = 1
    spec["containers"][0] |= {
        "env": [{"name": "NODE", "valueFrom": field}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
    }
    template = {"metadata": {"labels": labels}, "spec": spec}
    meta = {"name": "server", "namespace": NAMESPACE}
    bodies = (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": meta,
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"selector": labels, "ports": [{"port": 8000}]},
        },
    )
    for body in bodies:
        admin.apply(body).must()
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    found = admin.wait(
        pods,
        lambda body: (
            len(body["items"]) == len(product.cluster.configuration["nodes"])
            and all(condition(each, "Ready").get("status") == "True" for each in body["items"])
        ),
        SECONDS,
        labelSelector="app=server",
    )["items"]
    yield {
        each["spec"]["nodeName"]: (each["metadata"]["name"], each["status"]["podIP"])
        for each in found
    }
    admin.delete(f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/server").must()
    admin.delete(f"/api/v1/namespaces/{NAMESPACE}/services/server").must()


def _ask(world: World, name: str, *hosts: str) -> list[str]:
    where = (f"--namespace={NAMESPACE}", name)
    said = world.cluster.kubectl("exec", *where, "--", INTERPRETER, "-c", ASK, *hosts)
    answers: list[str] = json.loads(said)
    return answers


def _answers(world: World, name: str, host: str) -> bool:
    with contextlib.suppress(RigError):
        return bool(_ask(world, name, host))
    return False


def test_pods_reach_each_other_across_nodes_by_address_and_by_name(
    product: World, servers: dict[str, tuple[str, str]]
) -> None:
    nodes = list(servers)
    addresses = [address for _, address in servers.values()]
    name = f"server.{NAMESPACE}.svc.cluster.local"

    def complete() -> bool:
        path = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
        slices = product.admin.get(path).must()["items"]
        ready = [each for found in slices for each in found["endpoints"] or ()]
        return len(ready) == len(nodes) and all(each["conditions"]["ready"] for each in ready)

    wait_for(complete, SECONDS, "the service to know all servers")
    answered = set()
    for pod_name, _ in servers.values():
        assert _ask(product, pod_name, *addresses) == nodes
        # Each node's kube-proxy learns of the service by itself.
        wait_for(partial(_answers, product, pod_name, name), SECONDS, f"{name} on every node", 1.0)
        answered |= set(_ask(product, pod_name, *[name] * 8))
    # Connections are spread at random: more than one server must have answered.
    assert len(answered) > 1
    assert answered <= set(nodes)

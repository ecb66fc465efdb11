"""GPUs that no tenant is charged for are seen and not given out twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.kind.world import SECONDS, pod, pod_spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kind.world import World

EXEMPT = "gpu-operator"
PODS = f"/api/v1/namespaces/{EXEMPT}/pods"
MANIFEST = "/etc/kubernetes/manifests/static.yaml"
TOLERATIONS = [{"key": "nvidia.com/gpu", "operator": "Exists"}]


@pytest.fixture
def exempt(world: World) -> Iterator[str]:
    """The namespace of the infrastructure, empty after the test."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": EXEMPT}}
    world.admin.apply(body).must()
    world.admin.wait(f"/api/v1/namespaces/{EXEMPT}/serviceaccounts/default", lambda _: True)
    yield PODS
    world.admin.delete(PODS, gracePeriodSeconds=0).must()
    world.admin.wait(PODS, lambda found: not found["items"], SECONDS)


@pytest.fixture
def static(world: World) -> Iterator[str]:
    """A static pod with one GPU, known to its kubelet only: the name of its node."""
    node = world.eu[0]
    spec = pod_spec(gpus=1, restartPolicy="Always")
    metadata = {"name": "static", "namespace": "default"}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    text = yaml.safe_dump(body)
    world.cluster.on_node(node, "mkdir", "-p", "/etc/kubernetes/manifests")
    world.cluster.on_node(node, "cp", "/dev/stdin", MANIFEST, text=text)
    yield node
    world.cluster.on_node(node, "rm", "-f", MANIFEST)
    path = f"/api/v1/namespaces/default/pods/static-{node}"
    world.admin.wait_gone(path, SECONDS)


def _gpus(world: World, **wanted: int) -> dict[str, Any]:
    return world.pool(lambda status: wanted.items() <= status["gpus"].items())


def test_a_validator_with_a_node_name_runs_and_is_counted_as_foreign(
    world: World, exempt: str
) -> None:
    tenant = world.tenant("acme", 16)
    node = world.eu[0]
    validator = pod("validator", gpus=1, nodeName=node, tolerations=TOLERATIONS)
    world.admin.create(exempt, validator).must()
    path = f"{exempt}/validator"
    world.admin.wait(path, lambda found: found["status"]["phase"] == "Running", SECONDS)
    _gpus(world, foreign=1, free=15)

    tenant.submit(pod("first", gpus=8), pod("second", gpus=8))
    status = tenant.status(lambda found: found["total"]["pendingPods"] == 1)
    assert status["total"]["used"] == 8
    world.admin.delete(path, gracePeriodSeconds=0).must()
    tenant.running("first")
    tenant.running("second")


def test_a_static_pod_is_counted_as_foreign(world: World, static: str) -> None:
    path = f"/api/v1/namespaces/default/pods/static-{static}"
    world.admin.wait(path, lambda found: found["status"]["phase"] == "Running", SECONDS)
    _gpus(world, foreign=1, free=15)

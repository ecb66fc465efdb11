"""Without the operator GPU pods wait and everything else goes on; with it back the queue drains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rig.product import NAMESPACE
from sovereign_gpu import names
from tests.kind.world import SECONDS, is_gated, pod, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kind.world import World

DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/sovereign-gpu"


def _scale(world: World, replicas: int) -> None:
    world.admin.patch(f"{DEPLOYMENT}/scale", {"spec": {"replicas": replicas}}).must()
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    world.admin.wait(pods, lambda found: len(found["items"]) == replicas, SECONDS)
    world.admin.wait(DEPLOYMENT, lambda found: _has(found, replicas), SECONDS)


def _has(found: dict[str, Any], replicas: int) -> bool:
    status, generation = found["status"], found["metadata"]["generation"]
    return status["observedGeneration"] == generation and status.get("readyReplicas", 0) == replicas


@pytest.fixture
def back(world: World) -> Iterator[None]:
    """The operator is back after the test, however that ends."""
    yield
    _scale(world, 2)


@pytest.mark.usefixtures("back")
def test_the_operator_away_and_back(world: World) -> None:
    tenant = world.tenant("acme", 8)
    tenant.submit(pod("first", gpus=8))
    first = tenant.running("first")
    _scale(world, 0)

    tenant.submit(pod("second", gpus=8), pod("loader"))
    bystander = world.namespace("bystander")
    pods = f"/api/v1/namespaces/{bystander}/pods"
    world.admin.create(pods, pod("web")).must()
    # Both need scheduler and kubelet after the GPU pod was there to be scheduled, too.
    tenant.running("loader")
    world.admin.wait(f"{pods}/web", lambda found: found["status"]["phase"] == "Running", SECONDS)
    assert is_gated(tenant.client.get(tenant.pod("second")).must())
    still = tenant.client.get(tenant.pod("first")).must()
    assert still["metadata"]["uid"] == first["metadata"]["uid"]
    assert still["status"]["phase"] == "Running"
    system = world.cluster.get("pods", "--namespace=kube-system")
    assert [each["status"]["phase"] for each in system] == ["Running"] * len(system)

    # The API server refuses without it.
    named = pod("named", gpus=1, nodeName=world.abroad)
    assert "node-name:" in refusal(tenant.client.create(tenant.pods, named))
    lifted = [{"op": "remove", "path": "/spec/schedulingGates"}]
    assert "release:" in refusal(tenant.client.patch(tenant.pod("second"), lifted))

    tenant.end("first")
    assert is_gated(tenant.client.get(tenant.pod("second")).must())
    _scale(world, 2)
    tenant.running("second", 2 * SECONDS)
    status = tenant.status(lambda found: found["total"]["pendingPods"] == 0)
    assert status["total"]["used"] == 8


def _leader(world: World) -> dict[str, Any]:
    """Return the operator's pod that leads, once the Service has one."""
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    found = world.admin.wait(
        pods,
        lambda found: len(found["items"]) == 1,
        SECONDS,
        labelSelector=f"{names.ROLE_LABEL}={names.ROLE_LEADER}",
    )
    (leader,) = found["items"]
    return dict(leader)


def test_a_crash_of_the_leader_changes_no_count(world: World) -> None:
    tenant = world.tenant("acme", 8)
    tenant.submit(pod("first", gpus=8))
    tenant.running("first")
    tenant.submit(pod("second", gpus=8))
    tenant.told("second", "QuotaExhausted")
    before = _leader(world)
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{before['metadata']['name']}"
    # No farewell: the lease is not given back.
    world.admin.request("DELETE", path, {"gracePeriodSeconds": 0}).must()
    tenant.end("first")
    tenant.running("second", 2 * SECONDS)
    status = tenant.status(lambda found: found["total"]["pendingPods"] == 0)
    assert status["total"]["used"] == 8
    assert _leader(world)["metadata"]["uid"] != before["metadata"]["uid"]

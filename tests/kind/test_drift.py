"""A node that moves abroad under running pods is seen and avoided until it is back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rig.kind.story import POLICY, REGION
from sovereign_gpu import names
from tests.kind.world import API, SECONDS, deployment, is_gated, pod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from tests.kind.world import World


@pytest.fixture
def move(world: World) -> Iterator[Callable[[str, str], None]]:
    """Rewrite the region of a node, as an administrator; all are at home after the test."""

    def relabel(node: str, region: str) -> None:
        labels = {"metadata": {"labels": {names.REGION_LABEL: region}}}
        world.admin.patch(f"/api/v1/nodes/{node}", labels).must()

    yield relabel
    for node in world.eu:
        relabel(node, REGION)
    world.pool(lambda status: status["gpus"]["allocatable"] == 16)


def test_pods_on_a_node_that_moved_are_violations_until_it_is_back(
    world: World, move: Callable[[str, str], None]
) -> None:
    tenant = world.tenant("acme", 16)
    tenant.submit(pod("runs", gpus=8))
    node = tenant.running("runs")["spec"]["nodeName"]
    move(node, "us-east")
    policy = f"{API}/dataresidencypolicies/{POLICY}"
    world.admin.wait(policy, lambda found: found["status"]["violations"]["now"] == 1, SECONDS)
    assert tenant.running("runs")["spec"]["nodeName"] == node

    # Nothing new goes there, though kubelet, scheduler and GPUs are as before.
    (other,) = set(world.eu) - {node}
    tenant.submit(pod("next", gpus=8))
    assert tenant.running("next")["spec"]["nodeName"] == other
    tenant.end("next")
    tenant.end("runs")
    tenant.submit(pod("first", gpus=8), pod("second", gpus=8))
    tenant.status(lambda status: status["total"]["pendingPods"] == 1)
    move(node, REGION)
    tenant.running("first")
    tenant.running("second")
    assert not is_gated(tenant.client.get(tenant.pod("second")).must())
    world.admin.wait(policy, lambda found: found["status"]["violations"]["now"] == 0, SECONDS)


@pytest.fixture
def evicting(world: World) -> Iterator[str]:
    """The policy of the cluster with evictions; it only alerts after the test. Returns its path."""
    path = f"{API}/dataresidencypolicies/{POLICY}"
    drift = {"action": "Evict", "graceSeconds": 5}
    world.admin.patch(path, {"spec": {"onDrift": drift}}).must()
    yield path
    mended = {"spec": {"onDrift": None}, "metadata": {"annotations": {names.CONFIRM_DRIFT: None}}}
    world.admin.patch(path, mended).must()


def test_a_confirmed_eviction_brings_a_deployment_back_to_the_eu(
    world: World, move: Callable[[str, str], None], evicting: str
) -> None:
    tenant = world.tenant("acme", 16)
    tenant.submit(deployment("serve", gpus=8))
    (before,) = tenant.of("serve")
    node = tenant.running(before)["spec"]["nodeName"]
    move(node, "us-east")
    # One of one is more than 5 %: somebody has to say that it is meant.
    waiting = world.admin.wait(evicting, _awaits_confirmation, SECONDS)
    running = tenant.client.get(tenant.pod(before)).must()["metadata"]
    assert names.DRIFT_NOTICE not in running["annotations"]
    confirmed = {names.CONFIRM_DRIFT: str(waiting["metadata"]["generation"])}
    world.admin.patch(evicting, {"metadata": {"annotations": confirmed}}).must()

    tenant.client.wait(
        tenant.pods,
        lambda found: before not in {each["metadata"]["name"] for each in found["items"]},
        2 * SECONDS,
    )
    (after,) = tenant.of("serve")
    assert tenant.running(after)["spec"]["nodeName"] in set(world.eu) - {node}
    status = world.admin.wait(
        evicting, lambda found: found["status"]["violations"]["now"] == 0, SECONDS
    )["status"]
    assert status["violations"]["evicted"] >= 1
    tenant.status(lambda found: (found["total"]["used"], found["total"]["pendingPods"]) == (8, 0))


def _awaits_confirmation(found: dict[str, Any]) -> bool:
    rows = found["status"]["conditions"]
    return any(
        each["type"] == "Drifting" and each["reason"] == "AwaitingConfirmation" for each in rows
    )

"""GPUs and nodes fail, recover and are serviced under the product's eyes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rig.client import wait_for
from rig.fake_gpu.names import GPU_RESOURCE
from sovereign_gpu import names
from tests.kind.test_devices import SEEN
from tests.kind.world import SECONDS, deployment, pod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kind.world import World

SCENARIO = "/api/v1/namespaces/fake-gpu/configmaps/fake-gpu"
AFTER_KUBELET = 90.0
"""Seconds until a restarted kubelet has its device plugins again and has said so."""
AFTER_REBOOT = 180.0
"""Seconds until a restarted machine runs its pods again."""


@pytest.fixture
def break_gpus(world: World) -> Iterator[Callable[..., None]]:
    """Let GPUs of a node fail, by their indexes; all are whole again after the test."""
    touched: set[str] = set()

    def set_faults(node: str, *gpus: int) -> None:
        touched.add(node)
        text = yaml.safe_dump({"faults": [{"gpu": each, "xid": 79} for each in gpus]})
        world.admin.patch(SCENARIO, {"data": {node: text}}).must()

    yield set_faults
    world.admin.patch(SCENARIO, {"data": dict.fromkeys(touched)}).must()
    for node in touched:
        _allocatable(world, node, 8)


@pytest.fixture
def cordon(world: World) -> Iterator[Callable[..., None]]:
    """Mark a node unschedulable, or not; it is not after the test."""

    def mark(node: str, *, on: bool = True) -> None:
        body = {"spec": {"unschedulable": on or None}}
        world.admin.patch(f"/api/v1/nodes/{node}", body).must()

    yield mark
    for node in world.eu:
        mark(node, on=False)


@pytest.fixture
def stopped(world: World) -> Iterator[Callable[[str], None]]:
    """Stop the kubelet of a node; it runs again after the test."""

    def stop(node: str) -> None:
        world.cluster.on_node(node, "systemctl", "stop", "kubelet")

    yield stop
    for node in world.eu:
        world.cluster.on_node(node, "systemctl", "start", "kubelet")
        _allocatable(world, node, 8, AFTER_KUBELET)


def _allocatable(world: World, node: str, gpus: int, seconds: float = SECONDS) -> None:
    path = f"/api/v1/nodes/{node}"
    world.admin.wait(
        path, lambda found: found["status"]["allocatable"][GPU_RESOURCE] == str(gpus), seconds
    )


def test_unhealthy_gpus_are_avoided_and_used_again_when_they_recover(
    world: World, break_gpus: Callable[..., None]
) -> None:
    tenant = world.tenant("acme", 16)
    sick, sound = world.eu
    break_gpus(sick, 0, 5)
    _allocatable(world, sick, 6)
    world.pool(lambda status: (status["gpus"]["allocatable"], status["gpus"]["lost"]) == (14, 2))

    tenant.submit(pod("large", gpus=8))
    assert tenant.running("large")["spec"]["nodeName"] == sound
    tenant.submit(pod("second", gpus=8))
    message = tenant.told("second", "PoolFull")
    assert "6" in message

    break_gpus(sick)
    _allocatable(world, sick, 8)
    assert tenant.running("second")["spec"]["nodeName"] == sick


def test_a_restarted_kubelet_keeps_pods_devices_and_counts(world: World) -> None:
    tenant = world.tenant("acme", 16)
    tenant.submit(pod("left", gpus=8), pod("right", gpus=8))
    before = {name: tenant.running(name) for name in ("left", "right")}
    devices = {name: tenant.run(name, SEEN) for name in before}
    node = before["left"]["spec"]["nodeName"]
    since = _heartbeat(world, node)
    world.cluster.on_node(node, "systemctl", "restart", "kubelet")

    # Its first report may not have the plugin's devices yet.
    wait_for(lambda: _heartbeat(world, node) != since, AFTER_KUBELET, "the kubelet to report")
    _allocatable(world, node, 8, AFTER_KUBELET)
    world.pool(lambda status: status["gpus"]["counted"] == 16)
    for name, found in before.items():
        now = tenant.running(name)
        assert now["metadata"]["uid"] == found["metadata"]["uid"]
        assert now["status"]["containerStatuses"][0]["restartCount"] == 0
        tenant.reachable(name, AFTER_KUBELET)
        assert tenant.run(name, SEEN) == devices[name]

    tenant.end("left")
    tenant.submit(pod("next", gpus=8))
    tenant.running("next", AFTER_KUBELET)
    assert json.loads(tenant.run("next", SEEN)) != json.loads(devices["right"])


def test_after_a_reboot_of_a_node_what_ended_costs_nothing_and_all_devices_are_there(
    world: World,
) -> None:
    tenant = world.tenant("acme", 16)
    tenant.submit(deployment("serve", gpus=5))
    (served,) = tenant.of("serve")
    node = tenant.running(served)["spec"]["nodeName"]
    here = {"kubernetes.io/hostname": node}
    tenant.submit(pod("beside", gpus=2, nodeSelector=here))
    tenant.running("beside")
    since = _heartbeat(world, node)

    world.cluster.reboot(node)
    wait_for(lambda: _heartbeat(world, node) != since, AFTER_REBOOT, "the kubelet to report")
    _allocatable(world, node, 8, AFTER_REBOOT)
    # Its process ended with the machine and is not to be started again.
    path = tenant.pod("beside")
    world.admin.wait(path, lambda found: found["status"]["phase"] == "Failed", AFTER_REBOOT)
    # The kubelet asks for devices before the plugin is back, and refuses or starts the pod again.
    running: list[str] = []

    def served_again() -> bool:
        found = tenant.client.get(tenant.pods).must()["items"]
        running[:] = [each["metadata"]["name"] for each in found if _serves(each)]
        return len(running) == 1

    wait_for(served_again, AFTER_REBOOT, "the Deployment to run one pod again")
    world.pool(lambda status: (status["gpus"]["counted"], status["gpus"]["free"]) == (5, 11))
    tenant.reachable(running[0], AFTER_REBOOT)
    there = tenant.client.get(tenant.pod(running[0])).must()["spec"]["nodeName"]
    left = 8 - 5 * (there == node)
    tenant.submit(pod("next", gpus=left, nodeSelector=here))
    tenant.running("next", AFTER_REBOOT)
    assert len(_ids(tenant.run("next", SEEN))) == left
    if there == node:
        assert not _ids(tenant.run("next", SEEN)) & _ids(tenant.run(running[0], SEEN))


def _serves(found: dict[str, Any]) -> bool:
    (container,) = found["status"].get("containerStatuses", ({"state": {}},))
    named = found["metadata"]["name"].startswith("serve-")
    return named and found["status"]["phase"] == "Running" and "running" in container["state"]


def _ids(seen: str) -> set[str]:
    return set(json.loads(seen).split(","))


def _heartbeat(world: World, node: str) -> Any:
    conditions = world.admin.get(f"/api/v1/nodes/{node}").must()["status"]["conditions"]
    return next(each["lastHeartbeatTime"] for each in conditions if each["type"] == "Ready")


def test_a_cordoned_node_takes_nothing_new(world: World, cordon: Callable[..., None]) -> None:
    tenant = world.tenant("acme", 16)
    closed, open_ = world.eu
    cordon(closed)
    world.pool(lambda status: status["nodes"]["cordoned"] == 1)
    tenant.submit(pod("first", gpus=8))
    assert tenant.running("first")["spec"]["nodeName"] == open_
    tenant.submit(pod("second", gpus=8))
    tenant.status(lambda found: found["total"]["pendingPods"] == 1)
    assert tenant.told("second", "PoolFull")
    cordon(closed, on=False)
    assert tenant.running("second")["spec"]["nodeName"] == closed


def test_a_drained_node_hands_its_deployment_over_and_every_gpu_is_counted_once(
    world: World, cordon: Callable[..., None]
) -> None:
    tenant = world.tenant("acme", 8)
    tenant.submit(deployment("serve", gpus=8))
    (before,) = tenant.of("serve")
    node = tenant.running(before)["spec"]["nodeName"]
    (other,) = set(world.eu) - {node}
    selected = ("--pod-selector", names.POOL_LABEL, "--ignore-daemonsets", "--timeout=60s")
    world.cluster.kubectl("drain", node, *selected)
    world.admin.wait_gone(tenant.pod(before), SECONDS)
    (after,) = tenant.of("serve")
    assert tenant.running(after)["spec"]["nodeName"] == other
    status = tenant.status(lambda found: found["total"]["pendingPods"] == 0)
    assert status["total"]["used"] == 8
    cordon(node, on=False)


def test_what_a_kubelet_refuses_at_its_start_eats_no_quota(
    world: World, cordon: Callable[..., None], stopped: Callable[[str], None]
) -> None:
    tenant = world.tenant("acme", 8)
    node, other = world.eu
    cordon(other)
    world.pool(lambda status: status["nodes"]["cordoned"] == 1)
    stopped(node)
    tenant.submit(deployment("serve", gpus=8))
    (before,) = tenant.of("serve")
    # Bound to a kubelet that is not there, and that starts before its device plugin is back.
    tenant.client.wait(tenant.pod(before), lambda found: found["spec"]["nodeName"] == node, SECONDS)
    world.cluster.on_node(node, "systemctl", "start", "kubelet")

    def runs() -> bool:
        pods = tenant.client.get(tenant.pods).must()["items"]
        return any(each["status"]["phase"] == "Running" for each in pods)

    wait_for(runs, AFTER_KUBELET, "the Deployment to run in the end")
    status = tenant.status(lambda found: found["total"]["pendingPods"] == 0)
    assert status["total"]["used"] == 8

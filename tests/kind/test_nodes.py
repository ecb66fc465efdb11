"""Nodes come as they are, with labels or without, and everything that nodes need runs on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rig.client import wait_for
from sovereign_gpu import names
from tests.kind.world import SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kind.world import World

FLAGS = "/var/lib/kubelet/kubeadm-flags.env"
LABELS = (names.REGION_LABEL, names.ZONE_LABEL)
UNLABELLED = "; ".join(f's|{label}=[^,"]*,\\?||' for label in LABELS)
NETWORK = "/etc/cni/net.d/10-containerd-net.conflist"
AFTER_JOIN = 120.0


def _join(world: World, node: str) -> None:
    """Take a node out of the cluster and let its kubelet register it anew."""
    world.cluster.on_node(node, "systemctl", "stop", "kubelet")
    world.admin.delete(f"/api/v1/nodes/{node}").must()
    if world.cluster.running().own:
        # It is given other addresses for its pods, and keeps the network settings that it has.
        world.cluster.on_node(node, "rm", "-f", NETWORK)
        world.cluster.on_node(node, "systemctl", "restart", "containerd")
    world.cluster.on_node(node, "systemctl", "start", "kubelet")
    world.cluster.wait_ready(AFTER_JOIN)
    world.cluster.route()


@pytest.fixture
def unlabelled(world: World) -> Iterator[str]:
    """The node abroad, whose kubelet says nothing of region and zone; it does after the test."""
    node = world.abroad
    path = f"/api/v1/nodes/{node}"
    before = world.admin.get(path).must()["metadata"]["labels"]
    world.cluster.on_node(node, "cp", FLAGS, f"{FLAGS}.before")
    world.cluster.on_node(node, "sed", "-i", UNLABELLED, FLAGS)
    yield node
    world.cluster.on_node(node, "mv", f"{FLAGS}.before", FLAGS)
    _join(world, node)
    kept = {key: value for key, value in before.items() if "fake-gpu" in key}
    world.admin.patch(path, {"metadata": {"labels": kept}}).must()


def test_a_node_that_joins_without_labels_joins(world: World, unlabelled: str) -> None:
    _join(world, unlabelled)
    labels = world.admin.get(f"/api/v1/nodes/{unlabelled}").must()["metadata"]["labels"]
    assert not labels.keys() & set(LABELS)
    assert not [key for key in labels if key.startswith(names.NODE_RESIDENCY_PREFIX)]


def test_daemons_of_the_infrastructure_run_on_every_node_with_gpus(world: World) -> None:
    path = "/apis/apps/v1/namespaces/fake-gpu/daemonsets"
    nodes = len(world.eu) + 1

    def everywhere() -> bool:
        found = world.admin.get(path).must()["items"]
        ready = {each["metadata"]["name"]: each["status"]["numberReady"] for each in found}
        return ready == dict.fromkeys(("device-plugin", "exporter", "labeller"), nodes)

    wait_for(everywhere, SECONDS, f"plugin, labeller and exporter on {nodes} nodes")

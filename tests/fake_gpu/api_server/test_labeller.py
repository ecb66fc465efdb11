"""Labels on a real API server: written by the right hands, kept right, drifting when told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rig.client import wait_for
from rig.fake_gpu import labels
from rig.fake_gpu.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fake_gpu.api_server.stack import Part, Stack

PRODUCT = "nvidia.com/gpu.product"
COUNT = "nvidia.com/gpu.count"
ENABLED = "fake-gpu.sovereign-gpu.io/enabled"
PLUGIN = "/apis/apps/v1/namespaces/fake-gpu/daemonsets/device-plugin"


def writers(node: dict[str, Any]) -> dict[str, set[str]]:
    """Return which labels each writer owns."""
    return {
        each["manager"]: {
            key.removeprefix("f:")
            for key in each["fieldsV1"].get("f:metadata", {}).get("f:labels", {})
        }
        for each in node["metadata"]["managedFields"]
    }


@pytest.fixture
def labelled(stack: Stack, name: str, start: Callable[..., Part]) -> str:
    """A node with its labels."""
    stack.node(name, **{ENABLED: "true", "topology.kubernetes.io/region": "eu-de-muc"})
    labeller = start("labeller")
    wait_for(lambda: labeller.ready, 30, "the labeller")
    return name


def test_a_new_node_gets_all_labels_from_those_who_write_them(stack: Stack, labelled: str) -> None:
    found = stack.admin.get(f"/api/v1/nodes/{labelled}").must()
    scenario = Scenario()
    stamp = int(found["metadata"]["labels"]["nvidia.com/gfd.timestamp"])
    wanted = labels.wanted(scenario, scenario.machine(labelled), stamp)
    assert wanted.items() <= found["metadata"]["labels"].items()
    assert len(wanted) > 110
    owned = writers(found)
    for writer, keys in labels.by_writer(wanted).items():
        assert owned[writer] == set(keys)
    listed = found["metadata"]["annotations"]["nfd.node.kubernetes.io/feature-labels"]
    assert "pci-10de.present" in listed.split(",")
    # What the node came with is untouched.
    assert found["metadata"]["labels"]["topology.kubernetes.io/region"] == "eu-de-muc"


def test_a_node_that_joins_later_is_labelled_then(
    stack: Stack, name: str, start: Callable[..., Part]
) -> None:
    labeller = start("labeller")
    wait_for(lambda: labeller.page("/healthz")[0] == 200, 30, "the labeller to start")
    assert not labeller.ready
    stack.node(name)
    stack.wait_label(name, PRODUCT, "NVIDIA-B200")


def test_what_somebody_changes_is_put_right(stack: Stack, labelled: str) -> None:
    path = f"/api/v1/nodes/{labelled}"
    wrong = {"metadata": {"labels": {PRODUCT: "NVIDIA-A100", COUNT: None}}}
    stack.admin.patch(path, wrong).must()
    stack.wait_label(labelled, PRODUCT, "NVIDIA-B200")
    stack.wait_label(labelled, COUNT, "8")


def test_labels_drift_as_told_and_come_back(stack: Stack, labelled: str) -> None:
    # Somebody else has set the same value, and so owns the label as well.
    path = f"/api/v1/nodes/{labelled}"
    same = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": labelled, "labels": {COUNT: "8"}},
    }
    stack.admin.apply(same, field_manager="somebody").must()
    before = stack.labels(labelled)
    drift = {PRODUCT: "NVIDIA-H200", COUNT: None, "topology.kubernetes.io/region": "us-east"}
    stack.tell(labelled, labels=drift)
    for key, value in drift.items():
        stack.wait_label(labelled, key, value)
    stack.tell(labelled)
    stack.wait_label(labelled, PRODUCT, "NVIDIA-B200")
    stack.wait_label(labelled, COUNT, "8")
    # A label that was not ours before is gone with the drift.
    wanted = {key: value for key, value in before.items() if "region" not in key}
    assert stack.labels(labelled) == wanted
    assert stack.admin.get(path).ok


def test_partitions_appear_and_vanish_with_their_labels(stack: Stack, labelled: str) -> None:
    count = "nvidia.com/mig-1g.23gb.count"
    stack.tell(labelled, mig=[{"devices": [0, 1], "profiles": {"1g.23gb": 7}}])
    stack.wait_label(labelled, count, "14")
    stack.wait_label(labelled, "nvidia.com/mig.config", "custom")
    stack.tell(labelled)
    stack.wait_label(labelled, count, None)
    stack.wait_label(labelled, "nvidia.com/mig.config", "all-disabled")


def test_a_config_map_that_cannot_be_read_changes_nothing(
    stack: Stack, name: str, start: Callable[..., Part]
) -> None:
    stack.node(name)
    stack.tell(name, gpus=4)
    labeller = start("labeller")
    stack.wait_label(name, COUNT, "4")
    stack.write(name, "gpus: many")
    wait_for(lambda: labeller.said("gpus: Input should be a valid integer"), 20, "a complaint")
    assert stack.labels(name)[COUNT] == "4"
    stack.write(name, "gpus: 2")
    stack.wait_label(name, COUNT, "2")


def test_a_driver_upgrade_takes_the_device_plugin_off_the_node(stack: Stack, labelled: str) -> None:
    def scheduled() -> int:
        status = stack.admin.get(PLUGIN).must()["status"]
        return int(status["desiredNumberScheduled"])

    wait_for(lambda: scheduled() == 1, 20, "a device plugin for the node")
    # The controller looks at a node again only for pods that are bound.
    pods, on_node = "/api/v1/namespaces/fake-gpu/pods", f"spec.nodeName={labelled}"
    stack.admin.wait(pods, lambda found: len(found["items"]) == 3, fieldSelector=on_node)
    stack.tell(labelled, driverUpgradeState="pod-restart-required")
    state = "nvidia.com/gpu-driver-upgrade-state"
    stack.wait_label(labelled, state, "pod-restart-required")
    wait_for(lambda: scheduled() == 0, 20, "no device plugin")
    stack.tell(labelled, driverUpgradeState="upgrade-done")
    wait_for(lambda: scheduled() == 1, 20, "the device plugin again")


def test_no_part_may_do_more_than_it_has_to(stack: Stack, namespace: str) -> None:
    def may(part: str, verb: str, path: str) -> bool:
        client = stack.rig.service_account_client("fake-gpu", part)
        body = {"metadata": {"name": "x"}, "data": {}} if verb in {"POST", "PATCH"} else None
        answer = (
            client.request(verb, path, body, dryRun="All") if verb != "GET" else client.get(path)
        )
        return answer.status != 403

    config = "/api/v1/namespaces/fake-gpu/configmaps"
    for part in ("labeller", "device-plugin", "exporter"):
        wait_for(lambda part=part: may(part, "GET", f"{config}/fake-gpu"), 10, f"rights of {part}")
        assert not may(part, "GET", config)
        assert not may(part, "GET", "/api/v1/namespaces/fake-gpu/secrets")
        assert not may(part, "POST", "/api/v1/nodes")
        assert not may(part, "DELETE", "/api/v1/nodes/any")
        assert not may(part, "POST", f"/api/v1/namespaces/{namespace}/pods")
        assert may(part, "GET", "/api/v1/nodes/any") == (part == "labeller")
        assert may(part, "GET", "/api/v1/pods") == (part == "exporter")

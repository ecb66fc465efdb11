"""Nodes with the labels of real ones, and KWOK's stages steered by annotations."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from rig import nodes, stages
from rig.catalogue import PRODUCTS
from rig.errors import RigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rig.client import Client
    from rig.control_plane import Rig

POOL_LABEL = "sovereign-gpu.node-restriction.kubernetes.io/pool"
GPU_FIELDS = {
    "nvidia.com/cuda.driver-version.full",
    "nvidia.com/cuda.driver.major",
    "nvidia.com/cuda.runtime-version.full",
    "nvidia.com/gfd.timestamp",
    "nvidia.com/gpu-driver-upgrade-state",
    "nvidia.com/gpu.compute.major",
    "nvidia.com/gpu.compute.minor",
    "nvidia.com/gpu.count",
    "nvidia.com/gpu.deploy.container-toolkit",
    "nvidia.com/gpu.deploy.dcgm",
    "nvidia.com/gpu.deploy.dcgm-exporter",
    "nvidia.com/gpu.deploy.device-plugin",
    "nvidia.com/gpu.deploy.driver",
    "nvidia.com/gpu.deploy.gpu-feature-discovery",
    "nvidia.com/gpu.deploy.node-status-exporter",
    "nvidia.com/gpu.deploy.operands",
    "nvidia.com/gpu.deploy.operator-validator",
    "nvidia.com/gpu.family",
    "nvidia.com/gpu.machine",
    "nvidia.com/gpu.memory",
    "nvidia.com/gpu.mode",
    "nvidia.com/gpu.present",
    "nvidia.com/gpu.product",
    "nvidia.com/gpu.replicas",
    "nvidia.com/gpu.sharing-strategy",
    "nvidia.com/gpu.workload.config",
    "nvidia.com/mig.capable",
    "nvidia.com/mps.capable",
    "nvidia.com/vgpu.present",
    "feature.node.kubernetes.io/pci-10de.present",
    "feature.node.kubernetes.io/pci-0302_10de.present",
}
NODE_FIELDS = {
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "fabric.topograph.run/tier-0",
    "fabric.topograph.run/tier-1",
    "fabric.topograph.run/tier-2",
}
_numbers = itertools.count(1)


@pytest.fixture
def hall(rig: Rig) -> Iterator[Callable[..., list[str]]]:
    """Make nodes under names of their own; they are deleted after the test."""
    made: list[str] = []

    def make(count: int, product: str | None = "NVIDIA-B200", **options: Any) -> list[str]:
        names = nodes.create_nodes(rig, count, product, prefix=f"hall{next(_numbers)}", **options)
        made.extend(names)
        return names

    yield make
    nodes.delete_nodes(rig, made)


@pytest.mark.parametrize(
    ("product", "expected"),
    [
        ("NVIDIA-B200", ("183359", "blackwell", "10", "0", "true")),
        ("NVIDIA-H200", ("143771", "hopper", "9", "0", "true")),
        ("NVIDIA-H100-80GB-HBM3", ("81559", "hopper", "9", "0", "true")),
        ("NVIDIA-L40S", ("46068", "ada-lovelace", "8", "9", "false")),
    ],
)
def test_every_product_carries_the_complete_label_set(
    hall: Callable[..., list[str]], admin: Client, product: str, expected: tuple[str, ...]
) -> None:
    (name,) = hall(1, product)
    node = admin.get(f"/api/v1/nodes/{name}").must()
    labels = node["metadata"]["labels"]
    assert set(labels) >= GPU_FIELDS | NODE_FIELDS
    assert labels["nvidia.com/gpu.product"] == product
    telling = ("gpu.memory", "gpu.family", "gpu.compute.major", "gpu.compute.minor", "mig.capable")
    assert tuple(labels[f"nvidia.com/{key}"] for key in telling) == expected
    assert ("nvidia.com/gpu.deploy.mig-manager" in labels) is (expected[-1] == "true")
    taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    assert node["spec"]["taints"] == [taint]
    assert node["spec"]["providerID"]
    assert node["status"]["allocatable"] == {
        "cpu": "224",
        "memory": "2Ti",
        "pods": "110",
        "ephemeral-storage": "3500Gi",
        "nvidia.com/gpu": "8",
    }
    assert node["status"]["nodeInfo"]["systemUUID"]


def test_a_companion_has_no_gpu_and_keeps_other_pods_off(
    hall: Callable[..., list[str]], admin: Client
) -> None:
    (name,) = hall(1, None, pool="munich", region="eu-de-muc", zone="eu-de-muc-b")
    node = admin.get(f"/api/v1/nodes/{name}").must()
    labels = node["metadata"]["labels"]
    assert [taint["key"] for taint in node["spec"]["taints"]] == ["sovereign-gpu.io/companion"]
    assert "nvidia.com/gpu" not in node["status"]["capacity"]
    assert not [label for label in labels if label.startswith("nvidia.com/")]
    assert labels[POOL_LABEL] == "munich"
    assert labels["topology.kubernetes.io/zone"] == "eu-de-muc-b"


def test_32_nodes_share_a_leaf_switch(hall: Callable[..., list[str]], admin: Client) -> None:
    names = hall(66, ready=False)
    leaves: dict[str, int] = {}
    for node in admin.items("/api/v1/nodes"):
        if node["metadata"]["name"] in names:
            leaf = node["metadata"]["labels"]["fabric.topograph.run/tier-0"]
            leaves[leaf] = leaves.get(leaf, 0) + 1
    assert sorted(leaves.values()) == [2, 32, 32]
    uuids = {node["status"]["nodeInfo"]["systemUUID"] for node in admin.items("/api/v1/nodes")}
    assert len(uuids) >= 66


def test_an_unknown_product_is_refused_with_those_there_are(rig: Rig) -> None:
    with pytest.raises(RigError, match=", ".join(PRODUCTS)):
        nodes.create_nodes(rig, 1, "NVIDIA-X999")


def test_a_node_can_lose_gpus_and_readiness_and_get_them_back(
    hall: Callable[..., list[str]], admin: Client
) -> None:
    (name,) = hall(1)
    nodes.set_allocatable_gpus(admin, name, 7)
    nodes.set_ready(admin, name, ready=False)
    node = admin.get(f"/api/v1/nodes/{name}").must()
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "7"
    assert node["status"]["capacity"]["nvidia.com/gpu"] == "8"
    nodes.set_ready(admin, name, ready=True)


def gpu_pod(name: str, annotations: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "restartPolicy": "Never",
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "containers": [
                {
                    "name": "main",
                    "image": "registry.invalid/main",
                    "resources": {"limits": {"nvidia.com/gpu": "1"}},
                }
            ],
        },
    }


@pytest.mark.parametrize(
    ("annotations", "end"),
    [
        ({}, ("Running", None)),
        ({stages.RUN_SECONDS: "1"}, ("Succeeded", 0)),
        ({stages.RUN_SECONDS: "1", stages.EXIT_CODE: "137"}, ("Failed", 137)),
        ({stages.EXIT_CODE: "2"}, ("Failed", 2)),
        ({stages.RUN_SECONDS: "0", stages.EXIT_CODE: "0"}, ("Succeeded", 0)),
        ({stages.START_SECONDS: "1"}, ("Running", None)),
    ],
)
def test_a_pod_runs_and_ends_as_its_annotations_say(
    hall: Callable[..., list[str]],
    admin: Client,
    namespace: str,
    annotations: dict[str, str],
    end: tuple[str, int | None],
) -> None:
    phase, code = end
    hall(1)
    pods = f"/api/v1/namespaces/{namespace}/pods"
    admin.create(pods, gpu_pod("work", annotations)).must()
    done = admin.wait(f"{pods}/work", lambda body: body["status"]["phase"] == phase)
    (container,) = done["status"]["containerStatuses"]
    if code is None:
        assert "running" in container["state"]
    else:
        assert container["state"]["terminated"]["exitCode"] == code


def test_a_slow_start_and_a_slow_end_take_their_time(
    hall: Callable[..., list[str]], admin: Client, namespace: str
) -> None:
    hall(1)
    pods = f"/api/v1/namespaces/{namespace}/pods"
    slow = gpu_pod("slow", {stages.START_SECONDS: "600"})
    lingering = gpu_pod("lingering", {stages.STOP_SECONDS: "600"})
    for each in (slow, lingering):
        admin.create(pods, each).must()
    bound = admin.wait(f"{pods}/slow", lambda body: body["spec"]["nodeName"])
    assert bound["status"]["phase"] == "Pending"
    admin.wait(f"{pods}/lingering", lambda body: body["status"]["phase"] == "Running")
    admin.delete(f"{pods}/lingering").must()
    admin.delete(f"{pods}/slow").must()
    # The other pod, deleted later, is gone: so the lingering one stays on purpose.
    admin.wait_gone(f"{pods}/slow")
    assert admin.get(f"{pods}/lingering").must()["metadata"]["deletionTimestamp"]
    admin.delete(f"{pods}/lingering", gracePeriodSeconds="0").must()
    admin.wait_gone(f"{pods}/lingering")


def test_jobs_run_until_told_otherwise_and_then_complete(
    hall: Callable[..., list[str]], admin: Client, namespace: str
) -> None:
    hall(1)
    template = gpu_pod("unused", {stages.RUN_SECONDS: "1"})
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train"},
        "spec": {
            "completions": 2,
            "parallelism": 2,
            "template": {
                "metadata": {"annotations": template["metadata"]["annotations"]},
                "spec": template["spec"],
            },
        },
    }
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    admin.create(jobs, job).must()
    admin.wait(f"{jobs}/train", lambda body: body["status"]["succeeded"] == 2)

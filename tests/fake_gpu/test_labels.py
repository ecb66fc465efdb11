"""The labels of a node, against what the real writers write."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rig import catalogue
from rig.fake_gpu import labels
from rig.fake_gpu.scenario import Scenario

KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
BALANCED = {"1g.23gb": 2, "2g.45gb": 1, "3g.90gb": 1}


def of(**fields: Any) -> dict[str, str]:
    scenario = Scenario.model_validate(fields)
    return labels.wanted(scenario, scenario.machine("dgx-0"), 1_795_000_000)


def test_a_dgx_b200_is_described_by_all_three_writers() -> None:
    found = of()
    expected = {
        "nvidia.com/gpu.product": "NVIDIA-B200",
        "nvidia.com/gpu.count": "8",
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.memory": "183359",
        "nvidia.com/gpu.family": "blackwell",
        "nvidia.com/gpu.compute.major": "10",
        "nvidia.com/gpu.machine": "DGX-B200",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/mig.capable": "true",
        "nvidia.com/mig.strategy": "mixed",
        "nvidia.com/mig.config": "all-disabled",
        "nvidia.com/mig.config.state": "success",
        "nvidia.com/gfd.timestamp": "1795000000",
        "nvidia.com/gpu.deploy.driver": "pre-installed",
        "nvidia.com/gpu.deploy.device-plugin": "true",
        "nvidia.com/gpu-driver-upgrade-state": "upgrade-done",
        "feature.node.kubernetes.io/pci-10de.present": "true",
        "feature.node.kubernetes.io/pci-0302_10de.present": "true",
        "feature.node.kubernetes.io/cpu-model.id": "207",
        "feature.node.kubernetes.io/cpu-cpuid.AMXTILE": "true",
    }
    assert expected.items() <= found.items()
    assert not any(key.startswith("nvidia.com/gpu.clique") for key in found)


def test_nothing_is_written_that_others_own() -> None:
    ours = ("nvidia.com/", "feature.node.kubernetes.io/")
    assert all(key.startswith(ours) for key in of())


def test_the_rig_and_the_real_kubelet_carry_the_same_labels() -> None:
    product = catalogue.PRODUCTS["NVIDIA-B200"]
    changing = {"nvidia.com/gfd.timestamp", "nvidia.com/mig.strategy"}
    on_rig = {k: v for k, v in catalogue.gpu_labels(product).items() if k not in changing}
    assert on_rig.items() <= of().items()


@pytest.mark.parametrize("product", list(catalogue.PRODUCTS))
def test_all_keys_and_values_are_allowed(product: str) -> None:
    found = of(product=product)
    if product == "NVIDIA-B200":
        found |= of(mig=[{"devices": "all", "profiles": {"1g.23gb+me": 1, "2g.45gb": 3}}])
    for key, value in found.items():
        assert KEY.fullmatch(key), key
        assert VALUE.fullmatch(value), f"{key}={value}"


def test_a_product_without_partitions_says_nothing_of_them() -> None:
    found = of(product="NVIDIA-L40S")
    assert found["nvidia.com/mig.capable"] == "false"
    assert not {key for key in found if "/mig.config" in key or "/mig.strategy" in key}


def test_partitions_are_described_size_by_size() -> None:
    found = of(mig=[{"devices": [0, 1], "profiles": BALANCED}])
    # Partitioned GPUs are still GPUs of the node.
    assert found["nvidia.com/gpu.count"] == "8"
    assert found["nvidia.com/gpu.replicas"] == "1"
    expected = {
        "count": "4",
        "product": "NVIDIA-B200-MIG-1g.23gb",
        "memory": "22919",
        "multiprocessors": "18",
        "slices.gi": "1",
        "slices.ci": "1",
        "engines.copy": "2",
        "engines.decoder": "1",
        "engines.encoder": "0",
        "engines.jpeg": "1",
        "engines.ofa": "0",
        "replicas": "1",
        "sharing-strategy": "none",
    }
    prefix = "nvidia.com/mig-1g.23gb."
    assert {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)} == expected
    assert found["nvidia.com/mig-3g.90gb.count"] == "2"


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ([], "all-disabled"),
        ([{"devices": "all", "profiles": {"1g.23gb": 7}}], "all-1g.23gb"),
        ([{"devices": "all", "profiles": {"1g.23gb+me": 1}}], "all-1g.23gb.me"),
        ([{"devices": "all", "profiles": BALANCED}], "all-balanced"),
        ([{"devices": "all", "profiles": {"1g.23gb": 1, "2g.45gb": 2}}], "custom"),
        ([{"devices": [0], "profiles": {"1g.23gb": 7}}], "custom"),
    ],
)
def test_a_layout_is_called_what_mig_parted_calls_it(layout: list[Any], name: str) -> None:
    assert of(mig=layout)["nvidia.com/mig.config"] == name


def test_when_every_gpu_is_partitioned_nothing_can_be_shared() -> None:
    found = of(mig=[{"devices": "all", "profiles": BALANCED}])
    assert found["nvidia.com/gpu.replicas"] == "0"


def test_during_a_driver_upgrade_the_users_of_the_driver_are_paused() -> None:
    waiting = of(driverUpgradeState="drain-required")
    assert waiting["nvidia.com/gpu-driver-upgrade-state"] == "drain-required"
    assert waiting["nvidia.com/gpu.deploy.device-plugin"] == "true"
    found = of(driverUpgradeState="pod-restart-required")
    assert found["nvidia.com/gpu.deploy.device-plugin"] == "paused-for-driver-upgrade"
    assert found["nvidia.com/gpu.deploy.dcgm-exporter"] == "paused-for-driver-upgrade"
    assert found["nvidia.com/gpu.deploy.driver"] == "pre-installed"


def test_labels_drift_as_told() -> None:
    found = of(labels={"nvidia.com/gpu.product": "NVIDIA-B300", "nvidia.com/gpu.count": None})
    assert found["nvidia.com/gpu.product"] == "NVIDIA-B300"
    assert "nvidia.com/gpu.count" not in found


def test_each_label_has_one_writer() -> None:
    found = of(mig=[{"devices": [0], "profiles": BALANCED}])
    divided = labels.by_writer(found)
    assert {**divided["nfd-master"], **divided["gpu-operator"]} == found
    assert not divided["nfd-master"].keys() & divided["gpu-operator"].keys()
    assert "nvidia.com/gpu.product" in divided["nfd-master"]
    assert "nvidia.com/gpu.deploy.dcgm" in divided["gpu-operator"]
    (listed,) = labels.feature_annotations(found).values()
    assert "pci-10de.present" in listed.split(",")
    assert "nvidia.com/gpu.product" in listed.split(",")

"""What GPU nodes look like: the labels, capacity and taint a real NVIDIA node carries.

Policies, selectors and reports are written against these labels, so a fake node has all of them:
those of the kubelet, of node feature discovery, of GPU feature discovery, of the gpu-operator and
of a fabric topology discovery.
"""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any, Final

from rig.stages import FAKE_NODE, PREFIX
from sovereign_gpu import names

NVIDIA: Final = "nvidia.com/"
FEATURE: Final = "feature.node.kubernetes.io/"
FABRIC: Final = "fabric.topograph.run/tier-"
TOPOLOGY: Final = "topology.kubernetes.io/"
COUNTRY_LABEL: Final = f"{PREFIX}country"
"""For readers of the demo's tables only; no label states where a node stands in law."""
NODES_PER_LEAF: Final = 32
LEAVES_PER_SPINE: Final = 8
GPU_TAINT: Final = {"key": names.GPU_TAINT, "value": "present", "effect": "NoSchedule"}
COMPANION_TAINT: Final = {"key": names.COMPANION_TAINT, "effect": "NoSchedule"}

DRIVER: Final = ("580", "95", "05")
CUDA: Final = ("13", "0")
KERNEL: Final = ("6", "8", "0", "6.8.0-1039-nvidia")
_NAMESPACE: Final = uuid.UUID("6b8c2b6e-0d0f-4c8e-9b70-5a3f0a8b7a11")


@dataclass(frozen=True, slots=True)
class Product:
    """One kind of GPU node.

    Attributes:
        name: as GPU feature discovery labels it.
        memory_mib: memory of one GPU in MiB, as the driver reports it.
        family: GPU architecture.
        compute: compute capability, major and minor.
        mig: whether its GPUs can be partitioned.
        pci_device: PCI device number.
        machine: product name of the server in its firmware.
        instance_type: `node.kubernetes.io/instance-type`.
        preinstalled: whether the driver is part of the system image (DGX OS).
        gpus: GPUs per node.
    """

    name: str
    memory_mib: int
    family: str
    compute: tuple[int, int]
    mig: bool
    pci_device: str
    machine: str
    instance_type: str
    preinstalled: bool
    gpus: int = 8


PRODUCTS: Final = {
    product.name: product
    for product in (
        Product(
            name="NVIDIA-B200",
            memory_mib=183359,
            family="blackwell",
            compute=(10, 0),
            mig=True,
            pci_device="2901",
            machine="DGX-B200",
            instance_type="dgx-b200",
            preinstalled=True,
        ),
        Product(
            name="NVIDIA-H200",
            memory_mib=143771,
            family="hopper",
            compute=(9, 0),
            mig=True,
            pci_device="2335",
            machine="PowerEdge-XE9680",
            instance_type="hgx-h200",
            preinstalled=False,
        ),
        Product(
            name="NVIDIA-H100-80GB-HBM3",
            memory_mib=81559,
            family="hopper",
            compute=(9, 0),
            mig=True,
            pci_device="2330",
            machine="PowerEdge-XE9680",
            instance_type="hgx-h100",
            preinstalled=False,
        ),
        Product(
            name="NVIDIA-L40S",
            memory_mib=46068,
            family="ada-lovelace",
            compute=(8, 9),
            mig=False,
            pci_device="26b9",
            machine="PowerEdge-R760xa",
            instance_type="pcie-l40s",
            preinstalled=False,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands.

    Attributes:
        region: `topology.kubernetes.io/region`.
        zone: `topology.kubernetes.io/zone`.
        country: ISO code, shown in tables only.
    """

    region: str
    zone: str
    country: str = ""


def node(
    name: str,
    index: int,
    place: Place,
    product: Product | None,
    *,
    kubelet_version: str,
    labels: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return a Node as its kubelet and the NVIDIA operators would have written it.

    Args:
        name: node name and host name.
        index: position in the hall; decides the switches it hangs on.
        place: region and zone.
        product: its GPUs; None for a companion without GPUs.
        kubelet_version: version it reports.
        labels: more labels (the pool label is one).
    """
    carried = base_labels(name, index, place, product)
    if product is not None:
        carried |= gpu_labels(product)
    resources = _resources(product)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": carried | (labels or {}),
            "annotations": {FAKE_NODE: "fake"},
        },
        "spec": {
            "providerID": f"kwok://{place.region}/{name}",
            **_taints(product, carried | (labels or {})),
        },
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": _address(index)},
                {"type": "Hostname", "address": name},
            ],
            "capacity": resources,
            "allocatable": resources,
            "nodeInfo": _node_info(name, kubelet_version),
            # Ready at once, as a kubelet reports a moment after it registers: 1,250 nodes are
            # 1,250 writes fewer. Heartbeats and the lease are KWOK's.
            "conditions": _conditions(),
        },
    }


def _taints(product: Product | None, labels: dict[str, str]) -> dict[str, Any]:
    if product is not None:
        return {"taints": [GPU_TAINT]}
    return {"taints": [COMPANION_TAINT]} if names.NODE_POOL_LABEL in labels else {}


def base_labels(name: str, index: int, place: Place, product: Product | None) -> dict[str, str]:
    """Return the labels of the kubelet, the cloud, the fabric and node feature discovery."""
    leaf = index // NODES_PER_LEAF
    spine = leaf // LEAVES_PER_SPINE
    labels = {
        # Kubelets still set these two; without them the node controller does, one by one.
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": product.instance_type if product else "cpu-64",
        f"{TOPOLOGY}region": place.region,
        f"{TOPOLOGY}zone": place.zone,
        f"{FABRIC}0": f"{place.zone}-leaf-{leaf:03d}",
        f"{FABRIC}1": f"{place.zone}-spine-{spine:02d}",
        f"{FABRIC}2": f"{place.zone}-core",
        f"{FEATURE}cpu-model.vendor_id": "Intel",
        f"{FEATURE}kernel-version.full": KERNEL[3],
        f"{FEATURE}kernel-version.major": KERNEL[0],
        f"{FEATURE}kernel-version.minor": KERNEL[1],
        f"{FEATURE}kernel-version.revision": KERNEL[2],
        f"{FEATURE}memory-numa": "true",
        f"{FEATURE}system-os_release.ID": "ubuntu",
        f"{FEATURE}system-os_release.VERSION_ID": "24.04",
    }
    if place.country:
        labels[COUNTRY_LABEL] = place.country
    return labels


def gpu_labels(product: Product) -> dict[str, str]:
    """Return the labels of GPU feature discovery, PCI discovery and the gpu-operator."""
    return {
        f"{FEATURE}pci-10de.present": "true",
        f"{FEATURE}pci-0302_10de.present": "true",
        f"{FEATURE}pci-0302_10de_{product.pci_device}.present": "true",
        f"{FEATURE}pci-15b3.present": "true",
        f"{FEATURE}rdma.available": "true",
        f"{FEATURE}rdma.capable": "true",
        **_discovery_labels(product),
        **_operator_labels(product),
    }


def _discovery_labels(product: Product) -> dict[str, str]:
    major, minor, revision = DRIVER
    labels = {
        "cuda.driver-version.full": ".".join(DRIVER),
        "cuda.driver-version.major": major,
        "cuda.driver-version.minor": minor,
        "cuda.driver-version.revision": revision,
        "cuda.driver.major": major,
        "cuda.driver.minor": minor,
        "cuda.driver.rev": revision,
        "cuda.runtime-version.full": ".".join(CUDA),
        "cuda.runtime-version.major": CUDA[0],
        "cuda.runtime-version.minor": CUDA[1],
        "cuda.runtime.major": CUDA[0],
        "cuda.runtime.minor": CUDA[1],
        "gdrcopy.capable": "true",
        "gds.capable": "true",
        "gfd.timestamp": "1795392000",
        "gpu.compute.major": str(product.compute[0]),
        "gpu.compute.minor": str(product.compute[1]),
        "gpu.count": str(product.gpus),
        "gpu.family": product.family,
        "gpu.machine": product.machine,
        "gpu.memory": str(product.memory_mib),
        "gpu.mode": "compute",
        "gpu.present": "true",
        "gpu.product": product.name,
        "gpu.replicas": "1",
        "gpu.sharing-strategy": "none",
        "mig.capable": str(product.mig).lower(),
        "mps.capable": "false",
        "peermem.capable": "true",
        "vgpu.present": "false",
    }
    if product.mig:
        labels |= {
            "mig.strategy": "single",
            "mig.config": "all-disabled",
            "mig.config.state": "success",
        }
    return {NVIDIA + key: value for key, value in labels.items()}


def _operator_labels(product: Product) -> dict[str, str]:
    operands = [
        "container-toolkit",
        "dcgm",
        "dcgm-exporter",
        "device-plugin",
        "gpu-feature-discovery",
        "node-status-exporter",
        "operands",
        "operator-validator",
        *(["mig-manager"] if product.mig else []),
    ]
    labels = {f"{NVIDIA}gpu.deploy.{operand}": "true" for operand in operands}
    driver = "pre-installed" if product.preinstalled else "true"
    return labels | {
        f"{NVIDIA}gpu.deploy.driver": driver,
        f"{NVIDIA}gpu.workload.config": "container",
        f"{NVIDIA}gpu-driver-upgrade-state": "upgrade-done",
    }


def _resources(product: Product | None) -> dict[str, str]:
    if product is None:
        return {"cpu": "64", "memory": "512Gi", "pods": "110", "ephemeral-storage": "900Gi"}
    return {
        "cpu": "224",
        "memory": "2Ti",
        "pods": "110",
        "ephemeral-storage": "3500Gi",
        "nvidia.com/gpu": str(product.gpus),
    }


def _conditions() -> list[dict[str, str]]:
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    times = {"lastHeartbeatTime": now, "lastTransitionTime": now}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", **times}
    troubles = {
        "MemoryPressure": "KubeletHasSufficientMemory",
        "DiskPressure": "KubeletHasNoDiskPressure",
        "PIDPressure": "KubeletHasSufficientPID",
        "NetworkUnavailable": "RouteCreated",
    }
    absent = (
        {"type": kind, "status": "False", "reason": reason, **times}
        for kind, reason in troubles.items()
    )
    return [ready, *absent]


def _address(index: int) -> str:
    return f"10.{64 + index // 65536 % 64}.{index // 256 % 256}.{index % 256}"


def _node_info(name: str, kubelet_version: str) -> dict[str, str]:
    def identity(what: str) -> str:
        return str(uuid.uuid5(_NAMESPACE, f"{what}/{name}"))

    return {
        "architecture": "amd64",
        "bootID": identity("boot"),
        "containerRuntimeVersion": "containerd://2.1.4",
        "kernelVersion": KERNEL[3],
        "kubeProxyVersion": "",
        "kubeletVersion": kubelet_version,
        "machineID": identity("machine").replace("-", ""),
        "operatingSystem": "linux",
        "osImage": "Ubuntu 24.04.3 LTS",
        "systemUUID": identity("system"),
    }

"""The labels of a GPU node, from everybody who writes some on a real one.

Node feature discovery describes the host, GPU feature discovery the GPUs, the gpu-operator what it
runs there. What the nodes of the rig carry already stands in `rig.catalogue`; here is what only a
node with a configuration of its own can have: partitions, faults, upgrades.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rig.catalogue import FEATURE, Place, base_labels, gpu_labels
from rig.fake_gpu import mig
from rig.fake_gpu.names import GPU_RESOURCE, MIG_RESOURCE, NVIDIA
from rig.fake_gpu.scenario import PAUSED_IN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rig.fake_gpu.machine import Machine
    from rig.fake_gpu.scenario import Scenario

DEPLOY: Final = f"{NVIDIA}gpu.deploy."
UPGRADE_STATE: Final = f"{NVIDIA}gpu-driver-upgrade-state"
PAUSED: Final = "paused-for-driver-upgrade"
KEEPS_RUNNING: Final = frozenset({f"{DEPLOY}driver", f"{DEPLOY}node-status-exporter"})
"""Operands that do not use the driver, and so stay during its upgrade."""
_OPERATOR_KEYS: Final = frozenset(
    {
        f"{NVIDIA}gpu.present",
        f"{NVIDIA}gpu.workload.config",
        f"{NVIDIA}mig.config",
        f"{NVIDIA}mig.config.state",
        UPGRADE_STATE,
    }
)
# Two Xeon Platinum 8570 with ConnectX-7 and BlueField-3, as node feature discovery sees them.
_HOST: Final = {
    "cpu-hardware_multithreading": "true",
    "cpu-model.family": "6",
    "cpu-model.id": "207",
    "cpu-pstate.scaling_governor": "performance",
    "cpu-pstate.status": "active",
    "cpu-pstate.turbo": "true",
    "cpu-security.tdx.enabled": "false",
    "custom-rdma.available": "true",
    "custom-rdma.capable": "true",
    "kernel-config.NO_HZ": "true",
    "kernel-config.NO_HZ_IDLE": "true",
    "kernel-selinux.enabled": "false",
    "network-sriov.capable": "true",
    "pci-0207_15b3.present": "true",
    "pci-0207_15b3.sriov.capable": "true",
    "pci-0302_10de.sriov.capable": "true",
    "storage-nonrotationaldisk": "true",
    "system-os_release.VERSION_ID.major": "24",
    "system-os_release.VERSION_ID.minor": "04",
}
_INSTRUCTIONS: Final = (
    *("ADX", "AESNI", "AMXBF16", "AMXINT8", "AMXTILE", "AVX", "AVX2", "AVX512BF16"),
    *("AVX512BITALG", "AVX512BW", "AVX512CD", "AVX512DQ", "AVX512F", "AVX512FP16"),
    *("AVX512IFMA", "AVX512VBMI", "AVX512VBMI2", "AVX512VL", "AVX512VNNI", "AVX512VPOPCNTDQ"),
    *("AVXVNNI", "FMA3", "GFNI", "IBPB", "MOVDIR64B", "MOVDIRI", "SERIALIZE"),
    *("SHA", "STIBP", "VAES", "VMX", "VPCLMULQDQ", "WBNOINVD"),
)


def wanted(scenario: Scenario, machine: Machine, started: int) -> dict[str, str]:
    """Return all labels of the node.

    Args:
        scenario: of the node.
        machine: its GPUs.
        started: when GPU feature discovery started, epoch seconds.
    """
    product = scenario.hardware
    host = base_labels(machine.node, 0, Place("", ""), product)
    found = {key: value for key, value in host.items() if key.startswith(FEATURE)}
    found |= {FEATURE + key: value for key, value in _HOST.items()}
    found |= {f"{FEATURE}cpu-cpuid.{each}": "true" for each in _INSTRUCTIONS}
    found |= gpu_labels(product)
    found |= _counts(machine, started)
    if product.mig:
        found |= _partitions(machine)
    found[UPGRADE_STATE] = scenario.driver_upgrade_state
    if scenario.driver_upgrade_state == PAUSED_IN:
        found |= dict.fromkeys(
            (key for key in found if key.startswith(DEPLOY) and key not in KEEPS_RUNNING), PAUSED
        )
    drifted = found | scenario.labels
    return {key: value for key, value in drifted.items() if value is not None}


def _counts(machine: Machine, started: int) -> dict[str, str]:
    # Partitioned GPUs are counted as well; only when no whole GPU is left there is nothing that
    # could be shared, and replicas is 0.
    whole = any(not gpu.instances for gpu in machine.gpus)
    return {
        f"{GPU_RESOURCE}.count": str(len(machine.gpus)),
        f"{GPU_RESOURCE}.replicas": str(int(whole)),
        f"{NVIDIA}gfd.timestamp": str(started),
    }


def _partitions(machine: Machine) -> dict[str, str]:
    sizes = Counter(each.profile for gpu in machine.gpus for each in gpu.instances)
    found = {f"{NVIDIA}mig.strategy": "mixed", f"{NVIDIA}mig.config": _configuration(machine)}
    for profile, count in sizes.items():
        prefix = f"{MIG_RESOURCE}{profile.resource_name}."
        attributes = {
            "count": count,
            "engines.copy": profile.copy,
            "engines.decoder": profile.decoders,
            "engines.encoder": 0,
            "engines.jpeg": profile.decoders,
            "engines.ofa": profile.flow,
            "memory": machine.product.memory_mib * profile.memory // mig.MEMORY_SLICES,
            "multiprocessors": profile.multiprocessors,
            "product": f"{machine.product.name}-MIG-{profile.resource_name}",
            "replicas": 1,
            "sharing-strategy": "none",
            "slices.ci": profile.compute,
            "slices.gi": profile.compute,
        }
        found |= {prefix + key: str(value) for key, value in attributes.items()}
    return found


def _configuration(machine: Machine) -> str:
    """Return the name under which mig-parted's stock configuration knows the partitions."""
    layouts = {tuple(each.profile.resource_name for each in gpu.instances) for gpu in machine.gpus}
    if layouts == {()}:
        return "all-disabled"
    if len(layouts) == 1:
        (layout,) = layouts
        if len(set(layout)) == 1:
            return f"all-{layout[0]}"
        if Counter(name.partition(".")[0] for name in layout) == {"1g": 2, "2g": 1, "3g": 1}:
            return "all-balanced"
    return "custom"


def by_writer(labels: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Divide labels by who writes them on a real node.

    GPU feature discovery hands its labels to node feature discovery, which writes them.
    """
    divided: dict[str, dict[str, str]] = {"nfd-master": {}, "gpu-operator": {}}
    for key, value in labels.items():
        operator = key.startswith(DEPLOY) or key in _OPERATOR_KEYS
        divided["gpu-operator" if operator else "nfd-master"][key] = value
    return divided


def feature_annotations(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the annotation in which node feature discovery lists its labels."""
    listed = sorted(each.removeprefix(FEATURE) for each in by_writer(labels)["nfd-master"])
    return {"nfd.node.kubernetes.io/feature-labels": ",".join(listed)}

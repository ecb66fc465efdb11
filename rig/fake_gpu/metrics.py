"""What dcgm-exporter would say of a node: its default counters, as text for Prometheus.

Levels follow from one figure per device, how busy it is; the rest is made up in proportion. The
names, units and types are DCGM's. Written by hand, because client libraries for Prometheus rename
counters, which DCGM's names would not survive.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rig.catalogue import DRIVER
from rig.fake_gpu import mig
from rig.fake_gpu.utilisation import FULL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rig.fake_gpu.machine import Gpu, Instance, Machine

IDLE_WATTS: Final = 140.0
BUSY_WATTS: Final = 860.0
"""On top of the idle draw, at full load; together the limit of a B200."""
USED_SHARE: Final = 0.8
"""Part of its memory that a device in use holds, whatever it does at the moment."""
LINK_BYTES: Final = 9.0e11
"""Per second at full load, over all lanes of one GPU."""
_FULL: Final = float(FULL)

METRICS: Final = (
    # Name, type, help; in the order in which they are written.
    ("DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock frequency (in MHz)."),
    ("DCGM_FI_DEV_MEM_CLOCK", "gauge", "Memory clock frequency (in MHz)."),
    ("DCGM_FI_DEV_MEMORY_TEMP", "gauge", "Memory temperature (in C)."),
    ("DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature (in C)."),
    ("DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W)."),
    ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", "Energy since the start (in mJ)."),
    ("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "counter", "Total number of PCIe retries."),
    ("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %)."),
    ("DCGM_FI_DEV_MEM_COPY_UTIL", "gauge", "Memory utilization (in %)."),
    ("DCGM_FI_DEV_ENC_UTIL", "gauge", "Encoder utilization (in %)."),
    ("DCGM_FI_DEV_DEC_UTIL", "gauge", "Decoder utilization (in %)."),
    ("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", "counter", "Bytes over all NVLink lanes."),
    ("DCGM_FI_DEV_VGPU_LICENSE_STATUS", "gauge", "vGPU license status."),
    ("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "counter", "Rows remapped, uncorrectable."),
    ("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "counter", "Rows remapped, correctable."),
    ("DCGM_FI_DEV_ROW_REMAP_FAILURE", "gauge", "Whether remapping of rows has failed."),
    ("DCGM_FI_DEV_XID_ERRORS", "gauge", "Value of the last XID error encountered."),
    ("DCGM_FI_DEV_FB_FREE", "gauge", "Framebuffer memory free (in MiB)."),
    ("DCGM_FI_DEV_FB_USED", "gauge", "Framebuffer memory used (in MiB)."),
    ("DCGM_FI_DEV_FB_RESERVED", "gauge", "Framebuffer memory reserved (in MiB)."),
    ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "gauge", "Ratio of time the graphics engine is active."),
    ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "gauge", "Ratio of cycles the tensor pipe is active."),
    ("DCGM_FI_PROF_DRAM_ACTIVE", "gauge", "Ratio of cycles the memory interface is active."),
    ("DCGM_FI_PROF_PCIE_TX_BYTES", "gauge", "Bytes per second sent over PCIe."),
    ("DCGM_FI_PROF_PCIE_RX_BYTES", "gauge", "Bytes per second received over PCIe."),
)


@dataclass(frozen=True, slots=True)
class Use:
    """Who has a device, and what for.

    Attributes:
        namespace: of the pod.
        pod: its name.
        container: the container that holds the device.
        level: how busy it keeps the device, per cent.
    """

    namespace: str
    pod: str
    container: str
    level: int


@dataclass(slots=True)
class Counters:
    """What only grows: energy and traffic of each GPU since the exporter started."""

    _at: float | None = None
    _joules: dict[str, float] = field(default_factory=dict)
    _bytes: dict[str, float] = field(default_factory=dict)

    def advance(self, now: float, levels: Mapping[str, float]) -> None:
        """Count the time since the last call.

        Args:
            now: seconds on a clock that never goes back.
            levels: how busy each GPU is, by uuid.
        """
        seconds = 0.0 if self._at is None else now - self._at
        self._at = now
        for uuid, level in levels.items():
            self._joules[uuid] = self._joules.get(uuid, 0.0) + _watts(level) * seconds
            self._bytes[uuid] = self._bytes.get(uuid, 0.0) + LINK_BYTES * level / FULL * seconds

    def millijoules(self, uuid: str) -> float:
        """Energy of a GPU."""
        return float(int(self._joules[uuid] * 1000))

    def link_bytes(self, uuid: str) -> float:
        """Traffic of a GPU."""
        return float(int(self._bytes[uuid]))


@dataclass(frozen=True, slots=True)
class Entity:
    """A GPU or a partition, with what is measured on it.

    Attributes:
        labels: in the order of the real exporter.
        values: by name of the metric.
    """

    labels: dict[str, str]
    values: dict[str, float]


def level_of(gpu: Gpu, uses: Mapping[str, Use]) -> float:
    """Return how busy a GPU is: for a partitioned one, by the partitions' share of it."""
    if not gpu.instances:
        return float(uses[gpu.uuid].level) if gpu.uuid in uses else 0.0
    shares = (
        uses[each.uuid].level * each.profile.compute / mig.COMPUTE_SLICES
        for each in gpu.instances
        if each.uuid in uses
    )
    return sum(shares, 0.0)


def entities(
    machine: Machine,
    uses: Mapping[str, Use],
    xids: Mapping[int, int],
    counters: Counters,
    hostname_label: str,
) -> list[Entity]:
    """Return everything that is measured on a node.

    Args:
        machine: its GPUs.
        uses: who has which device, by the device's id.
        xids: last error code by index of the GPU.
        counters: what was counted so far.
        hostname_label: how the exporter spells the label of the node.
    """
    found = []
    for gpu in machine.gpus:
        labels = {
            "gpu": str(gpu.index),
            "UUID": gpu.uuid,
            "pci_bus_id": gpu.pci_bus_id,
            "device": f"nvidia{gpu.index}",
            # The driver's name has blanks where labels of nodes have dashes.
            "modelName": machine.product.name.replace("-", " "),
        }
        rest = {hostname_label: machine.node, "DCGM_FI_DRIVER_VERSION": ".".join(DRIVER)}
        level, memory = level_of(gpu, uses), machine.product.memory_mib
        shared = _of_gpu(gpu, level, counters)
        shared["DCGM_FI_DEV_XID_ERRORS"] = float(xids.get(gpu.index, 0))
        if not gpu.instances:
            use = uses.get(gpu.uuid)
            values = shared | _utilisation(level) | _of_device(use, memory)
            found.append(Entity(labels | rest | _pod(use), values))
        # The exporter then reports partitions in the place of the GPU: what is measured for the
        # GPU as a whole, such as its power, stands beside each of them.
        for each in gpu.instances:
            use = uses.get(each.uuid)
            part = memory * each.profile.memory // mig.MEMORY_SLICES
            values = shared | _of_device(use, part)
            found.append(Entity(labels | _instance(each) | rest | _pod(use), values))
    return found


def _instance(instance: Instance) -> dict[str, str]:
    return {"GPU_I_PROFILE": instance.profile.name, "GPU_I_ID": str(instance.number)}


def _pod(use: Use | None) -> dict[str, str]:
    if use is None:
        return {}
    return {"container": use.container, "namespace": use.namespace, "pod": use.pod}


def _watts(level: float) -> float:
    return IDLE_WATTS + BUSY_WATTS * level / FULL


def _of_gpu(gpu: Gpu, level: float, counters: Counters) -> dict[str, float]:
    return {
        "DCGM_FI_DEV_SM_CLOCK": 1965.0 if level else 120.0,
        "DCGM_FI_DEV_MEM_CLOCK": 3996.0,
        "DCGM_FI_DEV_MEMORY_TEMP": 35.0 + level * 0.4,
        "DCGM_FI_DEV_GPU_TEMP": 32.0 + level * 0.35,
        "DCGM_FI_DEV_POWER_USAGE": _watts(level),
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": counters.millijoules(gpu.uuid),
        "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": 0.0,
        "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL": counters.link_bytes(gpu.uuid),
        "DCGM_FI_DEV_VGPU_LICENSE_STATUS": 0.0,
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": 0.0,
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": 0.0,
        "DCGM_FI_DEV_ROW_REMAP_FAILURE": 0.0,
    }


def _utilisation(level: float) -> dict[str, float]:
    """Return what the driver measures for whole GPUs only."""
    return {
        "DCGM_FI_DEV_GPU_UTIL": float(round(level)),
        "DCGM_FI_DEV_MEM_COPY_UTIL": float(round(level * 0.6)),
        "DCGM_FI_DEV_ENC_UTIL": 0.0,
        "DCGM_FI_DEV_DEC_UTIL": 0.0,
    }


def _of_device(use: Use | None, memory: int) -> dict[str, float]:
    ratio = use.level / _FULL if use else 0.0
    reserved = memory // 256
    used = int((memory - reserved) * USED_SHARE) if use else 0
    return {
        "DCGM_FI_DEV_FB_FREE": float(memory - reserved - used),
        "DCGM_FI_DEV_FB_USED": float(used),
        "DCGM_FI_DEV_FB_RESERVED": float(reserved),
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE": round(ratio, 6),
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": round(ratio * 0.5, 6),
        "DCGM_FI_PROF_DRAM_ACTIVE": round(ratio * 0.4, 6),
        "DCGM_FI_PROF_PCIE_TX_BYTES": float(round(ratio * 1e9)),
        "DCGM_FI_PROF_PCIE_RX_BYTES": float(round(ratio * 2e9)),
    }


def text(measured: Iterable[Entity]) -> str:
    """Return entities in the text format of Prometheus."""
    all_of_them = list(measured)
    lines = []
    for name, kind, explained in METRICS:
        lines += [f"# HELP {name} {explained}", f"# TYPE {name} {kind}"]
        lines += [
            f"{name}{{{_labels(each.labels)}}} {each.values[name]:.15g}"
            for each in all_of_them
            if name in each.values
        ]
    return "\n".join([*lines, ""])


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

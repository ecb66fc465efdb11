"""What is wrong with a node, so that no new GPU pod should start there.

Total functions over what the API server shows of one node; a node is judged anew when it changes,
and is back the moment nothing is wrong any more. Pods that run there stay charged.

Everything judged here, the recorded machine excepted, is written by the node's own kubelet or by
software on the node: it can take away or give back that node's GPUs and nothing else.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from sovereign_gpu import names
from sovereign_gpu.core.model import HealthRule, Node, Pool

_SENTINEL = (
    "CSPMaintenance DCGMError GpuDriverWatch GpuInforomWatch GpuMcuWatch GpuMemWatch GpuNvlinkWatch"
    " GpuPcieWatch GpuPmuWatch GpuPowerWatch GpuSmWatch GpuThermalWatch NVSwitchDown"
    " NVSwitchFatalError SysLogsGPUFallenOff SysLogsSXIDError SysLogsXIDError"
)
_DETECTOR = (
    "GPUMissing IBLinkFlapping KernelDeadlock NVLinkStatusInactive ReadonlyFilesystem XIDErrors"
)
DEFAULT_RULES = {
    **dict.fromkeys(_SENTINEL.split(), "True"),
    **dict.fromkeys(_DETECTOR.split(), "True"),
    "AcceleratedHardwareReady": "False",
}
"""Status that says unhealthy, by condition type: NVSentinel; node-problem-detector as it comes and
as AKS configures it; the EKS node monitoring agent, whose condition is the other way round."""

_DRIVER_AT_REST = frozenset({"", "upgrade-done", "upgrade-required"})
"""NVIDIA/k8s-operator-libs, pkg/upgrade: `upgrade-required` is the queue of the nodes whose turn
will come, the whole fleet at once; nothing is done to a node in it."""
_MIG_AT_REST = frozenset({"", "success"})
"""NVIDIA/mig-parted: pending, rebooting, failed are the others."""
_CC_FAILED = "failed"
_MIG_PAUSE, _CC_PAUSE = "paused-for-mig-change", "paused-for-cc-mode-change"
"""MIG and CC manager append these words to the labels of the components that they stop."""
_HASH_LENGTH = 16
"""Hexadecimal digits: both hashes fit into a label value."""


class FaultKind(StrEnum):
    """What is wrong; the same word in status and metrics. The gravest comes first."""

    REPLACED = "Replaced"
    NOT_READY = "NotReady"
    CORDONED = "Cordoned"
    DRIVER_UPGRADE = "DriverUpgrade"
    MIG_RECONFIGURATION = "MigReconfiguration"
    CC_RECONFIGURATION = "CcReconfiguration"
    CONDITION = "Condition"
    DEVICES_UNHEALTHY = "DevicesUnhealthy"


class Fault(NamedTuple):
    """One thing that is wrong with a node, and the sentence that says so."""

    kind: FaultKind
    message: str

    @property
    def closes(self) -> bool:
        """Whether the node takes no new GPU pod; failed devices only leave the others to give."""
        return self.kind is not FaultKind.DEVICES_UNHEALTHY


def faults(node: Node, pool: Pool) -> tuple[Fault, ...]:
    """Return everything that is wrong with a node of the pool, the gravest first."""
    return (
        *_machine(node),
        *_kubernetes(node),
        *_nvidia(node),
        *_conditions(node, pool),
        *_devices(node),
    )


def lost(node: Node, found: tuple[Fault, ...]) -> int:
    """Return the GPUs of the node that these faults keep from new pods."""
    if any(fault.closes for fault in found):
        return node.capacity.gpus
    return max(0, node.capacity.gpus - node.allocatable.gpus) if found else 0


def _kubernetes(node: Node) -> list[Fault]:
    found = []
    if not node.ready:
        found.append(Fault(FaultKind.NOT_READY, "its kubelet is not Ready"))
    if node.unschedulable:
        found.append(Fault(FaultKind.CORDONED, "it is cordoned (spec.unschedulable)"))
    return found


def _nvidia(node: Node) -> list[Fault]:
    label, found = node.labels.get, []
    pauses = {
        value for key, value in node.labels.items() if key.startswith(names.DEPLOY_PREFIX)
    } - {"true"}
    driver, mig = label(names.DRIVER_UPGRADE_STATE, ""), label(names.MIG_CONFIG_STATE, "")
    if driver not in _DRIVER_AT_REST:
        text = f"its driver is being upgraded ({names.DRIVER_UPGRADE_STATE}={driver})"
        found.append(Fault(FaultKind.DRIVER_UPGRADE, text))
    if mig not in _MIG_AT_REST or any(_MIG_PAUSE in value for value in pauses):
        text = f"its MIG partitions are being changed ({names.MIG_CONFIG_STATE}={mig})"
        found.append(Fault(FaultKind.MIG_RECONFIGURATION, text))
    wanted, actual = label(names.CC_MODE, ""), label(names.CC_MODE_STATE, "")
    changing = actual == _CC_FAILED or (wanted and wanted != actual)
    if changing or any(_CC_PAUSE in value for value in pauses):
        text = (
            "its confidential computing mode is being changed "
            f"({names.CC_MODE}={wanted}, {names.CC_MODE_STATE}={actual})"
        )
        found.append(Fault(FaultKind.CC_RECONFIGURATION, text))
    return found


@lru_cache(maxsize=256)
def _rules(own: tuple[HealthRule, ...]) -> dict[str, str]:
    # What the pool says of a condition replaces the default, also in order to switch it off.
    return {**DEFAULT_RULES, **dict(own)}


def _conditions(node: Node, pool: Pool) -> list[Fault]:
    rules = _rules(pool.health)
    return [
        Fault(FaultKind.CONDITION, f"its condition {kind} is {status}")
        for kind, status in node.conditions
        if rules.get(kind) == status
    ]


def _devices(node: Node) -> list[Fault]:
    if node.healthy:
        return []
    text = f"{node.capacity.gpus - node.allocatable.gpus} of its {node.capacity.gpus} GPUs failed"
    return [Fault(FaultKind.DEVICES_UNHEALTHY, text)]


# --- which machine it is --------------------------------------------------------------------------
def identity(node: Node) -> str:
    """Return what is recorded of the machine behind a node, empty if it reports nothing.

    A provider id may come after the node, so each part stands for itself: `u` and the hash of the
    system UUID, `p` and the hash of the provider id.
    """
    return ".".join(_parts(node))


def replaced(node: Node) -> bool:
    """Whether the machine behind the name is not the one that was enrolled.

    What was recorded must still be reported; what was not known then says nothing.
    """
    recorded = node.labels.get(names.NODE_MACHINE_LABEL, "")
    return bool(recorded) and not set(recorded.split(".")) <= set(_parts(node))


def _parts(node: Node) -> list[str]:
    known = (("u", node.machine.lower()), ("p", node.provider_id))
    return [prefix + _hash(value) for prefix, value in known if value]


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:_HASH_LENGTH]


def _machine(node: Node) -> list[Fault]:
    if not replaced(node):
        return []
    return [
        Fault(
            FaultKind.REPLACED,
            f"the machine behind the name is not the one that was enrolled: it reports "
            f"{identity(node) or 'nothing'}, recorded is {node.labels[names.NODE_MACHINE_LABEL]}; "
            f"a holder of {'/'.join(names.RIGHT_ENROL)} takes the new one in by removing the label "
            f"{names.NODE_MACHINE_LABEL}",
        )
    ]


# --- all nodes --------------------------------------------------------------------------------
@dataclass(slots=True)
class FaultBook:
    """The faults of all nodes that have some, and what they cost each pool."""

    of: dict[str, tuple[Fault, ...]] = field(default_factory=dict)
    """By node."""
    lost: Counter[str] = field(default_factory=Counter)
    """GPUs by pool."""
    _share: dict[str, tuple[str, int]] = field(default_factory=dict)

    def put(self, node: Node, pool: Pool) -> None:
        """Judge a node of the pool by its newest state."""
        self.remove(node.name)
        found = faults(node, pool)
        if found:
            gpus = lost(node, found)
            self.of[node.name] = found
            self._share[node.name] = (pool.name, gpus)
            self.lost[pool.name] += gpus

    def remove(self, name: str) -> None:
        """Forget what was found about a node."""
        if self.of.pop(name, None) is None:
            return
        pool, gpus = self._share.pop(name)
        self.lost[pool] -= gpus
        if not self.lost[pool]:
            del self.lost[pool]

    def closed(self, name: str) -> bool:
        """Whether the node takes no new GPU pod."""
        return any(fault.closes for fault in self.of.get(name, ()))

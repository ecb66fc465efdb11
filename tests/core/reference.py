"""What the core should answer, computed the slow and obvious way from the same records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from sovereign_gpu import names
from sovereign_gpu.core.model import (
    Constraints,
    Node,
    NodeTerm,
    Policy,
    Pool,
    Requirement,
    Taint,
    Tenant,
    Toleration,
)


def satisfies(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    key, values = requirement.key, requirement.values
    if requirement.operator == "In":
        return key in labels and any(labels[key] == value for value in values)
    if requirement.operator == "NotIn":
        return key not in labels or all(labels[key] != value for value in values)
    if requirement.operator == "Exists":
        return key in labels
    if requirement.operator == "DoesNotExist":
        return key not in labels
    if requirement.operator in ("Gt", "Lt") and key in labels and len(values) == 1:
        texts = (labels[key], values[0])
        if all(text.removeprefix("-").removeprefix("+").isdecimal() for text in texts):
            have, bound = map(int, texts)
            return have > bound if requirement.operator == "Gt" else have < bound
    return False


def _term(term: NodeTerm, node: Node) -> bool:
    requirements = [(r, node.labels) for r in term.labels]
    requirements += [(r, {"metadata.name": node.name}) for r in term.fields]
    return bool(requirements) and all(satisfies(r, where) for r, where in requirements)


def _covers(toleration: Toleration, taint: Taint) -> bool:
    return (
        toleration.effect in ("", taint.effect)
        and toleration.key in ("", taint.key)
        and (
            toleration.operator == "Exists"
            or (toleration.operator in ("Equal", "") and toleration.value == taint.value)
        )
    )


def admitted(constraints: Constraints, node: Node) -> bool:
    """Whether kube-scheduler's filters for labels, affinity and taints let the pod pass."""
    taints = [taint for taint in node.taints if taint.effect in ("NoSchedule", "NoExecute")]
    if node.unschedulable:
        taints.append(Taint("node.kubernetes.io/unschedulable", "", "NoSchedule"))
    for taint in taints:
        if not any(_covers(toleration, taint) for toleration in constraints.tolerations):
            return False
    if any(key not in node.labels for key, _ in constraints.selector):
        return False
    if any(node.labels[key] != value for key, value in constraints.selector):
        return False
    return constraints.terms is None or any(_term(term, node) for term in constraints.terms)


def claims(node: Node, pools: Iterable[Pool]) -> set[str]:
    """Return the pools that may own the node; which of several selectors wins is history."""
    label = node.labels.get(names.NODE_POOL_LABEL)
    found = set()
    for pool in pools:
        selected = all(satisfies(r, node.labels) for r in pool.selector)
        if label is None:
            if selected and not pool.labelled:
                found.add(pool.name)
        elif pool.name == label and (selected or node.capacity.gpus == 0):
            found.add(pool.name)
    return found


def out_of_force(pools: Iterable[Pool]) -> set[str]:
    """Return the pools whose region another pool puts into another country."""
    all_pools = list(pools)
    found = set()
    for pool in all_pools:
        same_region = [other for other in all_pools if other.region == pool.region]
        if len({other.country for other in same_region}) == 1:
            continue
        standing = {other.country for other in same_region if other.incumbent}
        if standing != {pool.country}:
            found.add(pool.name)
    return found


def may_use(tenant: Tenant, pool: Pool, policies: Mapping[str, Policy]) -> bool:
    """Whether the policies let the tenant into the pool."""
    if any(name not in policies for name in tenant.policies):
        return False
    deny = [policies[name] for name in tenant.policies if policies[name].enforced]
    return all(pool.country in policy.countries for policy in deny)


DRIVER_BUSY = (
    "cordon-required",
    "wait-for-jobs-required",
    "pod-deletion-required",
    "drain-required",
    "node-maintenance-required",
    "post-maintenance-required",
    "pod-restart-required",
    "validation-required",
    "uncordon-required",
    "upgrade-failed",
)
BAD_WHEN_TRUE = ("GpuMemWatch", "XIDErrors", "NVSwitchDown")
BAD_WHEN_FALSE = ("AcceleratedHardwareReady",)
"""Of the conditions that every pool knows, those that the world shows."""


def identity(node: Node) -> list[str]:
    """Return the parts of what is recorded of a machine."""
    parts = []
    for letter, value in (("u", node.machine), ("p", node.provider_id)):
        if value:
            parts.append(letter + hashlib.sha256(value.encode()).hexdigest()[:16])
    return parts


def faults(node: Node, pool: Pool) -> set[str]:
    """Return the kinds of fault that the node shows."""
    labels = node.labels
    recorded = labels.get("sovereign-gpu.node-restriction.kubernetes.io/machine", "")
    paused = "".join(v for k, v in labels.items() if k.startswith("nvidia.com/gpu.deploy."))
    mig, mode = labels.get("nvidia.com/mig.config.state"), labels.get("nvidia.com/cc.mode.state")
    asked = labels.get("nvidia.com/cc.mode", mode)
    shown = {
        "Replaced": any(part not in identity(node) for part in recorded.split(".") if part),
        "NotReady": not node.ready,
        "Cordoned": node.unschedulable,
        "DriverUpgrade": labels.get("nvidia.com/gpu-driver-upgrade-state") in DRIVER_BUSY,
        "MigReconfiguration": mig in ("pending", "rebooting", "failed") or "for-mig" in paused,
        "CcReconfiguration": mode == "failed" or mode != asked or "for-cc" in paused,
        "Condition": any(_bad(kind, status, pool) for kind, status in node.conditions),
        "DevicesUnhealthy": node.allocatable.gpus < node.capacity.gpus,
    }
    return {kind for kind, present in shown.items() if present}


def _bad(kind: str, status: str, pool: Pool) -> bool:
    own = [rule.unhealthy for rule in pool.health if rule.condition == kind]
    known = ["True"] * (kind in BAD_WHEN_TRUE) + ["False"] * (kind in BAD_WHEN_FALSE)
    return status in (own or known)


def usable(node: Node, pool: Pool) -> bool:
    """Whether new pods may be sent to the node of the pool."""
    right_place = node.labels.get(names.REGION_LABEL) == pool.region
    return right_place and not faults(node, pool) - {"DevicesUnhealthy"}

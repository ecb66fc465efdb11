"""Which nodes a pod may use: labels, node affinity, taints, as kube-scheduler reads them.

Rules: k8s.io/component-helpers/scheduling/corev1 (node affinity, tolerations) and
k8s.io/apimachinery/pkg/labels (requirements).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sovereign_gpu.core.model import Constraints, Node, NodeTerm, Requirement, Taint, Toleration

_BLOCKING = frozenset({"NoSchedule", "NoExecute"})
_UNSCHEDULABLE = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")


def matches(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    """Whether the labels satisfy one requirement; an unknown operator matches nothing."""
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value is None or value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _compares(requirement, value)
    return False


def selects(requirements: Iterable[Requirement], labels: Mapping[str, str]) -> bool:
    """Whether the labels satisfy all requirements; no requirement selects everything."""
    return all(matches(requirement, labels) for requirement in requirements)


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether the toleration covers the taint."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.value == taint.value


def feasible(constraints: Constraints, node: Node) -> bool:
    """Whether kube-scheduler would let a pod with these constraints onto the node."""
    if any(node.labels.get(key) != value for key, value in constraints.selector):
        return False
    if constraints.terms is not None and not any(_term(t, node) for t in constraints.terms):
        return False
    taints = (*node.taints, _UNSCHEDULABLE) if node.unschedulable else node.taints
    return all(
        any(tolerates(toleration, taint) for toleration in constraints.tolerations)
        for taint in taints
        if taint.effect in _BLOCKING
    )


def _term(term: NodeTerm, node: Node) -> bool:
    if not term.labels and not term.fields:
        return False  # an empty term matches no node
    return selects(term.labels, node.labels) and selects(term.fields, {"metadata.name": node.name})


def _compares(requirement: Requirement, value: str | None) -> bool:
    if value is None or len(requirement.values) != 1:
        return False
    try:
        have, bound = int(value), int(requirement.values[0])
    except ValueError:
        return False
    return have > bound if requirement.operator == "Gt" else have < bound

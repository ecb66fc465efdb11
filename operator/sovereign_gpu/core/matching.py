"""Whether labels satisfy a requirement and a toleration covers a taint, as Kubernetes judges it.

Rules: k8s.io/apimachinery/pkg/labels (requirements) and k8s.io/api/core/v1 (tolerations). The
numeric operators of tolerations are alpha and off in 1.36, where they tolerate nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from sovereign_gpu.core.model import Requirement, Taint, Toleration

_BLOCKING = frozenset({"NoSchedule", "NoExecute"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_INT64 = range(-(2**63), 2**63)


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
    return toleration.operator in {"", "Equal"} and toleration.value == taint.value


def admits(tolerations: Iterable[Toleration], taints: Iterable[Taint]) -> bool:
    """Whether a pod with these tolerations may be scheduled onto a node with these taints."""
    return all(
        any(tolerates(toleration, taint) for toleration in tolerations)
        for taint in taints
        if taint.effect in _BLOCKING
    )


def _compares(requirement: Requirement, value: str | None) -> bool:
    if value is None or len(requirement.values) != 1:
        return False
    have, bound = _integer(value), _integer(requirement.values[0])
    if have is None or bound is None:
        return False
    return have > bound if requirement.operator == "Gt" else have < bound


def _integer(text: str) -> int | None:
    # Stricter than int(): "1_000" is a label value, and no number to Kubernetes.
    if _INTEGER.fullmatch(text) is None:
        return None
    number = int(text)
    return number if number in _INT64 else None

"""Which nodes a pod may use by its selectors, affinity and tolerations, as sets of bits.

Every tenant may write ten thousand pods that share no affinity. Walking over all nodes for each of
them would stop the operator for a minute; an index by label and integers as sets of nodes answer
each in microseconds and two hundred bytes.

Rules: k8s.io/component-helpers/scheduling/corev1 (node affinity) and the scheduler's plugins
NodeAffinity, TaintToleration and NodeUnschedulable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from sovereign_gpu.core.matching import admits, matches
from sovereign_gpu.core.model import Constraints, Node, NodeTerm, Requirement, Taint

UNSCHEDULABLE = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")
_MOST_REMEMBERED = 16_384
"""Answers kept; constraints that no pod has any more go when this is reached."""

_K = TypeVar("_K")
_Index = dict[str, dict[str, int]]


@dataclass(slots=True)
class FeasibleNodes:
    """An index of nodes; bit n of a set stands for the node whose `bits` entry is 1 << n."""

    bits: dict[str, int] = field(default_factory=dict)
    _known: dict[str, tuple[Mapping[str, str], tuple[Taint, ...]]] = field(default_factory=dict)
    _unused: list[int] = field(default_factory=list)
    _everything: int = 0
    _labels: _Index = field(default_factory=dict)
    _tainted: dict[tuple[Taint, ...], int] = field(default_factory=dict)
    _answers: dict[Constraints, int] = field(default_factory=dict)

    def put(self, node: Node) -> None:
        """Take in the newest state of a node."""
        taints = (*node.taints, UNSCHEDULABLE) if node.unschedulable else node.taints
        known = self._known.get(node.name)
        if known == (node.labels, taints):
            return
        if known is None:
            bit = self._unused.pop() if self._unused else 1 << len(self.bits)
            self.bits[node.name] = bit
            self._everything |= bit
            known = ({}, ())
        else:
            bit = self.bits[node.name]
            _toggle(self._tainted, known[1], bit)
        _toggle(self._tainted, taints, bit)
        self._relabel(bit, known[0], node.labels)
        self._known[node.name] = (node.labels, taints)
        self._answers.clear()

    def remove(self, name: str) -> None:
        """Forget a node that is gone; its bit may stand for another node later."""
        labels, taints = self._known.pop(name)
        bit = self.bits.pop(name)
        self._everything ^= bit
        _toggle(self._tainted, taints, bit)
        self._relabel(bit, labels, {})
        self._unused.append(bit)
        self._answers.clear()

    def of(self, constraints: Constraints) -> int:
        """Return the set of nodes that pods with these constraints may use."""
        answer = self._answers.get(constraints)
        if answer is None:
            if len(self._answers) >= _MOST_REMEMBERED:
                self._answers.clear()
            answer = self._answers[constraints] = self._judge(constraints)
        return answer

    def _relabel(self, bit: int, old: Mapping[str, str], new: Mapping[str, str]) -> None:
        for key, value in old.items() - new.items():
            values = self._labels[key]
            _toggle(values, value, bit)
            if not values:
                del self._labels[key]
        for key, value in new.items() - old.items():
            _toggle(self._labels.setdefault(key, {}), value, bit)

    def _judge(self, constraints: Constraints) -> int:
        found = 0
        for taints, nodes in self._tainted.items():
            if admits(constraints.tolerations, taints):
                found |= nodes
        for key, value in constraints.selector:
            found &= self._labels.get(key, {}).get(value, 0)
        if constraints.terms is not None:
            found &= _union(self._term(term) for term in constraints.terms)
        return found

    def _term(self, term: NodeTerm) -> int:
        if not term.labels and not term.fields:
            return 0  # an empty term matches no node
        found = self._everything
        for requirement in term.labels:
            found &= self._satisfying(requirement, self._labels.get(requirement.key, {}))
        for requirement in term.fields:
            named = self.bits if requirement.key == "metadata.name" else {}
            found &= self._satisfying(requirement, named)
        return found

    def _satisfying(self, requirement: Requirement, values: Mapping[str, int]) -> int:
        listed = _union(values.get(value, 0) for value in set(requirement.values))
        match requirement.operator:
            case "In":
                return listed
            case "NotIn":
                return self._everything & ~listed
            case "Exists":
                return _union(values.values())
            case "DoesNotExist":
                return self._everything & ~_union(values.values())
        key = requirement.key
        return _union(
            nodes for value, nodes in values.items() if matches(requirement, {key: value})
        )


def _union(sets: Iterable[int]) -> int:
    found = 0
    for nodes in sets:
        found |= nodes
    return found


def _toggle(sets: dict[_K, int], key: _K, bit: int) -> None:
    nodes = sets.get(key, 0) ^ bit
    if nodes:
        sets[key] = nodes
    else:
        del sets[key]

"""The index of nodes against kube-scheduler's filters, applied to one node after the other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_gpu.core.feasibility import FeasibleNodes
from sovereign_gpu.core.matching import matches, tolerates
from sovereign_gpu.core.model import (
    Constraints,
    Node,
    NodeTerm,
    Requirement,
    Resources,
    Taint,
    Toleration,
)
from tests.core import reference

_KEYS = ("zone", "rack", "size")
_VALUES = ("a", "b", "1", "-5", "07", "12", "1_0", "99999999999999999999")
_NAMES = ("n0", "n1", "n2", "n3")
_EFFECTS = ("NoSchedule", "NoExecute", "PreferNoSchedule")
_taints = st.builds(
    Taint, st.sampled_from(("gpu", "other")), st.sampled_from(("", "x")), st.sampled_from(_EFFECTS)
)
_requirements = st.builds(
    Requirement,
    st.sampled_from(_KEYS),
    st.sampled_from(("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Near")),
    st.lists(st.sampled_from(_VALUES), max_size=3).map(tuple),
)
_fields = st.builds(
    Requirement,
    st.sampled_from(("metadata.name", "metadata.name", "spec.other")),
    st.sampled_from(("In", "NotIn")),
    st.lists(st.sampled_from((*_NAMES, "gone")), min_size=1, max_size=2).map(tuple),
)
_terms = st.builds(
    NodeTerm,
    st.lists(_requirements, max_size=2).map(tuple),
    st.lists(_fields, max_size=1).map(tuple),
)
_tolerations = st.builds(
    Toleration,
    st.sampled_from(("", "gpu", "other", "node.kubernetes.io/unschedulable")),
    st.sampled_from(("Exists", "Equal", "", "Gt")),
    st.sampled_from(("", "x")),
    st.sampled_from(("", *_EFFECTS)),
)
_constraints = st.builds(
    Constraints,
    st.lists(st.tuples(st.sampled_from(_KEYS), st.sampled_from(_VALUES)), max_size=1).map(tuple),
    st.none() | st.lists(_terms, max_size=2).map(tuple),
    st.lists(_tolerations, max_size=2).map(tuple),
)
_nodes = st.builds(
    Node,
    st.sampled_from(_NAMES),
    st.dictionaries(st.sampled_from(_KEYS), st.sampled_from(_VALUES)),
    st.lists(_taints, max_size=2).map(tuple),
    st.just(Resources()),
    st.just(Resources()),
    st.just(value=True),
    st.booleans(),
)


def admitted(index: FeasibleNodes, constraints: Constraints) -> set[str]:
    found = index.of(constraints)
    return {name for name, bit in index.bits.items() if found & bit}


@given(st.lists(_nodes | st.sampled_from(_NAMES), max_size=10), st.lists(_constraints, max_size=4))
def test_the_index_says_what_the_scheduler_says_whatever_changed(
    changes: list[Node | str], asked: list[Constraints]
) -> None:
    index, nodes = FeasibleNodes(), dict[str, Node]()
    for change in changes:
        if isinstance(change, Node):
            nodes[change.name] = change
            index.put(change)
        elif change in nodes:
            del nodes[change]
            index.remove(change)
        for constraints in asked:
            expected = {n.name for n in nodes.values() if reference.admitted(constraints, n)}
            assert admitted(index, constraints) == expected
    assert index.bits.keys() == nodes.keys()


@pytest.mark.parametrize(
    ("operator", "values", "label", "expected"),
    [
        ("Gt", ("5",), "6", True),
        ("Gt", ("5",), "5", False),
        ("Lt", ("5",), "-1", True),
        ("Lt", ("5",), "5", False),
        ("Gt", ("5",), None, False),
        ("Gt", ("five",), "6", False),
        ("Gt", ("1", "2"), "6", False),
        ("Gt", (), "6", False),
        ("Gt", ("5",), "1_000", False),
        ("Gt", ("5",), "9223372036854775807", True),
        ("Gt", ("5",), "9223372036854775808", False),
        ("Lt", ("5",), "-9223372036854775809", False),
        ("In", ("a", "b"), "b", True),
        ("In", ("a",), None, False),
        ("NotIn", ("a",), None, True),
        ("NotIn", ("a",), "a", False),
        ("Exists", (), "a", True),
        ("DoesNotExist", (), "a", False),
        ("DoesNotExist", (), None, True),
        ("Near", ("a",), "a", False),
    ],
)
def test_requirements_compare_as_in_kubernetes(
    operator: str, values: tuple[str, ...], label: str | None, *, expected: bool
) -> None:
    labels = {} if label is None else {"key": label}
    assert matches(Requirement("key", operator, values), labels) is expected


@pytest.mark.parametrize("operator", ["Gt", "Lt", "equal"])
def test_an_operator_that_the_cluster_does_not_know_tolerates_nothing(operator: str) -> None:
    assert not tolerates(Toleration("gpu", operator, "5", ""), Taint("gpu", "5", "NoSchedule"))


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        (Requirement("zone", "In", ("a", "c")), {"n1"}),
        (Requirement("zone", "NotIn", ("a", "c")), {"n2", "n3"}),
        (Requirement("zone", "Exists"), {"n1", "n2"}),
        (Requirement("zone", "DoesNotExist"), {"n3"}),
        (Requirement("size", "Gt", ("4",)), {"n2"}),
        (Requirement("size", "Lt", ("8",)), {"n1"}),
        (Requirement("size", "Near", ("8",)), set()),
    ],
)
def test_each_operator_on_labels(requirement: Requirement, expected: set[str]) -> None:
    index = FeasibleNodes()
    for name, labels in {
        "n1": {"zone": "a", "size": "4"},
        "n2": {"zone": "b", "size": "8"},
        "n3": {"size": "huge"},
    }.items():
        index.put(Node(name, labels, (), Resources(), Resources(), ready=True, unschedulable=False))
    assert admitted(index, Constraints(terms=(NodeTerm((requirement,)),))) == expected


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        (Requirement("metadata.name", "In", ("n1", "gone")), {"n1"}),
        (Requirement("metadata.name", "NotIn", ("n1",)), {"n2"}),
        (Requirement("spec.other", "In", ("n1",)), set()),
    ],
)
def test_each_operator_on_fields(requirement: Requirement, expected: set[str]) -> None:
    index = FeasibleNodes()
    for name in ("n1", "n2"):
        index.put(Node(name, {}, (), Resources(), Resources(), ready=True, unschedulable=False))
    assert admitted(index, Constraints(terms=(NodeTerm((), (requirement,)),))) == expected


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        (Toleration("gpu", "Exists"), True),
        (Toleration("", "Exists"), True),
        (Toleration("gpu", "Equal", "x", "NoSchedule"), True),
        (Toleration("gpu", "", "x"), True),
        (Toleration("gpu", "Equal", "y"), False),
        (Toleration("other", "Exists"), False),
        (Toleration("gpu", "Exists", "", "NoExecute"), False),
    ],
)
def test_each_way_to_tolerate(toleration: Toleration, *, expected: bool) -> None:
    assert tolerates(toleration, Taint("gpu", "x", "NoSchedule")) is expected


def test_a_term_that_asks_nothing_admits_no_node() -> None:
    index = FeasibleNodes()
    index.put(Node("n0", {}, (), Resources(), Resources(), ready=True, unschedulable=False))
    assert admitted(index, Constraints()) == {"n0"}
    assert admitted(index, Constraints(terms=(NodeTerm(),))) == set()
    assert admitted(index, Constraints(terms=())) == set()


def test_a_cordon_is_a_taint_that_can_be_tolerated() -> None:
    index = FeasibleNodes()
    index.put(Node("n0", {}, (), Resources(), Resources(), ready=True, unschedulable=True))
    tolerates_all = Constraints(tolerations=(Toleration(operator="Exists"),))
    assert admitted(index, Constraints()) == set()
    assert admitted(index, tolerates_all) == {"n0"}


def test_answers_are_forgotten_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sovereign_gpu.core.feasibility._MOST_REMEMBERED", 10)
    index = FeasibleNodes()
    index.put(Node("n0", {}, (), Resources(), Resources(), ready=True, unschedulable=False))
    for number in range(25):
        unlike = Requirement("rack", "NotIn", (f"r{number}",))
        assert admitted(index, Constraints(terms=(NodeTerm((unlike,)),))) == {"n0"}
        assert len(index._answers) <= 10  # noqa: SLF001 – the bound is the point


def test_a_state_that_changes_neither_labels_nor_taints_costs_no_answers() -> None:
    index = FeasibleNodes()
    node = Node("n0", {"a": "b"}, (), Resources(), Resources(), ready=True, unschedulable=False)
    index.put(node)
    index.of(Constraints())
    index.put(replace(node, ready=False))
    assert index._answers  # noqa: SLF001

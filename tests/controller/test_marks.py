"""Which machine a node is, and whose a namespace is.

A namespace belongs to the tenant on its label, else to whom we gave it to, else to the first name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sovereign_gpu import names
from sovereign_gpu.cluster.errors import ApiError
from sovereign_gpu.cluster.writer import Write
from sovereign_gpu.controller.marks import Marks
from sovereign_gpu.core import health
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Namespace, Node, Policy, Pool, Resources, Share, Tenant

SPACE = "shared"


class Sent:
    """Stands for the writer: keeps what was submitted."""

    def __init__(self) -> None:
        self.writes: list[Write] = []

    def submit(self, write: Write) -> None:
        self.writes.append(write)

    @property
    def tenants(self) -> list[Any]:
        return [write.body["metadata"]["labels"][names.TENANT_LABEL] for write in self.writes]


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def marks(sent: Sent) -> Marks:
    made = Marks(Engine(), sent)  # type: ignore[arg-type]
    made.engine.put_namespace(Namespace(SPACE))
    return made


def _configure(marks: Marks, *tenants: str) -> None:
    marks.engine.configure(
        [Pool("munich", "DE", "eu-de-muc")],
        [Tenant(name, (SPACE,), ("eu-only",), (Share("munich", 8),)) for name in tenants],
        [Policy("eu-only", frozenset({"DE"}))],
    )
    marks.everything(())


# --- nodes ---------------------------------------------------------------------------------------
def _enrolled(marks: Marks, sent: Sent, **fields: Any) -> dict[str, str | None]:
    """Enrol a node and return the labels that are written on it."""
    _configure(marks)
    labels = {names.NODE_POOL_LABEL: "munich", names.REGION_LABEL: "eu-de-muc"}
    size = Resources(8, 64_000, 1024)
    node = Node("n1", labels, (), size, size, ready=True, unschedulable=False)
    marks.engine.put_node(replace(node, **fields))
    return _written(marks, sent)


def _written(marks: Marks, sent: Sent) -> dict[str, str | None]:
    """Return what a look at the node writes, which the watch then shows."""
    sent.writes.clear()
    marks.node("n1")
    written = {k: v for w in sent.writes for k, v in w.body["metadata"]["labels"].items()}
    node = marks.engine.nodes["n1"]
    labels = {k: v for k, v in {**node.labels, **written}.items() if v is not None}
    marks.engine.put_node(replace(node, labels=labels))
    return written


ALLOWED = names.NODE_RESIDENCY_PREFIX + "eu-only"


def test_the_machine_of_a_pool_node_is_recorded_once(marks: Marks, sent: Sent) -> None:
    written = _enrolled(marks, sent, machine="4c4c")
    assert written[ALLOWED] == names.NODE_ALLOWED
    assert written[names.NODE_MACHINE_LABEL] == health.identity(marks.engine.nodes["n1"])
    assert _written(marks, sent) == {}


def test_a_machine_that_says_nothing_of_itself_is_recorded_when_it_does(
    marks: Marks, sent: Sent
) -> None:
    assert _enrolled(marks, sent) == {ALLOWED: names.NODE_ALLOWED}
    marks.engine.put_node(replace(marks.engine.nodes["n1"], provider_id="kwok://muc/n1"))
    assert _written(marks, sent).keys() == {names.NODE_MACHINE_LABEL}
    marks.engine.put_node(replace(marks.engine.nodes["n1"], machine="4c4c"))
    assert _written(marks, sent) == {}


def test_a_machine_in_no_pool_is_not_recorded(marks: Marks, sent: Sent) -> None:
    assert _enrolled(marks, sent, machine="4c4c", labels={}) == {}


def test_another_machine_is_not_allowed_until_its_predecessor_is_forgotten(
    marks: Marks, sent: Sent
) -> None:
    recorded = _enrolled(marks, sent, machine="4c4c")[names.NODE_MACHINE_LABEL]
    marks.engine.put_node(replace(marks.engine.nodes["n1"], machine="5d5d"))
    assert _written(marks, sent) == {ALLOWED: None}
    node = marks.engine.nodes["n1"]
    labels = {k: v for k, v in node.labels.items() if k != names.NODE_MACHINE_LABEL}
    marks.engine.put_node(replace(node, labels=labels))
    written = _written(marks, sent)
    assert written[ALLOWED] == names.NODE_ALLOWED
    assert written[names.NODE_MACHINE_LABEL] not in {recorded, None}


# --- namespaces ----------------------------------------------------------------------------------
def test_a_second_claim_does_not_overwrite_a_first_that_the_watch_does_not_show_yet(
    marks: Marks, sent: Sent
) -> None:
    _configure(marks, "zeta")
    _configure(marks, "alpha", "zeta")
    assert set(sent.tenants) == {"zeta"}
    assert "belongs to tenant zeta" in marks.clashes().lost["alpha"]
    assert "also claimed by alpha" in marks.clashes().kept["zeta"]


def test_of_two_that_come_together_one_gets_it(marks: Marks, sent: Sent) -> None:
    _configure(marks, "zeta", "alpha")
    assert sent.tenants == ["alpha"]


def test_whom_the_label_names_keeps_it_though_nothing_else_speaks_for_it(
    marks: Marks, sent: Sent
) -> None:
    marks.engine.put_namespace(Namespace(SPACE, tenant="gone"))
    _configure(marks, "alpha")
    assert sent.writes == []
    assert "belongs to tenant gone" in marks.clashes().lost["alpha"]
    assert marks.clashes().kept == {}
    assert marks.orphaned() == {"gone": [SPACE]}


def test_a_clash_ends_when_the_label_is_cleared(marks: Marks, sent: Sent) -> None:
    marks.engine.put_namespace(Namespace(SPACE, tenant="gone"))
    _configure(marks, "alpha")
    marks.engine.put_namespace(Namespace(SPACE))
    marks.namespace(SPACE)
    assert sent.tenants == ["alpha"]
    assert marks.clashes() == ({}, {})


def test_a_namespace_that_is_not_there_clashes_with_nobody(marks: Marks, sent: Sent) -> None:
    marks.engine.remove_namespace(SPACE)
    _configure(marks, "alpha", "zeta")
    assert (sent.writes, marks.clashes()) == ([], ({}, {}))


def test_a_refused_mark_is_remembered_and_tried_again_until_it_is_accepted(
    marks: Marks, sent: Sent
) -> None:
    _configure(marks, "alpha")
    sent.writes[-1].done(ApiError(422, "exempt"))
    assert marks.refused == {("Namespace", SPACE): "422: exempt"}
    marks.retry()
    assert len(sent.writes) == 2
    assert marks.refused
    sent.writes[-1].done(None)
    assert marks.refused == {}
    marks.retry()
    assert len(sent.writes) == 2

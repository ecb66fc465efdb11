"""The books are held against a fresh list: what differs twice is told, what moves on is not."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from sovereign_gpu import names
from sovereign_gpu.cluster.errors import UncertainError
from sovereign_gpu.cluster.store import Store
from sovereign_gpu.controller.selfaudit import SelfAudit
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Namespace, Policy, Pool, Resources, Share, Tenant
from tests.cluster.pods import pod as body
from tests.cluster.pods import read
from tests.contract import virtual_time
from tests.core.build import node


def running(name: str, gpus: int = 1) -> dict[str, Any]:
    found = body(name, gpus=gpus, gated=False, phase="Running")
    found["metadata"]["labels"] = {names.POOL_LABEL: "munich"}
    return found


class Cluster:
    """What the API server lists, which may change with every list."""

    def __init__(self, *lists: list[dict[str, Any]]) -> None:
        self.lists = list(lists)
        self.engine = Engine()
        self.engine.put_namespace(Namespace("a", tenant="acme"))
        self.engine.configure(
            [Pool("munich", "DE", "eu-de-muc")],
            [Tenant("acme", ("a",), ("eu",), (Share("munich", 8),))],
            [Policy("eu", frozenset({"DE"}))],
        )
        self.audit = SelfAudit(self, self.engine, Store(asyncio.Event()), self.passed)  # type: ignore[arg-type]
        self.current = True

    async def request(self, *_: object, **__: object) -> bytes:
        items = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        return json.dumps({"metadata": {"resourceVersion": "7"}, "items": items}).encode()

    async def passed(self, version: int) -> bool:
        assert version == 7
        return self.current

    def know(self, *pods: dict[str, Any]) -> None:
        for each in pods:
            self.engine.put_pod(read(each))

    def run(self) -> tuple[int, int]:
        virtual_time.run(self.audit.audit())
        assert self.audit.completed == 1
        return self.audit.differing_pods, self.audit.differing_gpus


def test_books_that_are_right_differ_in_nothing() -> None:
    pods = [running("r"), body("g"), body("c", gpus=0, gated=False)]
    cluster = Cluster(pods)
    cluster.know(*pods)
    assert cluster.run() == (0, 0)


def test_a_pod_that_is_gone_and_still_counted_is_found() -> None:
    cluster = Cluster([])
    cluster.know(running("ghost", 4))
    assert cluster.run() == (1, 4)


def test_a_pod_that_was_never_counted_is_found() -> None:
    cluster = Cluster([running("missed", 2)])
    assert cluster.run() == (1, 2)


def test_a_pod_counted_for_another_is_found() -> None:
    cluster = Cluster([running("r", 2)])
    cluster.know(running("r", 2))
    charge = cluster.engine.ledger.charges["uid-a-r"]
    cluster.engine.ledger.put("uid-a-r", replace(charge, tenant="other"))
    assert cluster.run() == (1, 2)


def test_a_pod_counted_with_other_gpus_is_found() -> None:
    cluster = Cluster([running("r", 2)])
    cluster.know(running("r", 2))
    charge = cluster.engine.ledger.charges["uid-a-r"]
    cluster.engine.ledger.put("uid-a-r", replace(charge, demand=Resources(gpus=5)))
    assert cluster.run() == (1, 3)


def test_what_moves_on_while_it_is_read_is_no_difference() -> None:
    cluster = Cluster([running("late"), running("r")], [running("r"), running("new")])
    cluster.know(running("r"), running("new"))
    assert cluster.run() == (0, 0)


def test_a_release_under_way_is_no_difference() -> None:
    waiting = body("p")
    cluster = Cluster([waiting])
    cluster.know(waiting)
    cluster.engine.put_node(node("n", cpu=96_000, memory=1 << 40, taints=()))
    released = cluster.engine.plan(5)
    assert [each.pod.uid for each in released] == ["uid-a-p"]
    assert cluster.run() == (0, 0)


def test_a_watch_that_is_behind_ends_the_audit_without_a_verdict() -> None:
    cluster = Cluster([running("missed")])
    cluster.current = False
    with pytest.raises(UncertainError, match="version 7"):
        virtual_time.run(cluster.audit.audit())
    assert cluster.audit.completed == 0


def test_the_state_of_the_books_is_not_touched() -> None:
    cluster = Cluster([running("missed", 2)])
    cluster.run()
    assert not cluster.engine.ledger.charges

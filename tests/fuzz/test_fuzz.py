"""Whatever is written into the cluster or comes over the wire, the operator goes on."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from sovereign_gpu.cluster import patches
from sovereign_gpu.cluster.errors import ClusterError
from sovereign_gpu.cluster.kinds import NODES, PODS
from sovereign_gpu.cluster.reading import GoneError, Reader
from sovereign_gpu.controller.registry import KINDS, Registry
from sovereign_gpu.core import recount, report
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Namespace, Policy, Pool, Share, Tenant
from tests.fuzz.shapes import Maker, schemas

INPUTS = int(os.environ.get("FUZZ_INPUTS", "5000"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
_SHARE = INPUTS // 5


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Unreadable objects are logged one by one; here they are the point."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def _engine() -> Engine:
    engine = Engine()
    shares = (Share("munich", 16, borrowing_limit=8), Share("paris", 8))
    engine.configure(
        [Pool("munich", "DE", "muc"), Pool("paris", "FR", "par")],
        [Tenant("acme", ("acme",), ("eu",), shares), Tenant("beta", ("beta",), ("eu",), shares)],
        [Policy("eu", frozenset({"DE", "FR"}))],
    )
    for name in ("acme", "beta"):
        engine.put_namespace(Namespace(name, tenant=name))
    return engine


def _line(body: Any, kind: str = "MODIFIED") -> bytes:
    return json.dumps({"type": kind, "object": body}).encode()


def _must_add_up(engine: Engine) -> None:
    for tenant in engine.tenants.values():
        for share in tenant.shares:
            held = sum(
                recount.held(recount.facts(pod), engine.tenant_of(pod.namespace), {}).gpus
                for pod in engine.pods.values()
                if engine.tenant_of(pod.namespace) == tenant.name
                and (charge := engine.ledger.charges.get(pod.uid)) is not None
                and charge.pool == share.pool
            )
            on_the_way = sum(
                engine.pods[uid].demand.gpus
                for uid, pool in engine.assumed.items()
                if pool == share.pool
                and engine.tenant_of(engine.pods[uid].namespace) == tenant.name
            )
            assert engine.ledger.counted(tenant.name, share.pool) == held + on_the_way


def test_pods_and_nodes_of_every_shape_are_taken_in_and_planned_for() -> None:
    maker, engine = Maker(SEED), _engine()
    pods, nodes = Reader(PODS), Reader(NODES)
    released = 0
    for number in range(_SHARE):
        if maker.chance.random() < 0.2:
            event = nodes.event(_line(maker.node(number)))
            if event.item is not None:
                engine.put_node(event.item)
            continue
        body = maker.pod(number)
        gone = maker.chance.random() < 0.35
        pod = pods.event(_line(body, "DELETED" if gone else "MODIFIED"))
        if gone:
            engine.remove_pod(pod.key)
            maker.forget(pod.key)
        elif pod.item is not None:
            engine.put_pod(pod.item)
        else:
            assert pod.key in pods.unreadable
        for each in engine.plan(8):
            released += 1
            patch = patches.release(each, engine.pools[each.pool], "x/1")
            json.dumps(patch)
            if maker.chance.random() < 0.5:
                engine.take_back(each.pod.uid, "refused")
        if number % 100 == 0:
            _must_add_up(engine)
            report.pools(engine)
            report.tenants(engine)
    _must_add_up(engine)
    assert released > _SHARE // 50


def test_resources_end_as_a_record_or_as_a_sentence() -> None:
    maker, known = Maker(SEED + 1), schemas()
    registry = Registry(lambda: None)
    engine = _engine()
    good = 0
    for number in range(_SHARE):
        kind = KINDS[number % 3]
        body = maker.resource(kind, known[kind], number)
        registry.put(kind, body)
        entry = registry.entries[kind, body["metadata"]["name"]]
        assert (entry.spec is None) == bool(entry.problem)
        good += entry.spec is not None
        if maker.chance.random() < 0.1:
            registry.remove(kind, body)
        if number % 20 == 0:
            engine.configure(*registry.specs(date(2026, 11, 28)))
            engine.plan(8)
            report.pools(engine)
            report.tenants(engine)
    assert good > _SHARE // 50
    assert good < _SHARE


@pytest.mark.parametrize("kind", [PODS, NODES], ids=["pods", "nodes"])
def test_bytes_on_a_watch_are_an_event_or_a_known_error(kind: Any) -> None:
    maker, reader = Maker(SEED + 2), Reader(kind)
    make = maker.pod if kind is PODS else maker.node
    kinds = ("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "NEW")
    refused = 0
    for number in range(_SHARE):
        content = maker.spoiled(_line(make(number), maker.chance.choice(kinds)))
        try:
            event = reader.event(content)
        except (ClusterError, GoneError):
            refused += 1
        else:
            assert isinstance(event.key, str)
            assert event.item is None or event.key
    assert 0 < refused < _SHARE


def test_bytes_of_a_list_are_a_page_or_a_known_error() -> None:
    maker, reader = Maker(SEED + 3), Reader(PODS)
    refused = 0
    for number in range(_SHARE):
        items = [maker.pod(number) for _ in range(2)]
        page = {"metadata": {"resourceVersion": "7"}, "items": items}
        try:
            found = reader.page(maker.spoiled(json.dumps(page).encode()))
        except (ClusterError, GoneError):
            refused += 1
        else:
            assert isinstance(found.version, str)
            assert isinstance(found.more, str)
    assert 0 < refused < _SHARE

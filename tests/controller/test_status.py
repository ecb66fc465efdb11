"""What the books make of an object: numbers and conditions."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from sovereign_gpu import names
from sovereign_gpu.controller.aspect import Aspect
from sovereign_gpu.controller.drift import Drift
from sovereign_gpu.controller.events import Events
from sovereign_gpu.controller.evictions import Evictions
from sovereign_gpu.controller.marks import Marks
from sovereign_gpu.controller.policystatus import PolicyStatus
from sovereign_gpu.controller.registry import Kind, Registry
from sovereign_gpu.controller.status import StatusMaker
from sovereign_gpu.controller.unbound import Unbound
from sovereign_gpu.core.drift import Judge
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.eviction import decide
from sovereign_gpu.core.model import Constraints, Namespace, Node, Pod, Resources
from tests.controller.bodies import policy, pool, quota

TODAY = date(2026, 11, 28)

ROOM = Resources(gpus=8, cpu=64_000, memory=1 << 40)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Books:
    """Everything that a status is made of."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.registry = Registry(lambda: None)
        marks = Marks(self.engine, self)  # type: ignore[arg-type]
        events = Events(self, "holder")  # type: ignore[arg-type]
        evictions = Evictions(self.engine, self, events)  # type: ignore[arg-type]
        self.clock = Clock()
        self.unbound = Unbound(self.engine, evictions, self.clock.monotonic)
        self.drift = Drift(Judge(self.engine), evictions)
        self.policies = PolicyStatus(self.engine, self.drift)
        self.maker = StatusMaker(self.engine, self.unbound, marks, lambda: True, self.policies)
        for body in (pool(), policy(), quota("acme", "acme")):
            self.registry.put(body["kind"], body)
        self.configure()
        self.engine.put_namespace(Namespace("acme", tenant="acme"))

    def submit(self, _: object) -> None:
        """Marks are no matter here."""

    def configure(self) -> None:
        self.engine.configure(*self.registry.specs(TODAY))

    def node(self, region: str = "eu-de-muc", *, name: str = "gpu-0") -> None:
        labels = {names.NODE_POOL_LABEL: "munich", names.REGION_LABEL: region}
        self.engine.put_node(Node(name, labels, (), ROOM, ROOM, ready=True, unschedulable=False))

    def pod(self, uid: str, *, node: str = "", gpus: int = 2) -> None:
        demand = Resources(gpus=gpus)
        self.engine.put_pod(
            Pod(uid, "acme", uid, 0.0, demand, Constraints(), node=node, pool="munich")
        )

    def refresh(self) -> None:
        self.drift.judge.everything()
        self.drift.judge.look()
        self.maker.refresh()

    def of(self, kind: Kind, name: str) -> tuple[dict[str, Any], dict[str, Aspect]]:
        self.refresh()
        numbers, aspects = self.maker.make(self.registry.entries[kind, name])
        return numbers, {aspect.type: aspect for aspect in aspects}


def seen(numbers: dict[str, Any]) -> tuple[int, int]:
    """Violations now and ever."""
    return numbers["violations"]["now"], numbers["violations"]["total"]


@pytest.fixture
def books() -> Books:
    return Books()


def test_a_released_pod_that_nobody_binds_is_told_after_a_while(books: Books) -> None:
    books.node()
    for uid, gpus in (("one", 2), ("two", 1)):
        books.pod(uid, gpus=gpus)
        books.unbound.settle(uid, books.engine.pods[uid])
    books.clock.now += 24
    assert books.of("TenantQuota", "acme")[0]["waiting"] == []
    books.clock.now += 2
    (row,) = books.of("TenantQuota", "acme")[0]["waiting"]
    assert (row["reason"], row["pods"], row["gpus"]) == ("CannotBind", 2, 3)
    assert "2 released pods in pool munich are not bound" in row["message"]


def test_totals_are_the_sum_over_pools_and_over_quota_is_said(books: Books) -> None:
    books.node()
    books.pod("one", node="gpu-0", gpus=6)
    books.pod("two", gpus=3)
    numbers, aspects = books.of("TenantQuota", "acme")
    assert (numbers["total"]["used"], numbers["total"]["reserved"]) == (9, 3)
    assert aspects["OverQuota"].message == "9 of 8 in pool munich"
    assert aspects["Ready"].reason == "Assigned"


def test_a_running_pod_outside_its_policy_is_a_violation_counted_once(books: Books) -> None:
    books.node(region="us-east-1")
    books.pod("one", node="gpu-0")
    for _ in range(3):
        numbers, _aspects = books.of("DataResidencyPolicy", "eu-only")
        assert seen(numbers) == (1, 1)
    books.pod("two", node="gpu-0")
    assert seen(books.of("DataResidencyPolicy", "eu-only")[0]) == (2, 2)
    books.engine.remove_pod("one")
    assert seen(books.of("DataResidencyPolicy", "eu-only")[0]) == (1, 2)


def test_violations_counted_before_a_restart_are_not_counted_again(books: Books) -> None:
    stored = {"violations": {"now": 1, "total": 7}}
    books.registry.put("DataResidencyPolicy", {**policy(resourceVersion="2"), "status": stored})
    books.node(region="us-east-1")
    books.pod("one", node="gpu-0")
    assert seen(books.of("DataResidencyPolicy", "eu-only")[0]) == (1, 7)


def test_a_policy_that_is_gone_leaves_no_count_to_its_namesake(books: Books) -> None:
    books.node(region="us-east-1")
    books.pod("one", node="gpu-0")
    books.of("DataResidencyPolicy", "eu-only")
    assert books.policies.violations_total == {"eu-only": 1}
    books.registry.remove("DataResidencyPolicy", policy(resourceVersion="5"))
    books.configure()
    books.refresh()
    assert books.policies.violations_total == {}


def test_evictions_are_added_to_what_was_stored_and_to_it_only_once(books: Books) -> None:
    stored = {"violations": {"now": 0, "total": 7, "evicted": 5}}
    books.registry.put("DataResidencyPolicy", {**policy(resourceVersion="2"), "status": stored})
    books.drift.outcomes["eu-only", "gone"] = 2
    books.drift.outcomes["eu-only", "blocked"] = 3
    for _ in range(2):
        numbers, _aspects = books.of("DataResidencyPolicy", "eu-only")
        assert numbers["violations"]["evicted"] == 7
    books.drift.outcomes["eu-only", "gone"] = 3
    assert books.of("DataResidencyPolicy", "eu-only")[0]["violations"]["evicted"] == 8
    assert books.policies.evicted_total == {"eu-only": 8}


def test_drifting_names_the_worst_places_and_counts_the_others(books: Books) -> None:
    for number in range(7):
        books.node("us-east-1", name=f"gpu-{number}")
        for pod in range(number + 1):
            books.pod(f"pod-{number}-{pod}", node=f"gpu-{number}", gpus=0)
    _, aspects = books.of("DataResidencyPolicy", "eu-only")
    found = aspects["Drifting"]
    assert (found.status, found.reason) == ("True", "PodsOutsidePolicy")
    assert found.message.startswith(
        "28 pods run where this policy does not allow it: 7 of tenant acme: node gpu-6 shows"
    )
    assert found.message.endswith("and 3 on other nodes")


def test_a_message_is_never_longer_than_a_condition_may_hold(books: Books) -> None:
    name = "x" * 250
    for number in range(5):
        books.node("us-east-1", name=f"{name}-{number}")
        books.pod(f"pod-{number}", node=f"{name}-{number}")
    _, aspects = books.of("DataResidencyPolicy", "eu-only")
    assert len(aspects["Drifting"].message) == 1024


def test_what_awaits_confirmation_and_what_is_confirmed_is_said(books: Books) -> None:
    def configure(confirmed: str) -> None:
        body = policy(resourceVersion=confirmed, generation=4)
        body["metadata"]["annotations"] = {names.CONFIRM_DRIFT: confirmed}
        body["spec"]["onDrift"] = {"action": "Evict"}
        books.registry.put("DataResidencyPolicy", body)
        books.configure()
        books.drift.judge.everything()

    configure("3")
    books.node("us-east-1")
    books.pod("one", node="gpu-0")
    books.drift.decision = decide(books.drift.judge, 0.0, 0, lambda _: False)
    numbers, aspects = books.of("DataResidencyPolicy", "eu-only")
    found = aspects["Drifting"]
    assert (found.status, found.reason) == ("True", "AwaitingConfirmation")
    assert "1 of 1 governed running pods are affected, more than 5 %" in found.message
    assert "sovereign-gpu.io/confirm-drift=4" in found.message
    assert numbers["violations"]["announced"] == 0
    configure("4")
    books.engine.remove_pod("one")
    _, aspects = books.of("DataResidencyPolicy", "eu-only")
    found = aspects["Drifting"]
    assert (found.status, found.reason) == ("False", "ConfirmationStands")


def test_a_policy_that_allows_nothing_is_stalled(books: Books) -> None:
    empty = policy(resourceVersion="2", generation=2)
    empty["spec"] = {"countries": {"include": ["DE"], "exclude": ["DE"]}}
    books.registry.put("DataResidencyPolicy", empty)
    books.configure()
    entry = books.registry.entries["DataResidencyPolicy", "eu-only"]
    _, aspects = books.of("DataResidencyPolicy", "eu-only")
    assert aspects["Ready"].status == "False"
    assert aspects["Stalled"].status == "True"
    assert entry.name == "eu-only"


def test_a_pool_names_what_keeps_its_nodes_out(books: Books) -> None:
    assert books.of("GpuPool", "munich")[1]["Ready"].reason == "NoNodes"
    books.node(region="us-east-1")
    ready = books.of("GpuPool", "munich")[1]["Ready"]
    assert (ready.status, ready.reason) == ("True", "NodesElsewhere")
    books.node()
    numbers, aspects = books.of("GpuPool", "munich")
    assert aspects["Ready"].reason == "Counted"
    assert numbers["gpus"]["free"] == 8
    assert aspects["Oversubscribed"].status == "False"


def test_a_pool_with_faults_is_degraded_and_its_tenants_see_their_part(books: Books) -> None:
    books.node()
    books.pod("one", node="gpu-0", gpus=2)
    assert books.of("GpuPool", "munich")[1]["Degraded"].status == "False"
    books.engine.put_node(replace(books.engine.nodes["gpu-0"], ready=False))
    numbers, aspects = books.of("GpuPool", "munich")
    assert numbers["nodes"]["faulty"] == 1
    assert numbers["gpus"]["lost"] == 8
    assert numbers["faults"] == [{"kind": "NotReady", "nodes": 1, "gpus": 8}]
    degraded = aspects["Degraded"]
    assert (degraded.status, degraded.reason) == ("True", "NodesHaveFaults")
    assert degraded.message == "8 of 8 GPUs lost to faults of 1 node: NotReady on 1 node"
    assert aspects["Ready"].status == "True"
    tenant, _ = books.of("TenantQuota", "acme")
    assert (tenant["total"]["lost"], tenant["total"]["onFaultyNodes"]) == (8, 2)
    assert (tenant["pools"][0]["lost"], tenant["pools"][0]["onFaultyNodes"]) == (8, 2)


def test_missing_pools_and_policies_are_conditions(books: Books) -> None:
    books.registry.remove("GpuPool", pool(resourceVersion="5"))
    books.configure()
    ready = books.of("TenantQuota", "acme")[1]["Ready"]
    assert (ready.status, ready.reason) == ("False", "PoolMissing")
    assert ready.message == "GpuPool munich does not exist yet"
    books.registry.remove("DataResidencyPolicy", policy(resourceVersion="5"))
    books.configure()
    assert books.of("TenantQuota", "acme")[1]["Ready"].reason == "PolicyMissing"

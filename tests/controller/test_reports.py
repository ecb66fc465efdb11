"""A status is written when it changed, and what happened is told once it is written."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from sovereign_gpu import names
from sovereign_gpu.cluster.errors import UncertainError
from sovereign_gpu.cluster.writer import Lane, Write
from sovereign_gpu.controller.drift import Drift
from sovereign_gpu.controller.events import Events
from sovereign_gpu.controller.evictions import Evictions
from sovereign_gpu.controller.marks import Marks
from sovereign_gpu.controller.policystatus import PolicyStatus
from sovereign_gpu.controller.registry import Registry
from sovereign_gpu.controller.reports import Reports
from sovereign_gpu.controller.status import StatusMaker
from sovereign_gpu.controller.unbound import Unbound
from sovereign_gpu.core.drift import Judge
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Constraints, Namespace, Node, Pod, Resources
from tests.controller.bodies import policy, pool, quota


class Desk:
    """Registry, books and reports of an operator, and what it sent."""

    def __init__(self) -> None:
        self.sent: list[Write] = []
        self.now = 1000.0
        self.engine = Engine()
        self.ready = True
        self.registry = Registry(lambda: None)
        self.marks = Marks(self.engine, self)  # type: ignore[arg-type]
        events = Events(self, "holder")  # type: ignore[arg-type]
        evictions = Evictions(self.engine, self, events)  # type: ignore[arg-type]
        self.drift = Drift(Judge(self.engine), evictions, clock=lambda: self.now)
        policies = PolicyStatus(self.engine, self.drift)
        maker = StatusMaker(
            self.engine, Unbound(self.engine, evictions), self.marks, lambda: self.ready, policies
        )
        self.reports = Reports(self.registry, self, maker, events)  # type: ignore[arg-type]

    def submit(self, write: Write) -> None:
        self.sent.append(write)

    def queued(self, _: Lane) -> int:
        return 0

    def put(self, body: dict[str, Any]) -> None:
        self.registry.put(body["kind"], body)

    def configure(self) -> None:
        self.registry.changed = False
        self.engine.configure(*self.registry.specs(TODAY))

    def look(self) -> list[Write]:
        """Return what one look sends, not answered yet."""
        self.sent.clear()
        self.reports.look()
        return list(self.sent)

    def accept(self) -> list[Write]:
        """Look, let everything be accepted, and return what that sends in turn."""
        for write in self.look():
            write.done(None)
        return [write for write in self.sent if write.method == "POST"]


TODAY = date(2026, 11, 28)


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    for body in (pool(), policy(), quota("acme", "acme")):
        made.put(body)
    made.configure()
    made.engine.put_namespace(Namespace("acme", tenant="acme"))
    return made


def conditions(write: Write) -> dict[str, dict[str, Any]]:
    return {each["type"]: each for each in write.body["status"]["conditions"]}


def test_every_object_gets_its_status_once(desk: Desk) -> None:
    paths = {write.path.partition("?")[0].rpartition("v1alpha1/")[2] for write in desk.look()}
    assert paths == {
        "gpupools/munich/status",
        "tenantquotas/acme/status",
        "dataresidencypolicies/eu-only/status",
    }
    assert desk.look() == []


def test_a_status_that_is_stored_as_it_should_be_is_not_written_after_a_restart(
    desk: Desk,
) -> None:
    stored = {write.body["metadata"]["uid"]: write.body["status"] for write in desk.look()}
    again = Desk()
    for body in (pool(), policy(), quota("acme", "acme")):
        again.put({**body, "status": stored[body["metadata"]["uid"]]})
    again.configure()
    again.engine.put_namespace(Namespace("acme", tenant="acme"))
    assert again.look() == []


def test_only_what_changed_is_written_and_times_of_what_did_not_stay(desk: Desk) -> None:
    before = {write.path: conditions(write) for write in desk.look()}
    desk.engine.put_namespace(Namespace("acme", tenant="other"))
    (write,) = desk.look()
    assert "tenantquotas/acme/status" in write.path
    found = conditions(write)
    assert found["Clashing"]["status"] == "True"
    assert found["OverQuota"] == before[write.path]["OverQuota"]


def test_a_write_that_failed_is_sent_again_and_tells_nothing_until_it_is_accepted(
    desk: Desk,
) -> None:
    desk.accept()
    desk.engine.put_namespace(Namespace("acme", tenant="other"))
    for write in desk.look():
        write.done(UncertainError("no answer"))
    assert [write.method for write in desk.sent] == ["PATCH"]
    told = desk.accept()
    assert {write.body["reason"] for write in told} == {"Clashing", "NamespaceTaken"}
    assert {write.body["type"] for write in told} == {"Warning"}
    assert desk.accept() == []


def test_a_healthy_tenant_is_no_news(desk: Desk) -> None:
    assert desk.accept() == []


def test_a_policy_tells_when_pods_begin_to_stand_outside_it_and_when_a_person_must_decide(
    desk: Desk,
) -> None:
    desk.accept()
    labels = {names.NODE_POOL_LABEL: "munich", names.REGION_LABEL: "us-east-1"}
    room = Resources(gpus=8)
    desk.engine.put_node(Node("gpu-0", labels, (), room, room, ready=True, unschedulable=False))
    desk.engine.put_pod(
        Pod("one", "acme", "one", 0.0, Resources(gpus=1), Constraints(), node="gpu-0")
    )
    desk.drift.judge.everything()
    desk.drift.look(desk.now)
    (event,) = [w for w in desk.accept() if w.body["involvedObject"]["name"] == "eu-only"]
    assert (event.body["reason"], event.body["type"]) == ("PodsOutsidePolicy", "Warning")
    assert "node gpu-0 shows region us-east-1" in event.body["message"]
    assert desk.accept() == []
    evicting = policy(resourceVersion="2", generation=2)
    evicting["spec"]["onDrift"] = {"action": "Evict"}
    desk.put(evicting)
    desk.configure()
    desk.drift.judge.everything()
    desk.now += 1
    desk.drift.look(desk.now)
    (event,) = [w for w in desk.accept() if w.body["involvedObject"]["name"] == "eu-only"]
    assert event.body["reason"] == "AwaitingConfirmation"
    assert "sovereign-gpu.io/confirm-drift=2" in event.body["message"]


def test_pools_and_policies_have_no_events(desk: Desk) -> None:
    desk.put({**policy(resourceVersion="2"), "spec": {"countries": {"include": ["FR"]}}})
    desk.put({**pool("other"), "spec": {"location": {"country": "FR", "region": "eu-de-muc"}}})
    desk.configure()
    kinds = {write.body["involvedObject"]["kind"] for write in desk.accept()}
    assert kinds <= {"TenantQuota"}


def test_while_the_books_lag_behind_the_resources_nothing_is_said(desk: Desk) -> None:
    desk.put(quota("late", "late"))
    assert desk.look() == []
    desk.configure()
    assert len(desk.look()) == 4


def test_an_object_that_is_being_deleted_is_left_alone(desk: Desk) -> None:
    going = quota("acme", "acme", resourceVersion="2", deletionTimestamp="2026-11-23T12:00:00Z")
    desk.put(going)
    desk.configure()
    assert [write for write in desk.look() if "tenantquotas" in write.path] == []


def test_an_object_made_anew_under_the_same_name_gets_a_status_of_its_own(desk: Desk) -> None:
    desk.accept()
    desk.registry.remove("TenantQuota", quota("acme", "acme"))
    desk.configure()
    desk.accept()
    desk.put(quota("acme", "acme", uid="second", resourceVersion="2"))
    desk.configure()
    (write,) = [write for write in desk.look() if "tenantquotas" in write.path]
    assert write.body["metadata"]["uid"] == "second"


def test_an_object_that_cannot_be_read_is_stalled_with_the_reason(desk: Desk) -> None:
    broken = policy("broken")
    broken["spec"]["countries"] = {"sets": ["ATLANTIS"]}
    desk.put(broken)
    desk.configure()
    (write,) = [write for write in desk.look() if "broken" in write.path]
    found = conditions(write)
    assert (found["Stalled"]["status"], found["Stalled"]["reason"]) == ("True", "InvalidSpec")
    assert "ATLANTIS" in found["Ready"]["message"]
    assert set(write.body["status"]) == {"observedGeneration", "conditions"}


def test_before_the_cluster_is_read_everything_is_starting(desk: Desk) -> None:
    desk.ready = False
    for write in desk.look():
        found = conditions(write)
        assert found["Ready"]["status"] == "Unknown"
        assert found["Reconciling"]["status"] == "True"


def test_a_refused_mark_of_a_namespace_is_told_to_its_tenant(desk: Desk) -> None:
    desk.marks.refused["Namespace", "acme"] = "422: a tenant for the exempt namespace acme"
    (write,) = [write for write in desk.look() if "tenantquotas" in write.path]
    ready = conditions(write)["Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "NamespaceRefused")
    assert "exempt namespace acme" in ready["message"]

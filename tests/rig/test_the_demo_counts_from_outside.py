"""What the demo says at its end would be false if the product were wrong: it notices."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from rig.client import Response
from rig.demo import facts, manifests
from rig.demo.cheats import RBAC, Cheat, refused, short
from rig.demo.pods import Pod, one
from rig.demo.screen import Screen
from rig.demo.trail import OPERATOR, Step, Trail
from rig.errors import RigError
from rig.users import KWOK

if TYPE_CHECKING:
    from pathlib import Path

TENANT_OF = {"acme-train": "acme", "bolt": "bolt"}
REGIONS = {"muc-1": "eu-de-muc", "iad-1": "us-east-1"}
LIFT = [{"op": "remove", "path": "/spec/schedulingGates/0"}]
LATE = 1e9


def pod(
    name: str,
    gpus: int = 8,
    phase: str = "Running",
    node: str = "muc-1",
    namespace: str = "acme-train",
) -> Pod:
    return Pod(namespace, name, f"uid-{name}", 0.0, node, phase, False, gpus, "Job", "")  # noqa: FBT003


def step(at: float, what: str, name: str, user: str = OPERATOR, body: Any = None) -> Step:
    return Step(at, at + 0.5, user, what, ("acme-train", name), body)


def released(at: float, name: str) -> Step:
    return step(at, facts.RELEASE, name, body=LIFT)


def bound(at: float, name: str, node: str = "muc-1") -> Step:
    return step(at, facts.BIND, name, "system:kube-scheduler", {"target": {"name": node}})


def ended(at: float, name: str) -> Step:
    return step(at, facts.NOTICE, name, KWOK, {"status": {"phase": "Succeeded"}})


def told(at: float, name: str, message: str) -> Step:
    conditions = [{"type": "PodScheduled", "message": message}]
    return step(at, facts.NOTICE, name, body={"status": {"conditions": conditions}})


def evicted(at: float, name: str) -> Step:
    return step(at, facts.EVICT, name)


def deleted(at: float, name: str, user: str = KWOK) -> Step:
    return step(at, facts.DELETE, name, user)


def count(steps: list[Step], pods: list[Pod]) -> facts.Facts:
    return facts.count(steps, pods, TENANT_OF, REGIONS, until=LATE)


def test_a_release_before_the_end_of_another_pod_is_held_at_the_same_time() -> None:
    pods = [pod("first", phase="Succeeded"), pod("second")]
    early = [released(1, "first"), released(5, "second"), ended(6, "first")]
    assert count(early, pods).peak == {"acme": 16}
    late = [released(1, "first"), ended(5, "first"), released(6, "second")]
    assert count(late, pods).peak == {"acme": 8}


def test_the_first_report_of_an_end_counts() -> None:
    pods = [pod("first", phase="Succeeded"), pod("second")]
    running = step(2, facts.NOTICE, "first", KWOK, {"status": {"phase": "Running"}})
    repeated = [ended(5, "first"), released(6, "second"), ended(7, "first")]
    assert count([released(1, "first"), running, *repeated], pods).peak == {"acme": 8}
    assert count([released(1, "first"), running, released(6, "second")], pods).peak == {"acme": 16}


def test_an_end_that_nobody_reported_gives_nothing_back() -> None:
    pods = [pod("first", phase="Succeeded"), pod("second")]
    assert count([released(1, "first"), released(5, "second")], pods).peak == {"acme": 16}


def test_what_is_lent_and_taken_back_too_early_is_more_than_there_is() -> None:
    pods = [pod("borrows", phase="Succeeded"), pod("asks", namespace="bolt")]
    mine = Step(5, 5.5, OPERATOR, facts.RELEASE, ("bolt", "asks"), LIFT)
    found = count([released(1, "borrows"), mine, ended(6, "borrows")], pods)
    assert (found.peak, found.together) == ({"acme": 8, "bolt": 8}, 16)
    found = count([released(1, "borrows"), ended(4, "borrows"), mine], pods)
    assert (found.peak, found.together) == ({"acme": 8, "bolt": 8}, 8)


def test_an_evicted_pod_is_held_until_its_kubelet_says_that_it_is_gone() -> None:
    pods = [pod("moved"), pod("second")]
    steps = [released(1, "moved"), bound(2, "moved"), evicted(5, "moved"), released(6, "second")]
    assert count([*steps, deleted(7, "moved")], pods).peak == {"acme": 16}
    steps = [*steps[:3], deleted(5.5, "moved"), *steps[3:]]
    found = count(steps, pods)
    assert found.peak == {"acme": 8}
    assert found.evicted == [("acme-train", "moved")]
    assert facts.deleted(steps) == {("acme-train", "moved")}


def test_a_deletion_that_somebody_asks_for_gives_nothing_back() -> None:
    pods = [pod("first"), pod("second")]
    asked = deleted(5, "first", "tenant-acme")
    assert count([released(1, "first"), asked, released(6, "second")], pods).peak == {"acme": 16}


def test_a_pod_bound_without_a_release_is_found() -> None:
    assert count([bound(1, "sneaky")], [pod("sneaky")]).unreleased == [("acme-train", "sneaky")]
    assert not count([bound(1, "plain")], [pod("plain", gpus=0)]).unreleased


def test_only_the_operator_lifting_a_gate_is_a_release() -> None:
    other = step(1, facts.RELEASE, "sneaky", "tenant-acme", LIFT)
    harmless = step(1, facts.RELEASE, "sneaky", body=[{"op": "add", "path": "/metadata/labels/a"}])
    for steps in ([other], [harmless]):
        assert count(steps, [pod("sneaky")]).unreleased == [("acme-train", "sneaky")]


def test_a_released_pod_that_is_gone_is_not_forgotten() -> None:
    assert count([released(1, "gone")], []).vanished == [("acme-train", "gone")]


def test_places_are_counted_from_the_bindings_and_from_the_pods() -> None:
    found = count([bound(1, "a"), bound(2, "b", "iad-1")], [pod("a"), pod("b")])
    assert found.bound == {"acme": Counter({"eu-de-muc": 1, "us-east-1": 1})}
    assert found.shown == {"acme": Counter({"eu-de-muc": 2})}


def test_writes_are_counted_per_admitted_pod() -> None:
    steps = [
        *(step(1, facts.CREATE, "waited", "tenant"), step(2, facts.NOTICE, "waited")),
        *(released(3, "waited"), bound(4, "waited"), ended(9, "waited")),
        *(step(1, facts.CREATE, "quick", "tenant"), released(2, "quick"), bound(3, "quick")),
        *(step(1, facts.CREATE, "queued", "tenant"), step(2, facts.NOTICE, "queued")),
    ]
    pods = [pod("waited"), pod("quick"), pod("queued", node="", phase="Pending")]
    found = count(steps, pods)
    assert (found.admitted, found.told) == (2, 1)
    assert found.writes == {1: 1, 2: 1}
    assert found.delays == [2.5]


def test_a_reason_told_twice_is_a_write_for_nothing() -> None:
    shared = [bound(9, "waits"), released(8, "waits"), told(1, "waits", "QuotaExhausted: 9 of 9")]
    new = told(2, "waits", "GuaranteeLent: asks for 8")
    again = told(3, "waits", "GuaranteeLent: asks for 8, and more")
    assert count([*shared, new], [pod("waits")]).idle_writes == 0
    assert count([*shared, new, again], [pod("waits")]).idle_writes == 1


def test_the_notice_on_an_evicted_pod_is_no_cost_of_admission() -> None:
    notice = step(3, facts.RELEASE, "moved", body={"metadata": {"annotations": {}}})
    steps = [released(1, "moved"), bound(2, "moved"), notice]
    assert count(steps, [pod("moved")]).idle_writes == 1
    found = count([*steps, evicted(4, "moved")], [pod("moved")])
    assert (found.idle_writes, found.admitted) == (0, 0)


def test_quantiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(1, 101)]
    assert facts.quantile(values, 0.5) == 51
    assert facts.quantile(values, 0.99) == 100
    assert facts.quantile([], 0.5) == 0


def test_the_audit_log_is_read_as_it_grows_and_only_for_what_was_done(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    lines = [
        event("create", 201),
        event("create", 403),
        event("create", 201, uri="/api/v1/namespaces/a/pods?dryRun=All"),
        event("list", 200),
        event("create", 201, sub="binding"),
    ]
    log.write_text("".join(lines) + event("patch", 200)[:-20])
    trail = Trail(log)
    trail.read()
    trail.read()
    assert [each.what for each in trail.steps] == ["create pods", "create pods/binding"]
    assert (trail.created["a"], trail.bound["a"]) == (1, 1)
    with log.open("a") as more:
        more.write(event("patch", 200)[-20:])
    trail.read()
    assert trail.steps[-1].what == "patch pods"


def event(verb: str, code: int, uri: str = "/api/v1", sub: str = "") -> str:
    target = {"resource": "pods", "namespace": "a", "name": "b"} | (
        {"subresource": sub} if sub else {}
    )
    body = {
        "verb": verb,
        "requestURI": uri,
        "user": {"username": "somebody"},
        "objectRef": target,
        "responseStatus": {"code": code},
        "requestReceivedTimestamp": "2026-11-23T00:00:00.000000Z",
        "stageTimestamp": "2026-11-23T00:00:00.100000Z",
    }
    return json.dumps(body, separators=(",", ":")) + "\n"


@pytest.mark.parametrize(
    ("status", "message", "held"),
    [
        (201, "", False),
        (403, "denied request: release: found the gate removed; allowed: nothing", True),
        (403, "denied request: priority: found 1; allowed: 0", False),
        (500, "denied request: release: found", False),
    ],
)
def test_a_cheat_has_to_be_refused_by_the_rule_meant_for_it(
    status: int,
    message: str,
    held: bool,  # noqa: FBT001
) -> None:
    answer = Response(status, {"message": message})
    cheat = Cheat("remove the gate", "release", lambda: answer)
    assert refused(cheat, answer) is held
    right = Response(403, {"message": 'User "x" cannot patch resource "pods"'})
    assert refused(Cheat("bind", RBAC, lambda: right), right)


def test_a_refusal_is_shown_by_what_it_found() -> None:
    answer = Response(403, {"message": "pods is forbidden: denied request: gate: found\n it"})
    assert short(Cheat("", "gate", lambda: answer), answer) == "found it"


def test_a_story_without_the_pod_it_needs_says_so() -> None:
    assert one([pod("first"), pod("second")], "pod") == pod("first")
    with pytest.raises(RigError, match="lacks a waiting pod"):
        one([], "waiting pod")


def test_a_failed_expectation_is_remembered_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    assert not screen.expect("pods stay at home", holds=False, found="1 abroad")
    assert screen.expect("nothing to say", holds=True, quiet=True)
    assert screen.record.failed == ["pods stay at home: 1 abroad"]
    assert "nothing to say" not in capsys.readouterr().out


@pytest.mark.parametrize("scale", [1, 0.1, 0.03])
def test_every_tenant_asks_for_more_than_it_has(scale: float) -> None:
    for tenant in manifests.tenants(manifests.platform(scale)):
        work = manifests.workload(tenant, scale)
        assert sum(map(manifests.gpus_of, work)) > tenant.allowance
        assert {each["kind"] for each in work} == {"Job", "Deployment", "Pod"}
        assert len({(each["kind"], each["metadata"]["name"]) for each in work}) == len(work)


@pytest.mark.parametrize("scale", [1, 0.1, 0.03])
def test_there_is_something_to_lend_and_more_that_would_borrow_it(scale: float) -> None:
    tenants = manifests.tenants(manifests.platform(scale))
    lender = next(each for each in tenants if each.lending_limit is not None)
    assert 0 < lender.kept < lender.guaranteed
    assert lender.borrowing_limit == 0
    assert sum(each.borrowing_limit for each in tenants) > (lender.lending_limit or 0)

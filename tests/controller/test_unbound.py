"""Released pods that no node takes are given up; those that one might take are left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sovereign_gpu import names
from sovereign_gpu.cluster.errors import ApiError
from sovereign_gpu.cluster.writer import Write
from sovereign_gpu.controller.events import Events
from sovereign_gpu.controller.evictions import Evictions
from sovereign_gpu.controller.unbound import Unbound
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import (
    Constraints,
    Namespace,
    Node,
    NodeTerm,
    Owner,
    Pod,
    Policy,
    Pool,
    Requirement,
    Resources,
    Share,
    Tenant,
)
from sovereign_gpu.core.report import TenantReport

POOL = Pool("munich", "DE", "eu-de-muc")
OWNER = Owner("batch/v1", "Job", "train", "owner-1")
ROOM = Resources(8, 64_000, 1 << 40)
BUSY = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."


def _node(name: str, **fields: Any) -> Node:
    labels = {names.NODE_POOL_LABEL: "munich", names.REGION_LABEL: "eu-de-muc"}
    return replace(Node(name, labels, (), ROOM, ROOM, ready=True, unschedulable=False), **fields)


def _tied(*nodes: str) -> Constraints:
    terms = (NodeTerm((), (Requirement("metadata.name", "In", (node,)),)) for node in nodes)
    return Constraints(terms=tuple(terms))


class Desk:
    """An operator with one pool, what it sends, and a clock that is told the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.writes: list[Write] = []
        self.told: list[tuple[str, str, str]] = []
        """Reason, kind of the object, and message of the events."""
        self.engine = Engine()
        self.pools(POOL)
        self.engine.put_namespace(Namespace("acme", "acme"))
        for name in ("n1", "n2"):
            self.engine.put_node(_node(name))
        events = Events(self, "holder")  # type: ignore[arg-type]
        evictions = Evictions(self.engine, self, events, self.clock)  # type: ignore[arg-type]
        self.unbound = Unbound(self.engine, evictions, self.clock)
        self.unbound.look()
        self.now += 60  # what a predecessor evicted is forgotten

    def clock(self) -> float:
        return self.now

    def submit(self, write: Write) -> None:
        if write.path.endswith("/events"):
            body = write.body
            self.told.append((body["reason"], body["involvedObject"]["kind"], body["message"]))
        else:
            self.writes.append(write)

    def pools(self, *pools: Pool) -> None:
        self.engine.configure(
            pools,
            [Tenant("acme", ("acme",), ("eu-only",), (Share("munich", 64),))],
            [Policy("eu-only", frozenset({"DE"}))],
        )

    def release(self, uid: str = "one", *nodes: str, **fields: Any) -> None:
        """Show a released pod that is tied to the nodes, by default to n1."""
        constraints = _tied(*(nodes or ("n1",)))
        pod = Pod(uid, "acme", uid, 0.0, Resources(2), constraints, pool="munich", owner=OWNER)
        self.show(replace(pod, **fields))

    def show(self, pod: Pod) -> None:
        self.engine.put_pod(pod)
        self.unbound.settle(pod.uid, pod)

    def change(self, uid: str = "one", **fields: Any) -> None:
        self.show(replace(self.engine.pods[uid], **fields))

    def end(self, uid: str) -> None:
        self.engine.remove_pod(uid)
        self.unbound.settle(uid, None)

    def evicted(self, seconds: float, error: ApiError | None = None) -> list[str]:
        """Look every two seconds for so long; answer, and return the pods that were evicted."""
        found: list[str] = []
        end = self.now + seconds
        while self.now < end:
            self.now += 2
            self.writes.clear()
            self.unbound.look()
            for write in tuple(self.writes):
                found.append(write.path.removesuffix("/eviction").rpartition("/")[2])
                write.done(error)
                if error is None:
                    self.end(found[-1])
        return found


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_pinned_pod_whose_node_is_gone_is_given_up_after_half_a_minute(desk: Desk) -> None:
    desk.release()
    desk.engine.remove_node("n1")
    assert desk.evicted(28) == []
    assert desk.evicted(8) == ["one"]
    assert desk.unbound.given_up == {"acme": 1}
    ((reason, kind, message),) = desk.told
    assert (reason, kind) == ("CannotBind", "Job")
    assert message == "released pod one is deleted, because node n1 is gone"


@pytest.mark.parametrize("fields", [{"ready": False}, {"unschedulable": True}])
def test_so_is_one_whose_node_takes_nothing_new(desk: Desk, fields: dict[str, bool]) -> None:
    desk.release()
    desk.engine.put_node(_node("n1", **fields))
    assert desk.evicted(36) == ["one"]
    assert "node n1 takes no new pods: it" in desk.told[0][2]
    assert desk.engine.doubted == set()


def test_so_is_one_for_which_kube_scheduler_finds_no_place_and_its_node_is_doubted(
    desk: Desk,
) -> None:
    desk.release()
    desk.change(unschedulable=BUSY)
    assert desk.evicted(36) == ["one"]
    assert desk.engine.doubted == {"n1"}
    assert BUSY in desk.told[0][2]
    desk.evicted(290)
    assert desk.engine.doubted == {"n1"}
    desk.evicted(10)
    assert desk.engine.doubted == set()


def test_the_silence_of_kube_scheduler_gives_nobody_up(desk: Desk) -> None:
    desk.release()
    assert desk.evicted(3600) == []
    reports = {"acme": TenantReport()}
    desk.unbound.add_to(reports)
    assert reports["acme"].waiting["CannotBind"].pods == 1


def test_a_trouble_that_passes_in_time_gives_nobody_up(desk: Desk) -> None:
    desk.release()
    for _ in range(5):
        desk.engine.put_node(_node("n1", ready=False))
        assert desk.evicted(28) == []
        desk.engine.put_node(_node("n1"))
        assert desk.evicted(2) == []
    desk.change(unschedulable=BUSY)
    assert desk.evicted(28) == []
    desk.change(node="n1", unschedulable="")
    assert desk.evicted(60) == []


def test_a_pod_with_alternatives_waits_for_all_of_them(desk: Desk) -> None:
    desk.release("one", "n1", "n2")
    desk.engine.remove_node("n1")
    assert desk.evicted(60) == []
    desk.engine.put_node(_node("n2", unschedulable=True))
    assert desk.evicted(36) == ["one"]


def test_a_pod_that_is_tied_to_no_node_by_name_stays(desk: Desk) -> None:
    free = Constraints(terms=(NodeTerm((Requirement("zone", "In", ("a",)),)),))
    desk.release(constraints=free, unschedulable=BUSY)
    desk.release("two", constraints=Constraints(), unschedulable=BUSY)
    # One alternative is tied, the other is not.
    both = Constraints(terms=(*(_tied("n1").terms or ()), *(free.terms or ())))
    desk.release("three", constraints=both, unschedulable=BUSY)
    desk.engine.remove_node("n1")
    assert desk.evicted(120) == []


def test_a_term_that_names_nodes_twice_ties_to_what_both_name(desk: Desk) -> None:
    fields = (
        Requirement("metadata.name", "In", ("n1", "n2")),
        Requirement("metadata.name", "In", ("n1",)),
    )
    desk.release(constraints=Constraints(terms=(NodeTerm((), fields),)))
    desk.engine.remove_node("n2")
    assert desk.evicted(60) == []
    desk.engine.remove_node("n1")
    assert desk.evicted(36) == ["one"]


def test_a_bare_pod_is_deleted_only_where_the_pool_says_so(desk: Desk) -> None:
    desk.release(owner=None)
    desk.engine.remove_node("n1")
    assert desk.evicted(120) == []
    desk.pools(replace(POOL, delete_bare_pods=True))
    assert desk.evicted(4) == ["one"]


def test_a_pod_that_we_did_not_release_or_that_ends_is_left_alone(desk: Desk) -> None:
    desk.release(pool="")
    desk.release("two", deleting=True)
    desk.engine.remove_node("n1")
    assert desk.evicted(120) == []


def test_pods_of_one_failure_go_together_and_those_made_since_ever_later(desk: Desk) -> None:
    for number in range(3):
        desk.release(f"first-{number}")
    desk.engine.remove_node("n1")
    assert desk.evicted(34) == ["first-0", "first-1", "first-2"]
    at: list[float] = []
    for number in range(7):
        desk.release(f"again-{number}")
        begun = desk.now
        while not desk.evicted(2):
            assert desk.now - begun < 700
        at.append(desk.now - begun)
    assert at == [32, 60, 120, 240, 480, 600, 600]


def test_an_owner_that_was_quiet_for_long_begins_anew(desk: Desk) -> None:
    desk.engine.remove_node("n1")
    desk.release("one")
    desk.evicted(34)
    desk.release("two")
    desk.evicted(70)
    desk.evicted(1300)
    desk.release("three")
    assert desk.evicted(34) == ["three"]


def test_no_more_than_ten_a_minute_are_given_up_of_few(desk: Desk) -> None:
    for number in range(25):
        desk.release(f"pod-{number}")
    desk.engine.remove_node("n1")
    assert len(desk.evicted(50)) == 10
    assert len(desk.evicted(60)) == 10


def test_an_eviction_that_is_refused_is_asked_for_again_and_not_counted(desk: Desk) -> None:
    desk.release()
    desk.engine.remove_node("n1")
    assert desk.evicted(36, ApiError(403, "no")) == ["one"]
    assert desk.unbound.given_up == {}
    assert desk.evicted(20) == ["one"]
    assert desk.unbound.given_up == {"acme": 1}


def test_counts_of_tenants_that_are_gone_are_dropped(desk: Desk) -> None:
    desk.release()
    desk.engine.remove_node("n1")
    desk.evicted(36)
    desk.engine.configure([POOL], [], [])
    desk.unbound.look()
    assert desk.unbound.given_up == {}


def test_only_released_pods_with_gpus_are_watched(desk: Desk) -> None:
    desk.release("gated", gates=(names.GATE,))
    desk.release("small", demand=Resources(0, 1000, 1))
    desk.release("bound")
    desk.change("bound", node="n1")
    desk.now += 60
    reports = {"acme": TenantReport()}
    desk.unbound.add_to(reports)
    assert reports["acme"].waiting == {}

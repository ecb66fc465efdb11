"""What the API server sends becomes the core's records, for every shape it may send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sovereign_gpu import names
from sovereign_gpu.cluster import decode
from sovereign_gpu.cluster.kinds import NAMESPACES, NODES
from sovereign_gpu.core.model import (
    Constraints,
    Namespace,
    Node,
    NodeTerm,
    Owner,
    PatchShape,
    Pod,
    Requirement,
    Resources,
    Taint,
    Toleration,
)
from tests.cluster.pods import PREFERRED, REQUIRED, pod, read


def node(**parts: Any) -> Node:
    source = {"type": "ADDED", "object": {"metadata": {"name": "n"}, **parts}}
    return decode.node(NODES.events.validate_json(json.dumps(source))["object"])


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}}


def test_a_waiting_pod() -> None:
    found = read(pod(priority=7))
    assert found == Pod(
        uid="uid-a-p",
        namespace="a",
        name="p",
        created=1795435200.0,
        demand=Resources(1, 1500, 2 << 30),
        constraints=Constraints(),
        priority=7,
        gates=(names.GATE,),
    )


def test_a_released_and_bound_pod() -> None:
    said = {"pool": "munich", "node": "n1", "pinned": True}
    found = read(
        pod(
            gated=False,
            node="n1",
            meta={
                "labels": {names.POOL_LABEL: "munich"},
                "annotations": {names.DECISION: json.dumps(said), names.RELEASED_BY: "me/3"},
                "ownerReferences": [
                    {"kind": "X"},
                    {"kind": "Job", "name": "train", "controller": True},
                ],
                "deletionTimestamp": "2026-11-23T12:00:00Z",
            },
        )
    )
    assert (found.pool, found.node, found.planned_node) == ("munich", "n1", "n1")
    assert (found.released_by, found.deleting) == ("me/3", True)
    assert found.owner == Owner("", "Job", "train", "")
    assert found.gates == ()


def test_the_message_is_that_of_the_gate_and_only_while_gated() -> None:
    conditions = [{"type": "Ready"}, {"type": "PodScheduled", "message": "PoolFull: …"}]
    waiting = pod()
    waiting["status"]["conditions"] = conditions
    assert read(waiting).message == "PoolFull: …"
    released = pod(gated=False)
    released["status"]["conditions"] = conditions
    assert read(released).message == ""
    waiting["status"]["conditions"] = [{"type": "PodScheduled"}, {"type": "Ready"}]
    assert read(waiting).message == ""


def test_a_pod_without_status_is_read() -> None:
    source = pod()
    del source["status"]
    assert read(source).message == ""


def test_demand_counts_init_containers_sidecars_overhead_and_the_whole_pod() -> None:
    def asks(gpus: int, **more: Any) -> dict[str, Any]:
        return {"resources": {"requests": {names.GPU_RESOURCE: str(gpus)}}, **more}

    found = read(
        pod(
            containers=[asks(1), asks(1), {}],
            initContainers=[asks(1, restartPolicy="Always"), asks(4)],
            overhead={"memory": "1Ki"},
            resources={"requests": {"cpu": "2"}},
        )
    )
    assert found.demand == Resources(5, 2000, 1024)


def test_constraints_are_read_as_written() -> None:
    found = read(
        pod(
            nodeSelector={"z": "1", "a": "2"},
            affinity=required(
                {"matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]},
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]},
                {},
            ),
            tolerations=[{"operator": "Exists"}, {"key": "k", "value": "v", "effect": "NoExecute"}],
        )
    )
    assert found.constraints == Constraints(
        selector=(("a", "2"), ("z", "1")),
        terms=(
            NodeTerm(labels=(Requirement("k", "In", ("v",)),)),
            NodeTerm(fields=(Requirement("metadata.name", "In", ("n",)),)),
            NodeTerm(),
        ),
        tolerations=(Toleration("", "Exists"), Toleration("k", "Equal", "v", "NoExecute")),
    )


@pytest.mark.parametrize(
    ("affinity", "shape"),
    [
        (None, PatchShape()),
        ({}, PatchShape(affinity=True)),
        ({"podAffinity": {}}, PatchShape(affinity=True)),
        ({"nodeAffinity": {}}, PatchShape(affinity=True, node_affinity=True)),
        (
            {"nodeAffinity": {PREFERRED: [{"weight": 1, "preference": {}}]}},
            PatchShape(affinity=True, node_affinity=True, preferred=True),
        ),
        (
            required(
                {"matchFields": [{"key": "metadata.name", "operator": "In"}]},
                {"matchExpressions": []},
                {},
            ),
            PatchShape(
                affinity=True,
                node_affinity=True,
                required=((False, True), (False, False), (False, False)),
            ),
        ),
        (
            {"nodeAffinity": {REQUIRED: {}}},
            PatchShape(affinity=True, node_affinity=True, required=()),
        ),
    ],
)
def test_the_shape_tells_what_a_patch_finds(
    affinity: dict[str, Any] | None, shape: PatchShape
) -> None:
    source = pod() if affinity is None else pod(affinity=affinity)
    assert read(source).shape == shape


def test_the_shape_tells_whether_there_are_labels_and_annotations() -> None:
    assert read(pod(meta={"labels": {}})).shape == PatchShape(labels=True)
    assert read(pod(meta={"annotations": {"a": "b"}})).shape == PatchShape(annotations=True)


@pytest.mark.parametrize(
    "spec",
    [
        {"affinity": {"podAffinity": {}}},
        {"affinity": {"podAntiAffinity": {}}},
        {"topologySpreadConstraints": [{"maxSkew": 1}]},
        {"volumes": [{"name": "x"}, {"persistentVolumeClaim": {"claimName": "c"}}]},
        {"volumes": [{"ephemeral": {}}]},
        {"initContainers": [{"ports": [{"containerPort": 1}, {"hostPort": 80}]}]},
        {"containers": [{"ports": [{"hostPort": 80}]}]},
        {"containers": [{"resources": {"requests": {"ephemeral-storage": "1Gi"}}}]},
        {"resources": {"requests": {"hugepages-2Mi": "2Mi"}}},
    ],
)
def test_where_kube_scheduler_must_choose(spec: dict[str, Any]) -> None:
    assert read(pod(**spec)).follows_others


def test_where_the_engine_may_choose() -> None:
    spec = {
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [],
        "volumes": [{"emptyDir": {}}],
        "initContainers": [{"ports": [{"containerPort": 80, "hostPort": 0}]}],
    }
    assert not read(pod(**spec)).follows_others


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2026-11-23T12:00:00Z", 1795435200.0),
        ("2026-11-23T13:00:00+01:00", 1795435200.0),
        ("2026-11-23T12:00:00.250000Z", 1795435200.25),
        ("2026-11-23T12:00:00.000000250Z", 1795435200.0),
        ("9999-12-31T23:59:59Z", 253402300799.0),
        ("0001-01-01T00:00:00Z", -62135596800.0),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert decode.timestamp(text) == seconds


@pytest.mark.parametrize(
    "decision",
    [
        "",
        "{",
        "null",
        "7",
        "[]",
        '"node"',
        "{}",
        '{"node": 7}',
        '{"node": null}',
        '{"node": {"node": "n"}}',
        "[" * 100_000,
        "9" * 10_000,
        "NaN",
    ],
)
def test_a_decision_that_is_no_decision_plans_nothing(decision: str) -> None:
    assert read(pod(meta={"annotations": {names.DECISION: decision}})).planned_node == ""


class TestSharing:
    """Equal parts of many pods are one object, and only parts of one type are equal."""

    def test_pods_of_one_shape_share_it(self) -> None:
        first, second = (read(pod(f"p{i}", nodeSelector={"a": "b"})) for i in range(2))
        assert first.constraints is second.constraints
        assert first.demand is second.demand

    def test_gates_named_like_a_taint_do_not_become_one(self) -> None:
        gates = [{"name": "taint.example/k"}, {"name": "v"}, {"name": "NoSchedule"}]
        assert type(read(pod(schedulingGates=gates)).gates) is tuple
        taint = {"key": "taint.example/k", "value": "v", "effect": "NoSchedule"}
        (found,) = node(spec={"taints": [taint]}).taints
        assert isinstance(found, Taint)

    def test_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decode, "_SHARED_LIMIT", 10)
        for i in range(50):
            read(pod(nodeSelector={"a": str(i)}))
        assert len(decode._shared) < 30  # noqa: SLF001


def test_a_node() -> None:
    found = node(
        metadata={"name": "n", "labels": {"a": "b"}},
        spec={"taints": [{"key": "k", "effect": "NoSchedule"}], "unschedulable": True},
        status={
            "capacity": {
                "cpu": "224",
                "memory": "2113513752Ki",
                "nvidia.com/gpu": "8",
                "pods": "1",
            },
            "allocatable": {"cpu": "223500m", "memory": "2Ti", "nvidia.com/gpu": "7"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    )
    assert found == Node(
        name="n",
        labels={"a": "b"},
        taints=(Taint("k", "", "NoSchedule"),),
        capacity=Resources(8, 224000, 2113513752 << 10),
        allocatable=Resources(7, 223500, 2 << 40),
        ready=True,
        unschedulable=True,
    )


@pytest.mark.parametrize(
    "conditions",
    [[], [{"type": "Ready", "status": "Unknown"}], [{"type": "DiskPressure", "status": "True"}]],
)
def test_a_node_that_does_not_say_ready_is_not(conditions: list[dict[str, str]]) -> None:
    assert not node(status={"conditions": conditions}).ready


def test_a_node_that_just_registered_has_nothing() -> None:
    assert node() == Node("n", {}, (), Resources(), Resources(), ready=False, unschedulable=False)


def test_namespaces() -> None:
    def space(**meta: Any) -> Namespace:
        source = {"type": "ADDED", "object": {"metadata": {"name": "a", **meta}}}
        return decode.namespace(NAMESPACES.events.validate_json(json.dumps(source))["object"])

    assert space() == Namespace("a")
    assert space(
        labels={names.TENANT_LABEL: "t", names.ENFORCEMENT_LABEL: "Deny", "other": "x"},
        annotations={names.RESIDENCY: "eu", names.REGIONS: "", names.WARN_REGIONS: "r", "a": "b"},
        deletionTimestamp="2026-11-23T12:00:00Z",
    ) == Namespace(
        name="a",
        tenant="t",
        marks=(
            (names.ENFORCEMENT_LABEL, "Deny"),
            (names.REGIONS, ""),
            (names.RESIDENCY, "eu"),
            (names.TENANT_LABEL, "t"),
            (names.WARN_REGIONS, "r"),
        ),
        deleting=True,
    )

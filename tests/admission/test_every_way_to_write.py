"""What is protected stays, by whatever verb, kind of patch and part of the object it is written."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from rig.client import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from sovereign_gpu import names
from tests.admission.world import (
    AWAY,
    FREE,
    GOVERNED,
    HOME,
    RESIDENCY_LABEL,
    World,
    namespace_path,
    pod,
    pods_path,
)

if TYPE_CHECKING:
    from rig.client import Client, Response

GATED = f"{pods_path(GOVERNED)}/gated"
REFUSED = frozenset({403, 409, 415, 422})


@dataclass(frozen=True)
class Mark:
    """A label or annotation, and a value that an attacker would like."""

    of: str
    part: str
    key: str
    value: str | None


MARKS = {
    "tenant-of-a-namespace": Mark("space", "labels", names.TENANT_LABEL, "bolt"),
    "tenant-taken-off": Mark("space", "labels", names.TENANT_LABEL, None),
    "contents-taken-off": Mark("space", "labels", names.CONTENTS_LABEL, "Open"),
    "regions-of-a-namespace": Mark("space", "annotations", names.REGIONS, f"{HOME},{AWAY}"),
    "regions-taken-off": Mark("space", "annotations", names.REGIONS, None),
    "registries-of-a-namespace": Mark("space", "annotations", names.REGISTRIES, "evil/"),
    "residency-of-a-namespace": Mark("space", "annotations", names.RESIDENCY, ""),
    "pool-of-a-node": Mark("abroad", "labels", names.NODE_POOL_LABEL, "munich"),
    "residency-of-a-node": Mark("abroad", "labels", RESIDENCY_LABEL, names.NODE_ALLOWED),
    "machine-of-a-node": Mark("node", "labels", names.NODE_MACHINE_LABEL, "u0"),
    "region-of-a-pool-node": Mark("node", "labels", names.REGION_LABEL, AWAY),
    "zone-of-a-pool-node": Mark("node", "labels", names.ZONE_LABEL, None),
    "pool-of-a-pod": Mark("pod", "labels", names.POOL_LABEL, "munich"),
    "requester-of-a-pod": Mark("pod", "annotations", names.REQUESTED_BY, "tenant-bolt"),
    "decision-of-a-pod": Mark("pod", "annotations", names.DECISION, "{}"),
    "signature-of-a-pod": Mark("pod", "annotations", names.RELEASED_BY, "x/1"),
    "notice-of-a-pod": Mark("pod", "annotations", names.DRIFT_NOTICE, "{}"),
    "region-of-a-pod": Mark("pod", "labels", names.REGION_LABEL, HOME),
}
PARTS = {
    "space": ("", "status", "finalize"),
    "node": ("", "status"),
    "abroad": ("", "status"),
    "pod": ("", "status", "resize", "ephemeralcontainers"),
}
WAYS = ("json", "merge", "strategic", "apply", "put")


def _path(world: World, of: str) -> str:
    return {
        "space": namespace_path(GOVERNED),
        "node": f"/api/v1/nodes/{world.home}",
        "abroad": f"/api/v1/nodes/{world.away}",
        "pod": GATED,
    }[of]


def _written(client: Client, path: str, part: str, *, way: str, mark: Mark, now: Any) -> Response:
    target = path + (f"/{part}" if part else "")
    dry = {"dryRun": "All"}
    if way == "json":
        key = mark.key.replace("~", "~0").replace("/", "~1")
        place = f"/metadata/{mark.part}"
        ops: list[Any] = [{"op": "add", "path": place, "value": {}}]
        if mark.part in now["metadata"]:
            ops = []
        if mark.value is None:
            ops.append({"op": "remove", "path": f"{place}/{key}"})
        else:
            ops.append({"op": "add", "path": f"{place}/{key}", "value": mark.value})
        return client.patch(target, ops, JSON_PATCH, **dry)
    change = {"metadata": {mark.part: {mark.key: mark.value}}}
    if way in {"merge", "strategic"}:
        kind = MERGE_PATCH if way == "merge" else STRATEGIC_PATCH
        return client.patch(target, change, kind, **dry)
    if way == "apply":
        body = {"apiVersion": now["apiVersion"], "kind": now["kind"], **change}
        body["metadata"]["name"] = now["metadata"]["name"]
        return client.patch(target, body, APPLY_PATCH, fieldManager="x", force="true", **dry)
    body = copy.deepcopy(now)
    held = body["metadata"].setdefault(mark.part, {})
    held.pop(mark.key, None) if mark.value is None else held.update({mark.key: mark.value})
    return client.replace(target, body, **dry)


CASES = [
    pytest.param(mark, part, way, id=f"{name}-{part or 'itself'}-{way}")
    for name, mark in MARKS.items()
    for part, way in itertools.product(PARTS[mark.of], WAYS)
]


@pytest.mark.parametrize(("mark", "part", "way"), CASES)
def test_a_mark_stays_as_it_was(world: World, mark: Mark, part: str, way: str) -> None:
    path = _path(world, mark.of)
    now = world.admin.get(path).must()
    before = now["metadata"].get(mark.part, {}).get(mark.key)
    for who in (world.editor, world.tenant, world.kubelet):
        answer = _written(who, path, part, way=way, mark=mark, now=now)
        if answer.ok:
            kept = answer.body["metadata"].get(mark.part, {}).get(mark.key)
            assert kept == before, f"{answer.request} by {who} wrote {kept}"
        else:
            # Not found and not allowed are what parts without such a verb answer.
            assert answer.status in REFUSED | {404, 405}, answer.message


LIFTS: dict[str, tuple[str, Any]] = {
    "json": (JSON_PATCH, [{"op": "remove", "path": "/spec/schedulingGates"}]),
    "json-one": (JSON_PATCH, [{"op": "remove", "path": "/spec/schedulingGates/0"}]),
    "json-emptied": (JSON_PATCH, [{"op": "replace", "path": "/spec/schedulingGates", "value": []}]),
    "merge": (MERGE_PATCH, {"spec": {"schedulingGates": None}}),
    "merge-emptied": (MERGE_PATCH, {"spec": {"schedulingGates": []}}),
    "strategic": (
        STRATEGIC_PATCH,
        {"spec": {"schedulingGates": [{"name": names.GATE, "$patch": "delete"}]}},
    ),
    "strategic-replaced": (STRATEGIC_PATCH, {"spec": {"schedulingGates": [{"$patch": "replace"}]}}),
}


@pytest.mark.parametrize("part", PARTS["pod"])
@pytest.mark.parametrize("way", LIFTS)
def test_the_gate_stays(world: World, way: str, part: str) -> None:
    kind, body = LIFTS[way]
    target = GATED + (f"/{part}" if part else "")
    for who in (world.tenant, world.editor, world.kubelet, world.binder, world.imager):
        answer = who.patch(target, body, kind, dryRun="All")
        assert not answer.ok or {"name": names.GATE} in answer.body["spec"]["schedulingGates"]


def test_a_gate_that_another_manager_takes_back_by_apply_stays(world: World) -> None:
    """Who applied a pod with the gate may no longer list it: apply then removes it."""
    body = pod("applied-gate", gpus=1, schedulingGates=[{"name": names.GATE}])
    body["metadata"]["namespace"] = GOVERNED
    world.tenant.apply(body, field_manager="mine").must()
    del body["spec"]["schedulingGates"]
    answer = world.tenant.apply(body, field_manager="mine")
    path = f"{pods_path(GOVERNED)}/applied-gate"
    found = world.admin.get(path).must()
    world.admin.delete(path, gracePeriodSeconds=0).must()
    assert {"name": names.GATE} in found["spec"]["schedulingGates"]
    assert not answer.ok or answer.body["spec"]["schedulingGates"]


Make = Callable[[World], "Response"]
NAMELESS: dict[str, Make] = {
    "a-node-name": lambda w: _nameless(w, GOVERNED, nodeName=w.away),
    "tolerations-of-everything": lambda w: _nameless(
        w, GOVERNED, tolerations=[{"operator": "Exists"}]
    ),
    "the-host": lambda w: _nameless(w, GOVERNED, hostPID=True),
    "gpus-without-a-tenant": lambda w: w.tenant.create(
        pods_path(FREE), _generated(pod(gpus=1)), dryRun="All"
    ),
}


def _generated(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "metadata": {"generateName": "any-"}}


def _nameless(world: World, space: str, **spec: Any) -> Response:
    return world.tenant.create(pods_path(space), _generated(pod(**spec)), dryRun="All")


@pytest.mark.parametrize("case", NAMELESS)
def test_a_generated_name_is_no_way_round(world: World, case: str) -> None:
    answer = NAMELESS[case](world)
    assert answer.status == 403
    assert ": found " in answer.message


def test_a_pod_of_every_workload_is_confined_whatever_its_template_says(world: World) -> None:
    """Selectors that fight ours, alternatives, and fields that name a node abroad."""
    term = {"matchExpressions": [{"key": names.REGION_LABEL, "operator": "Exists"}]}
    field = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [world.away]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {}}
    required["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] = [term, field]
    spec = pod(nodeSelector={RESIDENCY_LABEL: "forbidden"}, affinity={"nodeAffinity": required})[
        "spec"
    ]
    made = world.create(world.tenant, GOVERNED, {"metadata": {"name": "x"}, "spec": spec}).must()
    assert made["spec"]["nodeSelector"] == {RESIDENCY_LABEL: names.NODE_ALLOWED}
    labels = {"app": "fights"}
    template = {"metadata": {"labels": labels}, "spec": spec}
    path = f"/apis/apps/v1/namespaces/{GOVERNED}/statefulsets"
    body = {
        "metadata": {"name": "fights"},
        "spec": {
            "serviceName": "fights",
            "selector": {"matchLabels": labels},
            "template": template,
        },
    }
    world.tenant.create(path, body).must()
    found = world.admin.wait(f"{pods_path(GOVERNED)}/fights-0", lambda _: True)
    world.tenant.delete(f"{path}/fights").must()
    assert found["spec"]["nodeSelector"] == {RESIDENCY_LABEL: names.NODE_ALLOWED}


def test_tenants_write_none_of_the_three_kinds(world: World) -> None:
    base = f"/apis/{names.GROUP}/{names.VERSION}"
    for plural in ("gpupools", "tenantquotas", "dataresidencypolicies"):
        for answer in (
            world.tenant.create(f"{base}/{plural}", {"metadata": {"name": "mine"}}),
            world.tenant.patch(f"{base}/{plural}/acme", {"spec": {}}),
            world.tenant.patch(f"{base}/{plural}/acme/status", {"status": {}}),
            world.tenant.delete(f"{base}/{plural}/acme"),
            world.tenant.delete(f"{base}/{plural}"),
        ):
            assert answer.status in {403, 404}, answer.request


def test_tenants_delete_their_own_pods_at_once_and_nothing_else(world: World) -> None:
    world.tenant.delete(pods_path(GOVERNED), dryRun="All").must()
    for path in ("/api/v1/nodes", "/api/v1/namespaces", pods_path("kube-system")):
        assert world.tenant.delete(path, dryRun="All").status == 403

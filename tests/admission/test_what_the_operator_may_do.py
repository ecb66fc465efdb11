"""When the operator is back, the policies let it do its work."""

from __future__ import annotations

from rig.client import STRATEGIC_PATCH
from sovereign_gpu import names
from tests.admission.world import (
    FREE,
    GOVERNED,
    HOME,
    RESIDENCY_LABEL,
    SETTINGS,
    SIGN,
    World,
    namespace_path,
    pods_path,
)


def test_the_operator_releases_with_affinity_and_our_metadata(world: World) -> None:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [world.home]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    release = [
        {"op": "test", "path": "/spec/schedulingGates/0/name", "value": names.GATE},
        {"op": "remove", "path": "/spec/schedulingGates/0"},
        {"op": "add", "path": "/metadata/labels", "value": {names.POOL_LABEL: "munich"}},
        {"op": "add", "path": "/metadata/annotations/sovereign-gpu.io~1decision", "value": "{}"},
        SIGN,
        {"op": "add", "path": "/spec/affinity", "value": {"nodeAffinity": required}},
    ]
    world.patch(world.operator, f"{pods_path(GOVERNED)}/gated", release).must()


def test_the_operator_says_why_a_pod_waits(world: World) -> None:
    path = f"{pods_path(GOVERNED)}/gated/status"
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "SchedulingGated",
        "message": "waits for 1 GPU",
    }
    body = {"status": {"conditions": [condition]}}
    world.patch(world.operator, path, body, STRATEGIC_PATCH).must()


def test_the_operator_announces_an_eviction_takes_it_back_and_evicts(world: World) -> None:
    path = f"{pods_path(GOVERNED)}/running"
    for notice in ('{"node": "x"}', None):
        body = {"metadata": {"annotations": {names.DRIFT_NOTICE: notice}}}
        world.patch(world.operator, path, body).must()
    world.evict(world.operator, path).must()


def test_the_operator_assigns_a_namespace_in_one_patch(world: World) -> None:
    annotations = {
        names.RESIDENCY: "eu-only",
        names.REGIONS: HOME,
        names.WARN_RESIDENCY: "de-only",
        names.WARN_REGIONS: "",
    }
    labels = {names.TENANT_LABEL: "acme"}
    body = {"metadata": {"labels": labels, "annotations": annotations}}
    world.patch(world.operator, namespace_path(FREE), body).must()
    emptied = {"metadata": {"labels": {names.TENANT_LABEL: None}}}
    world.patch(world.operator, namespace_path(GOVERNED), emptied).must()


def test_the_operator_allows_and_forbids_nodes(world: World) -> None:
    away, home = f"/api/v1/nodes/{world.away}", f"/api/v1/nodes/{world.home}"
    allowed = {"metadata": {"labels": {RESIDENCY_LABEL: names.NODE_ALLOWED}}}
    forbidden = {"metadata": {"labels": {RESIDENCY_LABEL: None}}}
    world.patch(world.operator, away, allowed).must()
    world.patch(world.operator, home, forbidden).must()


def test_the_operator_records_a_machine_and_an_administrator_takes_in_another(
    world: World,
) -> None:
    recorded = {"metadata": {"labels": {names.NODE_MACHINE_LABEL: "u0", RESIDENCY_LABEL: None}}}
    world.patch(world.operator, f"/api/v1/nodes/{world.away}", recorded).must()
    forgotten = {"metadata": {"labels": {names.NODE_MACHINE_LABEL: None}}}
    world.patch(world.admin, f"/api/v1/nodes/{world.home}", forgotten).must()


def test_the_operator_is_known_by_the_name_the_chart_gives_it() -> None:
    assert SETTINGS.operator_user == "system:serviceaccount:sovereign-gpu-system:sovereign-gpu"

"""Attacks by changing or creating what says where pods may run: nodes and namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sovereign_gpu import names
from tests.admission.attacks import attack
from tests.admission.world import (
    AWAY,
    GOVERNED,
    HOME,
    RESIDENCY_LABEL,
    World,
    annotated,
    labelled,
    namespace_path,
)

if TYPE_CHECKING:
    from rig.client import Response

# --- nodes -----------------------------------------------------------------------------------
GUARDED = {"spec": {"taints": [{"key": names.COMPANION_TAINT, "effect": "NoSchedule"}]}}


@attack("node-pool-label")
def a_node_put_into_a_pool(world: World) -> Response:
    body = labelled(**{names.NODE_POOL_LABEL: "munich"}) | GUARDED
    return world.patch(world.editor, f"/api/v1/nodes/{world.away}", body)


@attack("node-pool-label", also="node-guarded")
def a_node_put_into_a_pool_through_status(world: World) -> Response:
    body = labelled(**{names.NODE_POOL_LABEL: "munich"})
    return world.patch(world.editor, f"/api/v1/nodes/{world.away}/status", body)


@attack("node-pool-label")
def a_node_created_in_a_pool(world: World) -> Response:
    metadata = {"name": "new", "labels": {names.NODE_POOL_LABEL: "munich"}}
    return world.editor.create("/api/v1/nodes", {"metadata": metadata} | GUARDED, dryRun="All")


@attack("node-pool-label", also="operator-node")
def a_node_put_into_a_pool_by_the_operator(world: World) -> Response:
    body = labelled(**{names.NODE_POOL_LABEL: "munich"}) | GUARDED
    return world.patch(world.operator, f"/api/v1/nodes/{world.away}", body)


@attack("node-machine-label")
def another_machine_recorded(world: World) -> Response:
    body = labelled(**{names.NODE_MACHINE_LABEL: "u00000000"})
    return world.patch(world.editor, f"/api/v1/nodes/{world.home}", body)


@attack("node-machine-label")
def a_recorded_machine_forgotten_through_status(world: World) -> Response:
    body = labelled(**{names.NODE_MACHINE_LABEL: None})
    return world.patch(world.editor, f"/api/v1/nodes/{world.home}/status", body)


@attack("node-machine-label")
def a_machine_recorded_by_somebody_else(world: World) -> Response:
    body = labelled(**{names.NODE_MACHINE_LABEL: "u00000000"})
    return world.patch(world.editor, f"/api/v1/nodes/{world.away}", body)


@attack("node-machine-label", also="operator-node")
def another_machine_recorded_by_the_operator(world: World) -> Response:
    body = labelled(**{names.NODE_MACHINE_LABEL: "u00000000"})
    return world.patch(world.operator, f"/api/v1/nodes/{world.home}", body)


@attack("node-machine-label", also="operator-node")
def a_recorded_machine_forgotten_by_the_operator(world: World) -> Response:
    body = labelled(**{names.NODE_MACHINE_LABEL: None})
    return world.patch(world.operator, f"/api/v1/nodes/{world.home}", body)


@attack("node-residency-label")
def a_node_allowed_by_its_editor(world: World) -> Response:
    body = labelled(**{RESIDENCY_LABEL: names.NODE_ALLOWED})
    return world.patch(world.editor, f"/api/v1/nodes/{world.away}", body)


@attack("node-residency-label")
def a_node_created_allowed(world: World) -> Response:
    metadata = {"name": "new", "labels": {RESIDENCY_LABEL: names.NODE_ALLOWED}}
    return world.editor.create("/api/v1/nodes", {"metadata": metadata}, dryRun="All")


@attack("node-location")
def the_region_of_a_pool_node_changed_by_its_kubelet(world: World) -> Response:
    body = labelled(**{names.REGION_LABEL: AWAY})
    return world.patch(world.kubelet, f"/api/v1/nodes/{world.home}", body)


@attack("node-location")
def the_region_of_a_pool_node_changed_through_status(world: World) -> Response:
    body = labelled(**{names.REGION_LABEL: AWAY})
    return world.patch(world.kubelet, f"/api/v1/nodes/{world.home}/status", body)


@attack("node-location")
def the_zone_of_a_pool_node_removed(world: World) -> Response:
    body = labelled(**{names.ZONE_LABEL: None})
    return world.patch(world.editor, f"/api/v1/nodes/{world.home}", body)


@attack("node-taint")
def the_taint_of_a_pool_node_removed(world: World) -> Response:
    body = {"spec": {"taints": None}}
    return world.patch(world.editor, f"/api/v1/nodes/{world.home}", body)


@attack("node-guarded")
def a_node_with_gpus_put_into_a_pool_without_its_taint(world: World) -> Response:
    metadata = {"name": "new", "labels": {names.NODE_POOL_LABEL: "munich"}}
    body = {"metadata": metadata, "status": {"capacity": {"nvidia.com/gpu": "8"}}}
    return world.admin.create("/api/v1/nodes", body, dryRun="All")


@attack("node-guarded")
def a_companion_put_into_a_pool_without_its_taint(world: World) -> Response:
    metadata = {"name": "new", "labels": {names.NODE_POOL_LABEL: "munich"}}
    return world.admin.create("/api/v1/nodes", {"metadata": metadata}, dryRun="All")


# --- namespaces ------------------------------------------------------------------------------
FREED = {names.TENANT_LABEL: None}


@attack("namespace-tenant")
def a_namespace_freed_from_its_tenant(world: World) -> Response:
    return world.patch(world.editor, namespace_path(GOVERNED), labelled(**FREED))


@attack("namespace-tenant")
def a_namespace_freed_through_status(world: World) -> Response:
    return world.patch(world.editor, f"{namespace_path(GOVERNED)}/status", labelled(**FREED))


@attack("namespace-tenant")
def a_namespace_freed_through_finalize(world: World) -> Response:
    body = world.editor.get(namespace_path(GOVERNED)).must()
    del body["metadata"]["labels"][names.TENANT_LABEL]
    return world.editor.replace(f"{namespace_path(GOVERNED)}/finalize", body, dryRun="All")


@attack("namespace-tenant")
def more_regions_for_a_namespace(world: World) -> Response:
    body = annotated(names.REGIONS, f"{HOME},{AWAY}")
    return world.patch(world.editor, namespace_path(GOVERNED), body)


@attack("namespace-tenant")
def more_regions_through_status(world: World) -> Response:
    body = annotated(names.REGIONS, f"{HOME},{AWAY}")
    return world.patch(world.editor, f"{namespace_path(GOVERNED)}/status", body)


@attack("namespace-tenant")
def a_namespace_created_with_a_tenant(world: World) -> Response:
    metadata = {"name": "new", "labels": {names.TENANT_LABEL: "acme"}}
    return world.editor.create("/api/v1/namespaces", {"metadata": metadata}, dryRun="All")

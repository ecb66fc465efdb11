"""Attacks by changing pods, by binding, and with stolen credentials of the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rig.client import STRATEGIC_PATCH
from sovereign_gpu import names
from tests.admission.attacks import attack
from tests.admission.world import (
    AWAY,
    EXEMPT,
    FREE,
    GOVERNED,
    HOME,
    LIFT,
    SIGN,
    WARNED,
    World,
    annotated,
    labelled,
    namespace_path,
    pods_path,
)

if TYPE_CHECKING:
    from rig.client import Response

GATED, RUNNING = f"{pods_path(GOVERNED)}/gated", f"{pods_path(GOVERNED)}/running"
UNGOVERNED = f"{pods_path(FREE)}/unbound"
INFRA = f"{pods_path('kube-system')}/infra"
SWAP = {"op": "replace", "path": "/spec/containers/0/image", "value": "registry.invalid/evil:1"}
FORGED = {names.REGION_LABEL: HOME, names.ZONE_LABEL: "forged"}


# --- the gate --------------------------------------------------------------------------------
@attack("release")
def the_gate_lifted_by_the_tenant(world: World) -> Response:
    return world.patch(world.tenant, GATED, [LIFT])


@attack("release")
def the_gate_exchanged_for_another_one(world: World) -> Response:
    body = world.tenant.get(GATED).must()
    body["spec"]["schedulingGates"] = []
    return world.tenant.replace(GATED, body, dryRun="All")


@attack("pod-metadata-update")
def the_pool_label_written_by_the_tenant(world: World) -> Response:
    return world.patch(world.tenant, RUNNING, labelled(**{names.POOL_LABEL: "other"}))


@attack("pod-metadata-update")
def the_requester_rewritten_by_the_tenant(world: World) -> Response:
    return world.patch(world.tenant, GATED, annotated(names.REQUESTED_BY, "tenant-other"))


@attack("pod-metadata-update")
def the_requester_removed_by_the_tenant(world: World) -> Response:
    return world.patch(world.tenant, GATED, annotated(names.REQUESTED_BY, None))


@attack("pod-metadata-update")
def an_eviction_postponed_by_the_tenant(world: World) -> Response:
    return world.patch(world.tenant, RUNNING, annotated(names.DRIFT_NOTICE, "{}"))


@attack("pod-metadata-status")
def the_requester_rewritten_by_a_kubelet(world: World) -> Response:
    body = annotated(names.REQUESTED_BY, "tenant-other")
    return world.patch(world.kubelet, f"{RUNNING}/status", body)


@attack("pod-metadata-status")
def the_pool_label_written_through_status(world: World) -> Response:
    body = labelled(**{names.POOL_LABEL: "other"})
    return world.patch(world.editor, f"{RUNNING}/status", body)


@attack("pod-location-update")
def the_region_of_a_pod_rewritten(world: World) -> Response:
    return world.patch(world.tenant, RUNNING, labelled(**{names.REGION_LABEL: AWAY}))


@attack("pod-location-update")
def the_zone_of_a_pod_removed(world: World) -> Response:
    return world.patch(world.tenant, RUNNING, labelled(**{names.ZONE_LABEL: None}))


@attack("pod-location-status")
def the_region_of_a_pod_rewritten_through_status(world: World) -> Response:
    body = labelled(**{names.REGION_LABEL: AWAY})
    return world.patch(world.editor, f"{RUNNING}/status", body)


def _tolerating(world: World, path: str, **toleration: str) -> Response:
    add = {"op": "add", "path": "/spec/tolerations/-", "value": toleration}
    return world.patch(world.tenant, path, [add])


@attack("toleration-update")
def a_toleration_of_the_gpu_taint_added_later(world: World) -> Response:
    return _tolerating(world, UNGOVERNED, key=names.GPU_TAINT, operator="Exists")


@attack("toleration-update")
def a_toleration_of_everything_added_later(world: World) -> Response:
    return _tolerating(world, UNGOVERNED, operator="Exists")


@attack("toleration-update")
def any_toleration_added_to_a_governed_pod(world: World) -> Response:
    return _tolerating(world, GATED, key="example.com/other", operator="Exists")


@attack("ephemeral-privileged")
def a_privileged_ephemeral_container(world: World) -> Response:
    debug = {"name": "debug", "image": "x", "securityContext": {"privileged": True}}
    return _debugging(world, debug)


@attack("ephemeral-device-env")
def all_devices_by_environment_of_an_ephemeral_container(world: World) -> Response:
    env = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]
    return _debugging(world, {"name": "debug", "image": "x", "env": env})


def _debugging(world: World, container: dict[str, Any]) -> Response:
    body = {"spec": {"ephemeralContainers": [container]}}
    return world.patch(world.admin, f"{RUNNING}/ephemeralcontainers", body, STRATEGIC_PATCH)


# --- stolen credentials of the operator ------------------------------------------------------
@attack("release-spec")
def an_image_swapped_by_the_operator(world: World) -> Response:
    return world.patch(world.operator, RUNNING, [SWAP])


@attack("release-spec")
def an_image_swapped_with_the_release(world: World) -> Response:
    return world.patch(world.operator, GATED, [LIFT, SIGN, SWAP])


@attack("fence")
def a_release_by_a_leader_that_was_replaced(world: World) -> Response:
    return world.patch(world.operator, GATED, [LIFT, {**SIGN, "value": "leader/2"}])


@attack("fence")
def a_release_under_the_number_of_the_lease_by_another(world: World) -> Response:
    return world.patch(world.operator, GATED, [LIFT, {**SIGN, "value": "other/3"}])


@attack("fence")
def a_release_that_nobody_signed(world: World) -> Response:
    return world.patch(world.operator, GATED, [LIFT])


@attack("release-spec")
def an_image_swapped_with_a_release_by_somebody_else(world: World) -> Response:
    return world.patch(world.admin, GATED, [LIFT, SWAP])


@attack("release-spec")
def an_image_of_an_exempt_namespace_swapped_by_the_operator(world: World) -> Response:
    return world.patch(world.operator, INFRA, [SWAP])


@attack("release-spec")
def a_deadline_set_by_the_operator(world: World) -> Response:
    deadline = {"op": "add", "path": "/spec/activeDeadlineSeconds", "value": 1}
    return world.patch(world.operator, RUNNING, [deadline])


@attack("release-metadata")
def a_label_of_others_written_by_the_operator(world: World) -> Response:
    return world.patch(world.operator, RUNNING, labelled(app="hijacked"))


@attack("release-metadata")
def a_finalizer_written_by_the_operator(world: World) -> Response:
    body = {"metadata": {"finalizers": ["example.com/hold"]}}
    return world.patch(world.operator, RUNNING, body)


@attack("operator-status")
def a_pod_declared_failed_by_the_operator(world: World) -> Response:
    return world.patch(world.operator, f"{RUNNING}/status", {"status": {"phase": "Failed"}})


@attack("operator-status")
def a_pod_of_an_exempt_namespace_declared_failed_by_the_operator(world: World) -> Response:
    return world.patch(world.operator, f"{INFRA}/status", {"status": {"phase": "Failed"}})


@attack("operator-status")
def a_pod_declared_ready_by_the_operator(world: World) -> Response:
    conditions = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    path = f"{RUNNING}/status"
    return world.patch(world.operator, path, conditions, STRATEGIC_PATCH)


@attack("operator-eviction")
def a_pod_of_an_exempt_namespace_evicted_by_the_operator(world: World) -> Response:
    return world.evict(world.operator, INFRA)


@attack("operator-eviction")
def a_pod_of_no_tenant_evicted_by_the_operator(world: World) -> Response:
    return world.evict(world.operator, UNGOVERNED)


@attack("operator-node")
def a_node_relabelled_by_the_operator(world: World) -> Response:
    body = labelled(**{"node-role.kubernetes.io/control-plane": ""})
    return world.patch(world.operator, f"/api/v1/nodes/{world.home}", body)


@attack("operator-node")
def a_node_cordoned_by_the_operator(world: World) -> Response:
    body = {"spec": {"unschedulable": True}}
    return world.patch(world.operator, f"/api/v1/nodes/{world.away}", body)


@attack("operator-namespace")
def a_namespace_relabelled_by_the_operator(world: World) -> Response:
    body = labelled(**{"pod-security.kubernetes.io/enforce": "privileged"})
    return world.patch(world.operator, namespace_path(GOVERNED), body)


@attack("namespace-exempt")
def an_exempt_namespace_given_to_a_tenant(world: World) -> Response:
    return world.patch(
        world.operator, namespace_path(EXEMPT), labelled(**{names.TENANT_LABEL: "acme"})
    )


# --- binding ---------------------------------------------------------------------------------
@attack("binder")
def a_binding_by_somebody_else(world: World) -> Response:
    return world.bind(world.binder, GOVERNED, world.home)


@attack("binder")
def a_binding_to_a_pool_node_without_a_tenant(world: World) -> Response:
    return world.bind(world.binder, FREE, world.home)


@attack("binder")
def a_binding_to_a_node_that_does_not_exist_yet(world: World) -> Response:
    return world.bind(world.binder, GOVERNED, "not-yet", labels=FORGED)


@attack("binding-target")
def a_binding_of_no_kind_with_a_forged_region(world: World) -> Response:
    return world.bind(world.scheduler, GOVERNED, world.away, kind="", labels=FORGED)


@attack("binding-metadata")
def our_metadata_on_a_binding(world: World) -> Response:
    return world.bind(world.scheduler, GOVERNED, world.home, labels={names.POOL_LABEL: "other"})


@attack("binding-region-unknown")
def a_binding_to_a_node_without_a_region(world: World) -> Response:
    return world.bind(world.scheduler, GOVERNED, world.bare)


@attack("binding-region")
def a_binding_abroad(world: World) -> Response:
    return world.bind(world.scheduler, GOVERNED, world.away)


@attack("binding-region")
def a_binding_abroad_with_a_forged_region(world: World) -> Response:
    return world.bind(world.scheduler, GOVERNED, world.away, labels=FORGED)


@attack("legacy-binding")
def a_binding_through_the_legacy_resource(world: World) -> Response:
    return world.bind(world.binder, GOVERNED, world.away, labels=FORGED, door="bindings")


@attack("legacy-binding")
def a_binding_through_the_legacy_resource_by_kube_scheduler(world: World) -> Response:
    return world.bind(world.admin, FREE, world.home, door="bindings")


@attack("binding-region-warning", warns=True)
def a_binding_that_a_policy_would_refuse(world: World) -> Response:
    return world.bind(world.scheduler, WARNED, world.away)

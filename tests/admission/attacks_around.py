"""Attacks that say the same in another spelling, through another door, or at another time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rig.client import STRATEGIC_PATCH
from sovereign_gpu import names
from tests.admission.attacks import attack
from tests.admission.attacks_devices import device_claim
from tests.admission.attacks_leave import as_from, network_policy_of_operator
from tests.admission.world import (
    FREE,
    GOVERNED,
    LEAVING,
    STRICT,
    WARNED,
    World,
    annotated,
    claims_path,
    daemonset,
    daemonsets_path,
    group_snapshots_path,
    namespace_path,
    network_policies_path,
    pod,
    pods_path,
    volume_claim,
)

if TYPE_CHECKING:
    from rig.client import Response

BETA = {"volume.beta.kubernetes.io/storage-class": "us-cheap"}
BY_CLASS = "deviceclass.resource.kubernetes.io/gpu.nvidia.com"
CLAIMS = f"/apis/resource.k8s.io/v1/namespaces/{FREE}"
UNBOUND = f"{pods_path(GOVERNED)}/unbound"
DEBUG = {"name": "debug", "image": "registry.invalid/sh:1", "command": ["sh"]}


# --- older and newer spellings ---------------------------------------------------------------
@attack("claim-class")
def a_claim_of_another_class_by_its_older_annotation(world: World) -> Response:
    body = volume_claim("x", "eu-fast")
    body["metadata"]["annotations"] = BETA
    return world.tenant.create(claims_path(STRICT), body, dryRun="All")


@attack("volume-class")
def an_ephemeral_volume_of_another_class_by_its_older_annotation(world: World) -> Response:
    template = {"metadata": {"annotations": BETA}, "spec": volume_claim("x", "eu-fast")["spec"]}
    volume = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}
    return world.create(world.tenant, STRICT, pod(volumes=[volume]))


@attack("snapshot-class")
def a_snapshot_of_a_group_of_another_class(world: World) -> Response:
    body = {
        "apiVersion": "groupsnapshot.storage.k8s.io/v1beta2",
        "kind": "VolumeGroupSnapshot",
        "metadata": {"name": "x"},
        "spec": {"volumeGroupSnapshotClassName": "us-cheap"},
    }
    return world.admin.create(group_snapshots_path(STRICT), body, dryRun="All")


@attack("snapshot-class-warning", warns=True)
def a_snapshot_of_a_group_warned(world: World) -> Response:
    body = {
        "apiVersion": "groupsnapshot.storage.k8s.io/v1beta2",
        "kind": "VolumeGroupSnapshot",
        "metadata": {"name": "x"},
        "spec": {"volumeGroupSnapshotClassName": "us-cheap"},
    }
    return world.admin.create(group_snapshots_path(WARNED), body, dryRun="All")


def _given_another_class(world: World, namespace: str) -> Response:
    body = {"spec": {"volumeGroupSnapshotClassName": "us-cheap"}}
    return world.patch(world.admin, f"{group_snapshots_path(namespace)}/older", body)


@attack("snapshot-class")
def a_snapshot_of_a_group_given_another_class_later(world: World) -> Response:
    return _given_another_class(world, STRICT)


@attack("snapshot-class-warning", warns=True)
def a_snapshot_of_a_group_given_another_class_later_warned(world: World) -> Response:
    return _given_another_class(world, WARNED)


@attack("image-registry")
def an_image_of_a_registry_in_capitals(world: World) -> Response:
    """To container runtimes a first part in capitals is a host, with or without a dot."""
    return world.create(world.tenant, STRICT, pod(container={"image": "EVIL/app:1"}))


def _annotated(world: World, key: str) -> Response:
    return world.create(world.tenant, GOVERNED, pod(metadata={"annotations": {key: "- all"}}))


@attack("device-annotation")
def a_device_by_a_plugin_of_nvidias_toolkit(world: World) -> Response:
    return _annotated(world, "cdi-devices.noderesource.dev/pod")


@attack("device-annotation")
def a_device_by_the_bare_key_of_a_plugin(world: World) -> Response:
    return _annotated(world, "devices.noderesource.dev")


@attack("device-annotation")
def a_directory_of_the_host_by_an_annotation(world: World) -> Response:
    return _annotated(world, "mounts.nri.io/container.main")


@attack("device-annotation")
def a_device_by_the_newer_annotation_of_cri_o(world: World) -> Response:
    return _annotated(world, "devices.crio.io/main")


@attack("privileged")
def a_capability_to_open_any_file_of_the_host(world: World) -> Response:
    context = {"securityContext": {"capabilities": {"add": ["DAC_READ_SEARCH"]}}}
    return world.create(world.tenant, GOVERNED, pod(container=context))


# --- GPUs by their DeviceClass, where nobody counts ------------------------------------------
def _by_class() -> dict[str, Any]:
    return pod(container={"resources": {"limits": {BY_CLASS: "1"}}})


@attack("gpu-needs-tenant")
def a_gpu_by_its_device_class_without_a_tenant(world: World) -> Response:
    return world.create(world.tenant, FREE, _by_class())


@attack("daemonset-gpu")
def a_daemonset_with_gpus_by_their_device_class(world: World) -> Response:
    return world.tenant.create(daemonsets_path(FREE), daemonset(_by_class()), dryRun="All")


def _exactly(kind: str) -> dict[str, Any]:
    return {"name": "one", "exactly": {"deviceClassName": kind}}


@attack("claim-gpu-needs-tenant")
def a_claim_of_a_gpu_without_a_tenant(world: World) -> Response:
    body = device_claim("x", _exactly("gpu.nvidia.com"))
    return world.admin.create(f"{CLAIMS}/resourceclaims", body, dryRun="All")


@attack("claim-gpu-needs-tenant")
def a_claim_of_a_gpu_by_a_class_that_the_chart_names(world: World) -> Response:
    choices = [{"name": n, "deviceClassName": n} for n in ("nic", "fast")]
    body = device_claim("x", {"name": "one", "firstAvailable": choices})
    return world.admin.create(f"{CLAIMS}/resourceclaims", body, dryRun="All")


@attack("claim-template-gpu-needs-tenant")
def a_template_of_claims_of_a_gpu_without_a_tenant(world: World) -> Response:
    body = device_claim("x", _exactly("mig.nvidia.com"))
    template = {"metadata": {"name": "x"}, "spec": {"spec": body["spec"]}}
    return world.admin.create(f"{CLAIMS}/resourceclaimtemplates", template, dryRun="All")


# --- other doors -----------------------------------------------------------------------------
@attack("device-annotation-status")
def a_device_by_an_annotation_through_status(world: World) -> Response:
    body = annotated("cdi.k8s.io/gpus", "nvidia.com/gpu=all")
    return world.patch(world.editor, f"{UNBOUND}/status", body)


@attack("binding-metadata")
def a_device_by_an_annotation_of_a_binding(world: World) -> Response:
    notes = {"cdi.k8s.io/gpus": "nvidia.com/gpu=all"}
    body = {
        "metadata": {"name": "unbound", "annotations": notes},
        "target": {"kind": "Node", "name": world.home},
    }
    return world.scheduler.create(f"{UNBOUND}/binding", body, dryRun="All")


@attack("access-country")
def a_command_in_a_container_beside_the_tenants(world: World) -> Response:
    path = f"{pods_path(STRICT)}/unbound/ephemeralcontainers"
    body = {"spec": {"ephemeralContainers": [DEBUG]}}
    headers = as_from("US")
    return world.admin.request(
        "PATCH", path, body, headers=headers, content_type=STRATEGIC_PATCH, dryRun="All"
    )


@attack("access-country-warning", warns=True)
def a_command_in_a_container_beside_the_tenants_warned(world: World) -> Response:
    path = f"{pods_path(WARNED)}/unbound/ephemeralcontainers"
    body = {"spec": {"ephemeralContainers": [DEBUG]}}
    return world.patch(world.admin, path, body, STRATEGIC_PATCH)


def _kubelet(world: World, path: str, method: str = "POST") -> Response:
    return world.admin.request(method, f"/api/v1/nodes/{world.home}/proxy/{path}")


@attack("node-proxy", connects=True)
def a_command_through_the_kubelet(world: World) -> Response:
    return _kubelet(world, f"run/{STRICT}/unbound/main")


@attack("node-proxy", connects=True)
def a_terminal_through_the_kubelet(world: World) -> Response:
    return _kubelet(world, f"exec/{STRICT}/unbound/main", "GET")


@attack("node-proxy", connects=True)
def a_copy_of_the_memory_through_the_kubelet(world: World) -> Response:
    return _kubelet(world, f"checkpoint/{STRICT}/unbound/main")


@attack("node-proxy", connects=True)
def a_command_through_the_kubelet_by_an_untidy_path(world: World) -> Response:
    return _kubelet(world, f"metrics/..%2frun/{STRICT}/unbound/main")


# --- other times -----------------------------------------------------------------------------
@attack("egress-policy")
def the_policy_of_packets_widened_while_its_namespace_ends(world: World) -> Response:
    path = f"{network_policies_path(LEAVING)}/{names.EGRESS_POLICY}"
    return world.patch(world.tenant, path, {"spec": {"egress": [{}]}})


@attack("egress-policy")
def the_policy_of_packets_deleted_while_its_namespace_ends(world: World) -> Response:
    path = f"{network_policies_path(LEAVING)}/{names.EGRESS_POLICY}"
    return world.tenant.delete(path, dryRun="All")


@attack("node-taint")
def the_taint_of_a_pool_node_made_one_that_many_tolerate(world: World) -> Response:
    taints = [{"key": names.GPU_TAINT, "value": "present", "effect": "NoExecute"}]
    return world.patch(world.editor, f"/api/v1/nodes/{world.home}", {"spec": {"taints": taints}})


@attack("node-taint")
def the_taint_of_a_gpu_node_made_that_of_a_companion(world: World) -> Response:
    taints = [{"key": names.COMPANION_TAINT, "effect": "NoSchedule"}]
    return world.patch(world.editor, f"/api/v1/nodes/{world.home}", {"spec": {"taints": taints}})


@attack("node-guarded")
def a_node_put_into_a_pool_with_a_taint_that_many_tolerate(world: World) -> Response:
    metadata = {"name": "new", "labels": {names.NODE_POOL_LABEL: "munich"}}
    taints = [{"key": names.COMPANION_TAINT, "effect": "NoExecute"}]
    body = {"metadata": metadata, "spec": {"taints": taints}}
    return world.admin.create("/api/v1/nodes", body, dryRun="All")


# --- stolen credentials of the operator ------------------------------------------------------
@attack("operator-status")
def a_running_pod_declared_waiting_by_the_operator(world: World) -> Response:
    waits = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    conditions = {"status": {"conditions": [waits | {"message": "x"}]}}
    running = world.operator.get(f"{pods_path(GOVERNED)}/running").must()
    conditions["status"]["conditions"] += running["status"]["conditions"]
    return world.patch(world.operator, f"{pods_path(GOVERNED)}/running/status", conditions)


@attack("operator-network-policy")
def a_policy_of_packets_that_never_ends_by_the_operator(world: World) -> Response:
    body = network_policy_of_operator(STRICT)
    body["metadata"]["finalizers"] = ["example.com/hold"]
    return world.operator.apply(body, dry_run=True)


@attack("operator-namespace")
def a_namespace_that_never_ends_by_the_operator(world: World) -> Response:
    body = {"metadata": {"finalizers": ["example.com/hold"]}}
    return world.patch(world.operator, namespace_path(GOVERNED), body)

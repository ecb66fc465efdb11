"""Attacks by creating pods and DaemonSets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sovereign_gpu import names
from tests.admission.attacks import attack
from tests.admission.world import (
    CI,
    FREE,
    GOVERNED,
    RESIDENCY_LABEL,
    STRICT,
    WARNED,
    World,
    daemonset,
    daemonsets_path,
    pod,
)

if TYPE_CHECKING:
    from rig.client import Response

MIRROR = {
    "annotations": {
        "kubernetes.io/config.mirror": "forged",
        "kubernetes.io/config.hash": "forged",
        "kubernetes.io/config.source": "file",
    },
}


# --- GPUs that would not be counted ----------------------------------------------------------
@attack("gpu-needs-tenant")
def a_gpu_without_a_tenant(world: World) -> Response:
    return world.create(world.tenant, FREE, pod(gpus=1))


@attack("gpu-needs-tenant")
def a_gpu_in_an_init_container_without_a_tenant(world: World) -> Response:
    init = pod(gpus=1)["spec"]["containers"][0] | {"name": "init"}
    return world.create(world.tenant, FREE, pod(initContainers=[init]))


@attack("gpu-needs-tenant")
def a_claim_without_a_tenant(world: World) -> Response:
    claims = [{"name": "gpu", "resourceClaimName": "any"}]
    return world.create(world.tenant, FREE, pod(resourceClaims=claims))


@attack("gpu-needs-tenant")
def another_nvidia_resource_without_a_tenant(world: World) -> Response:
    container = {"resources": {"limits": {"nvidia.com/gpu.shared": "1"}}}
    return world.create(world.tenant, FREE, pod(container=container))


@attack("claims-uncounted")
def a_resource_claim(world: World) -> Response:
    claims = [{"name": "gpu", "resourceClaimName": "any"}]
    return world.create(world.tenant, GOVERNED, pod(resourceClaims=claims))


@attack("mig-uncounted")
def a_mig_slice(world: World) -> Response:
    container = {"resources": {"limits": {"nvidia.com/mig-1g.23gb": "1"}}}
    return world.create(world.tenant, GOVERNED, pod(container=container))


@attack("known-resources")
def a_device_class_as_a_resource(world: World) -> Response:
    container = {"resources": {"limits": {"deviceclass.resource.kubernetes.io/gpu": "1"}}}
    return world.create(world.tenant, GOVERNED, pod(container=container))


@attack("known-resources")
def a_shared_gpu_resource(world: World) -> Response:
    container = {"resources": {"limits": {"nvidia.com/gpu.shared": "1"}}}
    return world.create(world.tenant, GOVERNED, pod(container=container))


@attack("known-resources")
def an_unknown_resource_in_an_init_container(world: World) -> Response:
    init = {
        "name": "init",
        "image": "registry.invalid/app:1",
        "resources": {"limits": {"example.com/accelerator": "1"}},
    }
    return world.create(world.tenant, GOVERNED, pod(initContainers=[init]))


@attack("gpu-count")
def a_gpu_pod_that_asks_for_none(world: World) -> Response:
    return world.create(world.tenant, GOVERNED, pod(gpus=0))


@attack("gate", unpatched="gate")
def a_gpu_pod_without_the_gate(world: World) -> Response:
    return world.create(world.tenant, GOVERNED, pod(gpus=1))


@attack("gate-without-gpu")
def a_gate_on_a_pod_without_gpus(world: World) -> Response:
    return world.create(world.tenant, GOVERNED, pod(schedulingGates=[{"name": names.GATE}]))


@attack("requested-by", unpatched="requested-by")
def a_forged_requester(world: World) -> Response:
    forged = {"annotations": {names.REQUESTED_BY: "tenant-other"}}
    return world.create(world.tenant, GOVERNED, pod(gpus=1, metadata=forged))


# --- ways to a node --------------------------------------------------------------------------
@attack("node-name", also="location-labels")
def a_node_name_in_a_governed_namespace(world: World) -> Response:
    return world.create(world.tenant, GOVERNED, pod(nodeName=world.away))


@attack("node-name")
def a_node_name_before_there_is_such_a_node(world: World) -> Response:
    return world.create(world.tenant, GOVERNED, pod(nodeName="yet-to-come"))


@attack("node-name", also="location-labels")
def a_node_name_with_a_forged_mirror_annotation(world: World) -> Response:
    owner = {
        "apiVersion": "v1",
        "kind": "Node",
        "name": world.home,
        "uid": "0",
        "controller": True,
    }
    metadata = MIRROR | {"ownerReferences": [owner]}
    return world.create(world.tenant, GOVERNED, pod(nodeName=world.home, metadata=metadata))


@attack("node-name", also="location-labels")
def a_node_name_by_the_administrator_in_a_governed_namespace(world: World) -> Response:
    return world.create(world.admin, GOVERNED, pod(nodeName=world.away))


@attack("node-name-without-tenant")
def a_node_name_without_a_tenant(world: World) -> Response:
    return world.create(world.tenant, FREE, pod(nodeName=world.home))


@attack("toleration")
def a_toleration_of_everything(world: World) -> Response:
    return world.create(world.tenant, GOVERNED, pod(tolerations=[{"operator": "Exists"}]))


@attack("toleration")
def a_toleration_of_everything_without_a_tenant(world: World) -> Response:
    every = [{"operator": "Exists", "effect": "NoSchedule"}]
    return world.create(world.tenant, FREE, pod(tolerations=every))


@attack("toleration")
def a_toleration_of_the_gpu_taint_without_gpus(world: World) -> Response:
    gpu = [{"key": names.GPU_TAINT, "operator": "Exists"}]
    return world.create(world.tenant, GOVERNED, pod(tolerations=gpu))


@attack("toleration")
def a_toleration_of_the_gpu_taint_without_a_tenant(world: World) -> Response:
    gpu = [{"key": names.GPU_TAINT, "operator": "Equal", "value": "present"}]
    return world.create(world.tenant, FREE, pod(tolerations=gpu))


@attack("toleration")
def a_toleration_of_the_companion_taint_without_a_tenant(world: World) -> Response:
    companion = [{"key": names.COMPANION_TAINT, "operator": "Exists"}]
    return world.create(world.tenant, FREE, pod(tolerations=companion))


@attack("selector")
def a_residency_selector_of_another_policy(world: World) -> Response:
    selector = {names.NODE_RESIDENCY_PREFIX + "de-only": names.NODE_ALLOWED}
    return world.create(world.tenant, GOVERNED, pod(nodeSelector=selector))


@attack("selector")
def a_residency_selector_without_a_tenant(world: World) -> Response:
    return world.create(world.tenant, FREE, pod(nodeSelector={RESIDENCY_LABEL: "allowed"}))


@attack("selector")
def a_pool_selector_without_a_tenant(world: World) -> Response:
    return world.create(world.tenant, FREE, pod(nodeSelector={names.NODE_POOL_LABEL: "munich"}))


@attack("affinity")
def an_affinity_that_fights_the_residency_selector(world: World) -> Response:
    expression = {"key": RESIDENCY_LABEL, "operator": "DoesNotExist"}
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    return world.create(world.tenant, GOVERNED, pod(affinity=affinity))


@attack("affinity")
def an_affinity_to_a_pool_without_a_tenant(world: World) -> Response:
    terms = [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["x"]}]},
        {"matchExpressions": [{"key": names.NODE_POOL_LABEL, "operator": "Exists"}]},
    ]
    required = {"nodeSelectorTerms": terms}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    return world.create(world.tenant, FREE, pod(affinity=affinity))


@attack("residency-selector", unpatched="residency-selector")
def a_pod_without_its_residency_selector(world: World) -> Response:
    return world.create(world.tenant, GOVERNED, pod())


@attack("priority")
def a_priority_that_preempts(world: World) -> Response:
    return world.create(world.tenant, GOVERNED, pod(priorityClassName="preempting"))


# --- lies about itself -----------------------------------------------------------------------
@attack("pod-metadata")
def a_pool_label_of_its_own(world: World) -> Response:
    metadata = {"labels": {names.POOL_LABEL: "munich"}}
    return world.create(world.tenant, GOVERNED, pod(gpus=1, metadata=metadata))


@attack("pod-metadata")
def a_decision_of_its_own(world: World) -> Response:
    metadata = {"annotations": {names.DECISION: "{}"}}
    return world.create(world.tenant, GOVERNED, pod(gpus=1, metadata=metadata))


@attack("pod-metadata")
def our_metadata_without_a_tenant(world: World) -> Response:
    metadata = {"annotations": {names.REQUESTED_BY: "tenant-acme"}}
    return world.create(world.tenant, FREE, pod(metadata=metadata))


@attack("pod-metadata")
def a_pool_label_on_a_static_pod(world: World) -> Response:
    node = world.admin.get(f"/api/v1/nodes/{world.home}").must()["metadata"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": node["name"], "uid": node["uid"]}
    metadata = MIRROR | {
        "ownerReferences": [{**owner, "controller": True}],
        "labels": {names.POOL_LABEL: "munich"},
    }
    return world.create(world.kubelet, GOVERNED, pod(nodeName=world.home, metadata=metadata))


@attack("node-name", also="location-labels")
def a_node_name_by_somebody_named_like_a_kubelet(world: World) -> Response:
    return world.create(world.pretender, GOVERNED, pod(nodeName=world.home))


@attack("location-labels")
def a_forged_region(world: World) -> Response:
    metadata = {"labels": {names.REGION_LABEL: "eu-de-muc"}}
    return world.create(world.tenant, GOVERNED, pod(metadata=metadata))


# --- ways to a device ------------------------------------------------------------------------
@attack("device-env")
def all_devices_by_environment(world: World) -> Response:
    env = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]
    return world.create(world.tenant, GOVERNED, pod(container={"env": env}))


@attack("device-env")
def all_channels_by_environment_of_an_init_container(world: World) -> Response:
    env = [{"name": "NVIDIA_IMEX_CHANNELS", "value": "0"}]
    init = {"name": "init", "image": "registry.invalid/app:1", "env": env}
    return world.create(world.tenant, GOVERNED, pod(initContainers=[init]))


def _mounting(path: str) -> dict[str, Any]:
    return pod(volumes=[{"name": "host", "hostPath": {"path": path}}])


@attack("host-path")
def the_devices_as_a_volume(world: World) -> Response:
    return world.create(world.tenant, GOVERNED, _mounting("/dev/nvidia0"))


@attack("host-path")
def the_devices_spelled_differently(world: World) -> Response:
    return world.create(world.tenant, GOVERNED, _mounting("//./dev"))


@attack("host-path")
def the_whole_host_as_a_volume(world: World) -> Response:
    return world.create(world.tenant, GOVERNED, _mounting("/"))


@attack("host-path")
def a_neighbour_of_an_allowed_directory(world: World) -> Response:
    return world.create(world.tenant, GOVERNED, _mounting("/raid2"))


@attack("privileged")
def a_privileged_container(world: World) -> Response:
    context = {"securityContext": {"privileged": True}}
    return world.create(world.tenant, GOVERNED, pod(container=context))


@attack("privileged")
def a_capability_that_amounts_to_it(world: World) -> Response:
    context = {"securityContext": {"capabilities": {"add": ["cap_sys_admin"]}}}
    return world.create(world.tenant, GOVERNED, pod(container=context))


@attack("privileged")
def a_privileged_container_by_an_exempt_account_of_a_governed_namespace(world: World) -> Response:
    context = {"securityContext": {"privileged": True}}
    return world.create(world.imager, GOVERNED, pod(container=context))


@attack("host-namespaces")
def the_network_of_the_host(world: World) -> Response:
    return world.create(world.tenant, GOVERNED, pod(hostNetwork=True))


@attack("host-namespaces")
def the_processes_of_the_host(world: World) -> Response:
    return world.create(world.tenant, GOVERNED, pod(hostPID=True, hostIPC=True))


# --- DaemonSets ------------------------------------------------------------------------------
@attack("daemonset-gpu")
def a_daemonset_with_gpus(world: World) -> Response:
    return world.tenant.create(daemonsets_path(GOVERNED), daemonset(pod(gpus=1)), dryRun="All")


@attack("daemonset-gpu")
def a_daemonset_with_gpus_without_a_tenant(world: World) -> Response:
    return world.tenant.create(daemonsets_path(FREE), daemonset(pod(gpus=1)), dryRun="All")


@attack("daemonset-gpu")
def a_daemonset_with_gpus_in_the_namespace_of_an_exempt_account(world: World) -> Response:
    return world.admin.create(daemonsets_path(CI), daemonset(pod(gpus=1)), dryRun="All")


@attack("daemonset-gpu")
def a_daemonset_given_gpus_later(world: World) -> Response:
    limits = {"op": "add", "path": "/spec/template/spec/containers/0/resources"}
    limits |= {"value": {"limits": {names.GPU_RESOURCE: "1"}}}
    return world.patch(world.tenant, f"{daemonsets_path(STRICT)}/plain", [limits])


# --- policies that only warn -----------------------------------------------------------------
@attack("residency-warning", warns=True)
def a_pod_that_a_policy_would_confine(world: World) -> Response:
    return world.create(world.tenant, WARNED, pod())

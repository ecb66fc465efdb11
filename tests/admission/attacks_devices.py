"""Attacks on the ways to a device: by claims, annotations, environment and runtime classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sovereign_gpu import names
from tests.admission.attacks import attack
from tests.admission.world import (
    FREE,
    GOVERNED,
    LAB,
    World,
    annotated,
    labelled,
    namespace_path,
    pod,
    pods_path,
)

if TYPE_CHECKING:
    from rig.client import Response


# --- devices by claim ------------------------------------------------------------------------
RESOURCE = "/apis/resource.k8s.io/v1/namespaces"


def device_claim(name: str, *requests: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"devices": {"requests": list(requests)}}}


def _exactly(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "exactly": {"deviceClassName": "gpu.nvidia.com", **more}}


def _template(*requests: dict[str, Any]) -> dict[str, Any]:
    claim = device_claim("x", *requests)
    return {"metadata": claim["metadata"], "spec": {"spec": claim["spec"]}}


FIRST = {
    "name": "any",
    "firstAvailable": [{"name": "one", "deviceClassName": "gpu.nvidia.com"}],
}


def _claims(world: World, namespace: str, body: dict[str, Any]) -> Response:
    return world.admin.create(f"{RESOURCE}/{namespace}/resourceclaims", body, dryRun="All")


def _templates(world: World, namespace: str, body: dict[str, Any]) -> Response:
    return world.admin.create(f"{RESOURCE}/{namespace}/resourceclaimtemplates", body, dryRun="All")


@attack("claim-tenant")
def a_claim_of_devices(world: World) -> Response:
    return _claims(world, GOVERNED, device_claim("x", _exactly("one")))


@attack("claim-tenant")
def a_claim_of_the_first_device_that_is_free(world: World) -> Response:
    return _claims(world, GOVERNED, device_claim("x", FIRST))


@attack("claim-template-tenant")
def a_template_of_claims(world: World) -> Response:
    return _templates(world, GOVERNED, _template(_exactly("one")))


@attack("claim-template-tenant")
def a_template_of_claims_of_the_first_device(world: World) -> Response:
    return _templates(world, GOVERNED, _template(FIRST))


_WITH_ADMIN_ACCESS = (
    _exactly("one", deviceClassName="nic"),
    _exactly("two", deviceClassName="nic", adminAccess=True),
)


@attack("claim-admin-access")
def a_claim_with_administrative_access(world: World) -> Response:
    return _claims(world, LAB, device_claim("x", *_WITH_ADMIN_ACCESS))


@attack("claim-template-admin-access")
def a_template_of_claims_with_administrative_access(world: World) -> Response:
    return _templates(world, LAB, _template(*_WITH_ADMIN_ACCESS))


@attack("namespace-admin-access")
def administrative_access_opened_for_a_namespace(world: World) -> Response:
    body = labelled(**{"resource.kubernetes.io/admin-access": "true"})
    return world.patch(world.editor, namespace_path(GOVERNED), body)


@attack("namespace-admin-access")
def administrative_access_opened_through_status(world: World) -> Response:
    body = labelled(**{"resource.kubernetes.io/admin-access": "true"})
    return world.patch(world.editor, f"{namespace_path(FREE)}/status", body)


# --- other ways to a device ------------------------------------------------------------------
@attack("device-annotation")
def all_devices_by_an_annotation(world: World) -> Response:
    metadata = {"annotations": {"cdi.k8s.io/gpus": "nvidia.com/gpu=all"}}
    return world.create(world.tenant, GOVERNED, pod(metadata=metadata))


@attack("device-annotation")
def a_device_by_an_annotation_of_cri_o(world: World) -> Response:
    metadata = {"annotations": {"io.kubernetes.cri-o.Devices": "/dev/nvidia0"}}
    return world.create(world.tenant, GOVERNED, pod(gpus=1, metadata=metadata))


@attack("device-annotation")
def a_device_by_an_annotation_of_a_runtime_plugin(world: World) -> Response:
    metadata = {"annotations": {"devices.nri.io/container.main": "- path: /dev/nvidia0"}}
    return world.create(world.tenant, GOVERNED, pod(metadata=metadata))


@attack("device-annotation-update")
def all_devices_by_an_annotation_written_later(world: World) -> Response:
    body = annotated("cdi.k8s.io/gpus", "nvidia.com/gpu=all")
    return world.patch(world.tenant, f"{pods_path(GOVERNED)}/unbound", body)


@attack("runtime-class")
def the_runtime_of_the_gpus_without_a_gpu(world: World) -> Response:
    return world.create(world.tenant, GOVERNED, pod(runtimeClassName="nvidia"))


@attack("host-namespaces")
def the_host_itself_as_a_process(world: World) -> Response:
    context = {"windowsOptions": {"hostProcess": True}}
    body = pod(hostNetwork=True, securityContext=context, os={"name": "windows"})
    return world.create(world.tenant, GOVERNED, body)


@attack("static-pod-region")
def a_static_pod_abroad_in_the_namespace_of_a_tenant(world: World) -> Response:
    node = world.admin.get(f"/api/v1/nodes/{world.away}").must()["metadata"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": node["name"], "uid": node["uid"]}
    static = {
        "annotations": {"kubernetes.io/config.mirror": "0123"},
        "ownerReferences": [{**owner, "controller": True}],
        "labels": {names.REGION_LABEL: "eu-de-muc"},
    }
    body = pod(nodeName=node["name"], metadata=static, enableServiceLinks=True)
    return world.create(world.kubelet_abroad, GOVERNED, body)

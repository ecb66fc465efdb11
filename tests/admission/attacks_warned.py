"""What policies with enforcement Warn let pass, and say that they would refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rig.client import STRATEGIC_PATCH
from tests.admission.attacks import attack
from tests.admission.attacks_leave import EVIL
from tests.admission.world import (
    WARNED,
    World,
    claims_path,
    endpoint_slices_path,
    pod,
    pods_path,
    snapshots_path,
    volume_claim,
)

if TYPE_CHECKING:
    from rig.client import Response

CONTAINER = {"name": "main", "image": "registry.invalid/app:1"}


def _pod(world: World, body: dict[str, Any]) -> Response:
    return world.create(world.tenant, WARNED, body)


def _of_tenant(world: World, path: str, body: dict[str, Any]) -> Response:
    return world.tenant.create(f"/api/v1/namespaces/{WARNED}/{path}", body, dryRun="All")


@attack("device-env-warning", warns=True)
def devices_by_environment_warned(world: World) -> Response:
    env = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]
    return _pod(world, pod(container={"env": env}))


@attack("device-annotation-warning", warns=True)
def devices_by_annotation_warned(world: World) -> Response:
    metadata = {"annotations": {"cdi.k8s.io/gpus": "nvidia.com/gpu=all"}}
    return _pod(world, pod(metadata=metadata))


@attack("runtime-class-warning", warns=True)
def runtime_class_warned(world: World) -> Response:
    return _pod(world, pod(runtimeClassName="nvidia"))


@attack("host-path-warning", warns=True)
def host_path_warned(world: World) -> Response:
    return _pod(world, pod(volumes=[{"name": "host", "hostPath": {"path": "/dev"}}]))


@attack("privileged-warning", warns=True)
def privileged_warned(world: World) -> Response:
    return _pod(world, pod(container={"securityContext": {"privileged": True}}))


@attack("host-namespaces-warning", warns=True)
def host_namespaces_warned(world: World) -> Response:
    return _pod(world, pod(hostNetwork=True))


@attack("image-registry-warning", warns=True)
def image_warned(world: World) -> Response:
    return _pod(world, pod(container={"image": EVIL}))


@attack("volume-class-warning", warns=True)
def ephemeral_volume_warned(world: World) -> Response:
    claim = volume_claim("x", "us-cheap")["spec"]
    volume = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}
    return _pod(world, pod(volumes=[volume]))


@attack("volume-driver-warning", warns=True)
def volume_driver_warned(world: World) -> Response:
    return _pod(world, pod(volumes=[{"name": "b", "csi": {"driver": "s3.example.com"}}]))


@attack("claim-class-warning", warns=True)
def claim_class_warned(world: World) -> Response:
    return _of_tenant(world, "persistentvolumeclaims", volume_claim("x", "us-cheap"))


@attack("claim-attributes-warning", warns=True)
def claim_attributes_warned(world: World) -> Response:
    body = {"spec": {"volumeAttributesClassName": "mirrored"}}
    return world.patch(world.tenant, f"{claims_path(WARNED)}/claimed", body)


@attack("snapshot-class-warning", warns=True)
def snapshot_class_warned(world: World) -> Response:
    path = snapshots_path(WARNED)
    body = {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": "x"},
        "spec": {"volumeSnapshotClassName": "us-cheap"},
    }
    return world.admin.create(path, body, dryRun="All")


def _service(world: World, **spec: Any) -> Response:
    body = {"metadata": {"name": "out"}, "spec": {"ports": [{"port": 443}], **spec}}
    return _of_tenant(world, "services", body)


@attack("service-external-name-warning", warns=True)
def alias_warned(world: World) -> Response:
    return _service(world, type="ExternalName", externalName="bucket.example.com")


@attack("service-load-balancer-warning", warns=True)
def balancer_warned(world: World) -> Response:
    return _service(world, type="LoadBalancer", selector={"app": "x"})


@attack("service-external-ips-warning", warns=True)
def address_outside_warned(world: World) -> Response:
    return _service(world, externalIPs=["198.51.100.7"], selector={"app": "x"})


@attack("service-endpoints-warning", warns=True)
def endpoints_warned(world: World) -> Response:
    subsets = [{"addresses": [{"ip": "198.51.100.7"}], "ports": [{"port": 443}]}]
    path = f"/api/v1/namespaces/{WARNED}/endpoints"
    body = {"metadata": {"name": "out"}, "subsets": subsets}
    return world.admin.create(path, body, dryRun="All")


@attack("service-endpoints-warning", warns=True)
def endpoints_changed_warned(world: World) -> Response:
    body = {"subsets": [{"addresses": [{"ip": "198.51.100.7"}], "ports": [{"port": 443}]}]}
    return world.patch(world.admin, f"/api/v1/namespaces/{WARNED}/endpoints/older", body)


@attack("service-endpoints-warning", warns=True)
def endpoint_slice_warned(world: World) -> Response:
    body = {
        "metadata": {"name": "out"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["198.51.100.7"]}],
    }
    return world.admin.create(endpoint_slices_path(WARNED), body, dryRun="All")


@attack("service-endpoints-warning", warns=True)
def endpoint_slice_changed_warned(world: World) -> Response:
    body = {"endpoints": [{"addresses": ["198.51.100.7"]}]}
    return world.patch(world.admin, f"{endpoint_slices_path(WARNED)}/older", body)


@attack("service-load-balancer-warning", warns=True)
def balancer_given_later_warned(world: World) -> Response:
    path = f"/api/v1/namespaces/{WARNED}/services/older"
    return world.patch(world.tenant, path, {"spec": {"type": "LoadBalancer"}})


@attack("snapshot-class-warning", warns=True)
def snapshot_changed_warned(world: World) -> Response:
    body = {"spec": {"volumeSnapshotClassName": "us-cheap"}}
    return world.patch(world.admin, f"{snapshots_path(WARNED)}/older", body)


@attack("image-registry-warning", warns=True)
def image_exchanged_warned(world: World) -> Response:
    swap = {"op": "replace", "path": "/spec/containers/0/image", "value": EVIL}
    return world.patch(world.tenant, f"{pods_path(WARNED)}/unbound", [swap])


@attack("image-registry-warning", warns=True)
def ephemeral_image_warned(world: World) -> Response:
    body = {"spec": {"ephemeralContainers": [{"name": "debug", "image": EVIL}]}}
    path = f"{pods_path(WARNED)}/unbound/ephemeralcontainers"
    return world.patch(world.admin, path, body, STRATEGIC_PATCH)


def _connected(world: World, path: str) -> Response:
    return world.tenant.request("POST", f"/api/v1/namespaces/{WARNED}/{path}", command="id")


@attack("access-country-warning", warns=True, connects=True)
def access_warned(world: World) -> Response:
    path = f"{pods_path(WARNED)}/unbound/exec"
    return world.tenant.request("POST", path, command="id", stdout="true")


@attack("access-country-warning", warns=True, connects=True)
def terminal_warned(world: World) -> Response:
    return _connected(world, "pods/unbound/attach")


@attack("access-country-warning", warns=True, connects=True)
def forwarded_port_warned(world: World) -> Response:
    return _connected(world, "pods/unbound/portforward")


@attack("access-country-warning", warns=True, connects=True)
def page_of_a_pod_warned(world: World) -> Response:
    return _connected(world, "pods/unbound/proxy/")


@attack("access-country-warning", warns=True, connects=True)
def page_of_a_service_warned(world: World) -> Response:
    return _connected(world, "services/older/proxy/")

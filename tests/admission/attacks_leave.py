"""Attacks on the ways out: images, volumes, Services, packets, connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rig.client import STRATEGIC_PATCH
from sovereign_gpu import names
from tests.admission.attacks import attack
from tests.admission.world import (
    FREE,
    STRICT,
    World,
    claims_path,
    endpoint_slices_path,
    network_policies_path,
    network_policy,
    pod,
    pods_path,
    snapshots_path,
    volume_claim,
)

if TYPE_CHECKING:
    from rig.client import Client, Response

EVIL = "registry.evil.example/app:1"
UNBOUND = f"{pods_path(STRICT)}/unbound"
IQN = "iqn.2001-04.com.example:storage"
COUNTRY = "sovereign-gpu.io/country"


# --- images ----------------------------------------------------------------------------------
@attack("image-registry")
def an_image_from_elsewhere(world: World) -> Response:
    return world.create(world.tenant, STRICT, pod(container={"image": EVIL}))


@attack("image-registry")
def an_image_allowed_by_one_policy_of_two(world: World) -> Response:
    image = {"image": "registry.example.eu/app:1"}
    return world.create(world.tenant, STRICT, pod(container=image))


@attack("image-registry")
def an_image_without_a_registry(world: World) -> Response:
    return world.create(world.tenant, STRICT, pod(container={"image": "registry.invalid"}))


@attack("image-registry")
def an_image_of_a_registry_that_begins_alike(world: World) -> Response:
    image = {"image": "registry.invalid.evil.example/app:1"}
    return world.create(world.tenant, STRICT, pod(container=image))


@attack("image-registry")
def an_init_image_from_elsewhere(world: World) -> Response:
    init = {"name": "init", "image": EVIL}
    return world.create(world.tenant, STRICT, pod(initContainers=[init]))


@attack("image-registry")
def an_image_volume_from_elsewhere(world: World) -> Response:
    volume = {"name": "model", "image": {"reference": EVIL}}
    return world.create(world.tenant, STRICT, pod(volumes=[volume]))


@attack("image-registry")
def an_image_exchanged_later(world: World) -> Response:
    swap = {"op": "replace", "path": "/spec/containers/0/image", "value": EVIL}
    return world.patch(world.tenant, UNBOUND, [swap])


@attack("image-registry")
def an_ephemeral_container_from_elsewhere(world: World) -> Response:
    body = {"spec": {"ephemeralContainers": [{"name": "debug", "image": EVIL}]}}
    return world.admin.request(
        "PATCH",
        f"{UNBOUND}/ephemeralcontainers",
        body,
        headers=as_from("DE"),
        content_type=STRATEGIC_PATCH,
        dryRun="All",
    )


# --- volumes ---------------------------------------------------------------------------------
def _ephemeral(kind: str | None) -> dict[str, Any]:
    claim = volume_claim("x", kind)["spec"]
    return {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}


@attack("volume-class")
def an_ephemeral_volume_of_another_class(world: World) -> Response:
    return world.create(world.tenant, STRICT, pod(volumes=[_ephemeral("us-cheap")]))


@attack("volume-class")
def an_ephemeral_volume_of_no_class(world: World) -> Response:
    return world.create(world.tenant, STRICT, pod(volumes=[_ephemeral(None)]))


@attack("volume-driver")
def a_volume_of_another_driver(world: World) -> Response:
    volume = {"name": "bucket", "csi": {"driver": "s3.example.com"}}
    return world.create(world.tenant, STRICT, pod(volumes=[volume]))


@attack("volume-driver")
def a_server_on_the_network_as_a_volume(world: World) -> Response:
    volume = {"name": "share", "nfs": {"server": "198.51.100.7", "path": "/"}}
    return world.create(world.tenant, STRICT, pod(volumes=[volume]))


@attack("volume-driver")
def a_disk_of_another_cloud_as_a_volume(world: World) -> Response:
    volume = {"name": "lun", "iscsi": {"targetPortal": "198.51.100.7", "iqn": IQN, "lun": 0}}
    return world.create(world.tenant, STRICT, pod(volumes=[volume]))


def _claim(world: World, body: dict[str, Any]) -> Response:
    return world.tenant.create(claims_path(STRICT), body, dryRun="All")


@attack("claim-class")
def a_claim_of_another_class(world: World) -> Response:
    return _claim(world, volume_claim("x", "us-cheap"))


@attack("claim-class")
def a_claim_of_no_class_that_names_a_volume(world: World) -> Response:
    return _claim(world, volume_claim("x", "", volumeName="anywhere"))


@attack("claim-class")
def a_claim_of_the_default_class_where_there_is_none(world: World) -> Response:
    return _claim(world, volume_claim("x", None))


@attack("claim-attributes")
def a_claim_with_attributes_of_another_class(world: World) -> Response:
    return _claim(world, volume_claim("x", "eu-fast", volumeAttributesClassName="mirrored"))


@attack("claim-attributes")
def attributes_of_a_claim_exchanged_later(world: World) -> Response:
    body = {"spec": {"volumeAttributesClassName": "mirrored"}}
    return world.patch(world.tenant, f"{claims_path(STRICT)}/claimed", body)


@attack("snapshot-class")
def a_snapshot_of_another_class(world: World) -> Response:
    path = snapshots_path(STRICT)
    spec = {
        "volumeSnapshotClassName": "us-cheap",
        "source": {"persistentVolumeClaimName": "claimed"},
    }
    body = {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot"}
    return world.admin.create(path, {**body, "metadata": {"name": "x"}, "spec": spec}, dryRun="All")


@attack("snapshot-class")
def a_snapshot_given_another_class_later(world: World) -> Response:
    body = {"spec": {"volumeSnapshotClassName": "us-cheap"}}
    return world.patch(world.admin, f"{snapshots_path(STRICT)}/older", body)


# --- Services --------------------------------------------------------------------------------
def _service(world: World, **spec: Any) -> Response:
    body = {"metadata": {"name": "out"}, "spec": {"ports": [{"port": 443}], **spec}}
    path = f"/api/v1/namespaces/{STRICT}/services"
    return world.tenant.create(path, body, dryRun="All")


@attack("service-external-name")
def an_alias_of_a_name_outside(world: World) -> Response:
    return _service(world, type="ExternalName", externalName="bucket.example.com")


@attack("service-load-balancer")
def a_balancer_of_the_cloud(world: World) -> Response:
    return _service(world, type="LoadBalancer", selector={"app": "x"})


@attack("service-external-ips")
def an_address_outside(world: World) -> Response:
    return _service(world, externalIPs=["198.51.100.7"], selector={"app": "x"})


@attack("service-endpoints")
def endpoints_written_by_hand(world: World) -> Response:
    body = {
        "metadata": {"name": "out", "labels": {"kubernetes.io/service-name": "out"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["198.51.100.7"]}],
        "ports": [{"port": 443}],
    }
    path = endpoint_slices_path(STRICT)
    return world.admin.create(path, body, dryRun="All")


OLDER = f"/api/v1/namespaces/{STRICT}/services/older"


@attack("service-external-name")
def a_service_made_an_alias_later(world: World) -> Response:
    alias = {"type": "ExternalName", "externalName": "bucket.example.com", "clusterIP": ""}
    return world.patch(world.tenant, OLDER, {"spec": {**alias, "clusterIPs": None}})


@attack("service-load-balancer")
def a_service_given_a_balancer_later(world: World) -> Response:
    return world.patch(world.tenant, OLDER, {"spec": {"type": "LoadBalancer"}})


@attack("service-external-ips")
def a_service_given_an_address_outside_later(world: World) -> Response:
    return world.patch(world.tenant, OLDER, {"spec": {"externalIPs": ["198.51.100.7"]}})


@attack("service-endpoints")
def endpoints_changed_by_hand(world: World) -> Response:
    body = {"endpoints": [{"addresses": ["198.51.100.7"]}]}
    return world.patch(world.admin, f"{endpoint_slices_path(STRICT)}/older", body)


@attack("service-endpoints")
def endpoints_of_the_older_kind_changed_by_hand(world: World) -> Response:
    body = {"subsets": [{"addresses": [{"ip": "198.51.100.7"}], "ports": [{"port": 443}]}]}
    return world.patch(world.admin, f"/api/v1/namespaces/{STRICT}/endpoints/older", body)


@attack("service-endpoints")
def endpoints_of_the_older_kind_written_by_hand(world: World) -> Response:
    subsets = [{"addresses": [{"ip": "198.51.100.7"}], "ports": [{"port": 443}]}]
    path = f"/api/v1/namespaces/{STRICT}/endpoints"
    return world.admin.create(path, {"metadata": {"name": "out"}, "subsets": subsets}, dryRun="All")


# --- packets ---------------------------------------------------------------------------------
OURS = f"{network_policies_path(STRICT)}/{names.EGRESS_POLICY}"


def _allowing(world: World, *rules: dict[str, Any]) -> Response:
    body = network_policy("mine", list(rules))
    return world.tenant.create(network_policies_path(STRICT), body, dryRun="All")


@attack("egress-policy")
def the_policy_of_packets_deleted(world: World) -> Response:
    return world.tenant.delete(OURS, dryRun="All")


@attack("egress-policy")
def the_policy_of_packets_widened(world: World) -> Response:
    return world.patch(world.tenant, OURS, {"spec": {"egress": [{}]}})


@attack("egress-policy")
def the_policy_of_packets_bound_to_no_pod(world: World) -> Response:
    body = {"spec": {"podSelector": {"matchLabels": {"no": "pod"}}}}
    return world.patch(world.tenant, OURS, body)


@attack("egress-policy")
def all_policies_of_packets_deleted_at_once(world: World) -> Response:
    return world.tenant.delete(network_policies_path(STRICT), dryRun="All")


@attack("egress-widened")
def a_second_policy_that_lets_packets_go_anywhere(world: World) -> Response:
    return _allowing(world, {})


@attack("egress-widened")
def a_second_policy_for_one_port_anywhere(world: World) -> Response:
    return _allowing(world, {"ports": [{"port": 443}]})


@attack("egress-widened")
def a_second_policy_for_a_network_that_is_not_allowed(world: World) -> Response:
    return _allowing(world, {"to": [{"ipBlock": {"cidr": "192.0.0.0/16"}}]})


@attack("egress-widened")
def a_second_policy_for_every_namespace(world: World) -> Response:
    return _allowing(world, {"to": [{"namespaceSelector": {}}]})


@attack("egress-widened")
def a_second_policy_for_the_pods_of_another_tenant(world: World) -> Response:
    selector = {"matchLabels": {names.TENANT_LABEL: "bolt"}}
    return _allowing(world, {"to": [{"namespaceSelector": selector}]})


@attack("egress-widened")
def a_second_policy_for_namespaces_by_an_expression(world: World) -> Response:
    selector = {"matchExpressions": [{"key": names.TENANT_LABEL, "operator": "Exists"}]}
    return _allowing(world, {"to": [{"namespaceSelector": selector}]})


@attack("egress-widened")
def a_second_policy_that_hides_behind_an_allowed_peer(world: World) -> Response:
    peers = [{"podSelector": {}}, {"ipBlock": {"cidr": "0.0.0.0/0"}}]
    return _allowing(world, {"to": peers})


def network_policy_of_operator(namespace: str) -> dict[str, Any]:
    body = network_policy(names.EGRESS_POLICY, [])
    body |= {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    body["metadata"]["namespace"] = namespace
    return body


@attack("operator-network-policy")
def a_policy_of_packets_by_the_operator_where_no_tenant_is(world: World) -> Response:
    return world.operator.apply(network_policy_of_operator(FREE), dry_run=True)


@attack("operator-network-policy")
def a_policy_of_packets_by_the_operator_in_an_exempt_namespace(world: World) -> Response:
    return world.operator.apply(network_policy_of_operator("kube-system"), dry_run=True)


# --- connections -----------------------------------------------------------------------------
def as_from(*countries: str) -> dict[str, str]:
    """Return headers by which an administrator stands in for a user with that claim."""
    headers = {"Impersonate-User": "supporter", "Impersonate-Group": "platform-admins"}
    for country in countries:
        headers[f"Impersonate-Extra-{quote(COUNTRY, safe='')}"] = country
    return headers


def from_country(client: Client, path: str, *countries: str) -> Response:
    return client.request("POST", path, headers=as_from(*countries), command="id", stdout="true")


@attack("access-country", connects=True)
def a_command_by_a_user_without_a_country(world: World) -> Response:
    path = f"{UNBOUND}/exec"
    return world.tenant.request("POST", path, command="id", stdout="true")


@attack("access-country", connects=True)
def a_command_by_a_user_from_elsewhere(world: World) -> Response:
    return from_country(world.admin, f"{UNBOUND}/exec", "US")


@attack("access-country", connects=True)
def a_command_by_a_user_from_a_country_that_one_policy_allows(world: World) -> Response:
    return from_country(world.admin, f"{UNBOUND}/exec", "FR")


@attack("access-country", connects=True)
def a_terminal_by_a_user_from_elsewhere(world: World) -> Response:
    return from_country(world.admin, f"{UNBOUND}/attach", "US")


@attack("access-country", connects=True)
def a_forwarded_port_by_a_user_from_elsewhere(world: World) -> Response:
    return from_country(world.admin, f"{UNBOUND}/portforward", "US")


@attack("access-country", connects=True)
def a_page_of_a_pod_by_a_user_from_elsewhere(world: World) -> Response:
    return from_country(world.admin, f"{UNBOUND}/proxy/", "US")


@attack("access-country", connects=True)
def a_page_of_a_service_by_a_user_from_elsewhere(world: World) -> Response:
    return from_country(world.admin, f"/api/v1/namespaces/{STRICT}/services/x/proxy/", "US")

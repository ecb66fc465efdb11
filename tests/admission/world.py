"""A cluster under attack: identities, places and pods that the attacks turn against.

The operator is dead: it was never started. Its identity exists, because tokens can be stolen.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from rig.nodes import create_nodes
from rig.users import KUBELET_PREFIX, grant_tenant
from sovereign_gpu import names
from sovereign_gpu.admission.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rig.client import Client, Response
    from rig.control_plane import Rig

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
HOME, AWAY = "eu-de-muc", "us-east-1"
GOVERNED, FREE, WARNED, EXEMPT, CI = "acme-train", "free", "acme-old", "gpu-operator", "ci"
LEAVING = "acme-leaving"
"""As STRICT, and being deleted while a pod still runs there."""
STRICT = "acme-strict"
"""As GOVERNED, with every way out restricted."""
RESIDENCY_LABEL = names.NODE_RESIDENCY_PREFIX + "eu-only"
MACHINE = "u0123456789abcdef"
LIFT = {"op": "remove", "path": "/spec/schedulingGates"}
SIGNATURE = "leader/3"
SIGN = {
    "op": "add",
    "path": "/metadata/annotations/" + names.RELEASED_BY.replace("/", "~1"),
    "value": SIGNATURE,
}
"""What the operator adds to a release, while it holds the lease."""
SETTINGS = Settings(
    exempt_service_accounts=(f"{CI}:imager",),
    # A mistake somebody will make: MIG slices stay uncounted, so they stay refused.
    known_resources=("rdma/hca", "nvidia.com/mig-1g.23gb"),
    allowed_host_paths=("/raid",),
    gpu_device_classes=("fast",),
)
LAB = "lab"
"""A namespace without a tenant that somebody opened for administrative access to devices."""
STRICTLY = {
    # Some allow too much of Docker Hub: a host in capitals must still not pass for a part of it.
    names.REGISTRIES: "docker.io/EVIL/,registry.invalid/;"
    "docker.io/EVIL/,registry.example.eu/,registry.invalid/",
    names.STORAGE_CLASSES: "eu-fast,eu-slow",
    names.ATTRIBUTES_CLASSES: "eu-gold",
    names.SNAPSHOT_CLASSES: "eu-daily",
    names.VOLUME_DRIVERS: "csi.example.eu",
    names.SERVICES: "",
    names.NETWORKS: "192.0.2.0/24,2001:db8::/32",
    names.REACHABLE: "ingress",
    names.ACCESS: "DE,FR;DE",
}
"""What the namespace is told by policies that restrict everything."""
_SNAPSHOTS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "volumesnapshots.snapshot.storage.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
    },
    "spec": {
        "group": "snapshot.storage.k8s.io",
        "scope": "Namespaced",
        "names": {
            "kind": "VolumeSnapshot",
            "plural": "volumesnapshots",
            "singular": "volumesnapshot",
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}
"""The kind that snapshot controllers bring; the API server has none of its own."""
_RBAC = "rbac.authorization.k8s.io"


def namespace_path(name: str) -> str:
    return f"/api/v1/namespaces/{name}"


def pods_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def daemonsets_path(namespace: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/daemonsets"


@dataclass
class World:
    rig: Rig
    admin: Client
    tenant: Client
    kubelet: Client
    kubelet_abroad: Client
    pretender: Client
    """Named like a kubelet, but not in the group that NodeRestriction watches."""
    binder: Client
    """May create pods/binding and bindings, and holds no right of ours."""
    scheduler: Client
    """The identity of kube-scheduler itself."""
    editor: Client
    """May write nodes, namespaces and pods/status everywhere, and holds no right of ours."""
    imager: Client
    """An exempt service account."""
    operator: Client
    home: str
    away: str
    bare: str
    companion: str
    """Nodes: with GPUs in a pool at home, abroad, without any region, and without GPUs at home."""

    def create(self, client: Client, namespace: str, pod: dict[str, Any]) -> Response:
        return client.create(pods_path(namespace), pod, dryRun="All")

    def patch(
        self, client: Client, path: str, body: Any, content_type: str | None = None
    ) -> Response:
        extra = {"content_type": content_type} if content_type else {}
        return client.patch(path, body, dryRun="All", **extra)

    def evict(self, client: Client, path: str) -> Response:
        namespace, name = path.split("/")[-3::2]
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
        }
        return client.create(f"{path}/eviction", body, dryRun="All")

    def bind(
        self,
        client: Client,
        namespace: str,
        node: str,
        *,
        kind: str = "Node",
        labels: Mapping[str, str] | None = None,
        door: str = "pods/unbound/binding",
    ) -> Response:
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": "unbound", "labels": dict(labels or {})},
            "target": {"kind": kind, "name": node},
        }
        return client.create(f"{namespace_path(namespace)}/{door}", body, dryRun="All")


def pod(
    name: str = "probe",
    *,
    gpus: str | int | None = None,
    metadata: dict[str, Any] | None = None,
    container: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    resources = {"limits": {names.GPU_RESOURCE: str(gpus)}} if gpus is not None else {}
    main = {"name": "main", "image": "registry.invalid/app:1", "resources": resources}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **(metadata or {})},
        "spec": {"containers": [{**main, **(container or {})}], **spec},
    }


def daemonset(template: dict[str, Any], name: str = "daemon") -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template["spec"]},
        },
    }


def labelled(**labels: str | None) -> dict[str, Any]:
    return {"metadata": {"labels": labels}}


def annotated(key: str, value: str | None) -> dict[str, Any]:
    return {"metadata": {"annotations": {key: value}}}


def build(rig: Rig, rbac: Iterable[dict[str, Any]]) -> World:
    """Everything but the policies, so that setting up is not what they refuse."""
    admin = rig.client("platform-admin")
    led = {"name": SETTINGS.namespace, "annotations": {names.LEADER: SIGNATURE}}
    admin.create("/api/v1/namespaces", {"metadata": led}).must()
    for obj in rbac:
        admin.apply(obj).must()
    _identities(admin)
    _namespaces(admin)
    admin.create(daemonsets_path(FREE), daemonset(pod(gpus=1), "older")).must()
    grant_tenant(admin, "tenant-acme", [GOVERNED, FREE, WARNED, STRICT, LEAVING])
    admin.apply(_SNAPSHOTS).must()
    admin.apply(_group_snapshots()).must()
    for namespace in (STRICT, WARNED):
        _older(admin, namespace)
    home, away, bare, companion = _nodes(rig, admin)
    world = World(
        rig=rig,
        admin=admin,
        tenant=rig.client("tenant-acme"),
        kubelet=rig.client(KUBELET_PREFIX + home),
        kubelet_abroad=rig.client(KUBELET_PREFIX + away),
        pretender=rig.client(KUBELET_PREFIX + "pretender", groups=["pretenders"]),
        binder=rig.client("direct-binder"),
        scheduler=rig.client("system:kube-scheduler"),
        editor=rig.client("label-editor"),
        imager=rig.service_account_client(CI, "imager"),
        operator=rig.service_account_client(SETTINGS.namespace, SETTINGS.service_account),
        home=home,
        away=away,
        bare=bare,
        companion=companion,
    )
    world.tenant.wait(pods_path(GOVERNED), lambda _: True)
    return world


def populate(world: World) -> None:
    """Pods to attack, made with the policies in force, as tenants make them."""
    gated = pod("gated", gpus=1)
    world.tenant.create(pods_path(GOVERNED), gated).must()
    for namespace in (GOVERNED, FREE, WARNED, STRICT):
        waiting = pod("unbound", schedulerName="nobody")
        world.tenant.create(pods_path(namespace), waiting).must()
    for namespace in (STRICT, WARNED):
        _claimed(world, namespace)
    for namespace in (STRICT, LEAVING):
        ours = network_policy(names.EGRESS_POLICY, [])
        ours |= {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
        ours["metadata"]["namespace"] = namespace
        world.operator.apply(ours).must()
    world.tenant.create(pods_path(GOVERNED), pod("running", gpus=1)).must()
    world.admin.patch(f"{pods_path(GOVERNED)}/running", [LIFT]).must()
    world.admin.wait(
        f"{pods_path(GOVERNED)}/running", lambda body: body["status"]["phase"] == "Running", 60
    )
    world.admin.create(pods_path("kube-system"), pod("infra", schedulerName="nobody")).must()
    _leave(world)


def _leave(world: World) -> None:
    held = pod("held", schedulerName="nobody", metadata={"finalizers": ["example.com/hold"]})
    world.tenant.create(pods_path(LEAVING), held).must()
    world.admin.delete(namespace_path(LEAVING)).must()
    world.admin.wait(
        f"{pods_path(LEAVING)}/held", lambda found: found["metadata"]["deletionTimestamp"]
    )


def snapshots_path(namespace: str) -> str:
    return f"/apis/snapshot.storage.k8s.io/v1/namespaces/{namespace}/volumesnapshots"


def group_snapshots_path(namespace: str) -> str:
    group = "groupsnapshot.storage.k8s.io/v1beta2"
    return f"/apis/{group}/namespaces/{namespace}/volumegroupsnapshots"


def endpoint_slices_path(namespace: str) -> str:
    return f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"


def _older(admin: Client, namespace: str) -> None:
    """Make what is there before the policies, so that it can be changed for the worse."""
    service = {"ports": [{"port": 443}]}
    admin.create(
        f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": "older"}, "spec": service}
    ).must()
    admin.create(
        f"/api/v1/namespaces/{namespace}/endpoints", {"metadata": {"name": "older"}}
    ).must()
    empty = {"metadata": {"name": "older"}, "addressType": "IPv4", "endpoints": []}
    admin.create(endpoint_slices_path(namespace), empty).must()
    admin.wait(f"{DEFINITIONS}/volumesnapshots.snapshot.storage.k8s.io", _is_established)
    snapshot = {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot"}
    snapshot |= {"metadata": {"name": "older"}, "spec": {"volumeSnapshotClassName": "eu-daily"}}
    for path in (snapshots_path(namespace), group_snapshots_path(namespace)):
        admin.wait(path, lambda _: True)
    admin.create(snapshots_path(namespace), snapshot).must()
    group = {"apiVersion": "groupsnapshot.storage.k8s.io/v1beta2", "kind": "VolumeGroupSnapshot"}
    group |= {"metadata": {"name": "older"}, "spec": {"volumeGroupSnapshotClassName": "eu-daily"}}
    admin.create(group_snapshots_path(namespace), group).must()
    admin.create(
        daemonsets_path(namespace), daemonset(pod(nodeSelector={"no": "node"}), "plain")
    ).must()


def _group_snapshots() -> dict[str, Any]:
    body = copy.deepcopy(_SNAPSHOTS)
    body["metadata"]["name"] = "volumegroupsnapshots.groupsnapshot.storage.k8s.io"
    body["spec"]["group"] = "groupsnapshot.storage.k8s.io"
    body["spec"]["names"] = {
        "kind": "VolumeGroupSnapshot",
        "plural": "volumegroupsnapshots",
        "singular": "volumegroupsnapshot",
    }
    body["spec"]["versions"][0]["name"] = "v1beta2"
    return body


def _is_established(found: Any) -> bool:
    rows = found["status"]["conditions"]
    return any(each["type"] == "Established" and each["status"] == "True" for each in rows)


def _claimed(world: World, namespace: str) -> None:
    """Make a claim with its volume: of a bound one the attributes may be changed."""
    world.tenant.create(claims_path(namespace), volume_claim("claimed", "eu-fast")).must()
    reference = {"kind": "PersistentVolumeClaim", "name": "claimed", "namespace": namespace}
    spec = {
        "storageClassName": "eu-fast",
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "claimRef": reference,
        "csi": {"driver": "csi.example.eu", "volumeHandle": namespace},
    }
    body = {"metadata": {"name": f"claimed-{namespace}"}, "spec": spec}
    world.admin.create("/api/v1/persistentvolumes", body).must()
    path = f"{claims_path(namespace)}/claimed"
    world.admin.wait(path, lambda found: found["status"]["phase"] == "Bound")


def _identities(admin: Client) -> None:
    rules = {
        "direct-binder": [
            {"apiGroups": [""], "resources": ["pods/binding", "bindings"], "verbs": ["create"]},
        ],
        "label-editor": [
            {
                "apiGroups": [""],
                "resources": [
                    "nodes",
                    "nodes/status",
                    "namespaces",
                    "namespaces/status",
                    "namespaces/finalize",
                    "pods/status",
                ],
                "verbs": ["get", "create", "update", "patch"],
            },
        ],
        f"{KUBELET_PREFIX}pretender": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]},
        ],
        "imager": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}],
    }
    for name, granted in rules.items():
        subject = {"apiGroup": _RBAC, "kind": "User", "name": name}
        if name == "imager":
            subject = {"kind": "ServiceAccount", "name": name, "namespace": CI}
        role = {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}}
        admin.apply({**role, "rules": granted}).must()
        admin.apply(
            {
                "apiVersion": f"{_RBAC}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name},
                "subjects": [subject],
            }
        ).must()
    admin.apply(
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": "nvidia"},
            "handler": "nvidia",
        }
    ).must()
    admin.apply(
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": "preempting"},
            "value": 1000,
        }
    ).must()


def _namespaces(admin: Client) -> None:
    tenant = {names.TENANT_LABEL: "acme"}
    deny = {names.RESIDENCY: "eu-only", names.REGIONS: HOME}
    warn = {
        names.RESIDENCY: "",
        names.REGIONS: "*",
        names.WARN_RESIDENCY: "eu-only",
        names.WARN_REGIONS: HOME,
        **{names.warn(key): value for key, value in STRICTLY.items()},
    }
    for name, labels, notes in (
        (STRICT, tenant | {names.CONTENTS_LABEL: names.CONTENTS_RESTRICTED}, deny | STRICTLY),
        (GOVERNED, tenant, deny),
        (WARNED, tenant | {names.ENFORCEMENT_LABEL: names.ENFORCEMENT_WARN}, warn),
        (FREE, {}, {}),
        (LEAVING, tenant, deny | STRICTLY),
        (LAB, {"resource.kubernetes.io/admin-access": "true"}, {}),
        (EXEMPT, {}, {}),
        (CI, {}, {}),
    ):
        metadata = {"name": name, "labels": labels, "annotations": notes}
        admin.create("/api/v1/namespaces", {"metadata": metadata}).must()
        admin.wait(f"{namespace_path(name)}/serviceaccounts/default", lambda _: True)
    admin.create(f"{namespace_path(CI)}/serviceaccounts", {"metadata": {"name": "imager"}}).must()


def _nodes(rig: Rig, admin: Client) -> tuple[str, str, str, str]:
    allowed = {RESIDENCY_LABEL: names.NODE_ALLOWED, names.NODE_MACHINE_LABEL: MACHINE}
    home = create_nodes(rig, 1, pool="munich", region=HOME, prefix="home", labels=allowed)[0]
    companion = create_nodes(
        rig, 1, None, pool="munich", region=HOME, prefix="companion", labels=allowed, first=1
    )[0]
    away = create_nodes(rig, 1, None, region=AWAY, prefix="away", first=2)[0]
    bare = {"metadata": {"name": "bare"}}
    admin.create("/api/v1/nodes", bare).must()
    return home, away, "bare", companion


def claims_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"


def network_policies_path(namespace: str) -> str:
    return f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"


def volume_claim(name: str, kind: str | None, **spec: Any) -> dict[str, Any]:
    named = {} if kind is None else {"storageClassName": kind}
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name}, "spec": wanted | named | spec}


def network_policy(name: str, egress: list[dict[str, Any]]) -> dict[str, Any]:
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": egress}
    return {"metadata": {"name": name}, "spec": spec}


def documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]

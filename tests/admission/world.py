"""A cluster under attack: identities, places and pods that the attacks turn against.

The operator is dead: it was never started. Its identity exists, because tokens can be stolen.
"""

from __future__ import annotations

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

HOME, AWAY = "eu-de-muc", "us-east-1"
GOVERNED, FREE, WARNED, EXEMPT, CI = "acme-train", "free", "acme-old", "gpu-operator", "ci"
RESIDENCY_LABEL = names.NODE_RESIDENCY_PREFIX + "eu-only"
MACHINE = "u0123456789abcdef"
LIFT = {"op": "remove", "path": "/spec/schedulingGates"}
SETTINGS = Settings(
    exempt_service_accounts=(f"{CI}:imager",),
    # A mistake somebody will make: MIG slices stay uncounted, so they stay refused.
    known_resources=("rdma/hca", "nvidia.com/mig-1g.23gb"),
    allowed_host_paths=("/raid",),
)
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
    admin.create("/api/v1/namespaces", {"metadata": {"name": SETTINGS.namespace}}).must()
    for obj in rbac:
        admin.apply(obj).must()
    _identities(admin)
    _namespaces(admin)
    admin.create(daemonsets_path(FREE), daemonset(pod(gpus=1), "older")).must()
    grant_tenant(admin, "tenant-acme", [GOVERNED, FREE, WARNED])
    home, away, bare, companion = _nodes(rig, admin)
    world = World(
        rig=rig,
        admin=admin,
        tenant=rig.client("tenant-acme"),
        kubelet=rig.client(KUBELET_PREFIX + home),
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
    for namespace in (GOVERNED, FREE, WARNED):
        waiting = pod("unbound", schedulerName="nobody")
        world.tenant.create(pods_path(namespace), waiting).must()
    world.tenant.create(pods_path(GOVERNED), pod("running", gpus=1)).must()
    world.admin.patch(f"{pods_path(GOVERNED)}/running", [LIFT]).must()
    world.admin.wait(
        f"{pods_path(GOVERNED)}/running", lambda body: body["status"]["phase"] == "Running", 60
    )
    world.admin.create(pods_path("kube-system"), pod("infra", schedulerName="nobody")).must()


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
    }
    for name, labels, notes in (
        (GOVERNED, tenant, deny),
        (WARNED, tenant | {names.ENFORCEMENT_LABEL: names.ENFORCEMENT_WARN}, warn),
        (FREE, {}, {}),
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


def documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]

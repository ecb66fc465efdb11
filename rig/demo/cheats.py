"""Ways to more GPUs, or to another country, and who has to refuse each.

All are real requests of real identities, not dry runs: what is not refused would stay. The tests
under tests/admission know many more; these are the ones that a visitor asks about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rig import product, users
from rig.demo.scene import AWAY, HOME, OFFICE, OFFICE_USER
from sovereign_gpu import names

if TYPE_CHECKING:
    from rig.client import Client, Response
    from rig.demo.pods import Pod
    from rig.demo.scene import Scene

PREFIX = "cheat-"
SHOWN = 150
RBAC, RESTRICTION = "RBAC", "NodeRestriction"
_SAID = {RBAC: "cannot ", RESTRICTION: "is not allowed to modify labels"}
_BINDER = "home-made-scheduler"
_EDITOR = "namespace-editor"
_LIFT = {"op": "remove", "path": "/spec/schedulingGates"}
_RBAC_GROUP = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class Cheat:
    """One try.

    Attributes:
        what: in the words of a visitor.
        rule: of the policies, or the part of Kubernetes, that has to refuse it.
        act: does it.
    """

    what: str
    rule: str
    act: Callable[[], Response]


@dataclass(slots=True)
class Cheaters:
    """The identities that cheat, and the pods they cheat with."""

    scene: Scene
    waiting: Pod
    running: Pod
    tenant: Client
    office: Client
    binder: Client
    editor: Client
    kubelet: Client
    operator: Client
    tries: int = 0

    def pod(self, client: Client | None = None, **changes: Any) -> Response:
        """Create a pod with one GPU; changes are those of `pod`."""
        self.tries += 1
        return (client or self.tenant).create(
            self._pods(OFFICE if client is self.office else self.waiting.namespace),
            pod(f"{PREFIX}{self.tries}", **changes),
        )

    def bind(self, client: Client, node: str, *, legacy: bool = False) -> Response:
        """Bind the waiting pod, as a scheduler does."""
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": self.waiting.name, "labels": {names.REGION_LABEL: HOME}},
            "target": {"kind": "Node", "name": node},
        }
        door = f"/api/v1/namespaces/{self.waiting.namespace}/bindings"
        return client.create(door if legacy else f"{self.waiting.path}/binding", body)

    def daemonset(self) -> Response:
        """Create a DaemonSet with a GPU on every node."""
        labels = {"app": "everywhere"}
        template = {"metadata": {"labels": labels}, "spec": pod("template")["spec"]}
        body = {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": f"{PREFIX}everywhere"},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        }
        path = f"/apis/apps/v1/namespaces/{self.waiting.namespace}/daemonsets"
        return self.tenant.create(path, body)

    @staticmethod
    def _pods(namespace: str) -> str:
        return f"/api/v1/namespaces/{namespace}/pods"


def pod(
    name: str,
    *,
    gpus: int = 1,
    metadata: dict[str, Any] | None = None,
    container: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """Return a pod with one container."""
    limits = {names.GPU_RESOURCE: str(gpus)} if gpus else {}
    main = {"name": "main", "image": "registry.example.com/any:1", "resources": {"limits": limits}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **(metadata or {})},
        "spec": {"containers": [main | (container or {})], **spec},
    }


def gather(scene: Scene, waiting: Pod, running: Pod) -> Cheaters:
    """Prepare the identities; two of them hold more rights than any tenant."""
    rig, admin = scene.rig, scene.admin
    for user, resources in (
        (_BINDER, ["pods/binding", "bindings"]),
        (_EDITOR, ["namespaces", "namespaces/status", "namespaces/finalize"]),
    ):
        _allow(admin, user, resources)
    cheaters = Cheaters(
        scene=scene,
        waiting=waiting,
        running=running,
        tenant=rig.client(scene.tenant_of(waiting.namespace).user),
        office=rig.client(OFFICE_USER),
        binder=rig.client(_BINDER),
        editor=rig.client(_EDITOR),
        kubelet=rig.client(f"{users.KUBELET_PREFIX}iad-dgx-0000"),
        operator=rig.service_account_client(product.NAMESPACE, product.NAME),
    )
    # Rights reach the authorizer through its own watch, a moment after they are written.
    cheaters.editor.wait(f"/api/v1/namespaces/{OFFICE}", lambda _: True)
    return cheaters


def _allow(admin: Client, user: str, resources: list[str]) -> None:
    rule = {"apiGroups": [""], "resources": resources, "verbs": ["get", "create", "patch"]}
    role = {"apiVersion": f"{_RBAC_GROUP}/v1", "kind": "ClusterRole", "metadata": {"name": user}}
    admin.apply({**role, "rules": [rule]}).must()
    admin.apply(
        {
            "apiVersion": f"{_RBAC_GROUP}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": user},
            "roleRef": {"apiGroup": _RBAC_GROUP, "kind": "ClusterRole", "name": user},
            "subjects": [{"apiGroup": _RBAC_GROUP, "kind": "User", "name": user}],
        }
    ).must()


def catalogue(who: Cheaters) -> list[Cheat]:
    """Return all tries."""
    return [*_as_tenant(who), *_with_devices(who), *_lies(who), *_beyond(who), *_stolen(who)]


def _as_tenant(who: Cheaters) -> list[Cheat]:
    own = f"/api/v1/namespaces/{who.waiting.namespace}"
    quota = f"/apis/{names.GROUP}/{names.VERSION}/tenantquotas"
    mine = f"{quota}/{who.scene.tenant_of(who.waiting.namespace).name}"
    more = {"spec": {"pools": [{"name": "munich-b200", "guaranteed": 9999}]}}
    every = [{"operator": "Exists"}]
    abroad = "iad-dgx-0000"
    return [
        Cheat("remove the gate", "release", lambda: who.tenant.patch(who.waiting.path, [_LIFT])),
        Cheat("name a node", "node-name", lambda: who.pod(nodeName=abroad)),
        Cheat("bind the pod", RBAC, lambda: who.bind(who.tenant, abroad)),
        Cheat("tolerate every taint", "toleration", lambda: who.pod(gpus=0, tolerations=every)),
        Cheat(
            "preempt the neighbours",
            "priority",
            lambda: who.pod(priorityClassName="system-cluster-critical"),
        ),
        Cheat("GPUs on every node by a DaemonSet", "daemonset-gpu", who.daemonset),
        Cheat("raise the own quota", RBAC, lambda: who.tenant.patch(mine, more)),
        Cheat(
            "label the own namespace as another tenant's",
            RBAC,
            lambda: who.tenant.patch(own, {"metadata": {"labels": {names.TENANT_LABEL: "other"}}}),
        ),
        Cheat(
            "GPUs in a namespace without a tenant",
            "gpu-needs-tenant",
            lambda: who.pod(who.office),
        ),
    ]


def _with_devices(who: Cheaters) -> list[Cheat]:
    claim = [{"name": "gpu", "resourceClaimName": "any"}]
    mig = {"resources": {"limits": {"nvidia.com/mig-1g.23gb": "1"}}}
    device_class = {"resources": {"limits": {"deviceclass.resource.kubernetes.io/gpu": "1"}}}
    all_devices = {"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]}
    privileged = {"securityContext": {"privileged": True}}
    devices = [{"name": "dev", "hostPath": {"path": "/dev/nvidia0"}}]
    return [
        Cheat("a ResourceClaim", "claims-uncounted", lambda: who.pod(resourceClaims=claim)),
        Cheat("a MIG slice", "mig-uncounted", lambda: who.pod(container=mig)),
        Cheat("a DeviceClass", "known-resources", lambda: who.pod(container=device_class)),
        Cheat(
            "NVIDIA_VISIBLE_DEVICES=all",
            "device-env",
            lambda: who.pod(gpus=0, container=all_devices),
        ),
        Cheat("privileged", "privileged", lambda: who.pod(gpus=0, container=privileged)),
        Cheat("mount /dev/nvidia0", "host-path", lambda: who.pod(gpus=0, volumes=devices)),
    ]


def _lies(who: Cheaters) -> list[Cheat]:
    forged_selector = {f"{names.NODE_RESIDENCY_PREFIX}us-too": names.NODE_ALLOWED}
    forged_region = {"labels": {names.REGION_LABEL: HOME}}
    forged_release = {"annotations": {names.RELEASED_BY: "me/1"}}
    return [
        Cheat(
            "a residency selector of one's own",
            "selector",
            lambda: who.pod(nodeSelector=forged_selector),
        ),
        Cheat(
            "a pod that says it is in Munich",
            "location-labels",
            lambda: who.pod(metadata=forged_region),
        ),
        Cheat(
            "a pod that says it was released",
            "pod-metadata",
            lambda: who.pod(metadata=forged_release),
        ),
        Cheat(
            "write that into the waiting pod",
            "pod-metadata-update",
            lambda: who.tenant.patch(who.waiting.path, {"metadata": forged_release}),
        ),
        Cheat(
            "say of a running pod that it is elsewhere",
            "pod-location-update",
            lambda: who.tenant.patch(
                who.running.path, {"metadata": {"labels": {names.REGION_LABEL: AWAY}}}
            ),
        ),
    ]


def _beyond(who: Cheaters) -> list[Cheat]:
    own = f"/api/v1/namespaces/{who.waiting.namespace}"
    abroad = "iad-dgx-0000"
    node = f"/api/v1/nodes/{abroad}"
    move = {"metadata": {"labels": {names.REGION_LABEL: HOME}}}
    join = {"metadata": {"labels": {names.NODE_POOL_LABEL: "munich-b200"}}}
    free = {"metadata": {"labels": {names.TENANT_LABEL: None}}}
    regions = {"metadata": {"annotations": {names.REGIONS: f"{HOME},{AWAY}"}}}
    return [
        Cheat("a scheduler of one's own binds", "binder", lambda: who.bind(who.binder, abroad)),
        Cheat(
            "… through the legacy bindings",
            "legacy-binding",
            lambda: who.bind(who.binder, abroad, legacy=True),
        ),
        Cheat(
            "who may edit namespaces frees one",
            "namespace-tenant",
            lambda: who.editor.patch(own, free),
        ),
        Cheat(
            "… or adds a region, through status",
            "namespace-tenant",
            lambda: who.editor.patch(f"{own}/status", regions),
        ),
        Cheat(
            "a kubelet abroad says it is in Munich",
            "node-location",
            lambda: who.kubelet.patch(node, move),
        ),
        Cheat("… or joins the pool in Munich", RESTRICTION, lambda: who.kubelet.patch(node, join)),
    ]


def _stolen(who: Cheaters) -> list[Cheat]:
    image = {
        "op": "replace",
        "path": "/spec/containers/0/image",
        "value": "registry.example.com/evil:1",
    }
    join = {"metadata": {"labels": {names.NODE_POOL_LABEL: "munich-b200"}}}
    return [
        Cheat(
            "stolen operator token: swap an image",
            "release-spec",
            lambda: who.operator.patch(who.running.path, [image]),
        ),
        Cheat(
            "… with a release",
            "release-spec",
            lambda: who.operator.patch(who.waiting.path, [_LIFT, image]),
        ),
        Cheat(
            "… take a node into the pool",
            "node-pool-label",
            lambda: who.operator.patch("/api/v1/nodes/iad-dgx-0000", join),
        ),
        Cheat("… delete a pod", RBAC, lambda: who.operator.delete(who.running.path)),
    ]


def refused(cheat: Cheat, answer: Response) -> bool:
    """Whether the answer is the refusal that the cheat deserves."""
    said = _SAID.get(cheat.rule, f"{cheat.rule}: ")
    return answer.status in {403, 422} and said in answer.message


def short(cheat: Cheat, answer: Response) -> str:
    """Return the part of a refusal that matters: what was found and what would be allowed."""
    _, _, found = answer.message.partition(f"{cheat.rule}: ")
    text = " ".join((found or answer.message).split())
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"

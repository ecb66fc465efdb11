"""Where the story plays: the hall, the people, and the product installed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rig import nodes, product, users
from rig.client import wait_for
from rig.demo import kubectl, manifests, pods
from rig.demo.manifests import AWAY_POOL, GPUS_PER_NODE, HOME_POOL, PLATFORM, POLICY, Tenant
from sovereign_gpu import names

if TYPE_CHECKING:
    from rig.client import Client
    from rig.control_plane import Rig
    from rig.demo.screen import Screen
    from rig.demo.table import Board
    from rig.demo.trail import Trail

HOME, AWAY = "eu-de-muc", "us-east-1"
COMPANIONS, AWAY_GPU_NODES, AWAY_CPU_NODES = 20, 30, 10
OFFICE, OFFICE_USER = "office", "tenant-office"
"""A namespace that belongs to no tenant, and its owner."""
OBJECTS = f"/apis/{names.GROUP}/{names.VERSION}"
_PATIENCE = 120.0


@dataclass(slots=True)
class Scene:
    """Everything the acts of the story share.

    Attributes:
        size: GPU nodes at home.
        scale: share of the full size.
    """

    rig: Rig
    screen: Screen
    size: int
    scale: float
    admin: Client
    board: Board
    trail: Trail
    operator: product.OperatorProcess
    tenants: list[Tenant] = field(default_factory=list)
    regions: dict[str, str] = field(default_factory=dict)
    """Region of each node, as its label said when the story began."""
    departed: list[pods.Pod] = field(default_factory=list)
    """Pods that were evicted, as they were last seen."""

    @property
    def gpus(self) -> int:
        """GPUs of the hall in Munich."""
        return GPUS_PER_NODE * self.size

    @property
    def namespaces(self) -> list[str]:
        """All namespaces of tenants."""
        return [name for tenant in self.tenants for name in tenant.namespaces]

    def tenant_of(self, namespace: str) -> Tenant:
        """Return the tenant to whom the example gives a namespace."""
        return next(each for each in self.tenants if namespace in each.namespaces)

    def pods(self) -> list[pods.Pod]:
        """Return all pods of the tenants."""
        return pods.read(self.admin, self.namespaces)


def build_halls(scene: Scene) -> None:
    """Write all nodes and wait until they are ready."""
    rig = scene.rig
    home: dict[str, Any] = {"pool": HOME_POOL, "region": HOME, "country": "DE", "ready": False}
    away: dict[str, Any] = {"region": AWAY, "country": "US", "ready": False}
    companions = nodes.create_nodes(rig, COMPANIONS, None, **home, prefix="muc-companion")
    made = [
        *nodes.create_nodes(rig, scene.size, **home, prefix="muc-dgx"),
        *companions,
        *nodes.create_nodes(rig, AWAY_GPU_NODES, **away, pool=AWAY_POOL, prefix="iad-dgx"),
        *nodes.create_nodes(rig, AWAY_CPU_NODES, None, **away, prefix="iad-cpu"),
    ]
    nodes.wait_ready(scene.admin, made)
    scene.screen.line(
        f"{scene.size:,} DGX B200 in Munich ({scene.gpus:,} GPUs) and {COMPANIONS} companions; "
        f"outside the EU {AWAY_GPU_NODES} DGX B200 in a pool of their own "
        f"and {AWAY_CPU_NODES} nodes without GPUs"
    )


def found_cloud(scene: Scene) -> None:
    """Apply the example as the platform admin, with kubectl."""
    documents = manifests.platform(scene.scale)
    if scene.scale == 1:
        kubectl.run(scene.rig, users.PLATFORM_ADMIN, "apply", "-f", str(PLATFORM))
    else:
        kubectl.apply(scene.rig, users.PLATFORM_ADMIN, documents)
    scene.tenants = manifests.tenants(documents)
    office = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OFFICE}}
    scene.admin.apply(office).must()
    users.grant_tenant(scene.admin, OFFICE_USER, [OFFICE])
    scene.screen.line(
        "tenants and guarantees: " + ", ".join(_quota(each) for each in scene.tenants)
    )


def _quota(tenant: Tenant) -> str:
    limits = [
        f"borrows {tenant.borrowing_limit:,}" if tenant.borrowing_limit else "",
        f"lends {tenant.lending_limit:,}" if tenant.lending_limit is not None else "",
    ]
    said = ", ".join(each for each in limits if each)
    return f"{tenant.name} {tenant.guaranteed:,}" + (f" ({said} at most)" if said else "")


def wait_marked(scene: Scene) -> None:
    """Wait until the operator has counted the pools and marked nodes and namespaces."""
    for pool, gpus in ((HOME_POOL, scene.gpus), (AWAY_POOL, GPUS_PER_NODE * AWAY_GPU_NODES)):
        _wait_free(scene.admin, pool, gpus)
    for namespace in scene.namespaces:
        scene.admin.wait(
            f"/api/v1/namespaces/{namespace}",
            lambda body: body["metadata"]["annotations"][names.REGIONS] == HOME,
            _PATIENCE,
        )
    # The count of eligible nodes runs ahead of the labels on them, and pods go by the labels.
    wait_for(
        lambda: allowed_nodes(scene.admin) == scene.size + COMPANIONS,
        _PATIENCE,
        "the nodes in Munich to be marked as allowed",
        longest_pause=1.0,
    )
    scene.regions = {
        each["metadata"]["name"]: each["metadata"]["labels"].get(names.REGION_LABEL, "")
        for each in scene.admin.items("/api/v1/nodes")
    }


def _wait_free(admin: Client, pool: str, gpus: int) -> None:
    path = f"{OBJECTS}/gpupools/{pool}"
    admin.wait(path, lambda body: body["status"]["gpus"]["free"] == gpus, _PATIENCE)


def allowed_nodes(admin: Client) -> int:
    """Return how many nodes carry the policy's mark."""
    label = f"{names.NODE_RESIDENCY_PREFIX}{POLICY}={names.NODE_ALLOWED}"
    answer = admin.request(
        "GET", "/api/v1/nodes", headers=nodes.TABLE, includeObject="None", labelSelector=label
    )
    return len(answer.must()["rows"])

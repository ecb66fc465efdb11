"""Halls of nodes on a rig, written as an administrator would enrol them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rig import bulk, users
from rig.catalogue import PRODUCTS, Place, node
from rig.client import wait_for
from rig.errors import RigError
from rig.stages import NOT_READY
from sovereign_gpu.names import NODE_POOL_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rig.client import Client
    from rig.control_plane import Rig

READY_SECONDS = 300.0
LIST_PAUSE_SECONDS = 1.0
TABLE = {"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}


def create_nodes(  # noqa: PLR0917 - the first ones are what every caller names
    rig: Rig,
    count: int,
    product: str | None = "NVIDIA-B200",
    pool: str | None = None,
    region: str = "eu-de-muc",
    zone: str | None = None,
    country: str = "",
    prefix: str | None = None,
    *,
    first: int = 0,
    labels: dict[str, str] | None = None,
    ready: bool = True,
) -> list[str]:
    """Create nodes and wait until all are ready.

    They are written by the platform admin: the pool label is one that kubelets may not set.

    Args:
        rig: the control plane, which is up.
        count: how many.
        product: a name of the catalogue; None for companions without GPUs.
        pool: pool that they are enrolled in; none when omitted.
        region: `topology.kubernetes.io/region`.
        zone: `topology.kubernetes.io/zone`; `<region>-a` when omitted.
        country: ISO code, for tables.
        prefix: of the names, which go on with a number; made of region and product if omitted.
        first: number of the first one.
        labels: more labels.
        ready: whether to wait.

    Returns:
        The names.

    Raises:
        RigError: a node was refused, or did not become ready in time.
    """
    if product is not None and product not in PRODUCTS:
        raise RigError(f"product {product!r}: the catalogue has {', '.join(PRODUCTS)}")
    model = PRODUCTS[product] if product else None
    place = Place(region, zone or f"{region}-a", country)
    stem = prefix or f"{region}-{model.instance_type if model else 'companion'}"
    extra = dict(labels or {}) | ({NODE_POOL_LABEL: pool} if pool else {})
    admin = rig.client(users.PLATFORM_ADMIN)
    version = admin.get("/version").must()["gitVersion"]
    numbers = range(first, first + count)
    names = [f"{stem}-{number:04d}" for number in numbers]
    bodies = (
        node(name, number, place, model, kubelet_version=version, labels=extra)
        for name, number in zip(names, numbers, strict=True)
    )
    bulk.create(rig, users.PLATFORM_ADMIN, "/api/v1/nodes", bodies)
    if ready:
        wait_ready(admin, names)
    return names


def wait_ready(client: Client, names: Iterable[str], seconds: float = READY_SECONDS) -> None:
    """Wait until nodes are ready and the taint of new nodes is gone from all of them."""
    wanted = set(names)
    deadline = time.monotonic() + seconds
    ready = f"{len(wanted)} nodes to be ready"
    wait_for(lambda: wanted <= _ready(client), seconds, ready, LIST_PAUSE_SECONDS)
    left = max(1.0, deadline - time.monotonic())
    wait_for(lambda: not wanted & _unready_taint(client), left, "node taints to be lifted")


def _ready(client: Client) -> set[str]:
    # A table is a hundredth of the objects' size, and is asked for again and again.
    answer = client.request("GET", "/api/v1/nodes", headers=TABLE, includeObject="None")
    table = answer.must()
    status = [each["name"] for each in table["columnDefinitions"]].index("Status")
    ready = (row["cells"] for row in table["rows"])
    return {cells[0] for cells in ready if cells[status].split(",")[0] == "Ready"}


def _unready_taint(client: Client) -> set[str]:
    return {
        each["metadata"]["name"]
        for each in client.items("/api/v1/nodes")
        if any(
            taint["key"].startswith("node.kubernetes.io/not-ready")
            for taint in each["spec"].get("taints", [])
        )
    }


def delete_nodes(rig: Rig, names: Iterable[str]) -> None:
    """Delete nodes, as an administrator who takes machines away."""
    requests = (("DELETE", f"/api/v1/nodes/{name}", None) for name in names)
    bulk.send(rig, users.PLATFORM_ADMIN, requests)


def set_allocatable_gpus(client: Client, name: str, gpus: int) -> Any:
    """Report fewer (or all) GPUs of a node as usable, as its device plugin does after a fault."""
    body = {"status": {"allocatable": {"nvidia.com/gpu": str(gpus)}}}
    return client.patch(f"/api/v1/nodes/{name}/status", body).must()


def set_ready(client: Client, name: str, *, ready: bool) -> None:
    """Let a node's kubelet report Ready or NotReady, and wait until it does."""
    annotation = None if ready else "true"
    path = f"/api/v1/nodes/{name}"
    client.patch(path, {"metadata": {"annotations": {NOT_READY: annotation}}}).must()
    wanted = "True" if ready else "False"
    client.wait(
        path,
        lambda body: any(
            each["type"] == "Ready" and each["status"] == wanted
            for each in body["status"]["conditions"]
        ),
    )

"""What each mode of placement ties pods to, and where kube-scheduler then binds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sovereign_gpu import names
from tests.control_plane.cluster import decision, pod, preferred_terms, required_terms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.control_plane.cluster import Cluster, Site, Tenant

NODES = 2
MODES = ("Pack", "Preferred", "Delegate")


@pytest.fixture(scope="module", params=MODES)
def hall(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[tuple[str, Site, Tenant]]:
    """Two nodes in a pool of one mode, and a tenant that may use all of it."""
    site = cluster.site()
    try:
        pool = site.pool(nodes=NODES, spec={"placement": {"mode": request.param}})
        yield request.param, site, site.tenant("acme", {pool: 16}, [site.policy()])
    finally:
        site.clear()


@pytest.fixture(autouse=True)
def empty(hall: tuple[str, Site, Tenant]) -> Iterator[None]:
    """No pods are left to the next test."""
    yield
    hall[1].drop(hall[2].pods)


def _owner(site: Site, tenant: Tenant) -> dict[str, Any]:
    metadata = {"name": "owner", "namespace": tenant.namespace}
    made = site.admin.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}).must()
    uid = made["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    return {**owner, "controller": True}


def _fields(terms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [field for term in terms for field in term.get("matchFields", [])]


def test_what_a_release_ties_pods_to(hall: tuple[str, Site, Tenant]) -> None:
    mode, site, tenant = hall
    site.submit(tenant, pod("owned", owner=_owner(site, tenant)), pod("bare"))
    in_pool = {"key": names.NODE_POOL_LABEL, "operator": "In", "values": [site.name("pool")]}
    for name in ("owned", "bare"):
        found = site.bound(tenant, name)
        said = decision(found)
        here = {"key": "metadata.name", "operator": "In", "values": [said["node"]]}
        preferred = [term["preference"] for term in preferred_terms(found)]
        assert said["placement"] == mode
        assert said["pinned"] is (mode == "Pack" and name == "owned")
        assert found["spec"]["nodeName"] in site.nodes
        if mode == "Pack":
            assert here in _fields(required_terms(found))
        else:
            assert required_terms(found) == [{"matchExpressions": [in_pool]}]
            assert preferred == ([{"matchFields": [here]}] if mode == "Preferred" else [])
        if mode != "Delegate":
            assert found["spec"]["nodeName"] == said["node"]


def test_the_books_follow_the_bindings_and_every_gpu_can_be_used(
    hall: tuple[str, Site, Tenant],
) -> None:
    _, site, tenant = hall
    pods = [f"quarter-{number}" for number in range(4)]
    site.submit(tenant, *(pod(name, gpus=4) for name in pods))
    nodes = [site.bound(tenant, name)["spec"]["nodeName"] for name in pods]
    assert sorted(nodes) == sorted(NODES * site.nodes)

    def all_bound(status: dict[str, Any]) -> bool:
        return bool(status["gpus"]["counted"] == 16 and status["gpus"]["reserved"] == 0)

    gpus = site.pool_status(site.name("pool"), all_bound)["gpus"]
    assert (gpus["free"], gpus["wholeNodesFree"], gpus["largestGang"]) == (0, 0, 0)


def test_a_pod_that_no_single_node_has_room_for_is_not_released(
    hall: tuple[str, Site, Tenant],
) -> None:
    _, site, tenant = hall
    site.submit(tenant, pod("first", gpus=6), pod("second", gpus=6))
    for name in ("first", "second"):
        site.bound(tenant, name)
    site.submit(tenant, pod("third", gpus=4))
    assert "4 free, at most 2 on one node" in site.told(tenant, "third", "Fragmented")
    site.end(tenant, "first")
    site.bound(tenant, "third")

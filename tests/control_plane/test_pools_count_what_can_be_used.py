"""Nodes that fail, are cordoned or vanish: what a pool has, can give, and still owes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rig.nodes import create_nodes, delete_nodes, set_allocatable_gpus, set_ready
from tests.control_plane.cluster import conditions, pod

if TYPE_CHECKING:
    from tests.control_plane.cluster import Site


def _numbers(status: Any) -> dict[str, int]:
    both = {**status["gpus"], **{f"nodes.{key}": n for key, n in status["nodes"].items()}}
    return {key: both[key] for key in ("capacity", "allocatable", "free", "nodes.ready")}


def test_failed_devices_and_nodes_are_had_and_cannot_be_given(site: Site) -> None:
    pool = site.pool(nodes=2)
    first, second = site.nodes
    set_allocatable_gpus(site.admin, first, 6)
    status = site.pool_status(pool, lambda s: s["gpus"]["allocatable"] == 14)
    assert _numbers(status) == {"capacity": 16, "allocatable": 14, "free": 14, "nodes.ready": 2}
    assert status["nodes"]["unhealthy"] == 1

    set_ready(site.admin, second, ready=False)
    status = site.pool_status(pool, lambda s: s["gpus"]["allocatable"] == 6)
    assert _numbers(status) == {"capacity": 16, "allocatable": 6, "free": 6, "nodes.ready": 1}
    assert status["nodes"]["unhealthy"] == 2

    set_ready(site.admin, second, ready=True)
    set_allocatable_gpus(site.admin, first, 8)
    site.pool_status(pool, lambda s: s["gpus"]["free"] == 16 and s["nodes"]["unhealthy"] == 0)


def test_pods_of_a_node_that_is_lost_stay_charged_until_they_are_gone(site: Site) -> None:
    pool, policy = site.pool(nodes=0), site.policy()
    tenant = site.tenant("acme", {pool: 8}, [policy])
    (node,) = create_nodes(
        site.cluster.rig, 1, pool=pool, region=site.region, prefix=site.name("lost")
    )
    site.pool_status(pool, lambda s: s["gpus"]["free"] == 8)
    lasting = {"rig.sovereign-gpu.io/stop-seconds": "3600"}
    site.submit(tenant, pod("runs", gpus=8, annotations=lasting))
    assert site.bound(tenant, "runs")["spec"]["nodeName"] == node

    site.admin.patch(tenant.pod("runs"), {"metadata": {"finalizers": ["example.com/keep"]}}).must()
    delete_nodes(site.cluster.rig, [node])
    status = site.pool_status(pool, lambda s: s["gpus"]["capacity"] == 0)
    assert conditions(status)["Oversubscribed"]["status"] == "True"
    used = site.tenant_status(tenant.name, lambda s: s["total"]["used"] == 8)
    assert used["total"]["used"] == 8

    site.admin.patch(tenant.pod("runs"), {"metadata": {"finalizers": None}}).must()
    site.admin.delete(tenant.pod("runs"), gracePeriodSeconds=0)
    site.tenant_status(tenant.name, lambda s: s["total"]["used"] == 0)


def test_promises_beyond_what_is_there_are_said_and_kept_as_far_as_possible(site: Site) -> None:
    pool, policy = site.pool(), site.policy()
    first, second = (site.tenant(word, {pool: 8}, [policy]) for word in ("one", "two"))
    status = site.pool_status(pool, lambda s: conditions(s)["Oversubscribed"]["status"] == "True")
    assert conditions(status)["Oversubscribed"]["message"] == "16 GPUs guaranteed, 8 there"
    assert conditions(status)["Ready"]["status"] == "True"
    site.submit(first, pod("runs", gpus=6))
    site.bound(first, "runs")
    site.submit(second, pod("small", gpus=2), pod("large", gpus=4))
    site.bound(second, "small")
    row = site.tenant_status(second.name, lambda s: s["waiting"])["waiting"][0]
    assert (row["reason"], row["pods"], row["gpus"]) == ("PoolFull", 1, 4)

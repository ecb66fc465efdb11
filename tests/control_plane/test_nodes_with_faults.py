"""Ailing nodes take nothing new, keep what runs, and are back at once; who they are is watched."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from rig.nodes import set_allocatable_gpus
from rig.users import KUBELET_PREFIX
from sovereign_gpu import names
from tests.control_plane.cluster import conditions, pod, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.control_plane.cluster import Site

STRATEGIC = "application/strategic-merge-patch+json"
RACK = "example.com/RackCool"


def _label(site: Site, key: str, value: str | None) -> None:
    body = {"metadata": {"labels": {key: value}}}
    site.admin.patch(f"/api/v1/nodes/{site.nodes[0]}", body).must()


def _condition(site: Site, kind: str, status: str) -> None:
    """Report a condition as an agent on the node does."""
    body = {"status": {"conditions": [{"type": kind, "status": status, "reason": "Agent"}]}}
    path = f"/api/v1/nodes/{site.nodes[0]}/status"
    site.admin.patch(path, body, content_type=STRATEGIC).must()


FAULTS: dict[str, tuple[Callable[[Site], None], Callable[[Site], None]]] = {
    "DriverUpgrade": (
        lambda site: _label(site, names.DRIVER_UPGRADE_STATE, "pod-restart-required"),
        lambda site: _label(site, names.DRIVER_UPGRADE_STATE, "upgrade-done"),
    ),
    "MigReconfiguration": (
        lambda site: _label(site, names.MIG_CONFIG_STATE, "pending"),
        lambda site: _label(site, names.MIG_CONFIG_STATE, "success"),
    ),
    "CcReconfiguration": (
        lambda site: _label(site, names.CC_MODE, "on"),
        lambda site: _label(site, names.CC_MODE, None),
    ),
    "Condition": (
        lambda site: _condition(site, "GpuMemWatch", "True"),
        lambda site: _condition(site, "GpuMemWatch", "False"),
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_node_that_ails_takes_nothing_new_keeps_what_runs_and_is_back(
    site: Site, kind: str
) -> None:
    falls_ill, recovers = FAULTS[kind]
    pool, policy = site.pool(), site.policy()
    tenant = site.tenant("acme", {pool: 8}, [policy])
    site.submit(tenant, pod("runs", gpus=2))
    site.bound(tenant, "runs")

    falls_ill(site)
    try:
        status = site.pool_status(pool, lambda s: s["gpus"]["lost"] == 8)
        assert status["faults"] == [{"kind": kind, "nodes": 1, "gpus": 8}]
        assert (status["gpus"]["counted"], status["gpus"]["free"]) == (2, 0)
        degraded = conditions(status)["Degraded"]
        assert degraded["status"] == "True"
        assert kind in degraded["message"]
        seen = site.tenant_status(tenant.name, lambda s: s["total"]["lost"] == 8)
        assert (seen["total"]["used"], seen["total"]["onFaultyNodes"]) == (2, 2)
        site.submit(tenant, pod("waits"))
        site.told(tenant, "waits", "PoolFull")
    finally:
        recovers(site)
    site.bound(tenant, "waits")
    status = site.pool_status(pool, lambda s: s["gpus"]["lost"] == 0)
    assert status["faults"] == []
    assert conditions(status)["Degraded"]["status"] == "False"


def test_a_pool_says_which_condition_counts_and_with_which_status(site: Site) -> None:
    rules = [
        {"type": RACK, "unhealthyStatus": "False"},
        {"type": "SysLogsXIDError", "unhealthyStatus": "Ignored"},
    ]
    pool = site.pool(spec={"health": {"conditions": rules}})
    _condition(site, "SysLogsXIDError", "True")
    _condition(site, RACK, "False")
    status = site.pool_status(pool, lambda s: s["gpus"]["lost"] == 8)
    assert status["faults"] == [{"kind": "Condition", "nodes": 1, "gpus": 8}]
    _condition(site, RACK, "True")
    site.pool_status(pool, lambda s: s["gpus"]["lost"] == 0)
    location = {"country": "DE", "region": site.region}
    site.put("GpuPool", pool, {"location": location, "health": {"conditions": rules[:1]}})
    site.pool_status(pool, lambda s: s["gpus"]["lost"] == 8)
    _condition(site, "SysLogsXIDError", "False")
    site.pool_status(pool, lambda s: s["gpus"]["lost"] == 0)


def test_tenants_share_what_failed_devices_cost_them(site: Site) -> None:
    pool, policy = site.pool(nodes=2), site.policy()
    large = site.tenant("large", {pool: 12}, [policy])
    small = site.tenant("small", {pool: 4}, [policy])
    set_allocatable_gpus(site.admin, site.nodes[0], 4)
    status = site.pool_status(pool, lambda s: s["gpus"]["lost"] == 4)
    assert status["faults"] == [{"kind": "DevicesUnhealthy", "nodes": 1, "gpus": 4}]
    site.tenant_status(large.name, lambda s: s["total"]["lost"] == 3)
    site.tenant_status(small.name, lambda s: s["total"]["lost"] == 1)
    assert site.cluster.series("pool_lost_gpus", pool=pool) == [4]
    assert site.cluster.series("pool_faulty_nodes", pool=pool, kind="DevicesUnhealthy") == [1]
    set_allocatable_gpus(site.admin, site.nodes[0], 8)
    site.tenant_status(large.name, lambda s: s["total"]["lost"] == 0)


def test_another_machine_behind_the_name_of_a_node_waits_for_an_administrator(site: Site) -> None:
    pool, policy = site.pool(), site.policy()
    tenant = site.tenant("acme", {pool: 8}, [policy])
    node, residency = site.nodes[0], names.NODE_RESIDENCY_PREFIX + policy
    path = f"/api/v1/nodes/{node}"

    def labels(predicate: Callable[[dict[str, str]], Any]) -> dict[str, str]:
        found = site.admin.wait(path, lambda body: predicate(body["metadata"]["labels"]))
        return dict(found["metadata"]["labels"])

    first = labels(lambda x: names.NODE_MACHINE_LABEL in x and residency in x)
    kubelet = site.cluster.rig.client(KUBELET_PREFIX + node)
    another = {"status": {"nodeInfo": {"systemUUID": str(uuid.uuid4())}}}
    kubelet.patch(f"{path}/status", another).must()
    status = site.pool_status(pool, lambda s: s["gpus"]["lost"] == 8)
    assert status["faults"] == [{"kind": "Replaced", "nodes": 1, "gpus": 8}]
    labels(lambda x: residency not in x)
    site.submit(tenant, pod("waits"))
    site.told(tenant, "waits", "PoolFull")

    forget = {"metadata": {"labels": {names.NODE_MACHINE_LABEL: None}}}
    assert refused(kubelet.patch(path, forget))
    site.admin.patch(path, forget).must()
    site.bound(tenant, "waits")
    second = labels(lambda x: names.NODE_MACHINE_LABEL in x and residency in x)
    assert second[names.NODE_MACHINE_LABEL] != first[names.NODE_MACHINE_LABEL]
    site.pool_status(pool, lambda s: s["gpus"]["lost"] == 0)

"""A pod pinned to a node that will not take it is replaced by its owner and lands elsewhere.

What the engine does not count, here the number of pods of a node, makes kube-scheduler refuse.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from rig.client import wait_for
from rig.nodes import create_nodes, delete_nodes
from tests.control_plane.cluster import decision, is_gated, pod

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.control_plane.cluster import Site, Tenant

PATIENCE = 150.0
"""Seconds: an operator evicts nobody in its first minute, and half a minute is what it waits."""


def _takes(site: Site, node: str, pods: int) -> None:
    body = {"status": {"allocatable": {"pods": str(pods)}}}
    site.admin.patch(f"/api/v1/nodes/{node}/status", body).must()


def _cordon(site: Site, node: str, *, cordoned: bool) -> None:
    body = {"spec": {"unschedulable": cordoned or None}}
    site.admin.patch(f"/api/v1/nodes/{node}", body).must()


def _job(tenant: Tenant, **spec: Any) -> str:
    """Create a job and return its path."""
    spec["template"] = {"spec": pod("train", gpus=2)["spec"]}
    body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train"}, "spec": spec}
    path = f"/apis/batch/v1/namespaces/{tenant.namespace}/jobs"
    tenant.client.create(path, body).must()
    return f"{path}/train"


def _pod(site: Site, tenant: Tenant, fits: Callable[[Any], Any], seconds: float) -> Any:
    """Wait for a pod of the job."""
    found: list[Any] = []

    def seen() -> bool:
        found[:] = [each for each in site.admin.items(tenant.pods) if fits(each)]
        return bool(found)

    wait_for(seen, seconds, "a pod of the job")
    return found[0]


def _told(site: Site, tenant: Tenant) -> list[str]:
    events = site.admin.items(f"/api/v1/namespaces/{tenant.namespace}/events")
    return [
        each["message"]
        for each in events
        if each["reason"] == "CannotBind" and each["involvedObject"]["kind"] == "Job"
    ]


def test_a_node_that_refuses_what_fits_by_the_books_is_avoided(site: Site) -> None:
    pool, policy = site.pool(nodes=2), site.policy()
    tenant = site.tenant("acme", {pool: 8}, [policy])
    for node in site.nodes:
        _takes(site, node, 0)
    try:
        _job(tenant)
        first = _pod(site, tenant, lambda each: not is_gated(each), 30)
        released = time.monotonic()
        refusing = decision(first)["node"]
        other = next(node for node in site.nodes if node != refusing)
        _takes(site, other, 110)

        status = site.tenant_status(
            tenant.name, lambda s: any(row["reason"] == "CannotBind" for row in s["waiting"])
        )
        assert time.monotonic() - released <= 30
        assert status["total"]["reserved"] == 2
        second = _pod(site, tenant, lambda each: each["spec"].get("nodeName"), PATIENCE)
        assert second["spec"]["nodeName"] == other
        assert second["metadata"]["uid"] != first["metadata"]["uid"]
        (message,) = _told(site, tenant)
        assert f"kube-scheduler finds no place for it on node {refusing}" in message
        assert "Too many pods" in message
        site.tenant_status(tenant.name, lambda s: s["waiting"] == [] and s["total"]["used"] == 2)
    finally:
        for node in site.nodes:
            _takes(site, node, 110)


@pytest.mark.parametrize("lost", ["deleted", "cordoned"])
def test_a_node_that_is_lost_right_after_the_release(site: Site, lost: str) -> None:
    pool, policy = site.pool(), site.policy()
    tenant = site.tenant("acme", {pool: 8}, [policy])
    _cordon(site, site.nodes[0], cordoned=True)
    (node,) = create_nodes(
        site.cluster.rig, 1, pool=pool, region=site.region, prefix=site.name(lost)
    )
    site.undo(f"/api/v1/nodes/{node}")
    _takes(site, node, 0)
    site.pool_status(pool, lambda s: s["gpus"]["free"] == 8)
    job = _job(tenant)
    first = _pod(site, tenant, lambda each: not is_gated(each), 30)
    assert decision(first)["node"] == node
    if lost == "deleted":
        delete_nodes(site.cluster.rig, [node])
    else:
        _cordon(site, node, cordoned=True)
    _cordon(site, site.nodes[0], cordoned=False)
    second = _pod(site, tenant, lambda each: each["spec"].get("nodeName"), PATIENCE)
    assert second["spec"]["nodeName"] == site.nodes[0]
    assert len(_told(site, tenant)) == 1
    site.admin.wait(job, lambda each: each["status"].get("failed") == 1)


def test_a_job_that_ignores_disruptions_does_not_count_what_was_given_up(site: Site) -> None:
    pool, policy = site.pool(), site.policy()
    tenant = site.tenant("acme", {pool: 8}, [policy])
    (node,) = site.nodes
    _takes(site, node, 0)
    disrupted = {"type": "DisruptionTarget", "status": "True"}
    rules = [{"action": "Ignore", "onPodConditions": [disrupted]}]
    try:
        job = _job(tenant, backoffLimit=0, podFailurePolicy={"rules": rules})
        first = _pod(site, tenant, lambda each: not is_gated(each), 30)
        _pod(
            site,
            tenant,
            lambda each: each["metadata"]["uid"] != first["metadata"]["uid"],
            PATIENCE,
        )
    finally:
        _takes(site, node, 110)
    _pod(site, tenant, lambda each: each["spec"].get("nodeName"), PATIENCE)
    status = site.admin.get(job).must()["status"]
    assert (status["active"], status.get("failed", 0)) == (1, 0)

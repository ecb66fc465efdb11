"""GitOps applies in any order: the operator waits for its kinds and serves them once they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rig.client import wait_for
from tests.control_plane.cluster import POLICIES, POOLS, QUOTAS, pod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.control_plane.cluster import Cluster
    from tests.control_plane.processes import Process

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CRDS = Path(__file__).parents[2] / "crds"
SOON = 15.0
"""Seconds; the list that closes gaps comes once a minute, so only a watch is as quick."""

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture
def without_definitions(cluster: Cluster) -> Iterator[list[dict[str, Any]]]:
    """No custom resource is known; the definitions to apply are returned."""
    made = [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]
    for each in made:
        path = f"{DEFINITIONS}/{each['metadata']['name']}"
        cluster.admin.delete(path).must()
        cluster.admin.wait_gone(path)
    yield made
    _apply(cluster, made)


def _apply(cluster: Cluster, definitions: list[dict[str, Any]]) -> None:
    for each in definitions:
        cluster.admin.apply(each).must()
    for path in (POOLS, QUOTAS, POLICIES):
        cluster.admin.wait(path, lambda _: True)


def test_definitions_that_are_applied_later_are_served_by_list_and_watch(
    cluster: Cluster,
    without_definitions: list[dict[str, Any]],
    start: Callable[..., Process],
) -> None:
    operator = start(lease=15, wait=False)
    wait_for(lambda: operator.said("listing the custom resources"), 30, "the first try")
    wait_for(lambda: operator.page("readyz") == (503, "reading the cluster"), 10, "not ready")
    assert operator.page("livez") == (200, "ok")

    _apply(cluster, without_definitions)
    operator.wait_leading(30)
    site = cluster.site()
    try:
        pool, policy = site.pool(), site.policy()
        tenant = site.tenant("late", {pool: 1}, [policy])
        site.submit(tenant, pod("runs"), pod("waits"))
        site.bound(tenant, "runs")
        site.tenant_status(tenant.name, lambda s: s["total"]["pendingPods"] == 1)
        site.quota(tenant.name, [tenant.namespace], {pool: 2}, [policy])
        site.bound(tenant, "waits", SOON)
    finally:
        site.clear()

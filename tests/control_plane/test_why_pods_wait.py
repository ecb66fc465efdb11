"""Every reason of the closed list, brought about for real, with its numbers and its end.

All situations are set up at once, because a reason has to hold for some seconds before it is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from sovereign_gpu import names
from tests.control_plane.cluster import QUOTAS, Tenant, conditions, pod
from tests.control_plane.trail import operator_writes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.control_plane.cluster import Cluster, Site

HOSTNAME = "kubernetes.io/hostname"


@dataclass
class Situations:
    """Tenants whose one pod `stuck` waits, each for another reason."""

    site: Site
    waiting: dict[str, Tenant]

    def told(self, reason: str) -> str:
        """Wait until the pod of a situation is told its reason; return the sentence."""
        return self.site.told(self.waiting[reason], "stuck", reason)

    def released(self, reason: str) -> None:
        """Wait until the pod runs; it was written to twice in all."""
        tenant = self.waiting[reason]
        self.site.bound(tenant, "stuck")
        rig = self.site.cluster.rig
        writes = operator_writes(rig, tenant.namespace, "stuck")
        assert writes == ["patch pods/status", "patch pods"]


@pytest.fixture(scope="module")
def situations(cluster: Cluster) -> Iterator[Situations]:
    """All of them."""
    site = cluster.site()
    try:
        yield Situations(site, {reason: make(site) for reason, make in MAKERS.items()})
    finally:
        site.clear()


def _tenant_quota_missing(site: Site) -> Tenant:
    tenant = site.tenant("orphan", {site.pool("orphan"): 1}, [site.policy("orphan")])
    site.admin.delete(f"{QUOTAS}/{tenant.name}").must()
    site.submit(tenant, pod("stuck"))
    return tenant


def _policy_missing(site: Site) -> Tenant:
    policy = site.policy("early")
    tenant = site.tenant("late", {site.pool("late"): 1}, [policy])
    # New pods are refused while it is missing; this one was there before and waited for a node.
    site.submit(tenant, pod("stuck", nodeSelector={"example.com/rack": "seven"}))
    (node,) = site.nodes[-1:]
    site.quota(tenant.name, [tenant.namespace], {site.name("late"): 1}, [policy, site.name("gone")])
    site.tenant_status(tenant.name, lambda s: conditions(s)["Ready"]["status"] == "False")
    labels = {"metadata": {"labels": {"example.com/rack": "seven"}}}
    site.admin.patch(f"/api/v1/nodes/{node}", labels).must()
    return tenant


def _no_eligible_pool(site: Site) -> Tenant:
    region = f"ch-{site.number}"
    pool = site.pool("swiss", country="CH", region=region)
    tenant = site.tenant("swiss", {pool: 1}, [site.policy("swiss")])
    site.submit(tenant, pod("stuck"))
    return tenant


def _never_fits(site: Site) -> Tenant:
    tenant = site.tenant("huge", {site.pool("huge"): 32}, [site.policy("huge")])
    site.submit(tenant, pod("stuck", gpus=9))
    return tenant


def _pool_full(site: Site) -> Tenant:
    pool = site.pool("full", nodes=2)
    tenant = site.tenant("full", {pool: 16}, [site.policy("full")])
    node = site.nodes[-1]
    site.submit(tenant, pod("first", gpus=8, nodeSelector={HOSTNAME: site.nodes[-2]}))
    site.bound(tenant, "first")
    site.admin.patch(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": True}}).must()
    site.pool_status(pool, lambda s: s["nodes"]["cordoned"] == 1 and s["gpus"]["free"] == 0)
    site.submit(tenant, pod("stuck", gpus=2))
    return tenant


def _fragmented(site: Site) -> Tenant:
    pool = site.pool("split", nodes=2)
    tenant = site.tenant("split", {pool: 16}, [site.policy("split")])
    for number, node in enumerate(site.nodes[-2:]):
        site.submit(tenant, pod(f"half-{number}", gpus=4, nodeSelector={HOSTNAME: node}))
        site.bound(tenant, f"half-{number}")
    site.submit(tenant, pod("stuck", gpus=6))
    return tenant


def _node_constraints(site: Site) -> Tenant:
    tenant = site.tenant("picky", {site.pool("picky"): 8}, [site.policy("picky")])
    site.submit(tenant, pod("stuck", nodeSelector={"example.com/disk": "fast"}))
    return tenant


def _held(site: Site) -> Tenant:
    tenant = site.tenant("held", {site.pool("held"): 8}, [site.policy("held")])
    site.submit(tenant, pod("stuck", schedulingGates=[{"name": "example.com/data"}]))
    return tenant


MAKERS = {
    "TenantQuotaMissing": _tenant_quota_missing,
    "PolicyMissing": _policy_missing,
    "NoEligiblePool": _no_eligible_pool,
    "NeverFits": _never_fits,
    "PoolFull": _pool_full,
    "Fragmented": _fragmented,
    "NodeConstraints": _node_constraints,
    "Held": _held,
}


def test_without_its_quota_a_tenant_keeps_its_namespace_and_waits(situations: Situations) -> None:
    site, tenant = situations.site, situations.waiting["TenantQuotaMissing"]
    assert f"no TenantQuota {tenant.name} names" in situations.told("TenantQuotaMissing")
    found = site.admin.get(f"/api/v1/namespaces/{tenant.namespace}").must()["metadata"]
    assert found["labels"][names.TENANT_LABEL] == tenant.name
    assert found["annotations"][names.RESIDENCY] == site.name("orphan")

    site.quota(tenant.name, [tenant.namespace], {site.name("orphan"): 1}, [site.name("orphan")])
    situations.released("TenantQuotaMissing")


def test_while_a_policy_is_missing_nothing_is_eligible(situations: Situations) -> None:
    site, tenant = situations.site, situations.waiting["PolicyMissing"]
    gone = site.name("gone")
    assert situations.told("PolicyMissing") == f"DataResidencyPolicy {gone} does not exist"
    status = site.tenant_status(tenant.name, lambda s: s["waiting"])
    assert conditions(status)["Ready"]["reason"] == "PolicyMissing"
    assert gone in conditions(status)["Ready"]["message"]

    again = tenant.client.create(tenant.pods, pod("again"), dryRun="All")
    assert "image-registry: found " in again.message

    # The older pod has no selector of that policy: for it the regions decide.
    site.policy("gone", countries={"include": ["DE", "FR"]})
    situations.released("PolicyMissing")
    site.tenant_status(tenant.name, lambda s: conditions(s)["Ready"]["status"] == "True")


def test_a_pool_outside_the_tenants_jurisdictions_is_not_eligible(situations: Situations) -> None:
    site = situations.site
    message = situations.told("NoEligiblePool")
    swiss = site.name("swiss")
    assert f"DataResidencyPolicy {swiss} does not admit GpuPool {swiss}" in message
    assert "lies in CH: country: found CH, allowed: AT, BE, BG" in message

    site.policy("swiss", countries={"sets": ["EU"], "include": ["CH"]})
    situations.released("NoEligiblePool")


def test_a_pod_that_is_larger_than_any_node_never_fits(situations: Situations) -> None:
    pool = situations.site.name("huge")
    message = situations.told("NeverFits")
    assert message == f"asks for 9 GPUs; the largest node of pool {pool} has 8"


def test_a_cordoned_node_gives_nothing_to_a_full_pool(situations: Situations) -> None:
    site = situations.site
    message = situations.told("PoolFull")
    assert message == (
        f"asks for 2 GPUs; pool {site.name('full')} has 0 free on usable nodes; "
        "8 GPUs of the pool are lost to faults of nodes"
    )

    cordoned = next(
        name
        for name in site.nodes
        if site.admin.get(f"/api/v1/nodes/{name}").must()["spec"].get("unschedulable")
    )
    site.admin.patch(f"/api/v1/nodes/{cordoned}", {"spec": {"unschedulable": None}}).must()
    situations.released("PoolFull")


def test_free_gpus_on_too_many_nodes_are_fragmented(situations: Situations) -> None:
    site, tenant = situations.site, situations.waiting["Fragmented"]
    message = situations.told("Fragmented")
    pool = site.name("split")
    assert message == f"asks for 6 GPUs on one node; pool {pool} has 8 free, at most 4 on one node"

    site.end(tenant, "half-0")
    situations.released("Fragmented")


def test_a_selector_that_no_node_satisfies_is_a_constraint(situations: Situations) -> None:
    site, tenant = situations.site, situations.waiting["NodeConstraints"]
    message = situations.told("NodeConstraints")
    assert f"pool {site.name('picky')} has 8 GPUs free" in message

    pool_nodes = f"{names.NODE_POOL_LABEL}={site.name('picky')}"
    (node,) = site.admin.get("/api/v1/nodes", labelSelector=pool_nodes).must()["items"]
    path = f"/api/v1/nodes/{node['metadata']['name']}"
    fast = {"metadata": {"labels": {"example.com/disk": "fast"}}}
    site.admin.patch(path, fast).must()
    situations.released("NodeConstraints")
    slow = {"metadata": {"labels": {"example.com/disk": None}}}
    site.admin.patch(path, slow).must()
    assert tenant.namespace


def test_the_gate_of_another_holds_a_pod(situations: Situations) -> None:
    site, tenant = situations.site, situations.waiting["Held"]
    message = situations.told("Held")
    assert message == "waits for the scheduling gates of others: example.com/data"

    gates = site.admin.get(tenant.pod("stuck")).must()["spec"]["schedulingGates"]
    index = gates.index({"name": "example.com/data"})
    tenant.client.patch(
        tenant.pod("stuck"), [{"op": "remove", "path": f"/spec/schedulingGates/{index}"}]
    ).must()
    situations.released("Held")

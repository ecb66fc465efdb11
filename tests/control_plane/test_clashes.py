"""Two that want the same: who has it keeps it, and both are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sovereign_gpu import names
from tests.control_plane.cluster import QUOTAS, Tenant, conditions, pod

if TYPE_CHECKING:
    from tests.control_plane.cluster import Site


@pytest.fixture
def tenant(site: Site) -> Tenant:
    """A tenant with a namespace."""
    return site.tenant("first", {site.pool(): 4}, [site.policy()])


def _clashing(status: Any) -> str:
    return str(conditions(status)["Clashing"]["status"])


def test_a_namespace_stays_with_the_tenant_that_has_it(site: Site, tenant: Tenant) -> None:
    # The newcomer comes first in the alphabet: it is not the name that decides.
    rival = site.name("a-rival")
    site.quota(rival, [tenant.namespace], {site.name("pool"): 4}, [site.name("policy")])
    told = conditions(site.tenant_status(rival, lambda s: _clashing(s) == "True"))
    assert (told["Ready"]["status"], told["Ready"]["reason"]) == ("False", "Clashing")
    assert told["Stalled"]["status"] == "True"
    assert f"{tenant.namespace} belongs to tenant {tenant.name}" in told["Clashing"]["message"]

    told = conditions(site.tenant_status(tenant.name, lambda s: _clashing(s) == "True"))
    assert told["Ready"]["status"] == "True"
    assert told["Stalled"]["status"] == "False"
    assert f"also claimed by {rival}" in told["Clashing"]["message"]

    site.submit(tenant, pod("mine"))
    site.bound(tenant, "mine")
    found = site.admin.get(f"/api/v1/namespaces/{tenant.namespace}").must()
    assert found["metadata"]["labels"][names.TENANT_LABEL] == tenant.name

    site.admin.delete(f"{QUOTAS}/{rival}").must()
    site.tenant_status(tenant.name, lambda s: _clashing(s) == "False")


def test_a_namespace_changes_hands_when_its_label_is_cleared(site: Site, tenant: Tenant) -> None:
    heir = site.name("heir")
    shares, policies = {site.name("pool"): 4}, [site.name("policy")]
    other = site.namespace("other")
    site.quota(tenant.name, [other], shares, policies)
    status = site.tenant_status(
        tenant.name, lambda s: conditions(s)["Orphaned"]["status"] == "True"
    )
    assert tenant.namespace in conditions(status)["Orphaned"]["message"]
    assert site.cluster.series("orphaned_namespaces", tenant=tenant.name) == [1]
    site.quota(heir, [tenant.namespace], shares, policies)
    site.tenant_status(heir, lambda s: _clashing(s) == "True")

    clear = {"metadata": {"labels": {names.TENANT_LABEL: None}}}
    path = f"/api/v1/namespaces/{tenant.namespace}"
    site.admin.patch(path, clear).must()
    site.admin.wait(path, lambda body: body["metadata"]["labels"][names.TENANT_LABEL] == heir)
    site.tenant_status(heir, lambda s: _clashing(s) == "False")
    site.tenant_status(tenant.name, lambda s: conditions(s)["Orphaned"]["status"] == "False")


def test_a_region_stays_in_the_country_of_the_pool_that_was_there(
    site: Site, tenant: Tenant
) -> None:
    pool, rival = site.name("pool"), site.name("a-rival")
    site.pool_status(pool, lambda s: conditions(s)["Ready"]["status"] == "True")
    location = {"country": "FR", "region": site.region}
    site.put("GpuPool", rival, {"location": location})
    told = conditions(site.pool_status(rival, lambda s: _clashing(s) == "True"))
    assert told["Ready"]["status"] == "False"
    assert told["Stalled"]["reason"] == "RegionInTwoCountries"
    assert f"{pool} says DE, {rival} says FR" in ", ".join(
        sorted(told["Clashing"]["message"].partition("but ")[2].split(", "), reverse=True)
    )
    assert (
        _clashing(
            site.admin.get(f"/apis/{names.GROUP}/{names.VERSION}/gpupools/{pool}").must()["status"]
        )
        == "False"
    )
    site.submit(tenant, pod("still"))
    site.bound(tenant, "still")


def test_a_node_that_two_selectors_choose_stays_where_it_is(site: Site) -> None:
    (node,) = site.take(1)
    label = {"example.com/hall": site.name("hall")}
    path = f"/api/v1/nodes/{node}"
    site.admin.patch(path, {"metadata": {"labels": label}}).must()
    site.enrol(node, None, site.region)
    by_label = {"nodes": {"enrolment": "Selector", "selector": {"matchLabels": label}}}
    pool = site.pool("pool", nodes=0, spec=by_label)
    site.pool_status(pool, lambda s: s["nodes"]["enrolled"] == 1)
    rival = site.pool("a-rival", nodes=0, spec=by_label)
    told = site.pool_status(pool, lambda s: _clashing(s) == "True")
    assert told["nodes"]["enrolled"] == 1
    assert conditions(told)["Clashing"]["reason"] == "NodesClaimedTwice"
    assert rival in conditions(told)["Clashing"]["message"]
    told = site.pool_status(rival, lambda s: conditions(s)["Ready"]["reason"] == "NoNodes")
    assert told["nodes"]["enrolled"] == 0
    # The protected label of an administrator decides over any selector.
    site.put("GpuPool", rival, {"location": {"country": "DE", "region": site.region}})
    site.enrol(node, rival, site.region)
    site.pool_status(rival, lambda s: s["nodes"]["enrolled"] == 1)
    site.pool_status(pool, lambda s: s["nodes"]["enrolled"] == 0)
    site.admin.patch(path, {"metadata": {"labels": dict.fromkeys(label)}}).must()

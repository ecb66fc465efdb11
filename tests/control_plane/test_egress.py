"""Where packets may go: the operator writes one NetworkPolicy and keeps it as it is."""

from __future__ import annotations

from typing import Any

from rig.client import wait_for
from sovereign_gpu import names
from tests.control_plane.cluster import Site, Tenant


def path_of(tenant: Tenant) -> str:
    space = f"/apis/networking.k8s.io/v1/namespaces/{tenant.namespace}/networkpolicies"
    return f"{space}/{names.EGRESS_POLICY}"


def confining(site: Site, word: str, *networks: str, **more: Any) -> str:
    name = site.name(word)
    egress = {"networks": list(networks), **more}
    site.put("DataResidencyPolicy", name, {"countries": {"sets": ["EU"]}, "egress": egress})
    return name


def test_packets_of_a_tenant_go_where_all_its_policies_allow(site: Site) -> None:
    pool = site.pool()
    wide = confining(site, "wide", "192.0.2.0/24", "2001:db8::/32", namespaces=["ingress", "proxy"])
    tight = confining(site, "tight", "192.0.2.128/25", namespaces=["proxy"])
    tenant = site.tenant("acme", {pool: 8}, [wide, tight])
    spec = site.admin.wait(path_of(tenant), lambda _: True)["spec"]
    assert spec["podSelector"] == {}
    assert spec["policyTypes"] == ["Egress"]
    peers, names_only = spec["egress"]
    assert peers == {
        "to": [
            {"namespaceSelector": {"matchLabels": {names.TENANT_LABEL: tenant.name}}},
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "proxy"}}},
            {"ipBlock": {"cidr": "192.0.2.128/25"}},
        ]
    }
    assert {each["port"] for each in names_only["ports"]} == {53}
    # One who may do everything removes it; it is back. A policy that no longer asks takes it away.
    uid = site.admin.get(path_of(tenant)).must()["metadata"]["uid"]
    site.admin.delete(path_of(tenant)).must()
    site.admin.wait(path_of(tenant), lambda body: body["metadata"]["uid"] != uid)
    for name in (wide, tight):
        site.put("DataResidencyPolicy", name, {"countries": {"sets": ["EU"]}})
    site.admin.wait_gone(path_of(tenant))


def test_a_policy_that_is_missing_opens_nothing(site: Site) -> None:
    pool = site.pool()
    policy = confining(site, "policy", "192.0.2.0/24")
    tenant = site.tenant("acme", {pool: 8}, [policy])
    before = site.admin.wait(path_of(tenant), lambda _: True)
    space = f"/api/v1/namespaces/{tenant.namespace}"
    site.admin.delete(f"/apis/{names.GROUP}/{names.VERSION}/dataresidencypolicies/{policy}").must()

    def nothing_allowed() -> bool:
        notes = site.admin.get(space).must()["metadata"]["annotations"]
        closed = (names.REGIONS, names.REGISTRIES, names.NETWORKS)
        return all(notes.get(key) == "" for key in closed)

    wait_for(nothing_allowed, 30, "the namespace to be told that nothing is allowed")
    assert site.admin.get(path_of(tenant)).must()["spec"] == before["spec"]
    refused = tenant.client.delete(path_of(tenant))
    assert "egress-policy: found" in refused.message

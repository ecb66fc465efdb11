"""Namespaces and nodes carry what pools, tenants and policies say, and nothing that they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sovereign_gpu import names
from tests.control_plane.cluster import NOWHERE, Tenant, conditions, pod, scheduled

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.control_plane.cluster import Site


def _namespace(site: Site, name: str, predicate: Callable[[Any], Any]) -> dict[str, Any]:
    found = site.admin.wait(f"/api/v1/namespaces/{name}", lambda body: predicate(_marks(body)))
    return _marks(found)


def _marks(body: Any) -> dict[str, Any]:
    metadata = body["metadata"]
    both = {**metadata.get("labels", {}), **metadata.get("annotations", {})}
    return {key: value for key, value in both.items() if key.startswith(names.POD_METADATA_PREFIX)}


def _classes(site: Site, node: str, wanted: set[str]) -> None:
    """Wait until a node carries exactly the residency labels of these policies."""
    labels = {names.NODE_RESIDENCY_PREFIX + policy for policy in wanted}

    def right(body: Any) -> bool:
        found = body["metadata"]["labels"].items()
        classes = {k: v for k, v in found if k.startswith(names.NODE_RESIDENCY_PREFIX)}
        mine = {k for k in classes if k.endswith(f"-{site.number}")}
        return mine == labels and set(classes.values()) <= {names.NODE_ALLOWED}

    site.admin.wait(f"/api/v1/nodes/{node}", right)


def test_a_namespace_carries_tenant_policies_and_regions(site: Site) -> None:
    pool, policy, warn = site.pool(), site.policy(), site.policy("watch", enforcement="Warn")
    tenant = site.tenant("acme", {pool: 1}, [policy, warn])
    found = _namespace(site, tenant.namespace, lambda marks: names.WARN_RESIDENCY in marks)
    regions = found.pop(names.REGIONS).split(",")
    assert site.region in regions
    assert found.pop(names.WARN_REGIONS).split(",") == regions
    assert found == {
        names.TENANT_LABEL: tenant.name,
        names.ENFORCEMENT_LABEL: names.ENFORCEMENT_WARN,
        names.RESIDENCY: policy,
        names.SERVICES: "",
        names.WARN_RESIDENCY: warn,
        names.warn(names.SERVICES): "",
    }

    site.quota(tenant.name, [tenant.namespace], {pool: 1}, [warn])
    found = _namespace(site, tenant.namespace, lambda marks: marks[names.RESIDENCY] == "")
    assert found[names.REGIONS] == "*"


def test_what_an_administrator_breaks_on_a_namespace_is_corrected(site: Site) -> None:
    pool, policy = site.pool(), site.policy()
    tenant = site.tenant("acme", {pool: 1}, [policy])
    wrong = {"metadata": {"annotations": {names.REGIONS: "us-east-1", names.RESIDENCY: None}}}
    site.admin.patch(f"/api/v1/namespaces/{tenant.namespace}", wrong).must()
    found = _namespace(site, tenant.namespace, lambda marks: marks.get(names.RESIDENCY) == policy)
    assert site.region in found[names.REGIONS].split(",")


def test_regions_follow_pools_and_policies(site: Site) -> None:
    pool, policy = site.pool(), site.policy()
    tenant = site.tenant("acme", {pool: 1}, [policy])
    french = f"fr-{site.number}"
    site.pool("paris", country="FR", region=french, nodes=0)
    _namespace(site, tenant.namespace, lambda m: french in m[names.REGIONS].split(","))
    site.policy(countries={"sets": ["EU"], "exclude": ["FR"]})
    found = _namespace(site, tenant.namespace, lambda m: french not in m[names.REGIONS].split(","))
    assert site.region in found[names.REGIONS].split(",")


def test_a_namespace_that_appears_later_is_taken(site: Site) -> None:
    pool, policy, name = site.pool(), site.policy(), site.name("later")
    site.quota(name, [name], {pool: 1}, [policy])
    status = site.tenant_status(name, lambda s: s["conditions"])
    assert conditions(status)["Ready"]["reason"] == "NamespacesMissing"
    assert name in conditions(status)["Ready"]["message"]
    site.namespace("later")
    _namespace(site, name, lambda marks: marks[names.TENANT_LABEL] == name)
    site.tenant_status(name, lambda s: conditions(s)["Ready"]["reason"] == "Assigned")


def test_pools_and_policies_that_appear_later_count_from_then_on(site: Site) -> None:
    space = site.namespace("early")
    tenant = Tenant(site.name("early"), space, site.admin)
    pool, policy = site.name("pool"), site.name("policy")
    site.quota(tenant.name, [space], {pool: 4}, [policy])
    status = site.tenant_status(tenant.name, lambda s: s["conditions"])
    assert conditions(status)["Ready"]["reason"] == "PolicyMissing"
    assert conditions(status)["Ready"]["status"] == "False"
    _namespace(site, space, lambda marks: marks[names.REGIONS] == "")
    site.policy()
    status = site.tenant_status(
        tenant.name, lambda s: conditions(s)["Ready"]["reason"] == "PoolMissing"
    )
    assert pool in conditions(status)["Ready"]["message"]
    site.pool()
    site.tenant_status(tenant.name, lambda s: conditions(s)["Ready"]["reason"] == "Assigned")
    site.governed(tenant)
    site.submit(tenant, pod("at-last"))
    site.bound(tenant, "at-last")


def test_a_node_carries_the_class_of_every_policy_that_allows_its_pool(site: Site) -> None:
    site.pool()
    (node,) = site.nodes
    both, german = site.policy("both"), site.policy("german", countries={"include": ["DE"]})
    site.policy("french", countries={"include": ["FR"]})
    _classes(site, node, {both, german})
    site.policy("both", countries={"sets": ["EU"], "exclude": ["DE"]})
    _classes(site, node, {german})
    site.admin.delete(f"{_policies()}/{german}").must()
    _classes(site, node, set())


def _policies() -> str:
    return f"/apis/{names.GROUP}/{names.VERSION}/dataresidencypolicies"


def test_a_class_label_that_somebody_wrote_is_taken_off(site: Site) -> None:
    site.policy("french", countries={"include": ["FR"]})
    site.pool()
    (node,) = site.nodes
    forged = {names.NODE_RESIDENCY_PREFIX + site.name("french"): names.NODE_ALLOWED}
    site.admin.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": forged}}).must()
    _classes(site, node, set())


def test_a_node_that_leaves_its_pool_loses_its_class(site: Site) -> None:
    site.pool()
    (node,) = site.nodes
    policy = site.policy()
    _classes(site, node, {policy})
    site.enrol(node, None, site.region)
    _classes(site, node, set())


def test_a_node_in_another_region_than_its_pool_gets_no_class_and_no_pods(site: Site) -> None:
    pool, policy = site.pool(), site.policy()
    tenant = site.tenant("acme", {pool: 16}, [policy])
    (good,) = site.nodes
    for wrong, region in zip(site.take(2), ("us-east-1", None), strict=True):
        site.enrol(wrong, pool, region)
    numbers = site.pool_status(pool, lambda s: s["nodes"]["enrolled"] == 3)
    assert (numbers["gpus"]["allocatable"], numbers["gpus"]["free"]) == (8, 8)
    ready = conditions(numbers)["Ready"]
    assert (ready["status"], ready["reason"]) == ("True", "NodesElsewhere")
    assert ready["message"].startswith("2 nodes show another region")
    _classes(site, good, {policy})
    for wrong in site.nodes[1:]:
        _classes(site, wrong, set())
    site.submit(tenant, pod("fits", gpus=8))
    bound = site.bound(tenant, "fits")
    assert bound["spec"]["nodeName"] == good
    assert scheduled(bound)["status"] == "True"
    site.submit(tenant, pod("later", gpus=8))
    status = site.tenant_status(tenant.name, lambda s: s["waiting"])
    assert status["waiting"][0]["reason"] == "PoolFull"

    site.enrol(site.nodes[1], pool, site.region)
    assert site.bound(tenant, "later")["spec"]["nodeName"] == site.nodes[1]


def test_a_pool_without_nodes_says_how_nodes_join(site: Site) -> None:
    pool = site.pool(nodes=0)
    status = site.pool_status(pool, lambda s: conditions(s)["Ready"]["reason"] == "NoNodes")
    assert names.NODE_POOL_LABEL in conditions(status)["Ready"]["message"]
    site.enrol(site.take(1)[0], pool, NOWHERE)
    site.pool_status(pool, lambda s: conditions(s)["Ready"]["reason"] == "NodesElsewhere")

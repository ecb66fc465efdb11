"""Which pool a node is in, which pools are in force, what namespaces and nodes are marked with."""

from __future__ import annotations

import itertools

import pytest

from sovereign_gpu import names
from sovereign_gpu.core import residency
from sovereign_gpu.core.model import Pool, Requirement
from tests.core.build import REGION, munich, node, policy, tenant

TRIAL = Pool("trial", "DE", REGION, labelled=False, selector=(Requirement("try", "Exists"),))
SECOND_TRIAL = Pool("again", "DE", REGION, labelled=False, selector=(Requirement("try", "Exists"),))
B200 = (Requirement("product", "In", ("B200",)),)


def by_name(*pools: Pool) -> dict[str, Pool]:
    return {pool.name: pool for pool in pools}


# --- which pools are in force ------------------------------------------------------------------
def pool(name: str, country: str, *, incumbent: bool = False, region: str = REGION) -> Pool:
    return Pool(name, country, region, incumbent=incumbent)


@pytest.mark.parametrize(
    ("pools", "out"),
    [
        ([pool("a", "DE"), pool("b", "DE")], set()),
        ([pool("a", "DE"), pool("b", "FR", region="fr-1")], set()),
        ([pool("a", "DE"), pool("b", "FR")], {"a", "b"}),
        ([pool("a", "DE", incumbent=True), pool("b", "FR")], {"b"}),
        ([pool("a", "DE", incumbent=True), pool("b", "FR", incumbent=True)], {"a", "b"}),
        ([pool("a", "DE", incumbent=True), pool("b", "FR"), pool("c", "DE")], {"b"}),
        ([pool("a", "DE", incumbent=True), pool("b", "FR"), pool("c", "IT")], {"b", "c"}),
        ([], set()),
    ],
)
def test_a_region_stays_in_the_country_of_the_pools_in_force(
    pools: list[Pool], out: set[str]
) -> None:
    for order in itertools.permutations(pools):
        assert residency.clashes(order).keys() == out


def test_a_clash_says_region_and_every_claim() -> None:
    found = residency.clashes([pool("a", "DE", incumbent=True), pool("b", "FR")])
    assert REGION in found["b"]
    assert "a says DE, b says FR" in found["b"]


# --- which pool a node is in ---------------------------------------------------------------------
def test_the_protected_label_decides_alone() -> None:
    pools = by_name(munich(), TRIAL)
    assert residency.pool_of(node(labels={"try": "me"}), pools) == "munich"
    assert residency.pool_of(node(pool="elsewhere", labels={"try": "me"}), pools) == ""


def test_the_selector_narrows_gpu_nodes_and_leaves_companions_in() -> None:
    pools = by_name(munich(selector=B200))
    assert residency.pool_of(node(), pools) == ""
    assert residency.pool_of(node(labels={"product": "B200"}), pools) == "munich"
    assert residency.pool_of(node(gpus=0), pools) == "munich"


def test_a_node_without_label_joins_only_pools_that_enrol_by_selector() -> None:
    unlabelled = node(pool="", labels={"try": "me", "product": "B200"})
    assert residency.pool_of(unlabelled, by_name(munich(selector=B200))) == ""
    assert residency.pool_of(unlabelled, by_name(TRIAL)) == "trial"
    assert residency.pool_of(node(pool=""), by_name(TRIAL)) == ""


def test_of_two_selectors_the_incumbent_keeps_the_node() -> None:
    pools = by_name(TRIAL, SECOND_TRIAL)
    contested = node(pool="", labels={"try": "me"})
    assert residency.pool_of(contested, pools) == "again"
    assert residency.pool_of(contested, pools, incumbent="trial") == "trial"
    assert residency.pool_of(contested, pools, incumbent="gone") == "again"
    assert residency.rivals(contested, pools) == ("again", "trial")


def test_rivals_are_the_label_and_all_selectors() -> None:
    pools = by_name(munich(), TRIAL)
    assert residency.rivals(node(labels={"try": "me"}), pools) == ("munich", "trial")
    assert residency.rivals(node(), pools) == ("munich",)
    assert residency.rivals(node(pool="elsewhere"), pools) == ()


# --- labels of nodes -----------------------------------------------------------------------------
def test_a_node_is_marked_for_every_policy_that_allows_its_country() -> None:
    policies = [policy("eu"), policy("de", "DE"), policy("fr", "FR"), policy("w", enforced=False)]
    found = residency.class_labels(node(), munich(), policies)
    assert found == {
        names.NODE_RESIDENCY_PREFIX + name: names.NODE_ALLOWED for name in ("eu", "de", "w")
    }


@pytest.mark.parametrize("labels", [{names.REGION_LABEL: "us-east-1"}, {names.REGION_LABEL: ""}])
def test_a_node_that_stands_elsewhere_is_marked_for_none(labels: dict[str, str]) -> None:
    assert residency.class_labels(node(labels=labels), munich(), [policy()]) == {}


def test_a_node_without_pool_or_region_is_marked_for_none() -> None:
    unplaced = node(labels={})
    del unplaced.labels[names.REGION_LABEL]
    assert residency.class_labels(unplaced, munich(), [policy()]) == {}
    assert residency.class_labels(node(), None, [policy()]) == {}


# --- tenants and namespaces ----------------------------------------------------------------------
def test_all_enforced_policies_must_allow_and_missing_ones_deny() -> None:
    policies = {p.name: p for p in (policy("eu"), policy("fr", "FR"), policy("w", enforced=False))}
    cases = {
        ("eu",): True,
        ("eu", "fr"): False,
        ("eu", "gone"): False,
        ("w",): True,
        ("eu", "w"): True,
    }
    for listed, allowed in cases.items():
        assert residency.allows(tenant(policies=listed), munich(), policies) is allowed, listed
    assert residency.missing(tenant(policies=("eu", "gone")), policies) == ("gone",)
    assert residency.enforced(tenant(policies=("w", "gone", "eu")), policies) == ("gone", "eu")


def test_a_namespace_is_told_policies_and_the_regions_they_share() -> None:
    policies = {p.name: p for p in (policy("eu"), policy("de", "DE"))}
    pools = [munich(), Pool("paris", "FR", "fr-1"), Pool("ohio", "US", "us-1")]
    found = residency.namespace_metadata(tenant(policies=("eu",)), policies, pools)
    assert found == {
        names.TENANT_LABEL: "acme",
        names.RESIDENCY: "eu",
        names.REGIONS: f"{REGION},fr-1",
    }
    both = residency.namespace_metadata(tenant(policies=("eu", "de")), policies, pools)
    assert (both[names.RESIDENCY], both[names.REGIONS]) == ("eu,de", REGION)


def test_a_missing_policy_leaves_no_region() -> None:
    found = residency.namespace_metadata(
        tenant(policies=("eu", "gone")), {"eu": policy()}, [munich()]
    )
    assert (found[names.RESIDENCY], found[names.REGIONS]) == ("eu,gone", "")


def test_policies_that_only_warn_allow_every_region_and_are_told_apart() -> None:
    policies = {"w": policy("w", "DE", enforced=False)}
    found = residency.namespace_metadata(tenant(policies=("w",)), policies, [munich()])
    assert found == {
        names.TENANT_LABEL: "acme",
        names.ENFORCEMENT_LABEL: names.ENFORCEMENT_WARN,
        names.RESIDENCY: "",
        names.REGIONS: residency.ANY_REGION,
        names.WARN_RESIDENCY: "w",
        names.WARN_REGIONS: REGION,
    }


def test_beside_a_policy_that_denies_one_that_warns_widens_nothing() -> None:
    policies = {"eu": policy(), "w": policy("w", "US", enforced=False)}
    pools = [munich(), Pool("ohio", "US", "us-1")]
    found = residency.namespace_metadata(tenant(policies=("eu", "w")), policies, pools)
    assert (found[names.RESIDENCY], found[names.REGIONS]) == ("eu", REGION)
    assert (found[names.WARN_RESIDENCY], found[names.WARN_REGIONS]) == ("w", "us-1")

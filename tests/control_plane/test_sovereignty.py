"""Policies ask more of a pool than its country, and attributes run out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sovereign_gpu import names
from tests.control_plane.cluster import POLICIES, Site, conditions, pod

if TYPE_CHECKING:
    from collections.abc import Mapping

TODAY = datetime.now(UTC).date()
EVIDENCE = {"uri": "https://evidence.example.eu/c5.pdf", "sha256": "0" * 64}


def certificate(days: int) -> dict[str, Any]:
    """A verified report that counts for so many days from today on."""
    return {
        "scheme": "BSI-C5",
        "type": "Type2",
        "trust": "Verified",
        "verifiedBy": "Prüfgesellschaft mbH",
        "evidence": EVIDENCE,
        "validUntil": (TODAY + timedelta(days=days)).isoformat(),
    }


def company(parent: str | None = None) -> dict[str, Any]:
    above = {"legalName": "Holding Inc.", "country": parent}
    return {
        "legalName": "Betreiber GmbH",
        "country": "DE",
        "roles": ["CloudOperator", "DataCentreOperator"],
        **({"ultimateParent": above} if parent else {}),
    }


def pool_with(site: Site, sovereignty: Mapping[str, Any]) -> str:
    return site.pool(spec={"sovereignty": sovereignty})


def requiring(site: Site, require: Mapping[str, Any], **spec: Any) -> str:
    name = site.name("policy")
    site.put(
        "DataResidencyPolicy", name, {"countries": {"sets": ["EU"]}, "require": require, **spec}
    )
    return name


def verdicts(status: Any, pool: str) -> dict[str, tuple[str, str]]:
    (found,) = (each for each in status["pools"] if each["name"] == pool)
    return {each["predicate"]: (each["status"], each["reason"]) for each in found["predicates"]}


EU = {"sets": ["EU@2020-02-01"]}
SEATS = {"roles": [{"role": "CloudOperator", "countries": EU, "parentCountries": EU}]}


def test_each_predicate_has_its_own_answer_and_reason(site: Site) -> None:
    pool = pool_with(
        site,
        {
            "companies": [company("US")],
            "certifications": [certificate(days=100)],
            "support": {"countries": ["DE", "IN"]},
            "keys": {"holder": "Provider", "country": "DE"},
            "endpoints": [{"purpose": "Telemetry", "countries": ["IE"]}],
            "backup": {"countries": ["FR"]},
        },
    )
    policy = requiring(
        site,
        {
            **SEATS,
            "certifications": [{"scheme": "BSI-C5", "types": ["Type2"], "trust": "Verified"}],
            "support": {"countries": EU},
            "keys": {"holders": ["Customer"]},
            "endpoints": [{"purpose": "Telemetry", "countries": EU}],
            "controlPlane": {"countries": EU},
            "backup": {"countries": EU, "trust": "Observed"},
        },
    )
    status = site.policy_status(policy, lambda found: found["pools"])
    assert verdicts(status, pool) == {
        "country": ("True", "Holds"),
        "roles[CloudOperator]": ("False", "NotAllowed"),
        "certifications[BSI-C5]": ("True", "Holds"),
        "support": ("False", "NotAllowed"),
        "keys": ("False", "NotAllowed"),
        "endpoints[Telemetry]": ("True", "Holds"),
        "controlPlane": ("False", "NotDeclared"),
        "backup": ("False", "TrustTooLow"),
    }
    assert status["eligible"]["pools"] == 0
    assert status["countries"]["sets"] == ["EU@2020-02-01"]


def test_a_pod_waits_for_what_the_pool_does_not_show_and_starts_when_it_does(site: Site) -> None:
    pool = pool_with(site, {"companies": [company("US")]})
    policy = requiring(site, SEATS)
    tenant = site.tenant("acme", {pool: 8}, [policy])
    site.submit(tenant, pod("train"))
    message = site.told(tenant, "train", "NoEligiblePool")
    assert "roles[CloudOperator]: Betreiber GmbH: parentCountry found US, allowed: AT" in message
    namespace = site.admin.get(f"/api/v1/namespaces/{tenant.namespace}").must()["metadata"]
    assert namespace["annotations"][names.REGIONS] == ""
    location = {"country": "DE", "region": site.region}
    site.put("GpuPool", pool, {"location": location, "sovereignty": {"companies": [company()]}})
    site.bound(tenant, "train")


def test_an_attribute_that_runs_out_is_warned_of_and_then_acts_like_drift(site: Site) -> None:
    pool = pool_with(site, {"certifications": [certificate(days=29)]})
    need = {"certifications": [{"scheme": "BSI-C5", "trust": "Verified"}]}
    policy = requiring(site, need)
    tenant = site.tenant("acme", {pool: 8}, [policy])
    site.submit(tenant, pod("train"))
    node = site.bound(tenant, "train")["spec"]["nodeName"]
    status = site.policy_status(
        policy, lambda found: conditions(found)["Expiring"]["status"] == "True"
    )
    assert verdicts(status, pool)["certifications[BSI-C5]"] == ("True", "Expiring")
    assert f"GpuPool {pool}: certifications[BSI-C5]" in conditions(status)["Expiring"]["message"]
    label = names.NODE_RESIDENCY_PREFIX + policy
    labels = site.admin.get(f"/api/v1/nodes/{node}").must()["metadata"]["labels"]
    assert labels[label] == names.NODE_ALLOWED

    # The day after its last one, as an administrator would find it.
    location = {"country": "DE", "region": site.region}
    run_out = {"certifications": [certificate(days=-1)]}
    site.put("GpuPool", pool, {"location": location, "sovereignty": run_out})
    site.admin.wait(f"/api/v1/nodes/{node}", lambda body: label not in body["metadata"]["labels"])
    found = site.admin.wait(
        f"{POLICIES}/{policy}", lambda body: body["status"]["violations"]["now"] == 1
    )
    message = conditions(found["status"])["Drifting"]["message"]
    assert f"policy {policy} requires certifications[BSI-C5]" in message
    assert "counted until" in message

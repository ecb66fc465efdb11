"""The operator writes what is its own, when it changed, and nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from bench import audit
from rig.client import wait_for
from rig.product import CHART
from sovereign_gpu import names
from tests.control_plane.cluster import POLICIES, POOLS, QUOTAS, conditions, pod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.control_plane.cluster import Cluster, Site, Tenant

STATUS_MANAGER = "sovereign-gpu-status"
ALERTS = CHART / "rules" / "alerts.yaml"


def _populate(site: Site, country: str) -> Tenant:
    """A tenant with one pod that runs and one that waits."""
    policy = site.policy(countries={"include": [country]})
    made = site.tenant("acme", {site.pool(country=country): 1}, [policy])
    site.submit(made, pod("runs"))
    site.bound(made, "runs")
    site.submit(made, pod("waits"))
    site.tenant_status(made.name, lambda s: s["total"]["used"] == 1 and s["waiting"])
    return made


@pytest.fixture(scope="module")
def hall(cluster: Cluster) -> Iterator[Site]:
    """What the tests that only look share."""
    made = cluster.site()
    yield made
    made.clear()


@pytest.fixture(scope="module")
def settled(hall: Site) -> Tenant:
    """A tenant about which everything has been said.

    It is alone in its country: what other tests leave behind them changes nothing here.
    """
    made = _populate(hall, "LU")
    hall.told(made, "waits", "QuotaExhausted")
    return made


@pytest.fixture
def tenant(site: Site) -> Tenant:
    """A tenant of which a test may delete what it likes."""
    return _populate(site, "DE")


def _resources(site: Site, tenant: Tenant) -> list[str]:
    return [
        f"{QUOTAS}/{tenant.name}",
        f"{POOLS}/{site.name('pool')}",
        f"{POLICIES}/{site.name('policy')}",
    ]


def test_resources_get_a_status_and_no_finalizers_annotations_or_labels(
    hall: Site, settled: Tenant
) -> None:
    for path in _resources(hall, settled):
        found = hall.admin.get(path).must()
        metadata = found["metadata"]
        assert not {"finalizers", "annotations", "labels"} & metadata.keys(), path
        assert found["status"]["observedGeneration"] == metadata["generation"] == 1
        owned = {
            (entry["manager"], entry.get("subresource", "")) for entry in metadata["managedFields"]
        }
        assert owned == {("rig", ""), (STATUS_MANAGER, "status")}
        told = conditions(found["status"])
        assert {"Ready", "Reconciling", "Stalled"} <= told.keys()
        assert all(each["observedGeneration"] == 1 for each in told.values())


def test_resources_and_pods_are_gone_at_once_when_they_are_deleted(
    site: Site, tenant: Tenant
) -> None:
    for path in _resources(site, tenant):
        site.admin.delete(path).must()
        assert site.admin.get(path).status == 404
    tenant.client.delete(tenant.pod("waits")).must()
    assert site.admin.get(tenant.pod("waits")).status == 404


def test_pods_namespaces_and_nodes_carry_only_our_own_metadata(hall: Site, settled: Tenant) -> None:
    runs = hall.admin.get(settled.pod("runs")).must()["metadata"]
    assert "finalizers" not in runs
    assert set(runs["annotations"]) == {names.REQUESTED_BY, names.DECISION, names.RELEASED_BY}
    assert names.POOL_LABEL in runs["labels"]
    waits = hall.admin.get(settled.pod("waits")).must()["metadata"]
    assert set(waits["annotations"]) == {names.REQUESTED_BY}
    assert "labels" not in waits
    space = hall.admin.get(f"/api/v1/namespaces/{settled.namespace}").must()["metadata"]
    assert "finalizers" not in space
    assert set(space["annotations"]) == {names.RESIDENCY, names.REGIONS, names.SERVICES}
    node = hall.admin.get(f"/api/v1/nodes/{hall.nodes[0]}").must()["metadata"]
    assert "finalizers" not in node
    assert not [key for key in node["annotations"] if names.GROUP in key and "rig." not in key]


def test_nothing_is_written_while_nothing_changes(hall: Site, settled: Tenant) -> None:
    rig, mine = hall.cluster.rig, {*hall.nodes, settled.namespace}
    mine |= {path.rpartition("/")[2] for path in _resources(hall, settled)}
    # What a policy says of pools that other tests have deleted is corrected first.
    present = {each["metadata"]["name"] for each in hall.admin.items(POOLS)}
    hall.policy_status(
        hall.name("policy"), lambda s: {each["name"] for each in s["pools"]} <= present
    )
    trail = audit.Trail(rig.audit_log)
    trail.skip()
    writes: list[str] = []
    renewals = 0

    def quiet() -> bool:
        nonlocal renewals
        for event in trail.events():
            target = event.get("objectRef", {})
            if event["user"]["username"] != audit.OPERATOR:
                continue
            if target.get("resource") == "leases":
                renewals += 1
            elif event["verb"] not in {"get", "list", "watch"} and (
                target.get("name") in mine or target.get("namespace") in mine
            ):
                writes.append(f"{audit.what(event)} {target.get('name')}")
        return renewals >= 3

    wait_for(quiet, 30, "three renewals of the lease")
    assert writes == []


def test_events_tell_of_tenants_and_drift_and_of_nothing_else(hall: Site, settled: Tenant) -> None:
    rival = hall.name("a-rival")
    hall.quota(rival, [settled.namespace], {hall.name("pool"): 4}, [hall.name("policy")])
    hall.tenant_status(rival, lambda s: conditions(s)["Clashing"]["status"] == "True")
    selector = f"involvedObject.name={rival}"
    found = hall.admin.wait(
        "/api/v1/namespaces/default/events",
        lambda body: {"Clashing", "NamespaceTaken"} <= {e["reason"] for e in body["items"]},
        fieldSelector=selector,
    )
    event = found["items"][0]
    assert event["involvedObject"]["kind"] == "TenantQuota"
    assert event["type"] == "Warning"
    assert settled.namespace in event["message"]
    assert _of_operator(hall, settled.namespace) == []
    told = _of_operator(hall, "default")
    # Other tests of this session bring about drift, and change what nobody should.
    alarms = {"MarksChanged", "GuardMissing", "GuardChanged"}
    kinds = {e["involvedObject"]["kind"] for e in told if e["reason"] not in alarms}
    assert kinds - {"DataResidencyPolicy"} == {"TenantQuota"}
    healthy = f"involvedObject.name={settled.name}"
    query = {"fieldSelector": healthy}
    # That a healthy tenant is healthy is no news; that somebody claims what is its own is.
    told = hall.admin.get("/api/v1/namespaces/default/events", **query).must()["items"]
    assert {each["reason"] for each in told} <= {"NamespaceClaimedTwice"}


def _of_operator(site: Site, namespace: str) -> list[Any]:
    found = site.admin.get(f"/api/v1/namespaces/{namespace}/events").must()["items"]
    return [each for each in found if each.get("source", {}).get("component") == "sovereign-gpu"]


def test_series_vanish_when_their_object_is_deleted(site: Site, tenant: Tenant) -> None:
    operator, ours = site.cluster.operator, [tenant.name, site.name("pool"), site.name("policy")]
    text = operator.metrics()
    assert all(f'"{name}"' in text for name in ours)
    site.drop(tenant.pods)
    for path in _resources(site, tenant):
        site.admin.delete(path).must()
    orphan = f'sovereign_gpu_orphaned_namespaces{{tenant="{tenant.name}"}} 1.0'

    def left() -> list[str]:
        lines = [line for line in operator.metrics().splitlines() if line != orphan]
        return [line for line in lines if any(f'"{name}"' in line for name in ours)]

    wait_for(lambda: not left(), 15, f"the series of {ours} to vanish")


def test_alerts_speak_of_metrics_that_are_there(hall: Site, settled: Tenant) -> None:
    told = set(re.findall(r"^# TYPE (\w+)", hall.cluster.operator.metrics(), re.MULTILINE))
    asked = set(re.findall(r"sovereign_gpu_\w+", ALERTS.read_text("utf-8")))
    assert settled.name
    assert asked <= told


def test_no_series_names_a_pod_or_a_node(hall: Site, settled: Tenant) -> None:
    text = hall.cluster.operator.metrics()
    assert settled.name in text
    assert hall.nodes[0] not in text
    assert '"runs"' not in text
    assert '"waits"' not in text

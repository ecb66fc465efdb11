"""The world changes under running pods: they are judged again, announced, and evicted with care."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from rig.client import wait_for
from sovereign_gpu import names
from tests.control_plane.cluster import (
    POLICIES,
    Cluster,
    Site,
    Tenant,
    conditions,
    container,
    pod,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ABROAD = "us-east-1"
LONG = 150.0
"""Seconds: an operator evicts nobody in its first minute."""
CROWD_NODES = 3


@pytest.fixture(scope="module", autouse=True)
def crowd(cluster: Cluster) -> Iterator[Tenant]:
    """So many innocent pods that one guilty one is less than 5 %."""
    site = cluster.site()
    pool = site.pool("crowd", nodes=CROWD_NODES)
    tenant = site.tenant("crowd", {pool: 8 * CROWD_NODES}, [site.policy("crowd")])
    made = site.submit(tenant, *(pod(f"one-of-many-{n}") for n in range(8 * CROWD_NODES)))
    for name in made:
        site.bound(tenant, name, 60)
    yield tenant
    for name in made:
        assert "deletionTimestamp" not in site.admin.get(tenant.pod(name)).must()["metadata"]
    site.clear()


def evicting(site: Site, grace: int = 1) -> str:
    """Make a policy that evicts."""
    name = site.policy()
    on_drift = {"action": "Evict", "graceSeconds": grace}
    spec = {"countries": {"sets": ["EU"]}, "onDrift": on_drift}
    site.put("DataResidencyPolicy", name, spec)
    return name


def notice(body: Any) -> Any:
    """Return the notice on a pod, None if it has none."""
    text = body["metadata"]["annotations"].get(names.DRIFT_NOTICE)
    return json.loads(text) if text else None


def noticed(site: Site, tenant: Tenant, name: str) -> Any:
    """Wait for the notice on a pod."""
    return notice(site.admin.wait(tenant.pod(name), notice))


def event(site: Site, namespace: str, about: str, reason: str, seconds: float = 30.0) -> Any:
    """Wait for an event of the operator."""
    found = site.admin.wait(
        f"/api/v1/namespaces/{namespace}/events",
        lambda body: body["items"],
        seconds,
        fieldSelector=f"involvedObject.name={about},reason={reason}",
    )
    return found["items"][0]


def gone(site: Site, tenant: Tenant, name: str) -> None:
    """Wait until a pod is not there any more."""
    wait_for(lambda: site.admin.get(tenant.pod(name)).status == 404, LONG, f"the end of {name}")


def drifting(site: Site, policy: str, reason: str) -> dict[str, Any]:
    """Wait until the condition Drifting has a reason and return it."""
    status = site.policy_status(
        policy, lambda s: conditions(s).get("Drifting", {}).get("reason") == reason
    )
    return conditions(status)["Drifting"]


def test_a_job_whose_node_moves_abroad_is_announced_evicted_and_started_again_at_home(
    site: Site,
) -> None:
    pool, policy = site.pool(nodes=2), evicting(site, grace=2)
    tenant = site.tenant("acme", {pool: 16}, [policy])
    template = {"spec": {"restartPolicy": "Never", "containers": [container(1)]}}
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train"},
        "spec": {"template": template},
    }
    tenant.client.create(f"/apis/batch/v1/namespaces/{tenant.namespace}/jobs", body).must()

    def pods_of_the_job(predicate: Any) -> Any:
        found = site.admin.wait(
            tenant.pods, lambda body: [each for each in body["items"] if predicate(each)], 60
        )
        return next(each for each in found["items"] if predicate(each))

    first = pods_of_the_job(lambda each: each["spec"].get("nodeName"))
    name, node = first["metadata"]["name"], first["spec"]["nodeName"]
    site.enrol(node, pool, ABROAD)

    said = noticed(site, tenant, name)
    assert (said["node"], list(said["policies"])) == (node, [policy])
    assert f"node {node} shows region {ABROAD}" in said["cause"]
    announced = event(site, tenant.namespace, "train", "EvictionAnnounced")
    assert announced["involvedObject"]["kind"] == "Job"
    assert said["evictAfter"] in announced["message"]

    gone(site, tenant, name)
    ended = event(site, tenant.namespace, "train", "EvictedForResidency")
    assert said["since"] < said["evictAfter"] <= ended["firstTimestamp"]
    second = pods_of_the_job(
        lambda each: each["metadata"]["name"] != name and each["spec"].get("nodeName")
    )
    assert second["spec"]["nodeName"] in set(site.nodes) - {node}
    status = site.policy_status(policy, lambda s: s["violations"]["evicted"] == 1)
    status = site.policy_status(policy, lambda s: s["violations"]["now"] == 0)
    assert status["violations"] == {"now": 0, "total": 1, "announced": 0, "evicted": 1}
    labels = {"policy": policy, "outcome": "gone"}
    assert site.cluster.series("drift_evictions_total", **labels) == [1]


def test_a_node_that_is_back_in_time_takes_the_notice_off_its_pods(site: Site) -> None:
    pool, policy = site.pool(), evicting(site, grace=3600)
    tenant = site.tenant("acme", {pool: 8}, [policy])
    site.submit(tenant, pod("steady"))
    uid = site.bound(tenant, "steady")["metadata"]["uid"]
    site.enrol(site.nodes[0], None, site.region)
    assert "is in no pool" in noticed(site, tenant, "steady")["cause"]
    status = site.policy_status(policy, lambda s: s["violations"]["announced"] == 1)
    assert status["violations"]["now"] == 1
    site.enrol(site.nodes[0], pool, site.region)
    found = site.admin.wait(tenant.pod("steady"), lambda body: not notice(body))
    assert found["metadata"]["uid"] == uid
    assert event(site, tenant.namespace, "steady", "EvictionWithdrawn")["type"] == "Normal"
    site.policy_status(policy, lambda s: s["violations"]["announced"] == 0)


def test_alert_reports_and_touches_no_pod(site: Site) -> None:
    pool, policy = site.pool(), site.policy()
    tenant = site.tenant("acme", {pool: 8}, [policy])
    site.submit(tenant, pod("steady"))
    before = site.bound(tenant, "steady")
    site.enrol(site.nodes[0], pool, ABROAD)
    found = drifting(site, policy, "PodsOutsidePolicy")
    assert found["status"] == "True"
    assert f"node {site.nodes[0]} shows region {ABROAD}" in found["message"]
    told = event(site, "default", policy, "PodsOutsidePolicy")
    assert (told["type"], told["involvedObject"]["kind"]) == ("Warning", "DataResidencyPolicy")
    assert site.cluster.series("residency_violations", policy=policy) == [1]
    site.enrol(site.nodes[0], pool, site.region)
    status = site.policy_status(policy, lambda s: s["violations"]["now"] == 0)
    assert status["violations"] == {"now": 0, "total": 1, "announced": 0, "evicted": 0}
    after = site.admin.get(tenant.pod("steady")).must()
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]


def test_a_disruption_budget_is_respected_for_as_long_as_it_stands(site: Site) -> None:
    pool, policy = site.pool(), evicting(site, grace=0)
    tenant = site.tenant("acme", {pool: 8}, [policy])
    body = pod("guarded")
    body["metadata"]["labels"] = {"app": "guarded"}
    site.submit(tenant, body)
    site.admin.wait(tenant.pod("guarded"), lambda found: found["status"]["phase"] == "Running")
    budgets = f"/apis/policy/v1/namespaces/{tenant.namespace}/poddisruptionbudgets"
    selector = {"matchLabels": {"app": "guarded"}}
    budget = {"metadata": {"name": "keep"}, "spec": {"minAvailable": 1, "selector": selector}}
    site.admin.create(budgets, budget).must()
    site.admin.wait(f"{budgets}/keep", lambda found: found["status"]["currentHealthy"] == 1)
    site.enrol(site.nodes[0], pool, ABROAD)
    blocked = {"policy": policy, "outcome": "blocked"}
    wait_for(
        lambda: max(site.cluster.series("drift_evictions_total", **blocked), default=0) >= 2,
        LONG,
        "two evictions that the budget blocks",
    )
    found = site.admin.get(tenant.pod("guarded")).must()["metadata"]
    assert "deletionTimestamp" not in found
    site.admin.delete(f"{budgets}/keep").must()
    gone(site, tenant, "guarded")


def test_many_at_once_are_left_alone_until_an_administrator_confirms(site: Site) -> None:
    pool, policy = site.pool(), evicting(site, grace=1)
    tenant = site.tenant("acme", {pool: 8}, [policy])
    made = site.submit(tenant, *(pod(f"many-{n}", cpu="100m") for n in range(4)))
    for name in made:
        site.bound(tenant, name)
    elsewhere = {
        "countries": {"include": ["FR"]},
        "onDrift": {"action": "Evict", "graceSeconds": 1},
    }
    site.put("DataResidencyPolicy", policy, elsewhere)
    found = drifting(site, policy, "AwaitingConfirmation")
    assert f"{names.CONFIRM_DRIFT}=" in found["message"]
    assert f"policy {policy} no longer allows its country DE" in found["message"]
    assert event(site, "default", policy, "AwaitingConfirmation")["type"] == "Warning"
    for name in made:
        assert notice(site.admin.get(tenant.pod(name)).must()) is None

    path = f"{POLICIES}/{policy}"
    generation = site.admin.get(path).must()["metadata"]["generation"]
    for value in (str(generation - 1), str(generation)):
        confirmed = {"metadata": {"annotations": {names.CONFIRM_DRIFT: value}}}
        site.admin.patch(path, confirmed).must()
    for name in made:
        gone(site, tenant, name)
    assert str(generation) in drifting(site, policy, "ConfirmationStands")["message"]

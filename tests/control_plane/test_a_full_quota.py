"""Who has to wait is told why, once, and comes next in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bench.history import Recorder
from rig.client import wait_for
from sovereign_gpu import names
from tests.control_plane.cluster import conditions, is_gated, pod, scheduled
from tests.control_plane.trail import operator_writes

if TYPE_CHECKING:
    from tests.control_plane.cluster import Site, Tenant

TWO_WRITES = ["patch pods/status", "patch pods"]


@pytest.fixture
def tenant(site: Site) -> Tenant:
    """A tenant with two GPUs, of which one pod holds both."""
    made = site.tenant("acme", {site.pool(): 2}, [site.policy()])
    site.submit(made, pod("holder", gpus=2))
    site.bound(made, "holder")
    return made


def test_a_waiting_pod_is_told_reason_and_numbers_with_one_write(
    site: Site, tenant: Tenant
) -> None:
    site.submit(tenant, pod("patient", gpus=2))
    message = site.told(tenant, "patient", "QuotaExhausted")
    assert message == (
        f"asks for 2 GPUs; tenant {tenant.name} uses 2 of 2 guaranteed in pool {site.name('pool')}"
    )
    condition = scheduled(site.admin.get(tenant.pod("patient")).must())
    assert (condition["status"], condition["reason"]) == ("False", "SchedulingGated")

    site.end(tenant, "holder")
    bound = site.bound(tenant, "patient")
    assert scheduled(bound)["status"] == "True"
    assert "message" not in scheduled(bound)
    rig = site.cluster.rig
    assert operator_writes(rig, tenant.namespace, "patient") == TWO_WRITES
    assert operator_writes(rig, tenant.namespace, "holder") == ["patch pods"]


def test_who_waits_is_summed_up_in_the_status_of_the_tenant(site: Site, tenant: Tenant) -> None:
    site.submit(tenant, pod("small-a"), pod("small-b"), pod("large", gpus=2))
    gate = {"schedulingGates": [{"name": "example.com/data"}]}
    site.submit(tenant, pod("held", gpus=1, **gate))
    status = site.tenant_status(tenant.name, lambda s: s["total"]["pendingPods"] == 4)
    assert status["total"]["pendingGpus"] == 5
    rows = {row["reason"]: row for row in status["waiting"]}
    assert set(rows) == {"QuotaExhausted", "Held"}
    assert (rows["QuotaExhausted"]["pods"], rows["QuotaExhausted"]["gpus"]) == (3, 4)
    assert "uses 2 of 2" in rows["QuotaExhausted"]["message"]
    assert rows["Held"]["pods"] == 1
    assert "example.com/data" in rows["Held"]["message"]
    # A full quota is healthy.
    found = conditions(status)
    assert found["Ready"]["status"] == "True"
    assert found["Stalled"]["status"] == "False"
    assert found["OverQuota"]["status"] == "False"
    waiting = site.cluster.series(
        "tenant_waiting_pods", tenant=tenant.name, reason="QuotaExhausted"
    )
    assert waiting == [3]


def test_the_next_is_chosen_by_priority_and_then_by_age(site: Site, tenant: Tenant) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "old": pod("old", gpus=2),
        "young": pod("young", gpus=2),
        "urgent": pod("urgent", gpus=2, priorityClassName="sovereign-gpu-high"),
    }
    created: dict[str, str] = {}
    for name in ("old", "young", "urgent"):
        # Ages are whole seconds, so each has to be born in a second of its own.
        created[name] = _created_after(site, tenant, bodies[name], created.values())
    site.tenant_status(tenant.name, lambda s: s["total"]["pendingPods"] == 3)

    running = "holder"
    for name in ("urgent", "old", "young"):
        site.end(tenant, running)
        site.bound(tenant, name)
        running = name


def _created_after(site: Site, tenant: Tenant, body: dict[str, Any], others: Any) -> str:
    path, born = tenant.pod(body["metadata"]["name"]), ""
    latest = max(others, default="")

    def is_younger() -> bool:
        nonlocal born
        answer = tenant.client.create(tenant.pods, body, dryRun="All")
        born = answer.must()["metadata"]["creationTimestamp"]
        return born > latest

    wait_for(is_younger, 5.0, "a second to pass")
    site.submit(tenant, body)
    return str(site.admin.get(path).must()["metadata"]["creationTimestamp"])


def test_a_tenant_never_holds_more_than_its_quota(site: Site, tenant: Tenant) -> None:
    site.end(tenant, "holder")
    short = {"rig.sovereign-gpu.io/run-seconds": "1"}
    pods = [f"burst-{number}" for number in range(8)]
    with Recorder(site.cluster.rig, {tenant.namespace: tenant.name}) as recorder:
        site.submit(tenant, *(pod(name, annotations=short) for name in pods))
        for name in pods:
            site.admin.wait(tenant.pod(name), lambda found: found["status"]["phase"] == "Succeeded")
        wait_for(lambda: recorder.read(tenant.name).ended == 8, 10, "all ends to be seen")
    held = recorder.read(tenant.name)
    assert (held.most, held.released) == (2, 8)


def test_lowering_the_quota_evicts_nobody_and_stops_releases(site: Site, tenant: Tenant) -> None:
    pool, policy = site.name("pool"), site.name("policy")
    site.quota(tenant.name, [tenant.namespace], {pool: 1}, [policy])
    status = site.tenant_status(
        tenant.name, lambda s: conditions(s)["OverQuota"]["status"] == "True"
    )
    condition = conditions(status)["OverQuota"]
    assert condition["message"] == f"2 of 1 in pool {pool}"
    since = condition["lastTransitionTime"]
    site.submit(tenant, pod("later"))
    status = site.tenant_status(tenant.name, lambda s: s["waiting"])
    assert status["waiting"][0]["reason"] == "QuotaExhausted"
    holder = site.admin.get(tenant.pod("holder")).must()
    assert holder["status"]["phase"] == "Running"
    found = conditions(site.admin.get(f"{_path(tenant)}").must()["status"])
    assert found["OverQuota"]["lastTransitionTime"] == since

    site.end(tenant, "holder")
    site.bound(tenant, "later")
    site.tenant_status(tenant.name, lambda s: conditions(s)["OverQuota"]["status"] == "False")


def _path(tenant: Tenant) -> str:
    return f"/apis/{names.GROUP}/{names.VERSION}/tenantquotas/{tenant.name}"


def test_raising_the_quota_releases_who_waits(site: Site, tenant: Tenant) -> None:
    site.submit(tenant, pod("patient", gpus=2))
    site.tenant_status(tenant.name, lambda s: s["total"]["pendingPods"] == 1)
    assert is_gated(site.admin.get(tenant.pod("patient")).must())
    site.quota(tenant.name, [tenant.namespace], {site.name("pool"): 4}, [site.name("policy")])
    site.bound(tenant, "patient")

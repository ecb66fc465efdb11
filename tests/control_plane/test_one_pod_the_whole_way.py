"""A GPU pod from its creation to its end: gated, released, bound, counted, freed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rig.client import wait_for
from sovereign_gpu import names
from tests.control_plane.cluster import GPUS_PER_NODE, RUN_SECONDS, container, decision, pod
from tests.control_plane.trail import operator_writes

if TYPE_CHECKING:
    from tests.control_plane.cluster import Site, Tenant


def test_a_pod_is_gated_released_bound_counted_and_freed(site: Site) -> None:
    pool, policy = site.pool(), site.policy()
    tenant = site.tenant("acme", {pool: 4}, [policy])

    answer = tenant.client.create(tenant.pods, pod("train", gpus=2)).must()
    assert answer["spec"]["schedulingGates"] == [{"name": names.GATE}]
    assert answer["metadata"]["annotations"][names.REQUESTED_BY] == f"tenant-{tenant.name}"

    running = site.bound(tenant, "train")
    assert running["spec"]["nodeName"] == site.nodes[0]
    assert "schedulingGates" not in running["spec"]
    assert running["metadata"]["labels"][names.POOL_LABEL] == pool
    assert decision(running) == {
        "pool": pool,
        "node": site.nodes[0],
        "pinned": False,
        "placement": "Pack",
    }
    assert "/" in running["metadata"]["annotations"][names.RELEASED_BY]
    assert operator_writes(site.cluster.rig, tenant.namespace, "train") == ["patch pods"]

    status = site.tenant_status(tenant.name, lambda s: s["total"]["used"] == 2)
    assert status["pools"] == [
        {
            "name": pool,
            "guaranteed": 4,
            "used": 2,
            "reserved": 0,
            "borrowed": 0,
            "lent": 0,
            "pendingGpus": 0,
            "pendingPods": 0,
            "lost": 0,
            "onFaultyNodes": 0,
        }
    ]
    gpus = site.pool_status(pool, lambda s: s["gpus"]["counted"] == 2)["gpus"]
    assert gpus == {
        "capacity": GPUS_PER_NODE,
        "allocatable": GPUS_PER_NODE,
        "counted": 2,
        "reserved": 0,
        "foreign": 0,
        "free": GPUS_PER_NODE - 2,
        "wholeNodesFree": 0,
        "largestGang": 0,
        "lost": 0,
    }

    site.end(tenant, "train")
    site.tenant_status(tenant.name, lambda s: s["total"]["used"] == 0)
    site.pool_status(pool, lambda s: s["gpus"]["free"] == GPUS_PER_NODE)


def test_the_metrics_show_the_pod_by_tenant_pool_and_model_and_never_by_name(site: Site) -> None:
    pool, policy = site.pool(), site.policy()
    tenant = site.tenant("acme", {pool: 4}, [policy])
    site.submit(tenant, pod("tell-tale", gpus=3))
    site.bound(tenant, "tell-tale")
    cluster = site.cluster

    def shown(name: str, **labels: str) -> list[float]:
        return cluster.series(name, **labels)

    wait_for(lambda: shown("pool_counted_gpus", pool=pool) == [3], 10, "the pod to be counted")
    wait_for(lambda: shown("pool_reserved_gpus", pool=pool) == [0], 10, "the pod to be bound")
    assert shown("pool_free_gpus", pool=pool) == [GPUS_PER_NODE - 3]
    assert shown("tenant_used_gpus", tenant=tenant.name, pool=pool) == [3]
    assert shown("tenant_guaranteed_gpus", tenant=tenant.name, pool=pool) == [4]
    assert shown("admissions_total", tenant=tenant.name, pool=pool, model="NVIDIA-B200") == [1]
    assert shown("wait_seconds_count", tenant=tenant.name, pool=pool) == [1]
    assert shown("residency_violations", policy=policy) == [0]
    wait_for(
        lambda: (shown("tenant_gpu_seconds_total", tenant=tenant.name) or [0])[0] > 0,
        10,
        "GPU-seconds to be counted",
    )
    assert "tell-tale" not in cluster.operator.metrics()


def test_pods_of_a_job_run_to_its_end(site: Site) -> None:
    tenant = _tenant(site)
    path = f"/apis/batch/v1/namespaces/{tenant.namespace}/jobs"
    template = _template(restart="Never")
    template["metadata"] = {"annotations": {RUN_SECONDS: "1"}}
    spec = {"parallelism": 2, "completions": 4, "template": template}
    tenant.client.create(path, _workload("batch/v1", "Job", spec)).must()
    site.admin.wait(f"{path}/work", lambda job: job["status"]["succeeded"] == 4)
    site.tenant_status(tenant.name, lambda s: s["total"]["used"] == 0)


def test_pods_of_a_deployment_are_replaced_when_they_are_deleted(site: Site) -> None:
    tenant = _tenant(site)
    path = f"/apis/apps/v1/namespaces/{tenant.namespace}/deployments"
    spec = {
        "replicas": 3,
        "selector": {"matchLabels": {"app": "work"}},
        "template": {**_template(restart="Always"), "metadata": {"labels": {"app": "work"}}},
    }
    tenant.client.create(path, _workload("apps/v1", "Deployment", spec)).must()
    site.admin.wait(f"{path}/work", lambda found: found["status"]["readyReplicas"] == 3)
    victim = site.admin.get(tenant.pods).must()["items"][0]["metadata"]["name"]
    tenant.client.delete(tenant.pod(victim), gracePeriodSeconds=0).must()
    site.admin.wait_gone(tenant.pod(victim))
    site.admin.wait(f"{path}/work", lambda found: found["status"]["readyReplicas"] == 3)
    site.tenant_status(tenant.name, lambda s: s["total"]["used"] == 3)


def test_a_pod_that_is_deleted_while_it_waits_leaves_the_queue(site: Site) -> None:
    pool, policy = site.pool(), site.policy()
    tenant = site.tenant("acme", {pool: 1}, [policy])
    site.submit(tenant, pod("first"), pod("second"))
    site.tenant_status(tenant.name, lambda s: s["total"]["pendingPods"] == 1)
    waiting = next(
        each["metadata"]["name"]
        for each in site.admin.get(tenant.pods).must()["items"]
        if "schedulingGates" in each["spec"]
    )
    tenant.client.delete(tenant.pod(waiting)).must()
    site.tenant_status(tenant.name, lambda s: s["total"]["pendingPods"] == 0 and not s["waiting"])


def _tenant(site: Site) -> Tenant:
    return site.tenant("acme", {site.pool(): 4}, [site.policy()])


def _template(restart: str) -> dict[str, Any]:
    return {"spec": {"restartPolicy": restart, "containers": [container(1)]}}


def _workload(version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "work"}, "spec": spec}

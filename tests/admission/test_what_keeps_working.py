"""With the operator dead and the policies in force, everything that is allowed still works."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from rig.client import STRATEGIC_PATCH, wait_for
from rig.stages import RUN_SECONDS
from rig.users import grant_tenant
from sovereign_gpu import names
from tests.admission.world import (
    CI,
    EXEMPT,
    FREE,
    GOVERNED,
    HOME,
    LIFT,
    RESIDENCY_LABEL,
    SIGN,
    STRICT,
    WARNED,
    World,
    daemonset,
    daemonsets_path,
    endpoint_slices_path,
    namespace_path,
    network_policies_path,
    network_policy,
    pod,
    pods_path,
)

if TYPE_CHECKING:
    from rig.client import Client

RBAC = "rbac.authorization.k8s.io"


def running_on(client: Client, namespace: str, name: str) -> str:
    body = client.wait(
        f"{pods_path(namespace)}/{name}", lambda body: body["status"]["phase"] == "Running", 60
    )
    return str(body["spec"]["nodeName"])


def pods_of(client: Client, namespace: str, app: str) -> list[dict[str, Any]]:
    return client.get(pods_path(namespace), labelSelector=f"app={app}").must()["items"]


def workload(kind: str, name: str, template: dict[str, Any], **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    meta = {"labels": labels, "annotations": {RUN_SECONDS: "0"} if kind == "Job" else {}}
    selector = {} if kind == "Job" else {"selector": {"matchLabels": labels}}
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": GOVERNED},
        "spec": {"template": {"metadata": meta, "spec": template["spec"]}, **selector, **spec},
    }


# --- tenants ---------------------------------------------------------------------------------
def test_a_job_waits_gated_and_runs_to_its_end_when_released(world: World) -> None:
    job = workload("Job", "train", pod(gpus=2, restartPolicy="Never"))
    world.tenant.create(world.tenant.collection_path(job), job).must()
    wait_for(lambda: pods_of(world.tenant, GOVERNED, "train"), 30, "the pod of the Job")
    made = pods_of(world.tenant, GOVERNED, "train")[0]
    assert made["spec"]["schedulingGates"] == [{"name": names.GATE}]
    assert "job-controller" in made["metadata"]["annotations"][names.REQUESTED_BY]
    world.admin.patch(f"{pods_path(GOVERNED)}/{made['metadata']['name']}", [LIFT]).must()
    world.tenant.wait(
        world.tenant.object_path(job), lambda body: body["status"]["succeeded"] == 1, 60
    )


def test_a_deployment_without_gpus_runs_at_home_only(world: World) -> None:
    deployment = workload("Deployment", "loader", pod(), replicas=3)
    path = world.tenant.object_path(deployment)
    world.tenant.create(world.tenant.collection_path(deployment), deployment).must()
    world.tenant.wait(path, lambda body: body["status"]["readyReplicas"] == 3, 60)
    nodes = {each["spec"]["nodeName"] for each in pods_of(world.tenant, GOVERNED, "loader")}
    assert nodes == {world.companion}


def test_a_daemonset_of_a_tenant_goes_to_allowed_nodes_only(world: World) -> None:
    made = daemonset(pod(), "agent")
    world.tenant.create(daemonsets_path(GOVERNED), made).must()
    path = f"{daemonsets_path(GOVERNED)}/agent"
    body = world.tenant.wait(path, lambda body: body["status"]["numberReady"] >= 1, 60)
    assert body["status"]["desiredNumberScheduled"] == 1


def test_a_daemonset_can_be_applied_again_without_what_was_added(world: World) -> None:
    made = daemonset(pod(nodeSelector={"disk": "fast"}), "synced")
    made["metadata"]["namespace"] = GOVERNED
    selector = {"disk": "fast", RESIDENCY_LABEL: names.NODE_ALLOWED}
    for _ in range(2):
        spec = world.tenant.apply(made).must()["spec"]["template"]["spec"]
        assert spec["nodeSelector"] == selector
    assert world.tenant.get(world.tenant.object_path(made)).must()["metadata"]["generation"] == 1


def test_a_bare_pod_can_be_applied_again_when_it_names_what_was_added(world: World) -> None:
    companion = {"key": names.COMPANION_TAINT, "operator": "Exists", "effect": "NoSchedule"}
    made = pod(
        "synced",
        nodeSelector={"disk": "fast", RESIDENCY_LABEL: names.NODE_ALLOWED},
        tolerations=[companion],
        metadata={"namespace": GOVERNED, "name": "synced"},
    )
    world.tenant.apply(made).must()
    world.tenant.apply(made).must()


def test_a_bare_gpu_pod_can_be_applied_again_before_and_after_its_release(world: World) -> None:
    made = pod("applied", gpus=1, metadata={"namespace": GOVERNED, "name": "applied"})
    path = f"{pods_path(GOVERNED)}/applied"
    for _ in range(2):
        world.tenant.apply(made).must()
        assert world.tenant.get(path).must()["spec"]["schedulingGates"] == [{"name": names.GATE}]
    world.admin.patch(path, [LIFT]).must()
    running_on(world.tenant, GOVERNED, "applied")
    world.tenant.apply(made).must()
    world.tenant.delete(path).must()


def test_a_pod_may_ask_for_what_is_known_and_allowed(world: World) -> None:
    resources = {"nvidia.com/gpu": "2", "rdma/hca": "1", "hugepages-2Mi": "4Mi", "memory": "1Gi"}
    body = pod(
        container={"resources": {"limits": resources | {"cpu": "2"}}},
        volumes=[{"name": "scratch", "hostPath": {"path": "/raid/scratch"}}],
        priorityClassName="sovereign-gpu-high",
        nodeSelector={names.NODE_POOL_LABEL: "munich"},
        tolerations=[{"key": names.GPU_TAINT, "operator": "Exists"}],
    )
    made = world.create(world.tenant, GOVERNED, body).must()
    assert (
        len([each for each in made["spec"]["tolerations"] if each["key"] == "nvidia.com/gpu"]) == 1
    )


def large(gpus: str) -> dict[str, Any]:
    """As much as a pod may hold before the object itself becomes too large."""
    env = [{"name": f"VARIABLE_{number}", "value": "x" * 50} for number in range(120)]
    body = pod("large", gpus=gpus)
    first = body["spec"]["containers"][0]
    body["spec"]["containers"] = [
        {**first, "name": f"part-{number}", "env": env} for number in range(60)
    ]
    body["metadata"]["labels"] = {f"example.com/{number}": "x" for number in range(300)}
    body["metadata"]["annotations"] = {f"example.com/{number}": "x" for number in range(300)}
    return body


def test_a_very_large_pod_stays_within_what_expressions_may_cost(world: World) -> None:
    path = f"{pods_path(GOVERNED)}/large"
    world.tenant.create(pods_path(GOVERNED), large("1")).must()
    world.patch(world.operator, path, [LIFT, SIGN]).must()
    world.patch(world.operator, f"{path}/status", {"status": {}}).must()
    swap = {"op": "replace", "path": "/spec/containers/59/image", "value": "x"}
    assert (
        "release-spec: found fields"
        in world.patch(world.operator, path, [LIFT, SIGN, swap]).message
    )
    refused = world.create(world.tenant, GOVERNED, large("0"))
    assert "gpu-count: found" in refused.message
    world.tenant.delete(path).must()


def test_a_finding_too_long_to_say_leaves_rule_and_remedy(world: World) -> None:
    env = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]
    body = large("1")
    for number, container in enumerate(body["spec"]["containers"]):
        container |= {"name": f"{'x' * 55}-{number}", "env": env * 2}
    refused = world.create(world.tenant, GOVERNED, body)
    assert refused.status == 403
    assert "denied request: device-env: found " in refused.message
    assert " …; allowed: GPUs through nvidia.com/gpu" in refused.message


def test_a_tenant_changes_evicts_and_deletes_its_pods(world: World) -> None:
    path = f"{pods_path(GOVERNED)}/running"
    world.patch(world.tenant, path, {"metadata": {"labels": {"team": "vision"}}}).must()
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "running", "namespace": GOVERNED},
        "deleteOptions": {"dryRun": ["All"]},
    }
    world.tenant.create(f"{path}/eviction", eviction, dryRun="All").must()
    world.tenant.delete(f"{pods_path(GOVERNED)}/gated", dryRun="All").must()


def test_an_ordinary_ephemeral_container_is_let_in(world: World) -> None:
    body = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "registry.invalid/sh:1"}]}}
    path = f"{pods_path(GOVERNED)}/running/ephemeralcontainers"
    world.patch(world.admin, path, body, STRATEGIC_PATCH).must()


def test_a_governed_namespace_can_be_deleted(world: World) -> None:
    metadata = {
        "name": "acme-gone",
        "labels": {names.TENANT_LABEL: "acme"},
        "annotations": {names.RESIDENCY: "eu-only", names.REGIONS: HOME},
    }
    world.admin.create("/api/v1/namespaces", {"metadata": metadata}).must()
    world.admin.wait(f"{namespace_path('acme-gone')}/serviceaccounts/default", lambda _: True)
    grant_tenant(world.admin, "tenant-acme", ["acme-gone"])
    world.tenant.wait(pods_path("acme-gone"), lambda _: True)
    world.tenant.create(pods_path("acme-gone"), pod(gpus=1)).must()
    world.admin.delete(namespace_path("acme-gone")).must()
    world.admin.wait_gone(namespace_path("acme-gone"), 60)


def test_a_service_can_be_deleted_and_leave_its_endpoints(world: World) -> None:
    """The garbage collector takes the owner off what stays."""
    path = f"{namespace_path(STRICT)}/services"
    body = {"metadata": {"name": "web"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}
    world.tenant.create(path, body).must()
    slices = endpoint_slices_path(STRICT)
    labels = {"labelSelector": "kubernetes.io/service-name=web"}
    world.admin.wait(slices, lambda found: len(found["items"]) == 1, **labels)
    world.tenant.delete(f"{path}/web", propagationPolicy="Orphan").must()
    world.admin.wait_gone(f"{path}/web")
    world.admin.delete(slices, **labels).must()


def test_a_wide_policy_of_packets_older_than_the_rule_can_be_changed_and_deleted(
    world: World,
) -> None:
    path = f"{network_policies_path(GOVERNED)}/wide"
    world.tenant.create(network_policies_path(GOVERNED), network_policy("wide", [{}])).must()
    confined = {"metadata": {"annotations": {names.NETWORKS: "192.0.2.0/24"}}}
    world.admin.patch(namespace_path(GOVERNED), confined).must()
    try:
        world.patch(world.tenant, path, {"metadata": {"labels": {"a": "b"}}}).must()
        world.tenant.delete(path, propagationPolicy="Foreground").must()
        world.admin.wait_gone(path)
    finally:
        free = {"metadata": {"annotations": {names.NETWORKS: None}}}
        world.admin.patch(namespace_path(GOVERNED), free).must()


def test_a_policy_of_packets_that_come_in_may_say_anything_of_those_that_go(world: World) -> None:
    body = network_policy("inbound", [{}])
    body["spec"]["policyTypes"] = ["Ingress"]
    world.tenant.create(network_policies_path(STRICT), body, dryRun="All").must()


def test_images_of_docker_hub_are_known_by_their_short_names(world: World) -> None:
    image = {"image": "docker.io/EVIL/app:1"}  # here EVIL is a part of Docker Hub, and no host
    world.create(world.tenant, STRICT, pod(container=image)).must()


def test_a_privileged_ephemeral_container_where_policies_only_warn(world: World) -> None:
    debug = {"name": "debug", "image": "x", "securityContext": {"privileged": True}}
    path = f"{pods_path(WARNED)}/unbound/ephemeralcontainers"
    body = {"spec": {"ephemeralContainers": [debug]}}
    world.patch(world.admin, path, body, STRATEGIC_PATCH).must()


# --- everybody else --------------------------------------------------------------------------
def test_pods_without_gpus_run_in_any_namespace(world: World) -> None:
    world.tenant.create(pods_path(FREE), pod("plain")).must()
    assert running_on(world.tenant, FREE, "plain") in {world.away, world.companion}


def test_a_warning_policy_lets_pods_run_abroad(world: World) -> None:
    selector = {names.REGION_LABEL: "us-east-1"}
    world.tenant.create(pods_path(WARNED), pod("abroad", nodeSelector=selector)).must()
    assert running_on(world.tenant, WARNED, "abroad") == world.away


def test_an_infrastructure_validator_runs_on_a_named_node(world: World) -> None:
    validator = pod("validator", gpus=1, nodeName=world.home)
    world.admin.create(pods_path(EXEMPT), validator).must()
    assert running_on(world.admin, EXEMPT, "validator") == world.home


def test_an_infrastructure_daemonset_tolerates_every_taint(world: World) -> None:
    made = daemonset(pod(hostNetwork=True, tolerations=[{"operator": "Exists"}]), "exporter")
    world.admin.create(daemonsets_path("kube-system"), made).must()
    path = f"{daemonsets_path('kube-system')}/exporter"
    world.admin.wait(path, lambda body: body["status"]["numberReady"] >= 3, 60)


def test_an_exempt_account_reaches_nodes_outside_governed_namespaces(world: World) -> None:
    privileged = {"securityContext": {"privileged": True}}
    body = pod(nodeName=world.home, container=privileged, tolerations=[{"operator": "Exists"}])
    world.create(world.imager, CI, body).must()
    world.create(world.imager, FREE, body).must()


def test_an_administrator_debugs_a_node(world: World) -> None:
    body = pod(nodeName=world.away, hostPID=True, hostNetwork=True)
    world.create(world.admin, FREE, body).must()


def test_a_gpu_daemonset_older_than_the_installation_can_still_be_changed(world: World) -> None:
    body = {"metadata": {"finalizers": ["example.com/hold"]}}
    world.patch(world.admin, f"{daemonsets_path(FREE)}/older", body).must()


def test_holders_of_the_right_bind(world: World) -> None:
    role = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "second-scheduler"},
        "rules": [
            {"apiGroups": [""], "resources": ["pods/binding"], "verbs": ["create"]},
            {"apiGroups": [names.GROUP], "resources": ["gpupools/bind"], "verbs": ["update"]},
        ],
    }
    subject = {"apiGroup": RBAC, "kind": "User", "name": "second-scheduler"}
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "second-scheduler"}
    world.admin.apply(role).must()
    world.admin.apply(
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "second-scheduler"},
            "subjects": [subject],
            "roleRef": reference,
        }
    ).must()
    second = world.rig.client("second-scheduler")
    wait_for(lambda: world.bind(second, GOVERNED, world.companion).ok, 10, "the right to count")
    abroad = world.bind(second, GOVERNED, world.away)
    assert "binding-region: found " in abroad.message


def test_others_evict_as_their_rights_say(world: World) -> None:
    world.evict(world.admin, f"{pods_path('kube-system')}/infra").must()


def test_the_audit_log_says_where_governed_pods_were_bound(world: World) -> None:
    place = f"acme {HOME} {world.home}"
    key = "sovereign-gpu-binding/place"

    def seen() -> bool:
        with world.rig.audit_log.open(encoding="utf-8") as lines:
            return any(json.loads(line).get("annotations", {}).get(key) == place for line in lines)

    wait_for(seen, 30, "the binding of a governed pod in the audit log")


def test_claims_of_other_devices_need_no_tenant(world: World) -> None:
    request = {"name": "one", "exactly": {"deviceClassName": "nic.example.com"}}
    body = {"metadata": {"name": "x"}, "spec": {"devices": {"requests": [request]}}}
    path = f"/apis/resource.k8s.io/v1/namespaces/{FREE}/resourceclaims"
    world.admin.create(path, body, dryRun="All").must()


@pytest.mark.parametrize("path", ["metrics", "metrics/cadvisor", "stats/summary", "pods", ""])
def test_what_a_kubelet_shows_can_be_read_through_the_api_server(world: World, path: str) -> None:
    answer = world.admin.get(f"/api/v1/nodes/{world.home}/proxy/{path}")
    assert answer.status not in {403, 422}  # no kubelet answers here


# --- nodes -----------------------------------------------------------------------------------
def test_a_node_joins_without_labels_and_gets_them_later(world: World) -> None:
    joining = world.rig.client("system:node:joining")
    joining.create("/api/v1/nodes", {"metadata": {"name": "joining"}}).must()
    labels = {names.REGION_LABEL: HOME, names.ZONE_LABEL: f"{HOME}-a"}
    body = {"metadata": {"labels": labels}}
    joining.patch("/api/v1/nodes/joining", body).must()
    ready = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    joining.patch("/api/v1/nodes/joining/status", ready, STRATEGIC_PATCH).must()
    world.admin.delete("/api/v1/nodes/joining").must()


def test_the_kubelet_of_a_pool_node_registers_again(world: World) -> None:
    path = f"/api/v1/nodes/{world.home}"
    body = world.admin.get(path).must()
    world.kubelet.replace(path, body, dryRun="All").must()
    labels = {"metadata": {"labels": {names.REGION_LABEL: HOME, "nvidia.com/gpu.count": "7"}}}
    world.patch(world.kubelet, f"{path}/status", labels).must()


def _static(world: World, **fields: Any) -> dict[str, Any]:
    node = world.admin.get(f"/api/v1/nodes/{world.home}").must()["metadata"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": node["name"], "uid": node["uid"]}
    metadata = {
        "annotations": {"kubernetes.io/config.mirror": "0123"},
        "ownerReferences": [{**owner, "controller": True}],
    }
    return pod(nodeName=node["name"], metadata=metadata, enableServiceLinks=True, **fields)


def test_a_kubelet_shows_its_static_pods_whatever_they_are(world: World) -> None:
    foreign = _static(world, container={"image": "registry.evil.example/x:1"})
    world.create(world.kubelet, STRICT, foreign).must()


def test_a_kubelet_shows_its_static_pods(world: World) -> None:
    body = _static(world, gpus=1)
    made = world.create(world.kubelet, GOVERNED, body).must()
    assert "schedulingGates" not in made["spec"]
    assert "nodeSelector" not in made["spec"]


def test_an_administrator_enrols_moves_and_releases_nodes(world: World) -> None:
    away, home = f"/api/v1/nodes/{world.away}", f"/api/v1/nodes/{world.home}"
    taint = {"key": names.COMPANION_TAINT, "effect": "NoSchedule"}
    labels = {names.NODE_POOL_LABEL: "munich"}
    enrolled = {"metadata": {"labels": labels}, "spec": {"taints": [taint]}}
    world.patch(world.admin, away, enrolled).must()
    moved = {"metadata": {"labels": {names.ZONE_LABEL: f"{HOME}-b", names.NODE_POOL_LABEL: None}}}
    world.patch(world.admin, home, moved | {"spec": {"taints": None}}).must()


def test_a_node_that_left_its_pool_may_move_though_its_machine_is_remembered(
    world: World,
) -> None:
    path = f"/api/v1/nodes/{world.bare}"
    recorded = {"metadata": {"labels": {names.NODE_MACHINE_LABEL: "u0"}}}
    world.admin.patch(path, recorded).must()
    moved = {"metadata": {"labels": {names.ZONE_LABEL: f"{HOME}-b"}}}
    world.patch(world.editor, path, moved).must()
    forgotten = {"metadata": {"labels": {names.NODE_MACHINE_LABEL: None}}}
    world.admin.patch(path, forgotten).must()

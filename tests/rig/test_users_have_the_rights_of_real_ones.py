"""What each identity of the rig may do: the ground that every attack test stands on."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from rig import catalogue
from rig.client import wait_for
from rig.errors import RigError
from rig.users import PLATFORM_ADMIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from rig.client import Client
    from rig.control_plane import Rig

POOL_LABEL = "sovereign-gpu.node-restriction.kubernetes.io/pool"


def pod(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "registry.invalid/main"}]},
    }


def test_a_tenant_works_in_its_own_namespaces_and_nowhere_else(
    make_namespace: Callable[..., str], make_tenant: Callable[..., Client]
) -> None:
    own, foreign = make_namespace("own"), make_namespace("foreign")
    tenant = make_tenant("own", [own])
    assert tenant.create(f"/api/v1/namespaces/{own}/pods", pod("mine")).status == 201
    assert tenant.create(f"/api/v1/namespaces/{foreign}/pods", pod("theirs")).status == 403
    assert tenant.get(f"/api/v1/namespaces/{foreign}/pods").status == 403
    assert tenant.get("/api/v1/nodes").status == 403
    label = {"metadata": {"labels": {"stolen": "yes"}}}
    assert tenant.patch(f"/api/v1/namespaces/{own}", label).status == 403
    binding = {"metadata": {"name": "mine"}, "target": {"kind": "Node", "name": "anywhere"}}
    assert tenant.create(f"/api/v1/namespaces/{own}/pods/mine/binding", binding).status == 403


def test_an_auditor_reads_and_never_writes(rig: Rig, namespace: str) -> None:
    auditor = rig.client("auditor")
    assert auditor.get(f"/api/v1/namespaces/{namespace}/pods").ok
    assert auditor.get(f"/api/v1/namespaces/{namespace}/secrets").status == 403
    assert auditor.create(f"/api/v1/namespaces/{namespace}/pods", pod("x")).status == 403


def test_a_kubelet_registers_itself_but_may_not_set_restricted_labels(
    rig: Rig, admin: Client
) -> None:
    place = catalogue.Place("eu-de-muc", "eu-de-muc-a")
    product = catalogue.PRODUCTS["NVIDIA-B200"]
    own = catalogue.node("kubelet-own", 0, place, product, kubelet_version="v1.36.3")
    other = catalogue.node("kubelet-other", 1, place, product, kubelet_version="v1.36.3")
    kubelet = rig.client("system:node:kubelet-own")
    try:
        assert kubelet.create("/api/v1/nodes", own).status == 201
        refused = kubelet.create("/api/v1/nodes", other)
        assert refused.status == 403
        assert "is not allowed to" in refused.message
        enrol = {"metadata": {"labels": {POOL_LABEL: "munich"}}}
        assert kubelet.patch("/api/v1/nodes/kubelet-own", enrol).status == 403
        harmless = {"metadata": {"labels": {"nvidia.com/gpu.product": "NVIDIA-H200"}}}
        assert kubelet.patch("/api/v1/nodes/kubelet-own", harmless).ok
        assert admin.patch("/api/v1/nodes/kubelet-own", enrol).ok
    finally:
        admin.delete("/api/v1/nodes/kubelet-own")


def test_groups_can_be_chosen_and_do_not_mix_with_the_users_usual_ones(rig: Rig) -> None:
    def whoami(client: Client) -> dict[str, Any]:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        info: dict[str, Any] = client.create(path, review).must()["status"]["userInfo"]
        return info

    usual = rig.client("tenant-bmw")
    chosen = rig.client("tenant-bmw", groups=["ops", "night-shift"])
    assert whoami(usual)["username"] == "tenant-bmw"
    assert set(whoami(usual)["groups"]) == {"tenants", "system:authenticated"}
    assert set(whoami(chosen)["groups"]) == {"ops", "night-shift", "system:authenticated"}


def test_many_threads_may_become_the_same_user_at_once(rig: Rig) -> None:
    def version(_: int) -> int:
        return rig.client("tenant-hurried").get("/version").status

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(version, range(32))) == {200}


def test_a_service_account_acts_with_its_own_rights_only(
    rig: Rig, admin: Client, namespace: str
) -> None:
    account = {"metadata": {"name": "robot"}}
    admin.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", account).must()
    robot = rig.service_account_client(namespace, "robot")
    refused = robot.get(f"/api/v1/namespaces/{namespace}/pods")
    assert refused.status == 403
    assert f"system:serviceaccount:{namespace}:robot" in refused.message
    kubeconfig = rig.service_account_kubeconfig(namespace, "robot")
    answer = subprocess.run(  # noqa: S603 - a tool of the rig
        [rig.binaries / "kubectl", "--kubeconfig", kubeconfig, "auth", "whoami", "-o", "json"],
        capture_output=True,
        check=True,
    )
    user = json.loads(answer.stdout)["status"]["userInfo"]
    assert user["username"] == f"system:serviceaccount:{namespace}:robot"


def test_nobody_without_a_certificate_gets_an_answer(rig: Rig, admin: Client) -> None:
    assert admin.__class__(rig.url, rig.ca_file).get("/version").status == 401


def test_objects_are_applied_where_discovery_says(admin: Client, namespace: str) -> None:
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": namespace},
        "data": {"a": "1"},
    }
    assert admin.apply(config_map, dry_run=True).ok
    assert admin.get(admin.object_path(config_map)).status == 404
    assert admin.apply(config_map).status == 201
    assert admin.must("GET", admin.object_path(config_map))["data"] == {"a": "1"}
    with pytest.raises(RigError, match="does not know"):
        admin.object_path(config_map | {"kind": "Nonsense"})
    with pytest.raises(RigError, match="404"):
        admin.must("GET", f"/api/v1/namespaces/{namespace}/configmaps/absent")
    with pytest.raises(RigError, match="last seen: 200"):
        admin.wait(admin.object_path(config_map), lambda body: body["data"]["b"] == "2", 0.1)


def test_releases_and_placements_can_be_recounted_from_the_audit_log(
    rig: Rig, admin: Client, namespace: str
) -> None:
    gated = pod("gated") | {"spec": pod("gated")["spec"] | {"schedulingGates": [{"name": "a/b"}]}}
    admin.create(f"/api/v1/namespaces/{namespace}/pods", gated).must()
    release = [{"op": "remove", "path": "/spec/schedulingGates/0"}]
    admin.patch(f"/api/v1/namespaces/{namespace}/pods/gated", release).must()

    def events(verb: str) -> list[dict[str, Any]]:
        lines = rig.audit_log.read_text("utf-8").splitlines()
        found = [json.loads(line) for line in lines if f'"{namespace}"' in line]
        mine = (each for each in found if each["user"]["username"] == PLATFORM_ADMIN)
        return [each for each in mine if each["verb"] == verb]

    # The line is written after the answer is on its way.
    wait_for(lambda: events("patch"), 10, "the patch to be in the audit log")
    (patch,) = events("patch")
    assert patch["requestObject"] == release
    assert patch["stage"] == "ResponseComplete"
    assert all("requestObject" not in each for each in events("create"))

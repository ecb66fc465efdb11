"""Every example applies to a real control plane, and does what its comments say."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rig import nodes, product
from rig.client import wait_for
from rig.control_plane import Rig
from rig.demo import kubectl, manifests
from rig.users import PLATFORM_ADMIN
from sovereign_gpu import names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rig.client import Client

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "examples").glob("**/*.yaml"))
QUOTAS = "/apis/sovereign-gpu.io/v1alpha1/tenantquotas"
POOLS = "/apis/sovereign-gpu.io/v1alpha1/gpupools"
HOME, AWAY = "eu-de-muc", "us-east-1"
NODES = 12
PATIENCE = 90.0
TENANTS = manifests.tenants(manifests.platform(1))


@dataclass
class Cloud:
    rig: Rig
    admin: Client
    companion: str

    def pods(self, namespace: str) -> list[dict[str, Any]]:
        return list(self.admin.items(f"/api/v1/namespaces/{namespace}/pods"))

    def cordon(self, *, cordoned: bool) -> None:
        for node in self.admin.items("/api/v1/nodes", labelSelector="nvidia.com/gpu.present"):
            if node["metadata"]["labels"][names.REGION_LABEL] == HOME:
                body = {"spec": {"unschedulable": cordoned or None}}
                self.admin.patch(f"/api/v1/nodes/{node['metadata']['name']}", body).must()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A control plane of its own, because the policies would stand in the way of other tests."""
    root = tmp_path_factory.mktemp("examples")
    profile = os.environ.get("SOVEREIGN_GPU_PROFILE", "1.36")
    with Rig("examples", root=root, profile=profile) as rig:
        nodes.create_nodes(rig, NODES, pool="munich-b200", region=HOME)
        nodes.create_nodes(rig, 1, pool="virginia-b200", region=AWAY)
        companion = nodes.create_nodes(rig, 1, None, pool="munich-b200", region=HOME)[0]
        product.install(rig)
        kubectl.run(rig, PLATFORM_ADMIN, "apply", "-f", str(manifests.PLATFORM))
        with product.OperatorProcess(rig):
            made = Cloud(rig, rig.client(PLATFORM_ADMIN), companion)
            wait_governed(made)
            for tenant in TENANTS:
                directory = manifests.TENANTS / tenant.name
                kubectl.run(rig, tenant.user, "apply", "-f", str(directory))
            yield made


def wait_governed(cloud: Cloud) -> None:
    for tenant in TENANTS:
        for namespace in tenant.namespaces:
            cloud.admin.wait(
                f"/api/v1/namespaces/{namespace}",
                lambda body, name=tenant.name: (
                    body["metadata"]["labels"][names.TENANT_LABEL] == name
                    and body["metadata"]["annotations"][names.REGIONS] == HOME
                ),
                PATIENCE,
            )


def workloads(kind: str) -> list[Any]:
    found = []
    for tenant in TENANTS:
        for document in manifests.load(manifests.TENANTS / tenant.name):
            if document["kind"] == kind:
                name = f"{tenant.name}/{document['metadata']['name']}"
                found.append(pytest.param(tenant, document, id=name))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "examples")))
def test_every_example_is_accepted(cloud: Cloud, path: Path) -> None:
    said = kubectl.run(cloud.rig, PLATFORM_ADMIN, "apply", "--dry-run=server", "-f", str(path))
    documents = [each for each in yaml.safe_load_all(path.read_text()) if each]
    assert len(said.splitlines()) == len(documents)


@pytest.mark.parametrize("tenant", TENANTS, ids=lambda tenant: tenant.name)
def test_a_tenant_is_ready_and_reads_its_own_quota_and_no_other(
    cloud: Cloud, tenant: manifests.Tenant
) -> None:
    client = cloud.rig.client(tenant.user)
    body = client.wait(
        f"{QUOTAS}/{tenant.name}",
        lambda body: body["status"]["conditions"][0]["status"] == "True",
        PATIENCE,
    )
    assert body["status"]["conditions"][0]["type"] == "Ready"
    others = [each.name for each in TENANTS if each != tenant]
    assert {client.get(f"{QUOTAS}/{other}").status for other in others} == {403}
    assert client.get(QUOTAS).status == 403
    assert client.patch(f"{QUOTAS}/{tenant.name}", {"spec": {"pools": []}}).status == 403


@pytest.mark.parametrize(("tenant", "job"), workloads("Job"))
def test_jobs_run_to_their_end(cloud: Cloud, tenant: manifests.Tenant, job: dict[str, Any]) -> None:
    client = cloud.rig.client(tenant.user)
    wanted = job["spec"]["completions"]
    client.wait(
        client.object_path(job), lambda body: body["status"]["succeeded"] == wanted, PATIENCE
    )


@pytest.mark.parametrize(("tenant", "deployment"), workloads("Deployment"))
def test_deployments_are_served(
    cloud: Cloud, tenant: manifests.Tenant, deployment: dict[str, Any]
) -> None:
    client = cloud.rig.client(tenant.user)
    wanted = deployment["spec"]["replicas"]
    path = client.object_path(deployment)
    client.wait(path, lambda body: body["status"]["readyReplicas"] == wanted, PATIENCE)


@pytest.mark.parametrize(
    ("tenant", "pod"), [each for each in workloads("Pod") if "two-nodes" not in str(each.id)]
)
def test_bare_pods_run_and_are_not_tied_to_a_single_node(
    cloud: Cloud, tenant: manifests.Tenant, pod: dict[str, Any]
) -> None:
    client = cloud.rig.client(tenant.user)
    path = client.object_path(pod)
    body = client.wait(path, lambda body: body["status"]["phase"] == "Running", PATIENCE)
    affinity = body["spec"]["affinity"]["nodeAffinity"]
    required = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    terms = required["nodeSelectorTerms"]
    assert len(terms) > 1 or "matchFields" not in terms[0]


def test_what_can_never_fit_says_so_in_the_words_of_the_readme(cloud: Cloud) -> None:
    client = cloud.rig.client("tenant-kleinwerk")
    path = "/api/v1/namespaces/kleinwerk/pods/two-nodes"
    client.wait(
        path, lambda body: "NeverFits" in body["status"]["conditions"][0]["message"], PATIENCE
    )
    readme = (manifests.EXAMPLE / "README.md").read_text()
    command = next(line for line in readme.splitlines() if "two-nodes" in line)
    said = kubectl.run(cloud.rig, "tenant-kleinwerk", *shlex.split(command)[1:])
    assert said.startswith("NeverFits: asks for 16 GPUs")
    waiting = client.wait(
        f"{QUOTAS}/kleinwerk",
        lambda body: [row["reason"] for row in body["status"]["waiting"]] == ["NeverFits"],
        PATIENCE,
    )["status"]["waiting"]
    assert (waiting[0]["pods"], waiting[0]["gpus"]) == (1, 16)


def test_inference_goes_first_and_pushes_nobody_aside(cloud: Cloud) -> None:
    wait_for(lambda: cloud.pods("alpenmotoren-infer"), PATIENCE, "the pods of the Deployment")
    train, infer = (
        {(pod["spec"]["priority"], pod["spec"]["preemptionPolicy"]) for pod in cloud.pods(each)}
        for each in ("alpenmotoren-train", "alpenmotoren-infer")
    )
    assert infer == {(1000, "Never")}
    assert {priority for priority, _ in train} == {0}


def test_what_asks_for_no_gpu_stays_in_the_eu_as_well(cloud: Cloud) -> None:
    selector = {"labelSelector": "app=replay-loader", "fieldSelector": "status.phase=Running"}
    path = "/api/v1/namespaces/isar-robotics/pods"
    body = cloud.admin.wait(path, lambda body: len(body["items"]) == 2, PATIENCE, **selector)
    assert {pod["spec"]["nodeName"] for pod in body["items"]} == {cloud.companion}


def test_gpus_in_virginia_are_out_of_reach_however_empty(cloud: Cloud) -> None:
    client = cloud.rig.client("tenant-isar-robotics")
    pod = next(
        each
        for each in manifests.load(manifests.TENANTS / "isar-robotics")
        if each["kind"] == "Pod"
    )
    pod["metadata"]["name"] = "abroad"
    cloud.cordon(cordoned=True)
    cloud.admin.wait(
        f"{POOLS}/munich-b200", lambda body: body["status"]["nodes"]["cordoned"] == NODES, PATIENCE
    )
    try:
        client.apply(pod).must()
        body = client.wait(
            client.object_path(pod),
            lambda body: "PoolFull" in body["status"]["conditions"][0]["message"],
            PATIENCE,
        )
        assert "munich-b200" in body["status"]["conditions"][0]["message"]
        virginia = cloud.admin.get(f"{POOLS}/virginia-b200").must()["status"]["gpus"]
        assert (virginia["free"], virginia["counted"]) == (8, 0)
    finally:
        cloud.cordon(cordoned=False)
    client.wait(
        client.object_path(pod), lambda body: body["status"]["phase"] == "Running", PATIENCE
    )

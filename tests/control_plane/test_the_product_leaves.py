"""The product is taken out of a cluster: nobody is held up, nothing of others is lost.

Each test runs through operator stopped, `sovereign-gpu uninstall`, `helm uninstall`; so this has a
control plane of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rig import product
from rig.control_plane import Rig
from rig.nodes import create_nodes
from rig.users import PLATFORM_ADMIN
from sovereign_gpu import names
from tests.control_plane.cluster import (
    NOWHERE,
    POLICIES,
    POOLS,
    QUOTAS,
    Cluster,
    Site,
    Tenant,
    container,
    is_gated,
    pod,
)
from tests.control_plane.processes import Process
from tests.control_plane.trail import forbidden

TREE = Path(__file__).parents[2]
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GPUS = 8


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    profile = os.environ.get("SOVEREIGN_GPU_PROFILE", "1.36")
    with Rig("leaving", root=tmp_path_factory.mktemp("leaving"), profile=profile) as made:
        yield made


@pytest.fixture(scope="module")
def nodes(rig: Rig) -> deque[str]:
    """Nodes in no pool; each test takes all and gives them back."""
    return deque(create_nodes(rig, 2, region=NOWHERE, prefix="gpu"))


@pytest.fixture
def cluster(rig: Rig, nodes: deque[str], tmp_path: Path) -> Iterator[Cluster]:
    """The product, installed anew for each test."""
    product.install(rig)
    operator = Process(rig, tmp_path / "operator.log", 3)
    operator.start()
    yield Cluster(rig, rig.client(PLATFORM_ADMIN), operator, nodes)
    if operator.runs():
        operator.terminate()
    assert forbidden(rig) == []


@dataclass
class Scene:
    """A tenant with a full quota, and all that it has in the cluster."""

    site: Site
    tenant: Tenant
    policy: str

    @property
    def label(self) -> str:
        """The residency label of the policy."""
        return names.NODE_RESIDENCY_PREFIX + self.policy

    def type(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Type the command as the administrator."""
        kubeconfig = self.site.cluster.rig.kubeconfig(PLATFORM_ADMIN)
        return subprocess.run(  # noqa: S603 – ourselves
            [sys.executable, "-m", "sovereign_gpu", "uninstall", *words, "-o", "json"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={"PYTHONPATH": str(TREE / "operator"), "KUBECONFIG": str(kubeconfig)},
        )

    def leave(self, *words: str) -> Any:
        """Type the command, which has to succeed."""
        done = self.type(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def marks(self) -> set[str]:
        """Return the operator's labels of the nodes."""
        return {
            key
            for name in self.site.nodes
            for key in self.site.admin.get(f"/api/v1/nodes/{name}").must()["metadata"]["labels"]
            if key.startswith(names.NODE_RESIDENCY_PREFIX) or key == names.NODE_MACHINE_LABEL
        }

    def namespace(self) -> set[str]:
        """Return the operator's labels and annotations of the tenant's namespace."""
        meta = self.site.admin.get(f"/api/v1/namespaces/{self.tenant.namespace}").must()["metadata"]
        present = {*meta["labels"], *meta.get("annotations", {})}
        return present & {*names.NAMESPACE_LABELS, *names.NAMESPACE_ANNOTATIONS}

    def gated(self) -> set[str]:
        """Return the tenant's pods that our gate holds."""
        found = self.site.admin.get(self.tenant.pods).must()["items"]
        return {body["metadata"]["name"] for body in found if is_gated(body)}


@pytest.fixture
def scene(cluster: Cluster) -> Iterator[Scene]:
    site = cluster.site()
    pool, policy = site.pool("hall", nodes=2), site.policy("eu")
    tenant = site.tenant("acme", {pool: GPUS}, [policy])
    made = Scene(site, tenant, policy)
    site.submit(tenant, pod("runs", gpus=GPUS))
    site.bound(tenant, "runs")
    site.submit(
        tenant,
        pod("waits", gpus=2),
        pod("held", gpus=1, schedulingGates=[{"name": "example.com/data"}]),
    )
    site.told(tenant, "waits", "QuotaExhausted")
    site.admin.wait(tenant.pod("held"), is_gated)
    yield made
    site.clear()


def daemons(scene: Scene) -> str:
    """Make a DaemonSet of the tenant that runs on a companion of the pool; return its path."""
    site, tenant = scene.site, scene.tenant
    (companion,) = create_nodes(
        site.cluster.rig, 1, product=None, region=NOWHERE, prefix="companion"
    )
    taint = {"key": names.COMPANION_TAINT, "effect": "NoSchedule"}
    site.admin.patch(f"/api/v1/nodes/{companion}", {"spec": {"taints": [taint]}}).must()
    site.undo(f"/api/v1/nodes/{companion}")
    site.enrol(companion, site.name("hall"), site.region)
    labels = {"app": "collector"}
    pods = {"metadata": {"labels": labels}, "spec": {"containers": [container(0)]}}
    body = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "collector"},
        "spec": {"selector": {"matchLabels": labels}, "template": pods},
    }
    path = f"/apis/apps/v1/namespaces/{tenant.namespace}/daemonsets"
    tenant.client.create(path, body).must()
    site.admin.wait(f"{path}/collector", lambda found: found["status"]["numberReady"] == 1)
    return f"{path}/collector"


def test_it_is_refused_while_the_operator_runs(scene: Scene) -> None:
    done = scene.type("--release")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"lease {product.NAMESPACE}/{product.NAME} is held by " in done.stderr
    scale = f"/apis/apps/v1/namespaces/{product.NAMESPACE}/deployments/{product.NAME}/scale"
    scene.site.admin.patch(scale, {"spec": {"replicas": 1}}).must()
    done = scene.type("--keep")
    scene.site.admin.patch(scale, {"spec": {"replicas": 0}}).must()
    assert (done.returncode, done.stdout) == (1, "")
    command = f"kubectl scale deployment {product.NAME} --namespace {product.NAMESPACE}"
    assert f"{command} --replicas=0" in done.stderr
    dry = scene.type("--release", "--dry-run")
    assert (dry.returncode, json.loads(dry.stdout)["released"]) == (1, 2)
    assert scene.gated() == {"waits", "held"}
    assert scene.namespace()


def test_release_lets_everybody_go(scene: Scene) -> None:
    site, tenant = scene.site, scene.tenant
    site.cluster.operator.terminate()
    document = scene.leave("--release")
    assert (document["released"], document["gated"]) == (2, 0)
    assert scene.namespace() == set()
    held = site.admin.get(tenant.pod("held")).must()
    assert held["spec"]["schedulingGates"] == [{"name": "example.com/data"}]
    # Pods that were not bound when it looked, and one that runs, select it.
    assert scene.marks() == {scene.label}
    product.uninstall(site.cluster.rig)
    site.bound(tenant, "waits")
    # New pods are nobody's business any more, also where they go.
    tolerations = [{"key": names.GPU_TAINT, "operator": "Exists"}]
    site.submit(tenant, pod("new", gpus=1, tolerations=tolerations))
    assert not is_gated(site.bound(tenant, "new"))
    tenant.client.patch(tenant.pod("held"), {"spec": {"schedulingGates": None}}).must()
    site.bound(tenant, "held")
    # A kubelet that restarts must find the label where a pod runs that selects it; nowhere else.
    scene.leave("--release")
    nodes = {
        site.admin.get(tenant.pod(name)).must()["spec"]["nodeName"] for name in ("runs", "waits")
    }
    for name in site.nodes:
        labels = site.admin.get(f"/api/v1/nodes/{name}").must()["metadata"]["labels"]
        assert (scene.label in labels) == (name in nodes)
        assert names.NODE_POOL_LABEL in labels
    for name in ("runs", "waits", "held"):
        site.end(tenant, name)
    assert scene.leave("--release")["stays"] == []
    assert scene.marks() == set()
    again = scene.leave("--release")
    assert (again["released"], again["namespaces"], again["nodes"]) == (0, 0, 0)
    assert len(site.admin.get(DEFINITIONS).must()["items"]) == 3
    for path in (QUOTAS, POOLS, POLICIES):
        for body in site.admin.get(path).must()["items"]:
            site.admin.delete(f"{path}/{body['metadata']['name']}").must()
        site.admin.wait(path, lambda found: not found["items"])


def test_kept_pods_wait_until_the_product_is_back(scene: Scene) -> None:
    site, tenant = scene.site, scene.tenant
    path = daemons(scene)
    site.cluster.operator.terminate()
    document = scene.leave("--keep")
    assert (document["released"], document["gated"]) == (0, 2)
    (sentence,) = document["stays"]
    assert f"DaemonSet {tenant.namespace}/collector" in sentence
    product.uninstall(site.cluster.rig)
    assert scene.gated() == {"waits", "held"}
    assert scene.namespace() == set()
    # Its controller would have deleted the pods of a node that lost the label.
    found = site.admin.get(path).must()["status"]
    assert (found["desiredNumberScheduled"], found["numberReady"]) == (1, 1)
    site.end(tenant, "runs")
    product.install(site.cluster.rig)
    site.cluster.operator.start()
    site.bound(tenant, "waits")
    site.governed(tenant)
    assert scene.label in scene.marks()
    assert scene.gated() == {"held"}


def test_kept_pods_can_be_freed_when_the_chart_is_gone(scene: Scene) -> None:
    site, tenant = scene.site, scene.tenant
    site.cluster.operator.terminate()
    scene.leave("--keep")
    product.uninstall(site.cluster.rig)
    assert scene.leave("--release")["released"] == 2
    site.bound(tenant, "waits")

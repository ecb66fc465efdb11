"""GPUs that no tenant is charged for are counted as foreign and are not given out again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rig.client import wait_for
from rig.users import KUBELET_PREFIX
from sovereign_gpu import names
from tests.control_plane.cluster import Tenant, conditions, pod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.control_plane.cluster import Cluster, Site

EXEMPT = "gpu-operator"
TOLERATIONS = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


@pytest.fixture(scope="module", autouse=True)
def exempt(cluster: Cluster) -> Iterator[None]:
    """The namespace of the infrastructure."""
    path = "/api/v1/namespaces"
    cluster.admin.create(path, {"metadata": {"name": EXEMPT}}).must()
    cluster.admin.wait(f"{path}/{EXEMPT}/serviceaccounts/default", lambda _: True)
    yield
    cluster.admin.delete(f"{path}/{EXEMPT}")


@pytest.fixture
def full(site: Site) -> str:
    """A pool of one node, guaranteed to one tenant as a whole."""
    pool = site.pool()
    site.tenant("acme", {pool: 8}, [site.policy()])
    return pool


def _foreign(site: Site, pool: str, gpus: int) -> None:
    numbers = site.pool_status(pool, lambda s: s["gpus"]["foreign"] == gpus)["gpus"]
    assert numbers["free"] == 8 - gpus
    assert numbers["counted"] == 0
    assert site.cluster.series("pool_foreign_gpus", pool=pool) == [gpus]


def _waits_until_gone(site: Site, path: str) -> None:
    """A tenant's pod for the whole node has to wait for the foreign one."""
    name = site.name("acme")
    tenant = Tenant(name, name, site.cluster.rig.client(f"tenant-{name}"))
    site.submit(tenant, pod("whole", gpus=8))
    status = site.tenant_status(name, lambda s: s["waiting"])
    assert status["waiting"][0]["reason"] == "PoolFull"
    site.admin.delete(path, gracePeriodSeconds=0).must()
    site.bound(tenant, "whole")


def test_an_infrastructure_pod_with_a_node_name_reduces_what_is_free(site: Site, full: str) -> None:
    body = pod(site.name("validator"), nodeName=site.nodes[0], tolerations=TOLERATIONS)
    site.admin.create(f"/api/v1/namespaces/{EXEMPT}/pods", body).must()
    _foreign(site, full, 1)
    _waits_until_gone(site, f"/api/v1/namespaces/{EXEMPT}/pods/{body['metadata']['name']}")


def test_a_static_pod_that_a_kubelet_mirrors_is_counted(site: Site, full: str) -> None:
    node = site.nodes[0]
    found = site.admin.get(f"/api/v1/nodes/{node}").must()["metadata"]
    owner = {
        "apiVersion": "v1",
        "kind": "Node",
        "name": node,
        "uid": found["uid"],
        "controller": True,
    }
    body: dict[str, Any] = pod(
        site.name("static"),
        gpus=2,
        annotations={"kubernetes.io/config.mirror": "0123"},
        owner=owner,
        nodeName=node,
        tolerations=TOLERATIONS,
    )
    kubelet = site.cluster.rig.client(KUBELET_PREFIX + node)
    kubelet.create("/api/v1/namespaces/default/pods", body).must()
    _foreign(site, full, 2)
    _waits_until_gone(site, f"/api/v1/namespaces/default/pods/{body['metadata']['name']}")


def test_pods_that_ran_before_their_namespace_was_governed_are_charged_to_the_tenant(
    site: Site,
) -> None:
    # As after an installation into a cluster that already works: the pod was never gated.
    pool, policy, space = site.pool(), site.policy(), site.namespace("older")
    body = pod("older", gpus=3, nodeName=site.nodes[0], tolerations=TOLERATIONS)
    with _Unbound(site):
        site.admin.create(f"/api/v1/namespaces/{space}/pods", body).must()
    site.pool_status(pool, lambda s: s["gpus"]["foreign"] == 3 and s["gpus"]["free"] == 5)

    site.quota(site.name("older"), [space], {pool: 2}, [policy])
    status = site.tenant_status(site.name("older"), lambda s: s["total"]["used"] == 3)
    over = next(each for each in status["conditions"] if each["type"] == "OverQuota")
    assert (over["status"], over["message"]) == ("True", f"3 of 2 in pool {pool}")
    site.pool_status(pool, lambda s: s["gpus"]["foreign"] == 0 and s["gpus"]["counted"] == 3)
    found = site.admin.get(f"/api/v1/namespaces/{space}/pods/older").must()
    assert found["status"]["phase"] == "Running"
    assert names.POOL_LABEL not in found["metadata"].get("labels", {})


class _Unbound:
    """No rule about new pods inside the block."""

    _PATH = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
    _NAME = "sovereign-gpu-pod-create"

    def __init__(self, site: Site) -> None:
        self._site = site
        self._binding: dict[str, Any] = {}

    def __enter__(self) -> None:
        path = f"{self._PATH}/{self._NAME}"
        self._binding = self._site.admin.get(path).must()
        self._site.admin.delete(path).must()
        self._wait(refused=False)

    def __exit__(self, *_: object) -> None:
        self._binding["metadata"] = {"name": self._NAME}
        self._site.admin.create(self._PATH, self._binding).must()
        self._wait(refused=True)

    def _wait(self, *, refused: bool) -> None:
        path, body = "/api/v1/namespaces/default/pods", pod("probe")
        wait_for(
            lambda: self._site.admin.create(path, body, dryRun="All").ok is not refused,
            20,
            "the change of policies to take effect",
        )


def test_a_static_pod_with_gpus_is_an_alarm_on_its_pool(site: Site) -> None:
    pool = site.pool()
    node = site.admin.get(f"/api/v1/nodes/{site.nodes[0]}").must()["metadata"]
    space = site.namespace("free")
    body = pod("static", gpus=2, nodeName=node["name"])
    body["metadata"] |= {
        "annotations": {"kubernetes.io/config.mirror": "0123"},
        "ownerReferences": [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "name": node["name"],
                "uid": node["uid"],
                "controller": True,
            }
        ],
    }
    body["spec"]["enableServiceLinks"] = True
    kubelet = site.cluster.rig.client(f"system:node:{node['name']}")
    kubelet.create(f"/api/v1/namespaces/{space}/pods", body).must()
    status = site.pool_status(pool, lambda found: found["gpus"]["foreign"] == 2)
    found = site.pool_status(
        pool, lambda found: conditions(found)["StaticPods"]["status"] == "True"
    )
    assert f"{space}/static" in conditions(found)["StaticPods"]["message"]
    assert site.cluster.series("pool_static_pods", pool=pool) == [1]
    assert status["gpus"]["counted"] == 0
    site.drop(f"/api/v1/namespaces/{space}/pods")
    site.pool_status(pool, lambda found: conditions(found)["StaticPods"]["status"] == "False")

"""The product goes and leaves nobody blocked; it comes back and counts what is there."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rig.client import wait_for
from rig.kind import story
from rig.kind.paths import TREE
from rig.product import NAME, NAMESPACE
from sovereign_gpu import names
from tests.kind.test_operator_away import DEPLOYMENT
from tests.kind.world import API, SECONDS, is_gated, pod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kind.world import World


@pytest.fixture
def image(world: World) -> Iterator[str]:
    """The operator's image; the product is there after the test, however that ends."""
    found = _image(world)
    yield found
    story.install(world.cluster, world.admin, found)
    world.pool(lambda status: status["gpus"]["allocatable"] == 16)


def test_uninstalled_and_installed_again(world: World, image: str) -> None:
    tenant = world.tenant("acme", 8)
    tenant.submit(pod("first", gpus=8))
    first = tenant.running("first")
    tenant.submit(pod("second", gpus=8))
    tenant.told("second", "QuotaExhausted")
    other = world.tenant("bolt", 0)

    _leave(world, "--release")
    # Nobody is blocked, and what ran runs on.
    second = tenant.running("second")
    assert not is_gated(second)
    assert tenant.running("first")["metadata"]["uid"] == first["metadata"]["uid"]
    bystander = world.namespace("bystander")
    path = f"/api/v1/namespaces/{bystander}/pods"
    wait_for(
        lambda: world.admin.create(path, pod("any", gpus=1), dryRun="All").ok,
        SECONDS,
        "the policies to be gone",
    )
    labels = world.admin.get(f"/api/v1/namespaces/{tenant.namespace}").must()["metadata"]["labels"]
    assert names.TENANT_LABEL not in labels
    # The resources are kept, and can be deleted.
    quotas = f"{API}/tenantquotas"
    world.admin.delete(f"{quotas}/{other.name}").must()
    world.admin.wait_gone(f"{quotas}/{other.name}")

    story.install(world.cluster, world.admin, image)
    status = tenant.status(lambda found: found["total"]["used"] == 16)
    assert status["total"]["pendingPods"] == 0
    tenant.end("first")
    tenant.status(lambda found: found["total"]["used"] == 8)


def test_kept_pods_wait_while_it_is_gone_and_are_served_when_it_is_back(
    world: World, image: str
) -> None:
    tenant = world.tenant("acme", 8)
    tenant.submit(pod("first", gpus=8))
    first = tenant.running("first")
    tenant.submit(pod("second", gpus=8))
    tenant.told("second", "QuotaExhausted")
    _leave(world, "--keep")
    assert is_gated(tenant.client.get(tenant.pod("second")).must())
    tenant.end("first")
    assert is_gated(tenant.client.get(tenant.pod("second")).must())

    story.install(world.cluster, world.admin, image)
    second = tenant.running("second", 2 * SECONDS)
    assert second["spec"]["nodeName"] in world.eu
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    status = tenant.status(lambda found: found["total"]["pendingPods"] == 0)
    assert status["total"]["used"] == 8


def _leave(world: World, choice: str) -> None:
    """Take the product out of the cluster as its documentation says."""
    world.admin.patch(f"{DEPLOYMENT}/scale", {"spec": {"replicas": 0}}).must()
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    world.admin.wait(pods, lambda found: not found["items"], SECONDS)
    done = _uninstall(world, choice)
    assert done.returncode == 0, done.stdout + done.stderr
    world.cluster.helm("uninstall", NAME, "--namespace", NAMESPACE, "--wait")


def _image(world: World) -> str:
    """Return the operator's image as the chart has it."""
    deployment = world.admin.get(DEPLOYMENT).must()
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def _uninstall(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "KUBECONFIG": str(world.cluster.kubeconfig),
        "PYTHONPATH": str(TREE / "operator"),
    }
    return subprocess.run(  # noqa: S603 - the product's own command
        [sys.executable, "-m", "sovereign_gpu", "uninstall", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=3 * SECONDS,
    )

"""What the operator tells Prometheus is what the API server and the kubelets say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from rig.client import wait_for
from rig.kind.story import POOL
from rig.product import NAMESPACE
from tests.kind.world import SECONDS, pod

if TYPE_CHECKING:
    from tests.kind.world import World

PAGE = f"/api/v1/namespaces/{NAMESPACE}/services/http:sovereign-gpu:http/proxy/metrics"


def _pool(world: World) -> dict[str, float]:
    text = world.admin.get(PAGE).must()
    return {
        sample.name.removeprefix("sovereign_gpu_pool_"): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels == {"pool": POOL}
    }


def test_metrics_say_what_the_nodes_offer_and_the_pods_hold(world: World) -> None:
    tenant = world.tenant("acme", 16)
    tenant.submit(pod("five", gpus=5), pod("three", gpus=3), pod("none"))
    for name in ("five", "three", "none"):
        tenant.running(name)
    nodes = (world.admin.get(f"/api/v1/nodes/{name}").must() for name in world.eu)
    offered = sum(int(each["status"]["allocatable"]["nvidia.com/gpu"]) for each in nodes)
    wait_for(lambda: _pool(world)["counted_gpus"] == 8, SECONDS, "the pods to be counted")
    found = _pool(world)
    assert found["allocatable_gpus"] == offered
    assert found["free_gpus"] == offered - 8
    assert found["foreign_gpus"] == 0

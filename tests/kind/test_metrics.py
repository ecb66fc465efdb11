"""What a real Prometheus reads from the operator is what the API server and the kubelets say."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rig import debian, prometheus
from rig.client import wait_for
from rig.errors import RigError
from rig.kind.story import POOL
from rig.product import CHART, NAMESPACE
from tests.kind.world import SECONDS, is_gated, pod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kind.world import World

PORT = 9090
GPU = "nvidia.com/gpu"
DIRECTORY = "/var/lib/prometheus"


@pytest.fixture
def ask(world: World, tmp_path: Path) -> Iterator[Callable[[str], dict[str, Any]]]:
    """A Prometheus on the control plane's node that scrapes as the ServiceMonitor says."""
    node = world.companion
    (tmp_path / "prometheus.yaml").write_text(_settings(world), encoding="utf-8")
    world.cluster.on_node(node, "mkdir", "-p", DIRECTORY)
    world.cluster.copy(node, tmp_path / "prometheus.yaml", f"{DIRECTORY}/prometheus.yaml")
    for program in ("prometheus", "promtool"):
        path = debian.unpacked("prometheus", print) / "usr" / "bin" / program
        world.cluster.copy(node, path, f"{DIRECTORY}/{program}")
    unit = ("systemd-run", "--unit=prometheus", "--collect", f"{DIRECTORY}/prometheus")
    settings = (
        f"--config.file={DIRECTORY}/prometheus.yaml",
        f"--storage.tsdb.path={DIRECTORY}/data",
        f"--web.listen-address=0.0.0.0:{PORT}",
    )
    world.cluster.on_node(node, *unit, *settings)
    # Not through the node's proxy, which leads to the kubelet's own pages only.
    tool = (f"{DIRECTORY}/promtool", "query", "instant", "-o", "json", f"http://localhost:{PORT}")

    def asked(query: str) -> dict[str, Any]:
        return {"data": {"result": json.loads(world.cluster.on_node(node, *tool, query))}}

    def ready() -> bool:
        with contextlib.suppress(RigError):
            return bool(asked("vector(1)"))
        return False

    wait_for(ready, SECONDS, "Prometheus to be ready")
    yield asked
    world.cluster.on_node(node, "systemctl", "stop", "prometheus")
    world.cluster.on_node(node, "rm", "-r", DIRECTORY)


def _settings(world: World) -> str:
    """Return settings that follow from the chart's ServiceMonitor."""
    rendered = world.cluster.helm(
        *("template", "sovereign-gpu", CHART, "--namespace", NAMESPACE),
        *("--show-only", "templates/servicemonitor.yaml"),
        *("--set", "serviceMonitor.enabled=true", "--set", "serviceMonitor.interval=1s"),
        *("--set", "serviceMonitor.scrapeTimeout=1s"),
    )
    job = prometheus.scrape_config(world.admin, yaml.safe_load(rendered))
    return json.dumps({"scrape_configs": [job]})


def _of_api(world: World, *namespaces: str) -> dict[str, float]:
    """Count from nodes and pods what the operator counts."""
    nodes = [world.admin.get(f"/api/v1/nodes/{name}").must() for name in world.eu]
    offered = sum(int(each["status"]["allocatable"][GPU]) for each in nodes)
    counted = pending = 0
    for namespace in namespaces:
        for each in world.admin.items(f"/api/v1/namespaces/{namespace}/pods"):
            limits = each["spec"]["containers"][0].get("resources", {}).get("limits", {})
            gpus = int(limits.get(GPU, 0))
            pending += gpus if is_gated(each) else 0
            counted += 0 if is_gated(each) else gpus
    return {
        f'sovereign_gpu_pool_allocatable_gpus{{pool="{POOL}"}}': offered,
        f'sovereign_gpu_pool_counted_gpus{{pool="{POOL}"}}': counted,
        f'sovereign_gpu_pool_free_gpus{{pool="{POOL}"}}': offered - counted,
        f'sovereign_gpu_pool_foreign_gpus{{pool="{POOL}"}}': 0,
        f'sum(sovereign_gpu_tenant_used_gpus{{pool="{POOL}"}})': counted,
        "sum(sovereign_gpu_tenant_pending_gpus)": pending,
    }


def test_prometheus_reads_what_the_nodes_offer_and_the_pods_hold(
    world: World, ask: Callable[[str], dict[str, Any]]
) -> None:
    tenant, other = world.tenant("acme", 8), world.tenant("bolt", 8)
    tenant.submit(pod("five", gpus=5), pod("three", gpus=3), pod("none"))
    other.submit(pod("six", gpus=6))
    for owner, name in ((tenant, "five"), (tenant, "three"), (tenant, "none"), (other, "six")):
        owner.running(name)
    other.submit(pod("waits", gpus=4))
    other.told("waits", "QuotaExhausted")
    expected = _of_api(world, tenant.namespace, other.namespace)
    assert expected["sum(sovereign_gpu_tenant_pending_gpus)"] == 4

    def read() -> dict[str, float]:
        found = {}
        for query in expected:
            result = ask(query)["data"]["result"]
            found[query] = float(result[0]["value"][1]) if len(result) == 1 else float("nan")
        return found

    wait_for(lambda: read() == expected, SECONDS, f"Prometheus to say {expected}")
    # Leader and standby are scraped, and one of them alone says what the books say.
    assert prometheus.value(ask(f'sum(up{{namespace="{NAMESPACE}",pod!=""}})')) == 2
    assert prometheus.value(ask("sum(sovereign_gpu_leader)")) == 1

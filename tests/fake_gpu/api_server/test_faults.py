"""Faults written into the ConfigMap, down to what the kubelet and Prometheus see of them."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from rig.fake_gpu import server
from rig.fake_gpu.names import UTILISATION
from rig.fake_gpu.scenario import Scenario
from tests.fake_gpu.kubelet import GPU, Kubelet, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client.samples import Sample

    from tests.fake_gpu.api_server.stack import Part, Stack
    from tests.fake_gpu.conftest import Node

START_SECONDS = 60.0
UTIL = "DCGM_FI_DEV_GPU_UTIL"


async def test_faults_come_and_go_with_the_config_map(
    stack: Stack, name: str, node: Node, start_plugin: Callable[[], Part]
) -> None:
    async with Kubelet(node.plugins) as kubelet:
        plugin = start_plugin()
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs", START_SECONDS)
        await until(lambda: plugin.said("registered"), "the plugin to say so")
        stack.tell(name, faults=[{"gpu": 2, "xid": 79}, {"gpu": 6}])
        await until(lambda: kubelet.allocatable() == 6, "two faults")
        stack.write(name, "faults: [{gpu: 2}")
        await until(lambda: plugin.said("not YAML"), "a complaint")
        assert kubelet.allocatable() == 6
        stack.write(name, None)
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs again")
        assert kubelet.registrations == [GPU]


async def test_a_crash_leaves_everything_behind_and_the_next_life_mends_it(
    stack: Stack, name: str, node: Node, start_plugin: Callable[[], Part]
) -> None:
    stack.tell(name, crash="before")
    async with Kubelet(node.plugins) as kubelet:
        plugin = start_plugin()
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs", START_SECONDS)
        await kubelet.admit("a/pod", 2)
        ids = list(kubelet.devices())
        stack.tell(name, crash="now")
        await until(lambda: plugin.exit_code is not None, "the crash")
        assert plugin.exit_code == 70
        await until(lambda: kubelet.allocatable() == 0, "the kubelet to see it")
        (left,) = node.plugins.glob("fake-*")
        assert server.identity(left) is not None
        # The word that killed it still stands there.
        plugin = start_plugin()
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs again", START_SECONDS)
        assert list(kubelet.devices()) == ids
        await kubelet.admit("a/rest", 6)
        assert not set(kubelet.held["a/rest"][GPU]) & set(kubelet.held["a/pod"][GPU])


async def test_a_kill_is_no_worse_than_a_crash_and_an_end_is_clean(
    node: Node, start_plugin: Callable[[], Part]
) -> None:
    async with Kubelet(node.plugins) as kubelet:
        plugin = start_plugin()
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs", START_SECONDS)
        assert plugin.end(signal.SIGKILL) == -signal.SIGKILL
        await until(lambda: kubelet.allocatable() == 0, "the kubelet to see it")
        plugin = start_plugin()
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs again", START_SECONDS)
        assert plugin.end() == 0
        assert plugin.said("ended")
        assert not list(node.plugins.glob("fake-*"))
        await until(lambda: kubelet.allocatable() == 0, "the end")


async def test_probes_tell_life_from_readiness(
    node: Node, start_plugin: Callable[[], Part]
) -> None:
    async with Kubelet(node.plugins) as kubelet:
        plugin = start_plugin()
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs", START_SECONDS)
        assert plugin.page("/healthz")[0] == 200
        await until(lambda: plugin.ready, "readiness")
        await kubelet.die()
        await until(lambda: plugin.page("/readyz")[0] == 503, "unreadiness")
        assert plugin.page("/healthz")[0] == 200


# --- the exporter -----------------------------------------------------------------------------
async def scrape(exporter: Part, metric: str = UTIL) -> dict[str, Sample]:
    """Return one metric of every GPU, by index."""
    # Not in this thread: the exporter asks the kubelet, which lives in it.
    _, text = await asyncio.to_thread(exporter.page, "/metrics")
    return {
        sample.labels["gpu"]: sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == metric
    }


async def scraped(
    exporter: Part, condition: Callable[[dict[str, Sample]], bool], what: str
) -> dict[str, Sample]:
    """Scrape until a condition holds for what was scraped."""
    async with asyncio.timeout(START_SECONDS):
        while not ((found := await scrape(exporter)) and condition(found)):
            assert exporter.exit_code is None, what
    return found


def pod(name: str, node: str, annotations: dict[str, str]) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "train"}]},
    }


async def test_gpus_are_as_busy_as_the_pods_that_hold_them_say(
    stack: Stack, name: str, namespace: str, node: Node, start: Callable[..., Part]
) -> None:
    stack.node(name)
    stack.tell(name, utilisation="40", faults=[{"gpu": 7, "xid": 79}], hostnameLabel="hostname")
    pods = f"/api/v1/namespaces/{namespace}/pods"
    gpus = Scenario().machine(name).gpus
    async with Kubelet(node.plugins, node.pod_resources) as kubelet:
        for index, (word, said) in enumerate(
            {"train": "95", "idle": "0", "mute": None, "odd": "a lot"}.items()
        ):
            annotations = {UTILISATION: said} if said else {}
            stack.admin.create(pods, pod(word, name, annotations)).must()
            kubelet.held[f"{namespace}/{word}"] = {GPU: [gpus[index].uuid]}
        exporter = start("exporter", "--pod-resources", str(node.pod_resources))
        found = await scraped(exporter, lambda now: now["0"].value == 95, "the busy pod")
        values = {gpu: sample.value for gpu, sample in found.items()}
        assert values == {"0": 95, "1": 0, "2": 40, "3": 40, "4": 0, "5": 0, "6": 0, "7": 0}
        assert found["0"].labels["pod"] == "train"
        assert found["0"].labels["namespace"] == namespace
        assert found["1"].labels["pod"] == "idle"
        assert "pod" not in found["4"].labels
        assert found["0"].labels["hostname"] == name
        assert (await scrape(exporter, "DCGM_FI_DEV_XID_ERRORS"))["7"].value == 79
        assert exporter.said("'a lot' is not LEVEL")
        # A pod changes its mind; then the kubelet is gone, and with it who has what.
        change = {"metadata": {"annotations": {UTILISATION: "10"}}}
        stack.admin.patch(f"{pods}/train", change).must()
        await scraped(exporter, lambda now: now["0"].value == 10, "the change")
        await kubelet.die()
        await scraped(exporter, lambda now: "pod" not in now["0"].labels, "nobody's GPUs")

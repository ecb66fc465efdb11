"""What a kubelet gets to see of the plugin while nothing goes wrong on either side."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from rig.fake_gpu.wire import channel, deviceplugin, plugin_services
from tests.fake_gpu.kubelet import GPU, Kubelet, UnexpectedAdmissionError, until

if TYPE_CHECKING:
    from tests.fake_gpu.conftest import Node, Running

SLICE = "nvidia.com/mig-1g.23gb"


def numa(kubelet: Kubelet, ids: list[str]) -> list[int]:
    return [kubelet.devices()[each].topology.nodes[0].ID for each in ids]


async def test_all_gpus_are_offered_at_once_healthy_and_with_their_numa_nodes(node: Node) -> None:
    async with Kubelet(node.plugins) as kubelet, node.plugin():
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
        assert kubelet.endpoints[GPU].lists == 1
        assert kubelet.registrations == [GPU]
        assert numa(kubelet, list(kubelet.devices())) == [0, 0, 0, 0, 1, 1, 1, 1]
        for each in kubelet.devices():
            assert each.startswith("GPU-")
            assert uuid.UUID(each.removeprefix("GPU-")).version == 5


async def test_ids_depend_on_the_node_and_the_index_and_on_nothing_else(node: Node) -> None:
    async with Kubelet(node.plugins) as kubelet:
        async with node.plugin():
            await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
            first = list(kubelet.devices())
        async with node.plugin(product="NVIDIA-H200", gpus=4):
            await until(lambda: kubelet.allocatable() == 4, "4 GPUs")
            assert list(kubelet.devices()) == first[:4]


async def test_a_container_sees_its_devices_and_runtimes_can_look_them_up(node: Node) -> None:
    async with Kubelet(node.plugins) as kubelet, node.plugin():
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
        answer = await kubelet.admit("a/pod", 2)
        held = kubelet.held["a/pod"][GPU]
        assert answer.envs == {"NVIDIA_VISIBLE_DEVICES": ",".join(held)}
        named = [each.name for each in answer.cdi_devices]
        assert named == [f"k8s.device-plugin.nvidia.com/gpu={each}" for each in held]
        (file,) = node.cdi.iterdir()
        written = json.loads(file.read_text())
        known = {f"{written['kind']}={each['name']}" for each in written["devices"]}
        assert set(named) <= known


async def test_pods_get_gpus_of_one_numa_node_and_leave_the_other_whole(node: Node) -> None:
    async with Kubelet(node.plugins) as kubelet, node.plugin():
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
        await kubelet.admit("a/one", 1)
        await kubelet.admit("a/two", 2)
        await kubelet.admit("a/four", 4)
        assert numa(kubelet, kubelet.held["a/one"][GPU]) == [0]
        assert numa(kubelet, kubelet.held["a/two"][GPU]) == [0, 0]
        assert numa(kubelet, kubelet.held["a/four"][GPU]) == [1, 1, 1, 1]
        with pytest.raises(UnexpectedAdmissionError):
            await kubelet.admit("a/more", 2)


async def ask(node: Node, method: str, **fields: Any) -> Any:
    (socket,) = node.plugins.glob("fake-nvidia-*.sock")
    async with channel(socket) as connection:
        stub = plugin_services.DevicePluginStub(connection)
        kind = {
            "Allocate": "AllocateRequest",
            "GetPreferredAllocation": "PreferredAllocationRequest",
        }
        request = getattr(deviceplugin, kind[method])(**fields)
        return await getattr(stub, method)(request, timeout=5)


async def test_requests_that_make_no_sense_are_refused(node: Node) -> None:
    async with Kubelet(node.plugins) as kubelet, node.plugin():
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
        first, second = list(kubelet.devices())[:2]
        for ids in (["GPU-of-another-node"], [first, first]):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(node, "Allocate", container_requests=[{"devices_ids": ids}])
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert ids[0] in str(refused.value.details())
        # The same device for two containers of a pod is one device too few.
        both = [{"devices_ids": [first]}, {"devices_ids": [first]}]
        with pytest.raises(grpc.aio.AioRpcError, match="named twice"):
            await ask(node, "Allocate", container_requests=both)
        impossible = {"available_deviceIDs": [first], "must_include_deviceIDs": [second]}
        for extra, size in ((impossible, 1), ({"available_deviceIDs": [first]}, 2)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(
                    node,
                    "GetPreferredAllocation",
                    container_requests=[{**extra, "allocation_size": size}],
                )
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_every_container_of_a_request_is_answered_in_order(node: Node) -> None:
    async with Kubelet(node.plugins) as kubelet, node.plugin():
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
        ids = list(kubelet.devices())
        wanted = [[ids[5]], [], [ids[1], ids[0]]]
        answer = await ask(
            node, "Allocate", container_requests=[{"devices_ids": each} for each in wanted]
        )
        got = [each.envs["NVIDIA_VISIBLE_DEVICES"] for each in answer.container_responses]
        assert got == [",".join(each) for each in wanted]


async def test_a_fault_takes_one_gpu_away_and_its_end_brings_it_back(node: Node) -> None:
    async with Kubelet(node.plugins) as kubelet, node.plugin() as plugin:
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
        third = list(kubelet.devices())[3]
        plugin.tell(faults=[{"gpu": 3}])
        await until(lambda: kubelet.allocatable() == 7, "the fault to be seen")
        assert kubelet.capacity() == 8
        assert kubelet.devices()[third].health == "Unhealthy"
        plugin.tell(faults=[{"gpu": 3, "xid": 79}, {"gpu": 4, "xid": 48}])
        await until(lambda: kubelet.allocatable() == 6, "two faults")
        # An application's own error says nothing about the GPU.
        plugin.tell(faults=[{"gpu": 3, "xid": 43}])
        await until(lambda: kubelet.allocatable() == 8, "all GPUs to have recovered")
        assert kubelet.registrations == [GPU]


async def test_the_last_of_many_changes_is_never_lost(node: Node) -> None:
    async with Kubelet(node.plugins) as kubelet, node.plugin() as plugin:
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
        for number in range(500):
            plugin.tell(faults=[{"gpu": each} for each in range(number % 7)])
        plugin.tell(faults=[{"gpu": 0}, {"gpu": 7}])
        await until(lambda: kubelet.allocatable() == 6, "the last change")
        assert kubelet.registrations == [GPU]


async def partitioned(kubelet: Kubelet, plugin: Running) -> None:
    plugin.tell(mig=[{"devices": [0, 5], "profiles": {"1g.23gb": 7}}])
    await until(lambda: kubelet.allocatable(SLICE) == 14, "14 slices")
    await until(lambda: kubelet.allocatable() == 6, "6 whole GPUs")


async def test_partitioned_gpus_are_resources_of_their_own(node: Node) -> None:
    async with Kubelet(node.plugins) as kubelet, node.plugin() as plugin:
        await partitioned(kubelet, plugin)
        answer = await kubelet.admit("a/slices", 2, SLICE)
        ids = answer.envs["NVIDIA_VISIBLE_DEVICES"].split(",")
        assert all(each.startswith("MIG-") for each in ids)
        # A fault of the GPU takes all its slices, and no other's.
        plugin.tell(
            mig=[{"devices": [0, 5], "profiles": {"1g.23gb": 7}}], faults=[{"gpu": 5}, {"gpu": 1}]
        )
        await until(lambda: kubelet.allocatable(SLICE) == 7, "7 slices")
        await until(lambda: kubelet.allocatable() == 5, "5 whole GPUs")


async def test_partitions_that_are_given_up_are_gone(node: Node) -> None:
    async with Kubelet(node.plugins) as kubelet, node.plugin() as plugin:
        await partitioned(kubelet, plugin)
        plugin.tell()
        await until(lambda: kubelet.allocatable() == 8, "8 whole GPUs")
        await until(lambda: kubelet.allocatable(SLICE) == 0, "no slices")
        await until(lambda: len(list(node.plugins.glob("fake-*"))) == 1, "one socket")
        assert plugin.plugin.ready


async def test_media_extensions_have_a_name_that_is_allowed_in_resources(node: Node) -> None:
    layout = [{"devices": "all", "profiles": {"1g.23gb+me": 1, "1g.23gb": 6}}]
    async with Kubelet(node.plugins) as kubelet, node.plugin(mig=layout):
        await until(lambda: kubelet.allocatable(f"{SLICE}.me") == 8, "8 slices with media engines")
        await until(lambda: kubelet.allocatable(SLICE) == 48, "48 slices")
        assert kubelet.capacity() == 0

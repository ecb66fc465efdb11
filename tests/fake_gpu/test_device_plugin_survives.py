"""Restarts and deaths on either side: within ten seconds everything is as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rig.fake_gpu import server
from tests.fake_gpu.kubelet import GPU, Kubelet, until

if TYPE_CHECKING:
    from tests.fake_gpu.conftest import Node

SLICE = "nvidia.com/mig-2g.45gb"


async def test_a_plugin_that_is_first_waits_for_the_kubelet(node: Node) -> None:
    async with node.plugin() as plugin:
        await until(lambda: list(node.plugins.glob("fake-*")), "the plugin to serve")
        assert plugin.plugin.alive
        assert not plugin.plugin.ready
        async with Kubelet(node.plugins) as kubelet:
            await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
            await until(lambda: plugin.plugin.ready, "the plugin to be ready")


async def test_after_a_restart_of_the_kubelet_pods_still_hold_what_they_held(node: Node) -> None:
    layout = [{"devices": [7], "profiles": {"2g.45gb": 3}}]
    async with node.plugin(mig=layout, faults=[{"gpu": 1}]):
        async with Kubelet(node.plugins) as kubelet:
            await until(lambda: kubelet.allocatable() == 6, "6 GPUs")
            await until(lambda: kubelet.allocatable(SLICE) == 3, "3 slices")
            await kubelet.admit("a/pod", 2)
            await kubelet.admit("a/slice", 1, SLICE)
            before = kubelet.held
        async with Kubelet(node.plugins) as kubelet:
            assert kubelet.capacity() == 0
            await until(lambda: kubelet.allocatable() == 6, "6 GPUs again")
            await until(lambda: kubelet.allocatable(SLICE) == 3, "3 slices again")
            assert kubelet.held == before
            assert set(before["a/pod"][GPU]) <= set(kubelet.devices())
            assert set(before["a/slice"][SLICE]) <= set(kubelet.devices(SLICE))
            await kubelet.admit("a/next", 4)
            assert not set(kubelet.held["a/next"][GPU]) & set(before["a/pod"][GPU])


async def test_after_its_own_restart_the_devices_are_the_same(node: Node) -> None:
    async with Kubelet(node.plugins) as kubelet:
        async with node.plugin():
            await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
            await kubelet.admit("a/pod", 3)
            ids = list(kubelet.devices())
        await until(lambda: kubelet.allocatable() == 0, "the GPUs to be gone")
        assert kubelet.capacity() == 8
        async with node.plugin():
            await until(lambda: kubelet.allocatable() == 8, "8 GPUs again")
            assert list(kubelet.devices()) == ids
            await kubelet.admit("a/rest", 5)
            assert not set(kubelet.held["a/pod"][GPU]) & set(kubelet.held["a/rest"][GPU])


async def test_the_end_is_told_and_leaves_no_socket(node: Node) -> None:
    async with Kubelet(node.plugins) as kubelet, node.plugin() as plugin:
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
        await plugin.end()
        assert not list(node.plugins.glob("fake-*"))
        await until(lambda: kubelet.allocatable() == 0, "the GPUs to be gone")
        assert kubelet.capacity() == 8


async def test_a_dead_kubelet_leaves_a_socket_that_deceives_nobody(node: Node) -> None:
    async with node.plugin() as plugin:
        kubelet = Kubelet(node.plugins)
        async with kubelet:
            await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
            # A hard link keeps the socket's file where the end of the server removes it.
            node.plugins.joinpath("kept").hardlink_to(kubelet.socket)
        node.plugins.joinpath("kept").rename(kubelet.socket)
        await until(lambda: not plugin.plugin.ready, "the death to be seen")
        async with Kubelet(node.plugins) as kubelet:
            await until(lambda: kubelet.allocatable() == 8, "8 GPUs again")


async def test_its_own_socket_is_made_anew_when_somebody_deletes_it(node: Node) -> None:
    async with Kubelet(node.plugins) as kubelet, node.plugin():
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
        (socket,) = node.plugins.glob("fake-*")
        old = server.identity(socket)
        socket.unlink()
        await until(lambda: server.identity(socket) not in {None, old}, "a new socket")
        await until(lambda: kubelet.registrations == [GPU, GPU], "a second registration")
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs again")
        await kubelet.admit("a/pod", 8)


async def test_a_kubelet_that_refuses_is_asked_again(node: Node) -> None:
    async with Kubelet(node.plugins) as kubelet:
        kubelet.refuse = 2
        async with node.plugin():
            await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
            assert len(kubelet.registrations) == 3


async def test_what_one_kubelet_refused_does_not_delay_the_next(node: Node) -> None:
    async with node.plugin():
        for _ in range(3):
            async with Kubelet(node.plugins) as kubelet:
                kubelet.refuse = 3
                await until(lambda: kubelet.allocatable() == 8, "8 GPUs", 8)


async def test_a_kubelet_that_stops_listening_is_registered_with_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "STREAM_SECONDS", 0.5)
    async with Kubelet(node.plugins) as kubelet, node.plugin() as plugin:
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
        await kubelet.endpoints[GPU].close()
        await until(lambda: not plugin.plugin.ready, "silence")
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs again")


async def test_two_plugins_on_one_node_do_not_fight(node: Node) -> None:
    async with Kubelet(node.plugins) as kubelet, node.plugin() as first:
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
        async with node.plugin() as second:
            assert not second.plugin.ready
            assert first.plugin.ready
            await first.end()
            await until(lambda: second.plugin.ready, "the second to take over")
            assert kubelet.registrations == [GPU, GPU]
            assert kubelet.allocatable() == 8


async def test_sockets_of_an_earlier_life_are_cleared_away(node: Node) -> None:
    node.plugins.joinpath("fake-nvidia-mig-9g.sock").touch()
    node.plugins.joinpath("other-vendor.sock").touch()
    async with Kubelet(node.plugins) as kubelet, node.plugin():
        await until(lambda: kubelet.allocatable() == 8, "8 GPUs")
        left = {each.name for each in node.plugins.iterdir()}
        assert left == {"kubelet.sock", "fake-nvidia-gpu.sock", "other-vendor.sock"}

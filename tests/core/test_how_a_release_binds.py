"""Which nodes a release names: one, a few, or none but the pool."""

from __future__ import annotations

from typing import Any

import pytest

from sovereign_gpu.core.model import PatchShape, Placement
from tests.core.build import engine, munich, node, pod, put


def test_only_a_pod_that_would_be_replaced_and_follows_nobody_is_pinned() -> None:
    cases = {(True, False): True, (True, True): False, (False, False): False, (False, True): False}
    for (controlled, follows), pinned in cases.items():
        made = engine(node())
        (release,) = put(made, pod(1, controlled=controlled, follows_others=follows))
        assert release.pinned is pinned


def test_a_bare_pod_is_left_a_few_nodes_that_take_it() -> None:
    nodes = [node(f"n{n}") for n in range(6)]
    full = pod(8, gates=(), node="n5")
    made = engine(*nodes)
    (release,) = put(made, full, pod(1))
    assert len({release.node, *release.spares}) == 4
    assert "n5" not in release.spares


@pytest.mark.parametrize(
    "fields",
    [
        {"controlled": True},
        {"follows_others": True},
        {"shape": PatchShape(required=((True, False),))},
    ],
)
def test_others_are_left_to_kube_scheduler_or_pinned(fields: dict[str, Any]) -> None:
    made = engine(node("n1"), node("n2"))
    (release,) = put(made, pod(1, **fields))
    assert release.spares == ()


@pytest.mark.parametrize("mode", [Placement.PREFERRED, Placement.DELEGATE])
@pytest.mark.parametrize("controlled", [True, False])
def test_other_modes_than_pack_tie_no_pod_to_nodes_and_count_on_one_all_the_same(
    mode: Placement, *, controlled: bool
) -> None:
    made = engine(node("n1"), node("n2"), pools=(munich(placement=mode),))
    (release,) = put(made, pod(8, controlled=controlled))
    assert (release.pinned, release.spares, release.placement) == (False, (), mode)
    assert made.floors["munich"].seats[release.node].free.gpus == 0


@pytest.mark.parametrize("mode", Placement)
def test_no_mode_releases_a_pod_that_no_single_node_has_room_for(mode: Placement) -> None:
    made = engine(node("n1", gpus=4), node("n2", gpus=4), pools=(munich(placement=mode),))
    releases = put(made, pod(3), pod(3), pod(2))
    assert [release.pod.demand.gpus for release in releases] == [3, 3]


def test_pods_fill_a_used_node_before_an_empty_one() -> None:
    made = engine(node("n1"), node("n2"), node("n3"))
    made.put_pod(pod(3, "gpu-operator", gates=(), node="n2"))
    assert [r.node for r in put(made, pod(2), pod(3))] == ["n2", "n2"]


def test_cpu_and_memory_are_placed_by_as_well() -> None:
    made = engine(node("n1", cpu=4000), node("n2", memory=10), node("n3"))
    (release,) = put(made, pod(1, cpu=5000, memory=11))
    assert release.node == "n3"

"""Which devices are chosen: close together, and the larger free place left whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.catalogue import PRODUCTS
from rig.fake_gpu.allocation import preferred
from rig.fake_gpu.machine import Device, build

MACHINE = build("dgx-0", PRODUCTS["NVIDIA-B200"], 8, {})
DEVICES = {each.id: each for each in MACHINE.resources()["nvidia.com/gpu"]}
IDS = list(DEVICES)


@pytest.mark.parametrize(
    ("free", "required", "size", "chosen"),
    [
        pytest.param(range(8), [], 1, [0], id="lowest index"),
        pytest.param(range(8), [], 4, [0, 1, 2, 3], id="one NUMA node"),
        pytest.param([0, 1, 2, 4, 5, 6, 7], [], 4, [4, 5, 6, 7], id="the node that has enough"),
        pytest.param([1, 4, 5, 6, 7], [], 1, [1], id="the node with least to spare"),
        pytest.param([1, 4, 5, 6], [], 4, [4, 5, 6, 1], id="most from one node if none has all"),
        pytest.param(range(8), [5], 3, [5, 4, 6], id="beside what is required"),
        pytest.param([0, 1, 2, 3, 6, 7], [6], 4, [6, 7, 0, 1], id="then from the other node"),
        pytest.param(range(8), [], 8, list(range(8)), id="all"),
        pytest.param([2], [2], 1, [2], id="nothing to choose"),
    ],
)
def test_gpus_close_together_are_chosen(
    free: list[int], required: list[int], size: int, chosen: list[int]
) -> None:
    ids = [IDS[each] for each in free]
    found = preferred(DEVICES, ids, [IDS[each] for each in required], size)
    assert found == [IDS[each] for each in chosen]


def test_slices_of_one_gpu_are_used_up_first() -> None:
    slices = {
        f"MIG-{gpu}-{number}": Device(f"MIG-{gpu}-{number}", gpu, gpu // 4)
        for gpu in (5, 4)
        for number in (2, 1)
    }
    assert preferred(slices, list(slices), [], 3) == ["MIG-4-1", "MIG-4-2", "MIG-5-1"]


@given(st.data())
def test_a_choice_is_always_of_the_asked_size_from_what_is_free(data: st.DataObject) -> None:
    free = data.draw(st.lists(st.sampled_from(IDS), min_size=1, unique=True))
    required = data.draw(st.lists(st.sampled_from(free), unique=True))
    size = data.draw(st.integers(len(required), len(free)))
    chosen = preferred(DEVICES, free, required, size)
    assert len(chosen) == len(set(chosen)) == size
    assert set(required) <= set(chosen) <= set(free)
    on_one_node = [
        numa
        for numa in (0, 1)
        if sum(DEVICES[each].numa == numa for each in free) >= size
        and all(DEVICES[each].numa == numa for each in required)
    ]
    if on_one_node and size:
        assert len({DEVICES[each].numa for each in chosen}) == 1

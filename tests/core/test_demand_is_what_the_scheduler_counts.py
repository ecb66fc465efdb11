"""A pod's demand against the peak of its life, second by second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_gpu.core.demand import MOST_GPUS, Requests, pod_demand, resources
from sovereign_gpu.core.model import Resources
from sovereign_gpu.names import GPU_RESOURCE

_AMOUNTS = {
    GPU_RESOURCE: st.integers(0, 8).map(str),
    "cpu": st.integers(0, 9).map(lambda n: f"{n * 250}m"),
    "memory": st.integers(0, 9).map(lambda n: f"{n}Mi"),
    "ephemeral-storage": st.just("1Gi"),
}
_requests = st.fixed_dictionaries({}, optional=_AMOUNTS)


def life(
    containers: list[Requests], init_containers: list[tuple[Requests, bool]]
) -> list[list[Requests]]:
    """Return what runs beside each other in each phase of the pod's life."""
    phases: list[list[Requests]] = []
    sidecars: list[Requests] = []
    for requests, restarts_always in init_containers:
        phases.append([*sidecars, requests])
        if restarts_always:
            sidecars.append(requests)
    return [*phases, [*sidecars, *containers]]


def peak(phases: list[list[Requests]]) -> tuple[int, ...]:
    totals = [[resources(requests) for requests in phase] for phase in phases]
    return tuple(max(sum(each[part] for each in phase) for phase in totals) for part in range(3))


@given(
    st.lists(_requests, max_size=4),
    st.lists(st.tuples(_requests, st.booleans()), max_size=5),
    st.none() | st.fixed_dictionaries({}, optional={k: _AMOUNTS[k] for k in ("cpu", "memory")}),
    st.none() | _requests,
)
def test_demand_is_the_peak_of_all_phases(
    containers: list[Requests],
    init_containers: list[tuple[Requests, bool]],
    whole_pod: Requests | None,
    overhead: Requests | None,
) -> None:
    gpus, cpu, memory = peak(life(containers, init_containers))
    stated = resources(whole_pod or {})
    if "cpu" in (whole_pod or {}):
        cpu = stated.cpu
    if "memory" in (whole_pod or {}):
        memory = stated.memory
    extra = resources(overhead or {})

    found = pod_demand(containers, init_containers, whole_pod=whole_pod, overhead=overhead)

    assert found == Resources(gpus + extra.gpus, cpu + extra.cpu, memory + extra.memory)


def gpus(count: int) -> Requests:
    return {GPU_RESOURCE: str(count)}


@pytest.mark.parametrize(
    ("containers", "init_containers", "expected"),
    [
        ([gpus(1), gpus(2)], [], 3),
        ([gpus(1)], [(gpus(4), False)], 4),
        ([gpus(4)], [(gpus(1), False)], 4),
        ([gpus(1)], [(gpus(2), True)], 3),
        ([gpus(1)], [(gpus(2), True), (gpus(4), False)], 6),
        ([gpus(1)], [(gpus(4), False), (gpus(2), True)], 4),
        ([], [], 0),
    ],
)
def test_init_containers_and_sidecars(
    containers: list[Requests], init_containers: list[tuple[Requests, bool]], expected: int
) -> None:
    assert pod_demand(containers, init_containers).gpus == expected


def test_gpus_stated_for_the_whole_pod_replace_the_sum() -> None:
    assert pod_demand([gpus(1)], whole_pod=gpus(2)) == Resources(2, 0, 0)


def test_resources_that_are_not_placed_by_are_left_out() -> None:
    assert resources({"ephemeral-storage": "1Ti", "nvidia.com/mig-1g.5gb": "1"}) == Resources()


def test_absurd_numbers_of_gpus_stay_summable() -> None:
    everything = resources({GPU_RESOURCE: "9223372036854775807"})
    assert everything.gpus == MOST_GPUS
    assert 10_000 * 100 * everything.gpus < 2**53
    assert resources({GPU_RESOURCE: "1250"}).gpus == 1250

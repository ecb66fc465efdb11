"""What one tenant can do to the operator's time and memory by the shape of its pods.

The limits are far above what a small machine needs and far below what walking over all nodes for
each pod takes; `python -m bench.engine` prints the real figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from bench import big_cluster as big
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Pod
from tests.core.build import plan, put

PODS = 4000


def of_many_affinities(number: int) -> Pod:
    return big.pod(number, constraints=big.on_racks_other_than(number))


def of_many_sizes(number: int) -> Pod:
    return big.pod(number, cpu=1000 + number)


def that_fit_nowhere(number: int) -> Pod:
    return big.pod(
        number, memory=(4096 + number) * big.GIB, constraints=big.on_racks_other_than(number)
    )


@pytest.mark.parametrize("shape", [of_many_affinities, of_many_sizes, that_fit_nowhere])
def test_thousands_of_shapes_do_not_stop_the_operator(shape: Callable[[int], Pod]) -> None:
    made = big.engine(guaranteed=big.PODS)
    began = time.process_time()
    releases = put(made, *(shape(number) for number in range(PODS)))
    assert time.process_time() - began < 10
    assert len(releases) == (0 if shape is that_fit_nowhere else PODS)


def full_and_blocked() -> tuple[Engine, list[Pod]]:
    """A full pool for which every tenant has quota left and pods of many shapes waiting."""
    made = big.engine(guaranteed=big.PODS, node_count=PODS // big.GPUS_PER_NODE)
    running = [release.pod for release in put(made, *(big.pod(n) for n in range(PODS)))]
    for pod in running:
        made.put_pod(big.released(pod, made.ledger.charges[pod.uid].node, bound=True))
    assert put(made, *(of_many_sizes(n) for n in range(PODS, 2 * PODS))) == []
    return made, running


def test_a_pod_that_joins_a_line_that_stands_asks_nobody() -> None:
    made, _ = full_and_blocked()
    made.put_pod(of_many_sizes(3 * PODS))
    assert not made.due


def test_a_notice_on_a_waiting_pod_asks_nobody() -> None:
    made, _ = full_and_blocked()
    waiting = next(iter(made.queues.values())).lines
    for line in waiting.values():
        for pod in tuple(line.members.values()):
            made.put_pod(pod)
    assert not made.due


def test_a_pod_that_is_bound_where_it_was_planned_asks_nobody() -> None:
    made, running = full_and_blocked()
    made.remove_pod(running[0].uid)
    (release,) = plan(made)
    made.put_pod(big.released(release.pod, release.node, bound=False))
    made.put_pod(big.released(release.pod, release.node, bound=True))
    assert not made.due

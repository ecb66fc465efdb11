"""Lines of equal pods, served by priority and then by age."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sovereign_gpu.core.model import Pod
from sovereign_gpu.core.queue import Queue
from tests.core.build import pod


def firsts(queue: Queue) -> list[str]:
    """Take the first of all lines until nobody is left."""
    order = []
    while len(queue):
        heads = [(line.key(), line) for line in queue.lines.values()]
        _, line = min((key, line) for key, line in heads if key is not None)
        first = line.first()
        assert first is not None
        order.append(first.uid)
        queue.remove(first.uid)
    return order


_pods = st.lists(
    st.tuples(st.integers(0, 5), st.integers(-1, 1), st.integers(0, 2)), max_size=15
).map(
    lambda rows: [
        pod(gpus, uid=f"{n:02}", created=float(age), priority=priority)
        for n, (age, priority, gpus) in enumerate(rows)
    ]
)


@given(_pods, st.randoms(use_true_random=False), st.sets(st.integers(0, 14)))
def test_order_is_priority_then_age_then_uid_whatever_came_and_went(
    pods: list[Pod],
    shuffled: object,
    gone: set[int],
) -> None:
    queue = Queue()
    arriving = list(pods)
    shuffled.shuffle(arriving)  # type: ignore[attr-defined]
    for each in arriving:
        queue.add(each)
    for number in sorted(gone & set(range(len(pods)))):  # some leave, and come again
        assert queue.remove(pods[number].uid)
        if number % 2:
            queue.add(pods[number])
    left = [p for n, p in enumerate(pods) if n not in gone or n % 2]
    expected = sorted(left, key=lambda p: (-p.priority, p.created, p.uid))
    assert firsts(queue) == [p.uid for p in expected]
    assert (queue.lines, queue.sizes) == ({}, {})


def test_a_pod_that_changes_shape_changes_its_line() -> None:
    queue = Queue()
    waiting = pod(1)
    queue.add(waiting)
    queue.add(replace(waiting, priority=7))
    assert len(queue) == 1
    assert [shape.priority for shape in queue.lines] == [7]
    assert queue.line_of(waiting.uid) is next(iter(queue.lines.values()))


def test_told_twice_a_pod_stands_in_line_once_with_its_newest_state() -> None:
    queue = Queue()
    waiting = pod(1)
    queue.add(waiting)
    line = queue.add(replace(waiting, message="news"))
    assert (len(queue), line.gpus) == (1, 1)
    first = line.first()
    assert first is not None
    assert first.message == "news"


def test_removing_who_does_not_wait_is_no_harm() -> None:
    queue = Queue()
    assert not queue.remove("nobody")
    assert queue.line_of("nobody") is None


def test_an_emptied_line_has_no_first_and_no_place() -> None:
    queue = Queue()
    waiting = pod(1)
    line = queue.add(waiting)
    queue.remove(waiting.uid)
    assert (line.first(), line.key(), line.wait, line.pool) == (None, None, None, "")

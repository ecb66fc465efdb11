"""The queue to beat, on five jobs worked out by hand."""

from __future__ import annotations

import pytest

from bench import fifo
from bench.traces import Job


def job(number: int, submitted: int, seconds: int, gpus: int) -> Job:
    return Job(submitted, seconds, gpus, "a", number)


def test_all_wait_for_the_first_and_the_rest_of_a_gang_goes_where_it_fits_best() -> None:
    jobs = [
        job(0, 0, 100, 8),  # fills a node
        job(1, 0, 50, 4),  # on the other, which is empty again at 50
        job(2, 10, 30, 12),  # a whole node and four more: not before 100, when both are free
        job(3, 20, 5, 1),  # fits at once, and stands behind
        job(4, 110, 10, 4),  # beside the four, where the one has ended
    ]
    assert fifo.starts(jobs, 2) == {0: 0, 1: 0, 2: 100, 3: 100, 4: 110}


def test_small_jobs_go_to_the_fullest_node_and_leave_the_other_whole() -> None:
    jobs = [job(0, 0, 100, 4), job(1, 1, 100, 4), job(2, 2, 10, 8)]
    assert fifo.starts(jobs, 2) == {0: 0, 1: 1, 2: 2}


def test_a_refused_gang_takes_nothing() -> None:
    hall = fifo.Hall(2)
    (held,) = hall.take(5) or [()]
    assert held == (0, 5)
    assert hall.take(12) is None
    assert hall.take(11) == [(1, 8), (0, 3)]


def test_a_job_that_no_node_could_ever_take_is_an_error() -> None:
    with pytest.raises(ValueError, match="17 GPUs on 2 nodes"):
        fifo.starts([job(0, 0, 1, 17)], 2)

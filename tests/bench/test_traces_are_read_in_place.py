"""Where traces lie is said by who runs a bench, and what is read of them."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from bench import philly, traces
from bench.traces import Job

if TYPE_CHECKING:
    from pathlib import Path

LINES = """timestamp,duration,num_gpus,gpu_time,cluster
2017-10-01 00:00:10,66.0,8,66.0,x
2017-10-01 00:00:10,65.0,8,66.0,x
2017-10-01 00:00:00,10.0,1,10.0,y
2017-10-01 00:00:00,10.0,1,10.0,z
2017-09-30 23:59:59,10.0,1,10.0,x
2017-10-02 00:00:00,10.0,1,10.0,x
"""
BEGIN = 1506816000


def test_no_folder_and_no_file_are_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"--data or {traces.VARIABLE}"):
        traces.find(None, traces.PHILLY)
    with pytest.raises(SystemExit, match="does not exist"):
        traces.find(tmp_path, traces.PHILLY)


def test_jobs_of_the_days_and_clusters_come_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    folder.mkdir()
    (folder / traces.PHILLY).write_bytes(gzip.compress(LINES.encode()))
    path = traces.find(tmp_path, traces.PHILLY)
    assert traces.philly(path, {"x", "y"}, "2017-10-01", "2017-10-02") == [
        Job(BEGIN, 10, 1, "y", 0),
        Job(BEGIN + 10, 65, 8, "x", 1),
        Job(BEGIN + 10, 66, 8, "x", 2),
    ]


def test_waits_and_use_add_up() -> None:
    jobs = [Job(0, 10, 704, "x", 0), Job(0, 30, 352, "x", 1), Job(20, 5, 1, "y", 2)]
    starts = {0: 0, 1: 10, 2: 24}
    assert philly.waits(jobs, starts)["average"] == round(14 / 3, 1)
    assert philly.waits(jobs, starts)["most"] == 10
    # Ten seconds of all and ten of half, until the last submission at 20.
    assert philly.utilisation(jobs, starts) == 0.75


def test_another_order_moves_only_jobs_of_one_second() -> None:
    jobs = [Job(place // 3, place, 1, "x", place) for place in range(30)]
    other = philly.shuffled(jobs, 1)
    assert [job.submitted for job in other] == [job.submitted for job in jobs]
    assert [job.number for job in other] == [job.number for job in jobs]
    assert {job.seconds for job in other} == {job.seconds for job in jobs}
    assert [job.seconds for job in other] != [job.seconds for job in jobs]

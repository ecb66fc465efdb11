"""Published traces, read in place from a folder that is named by whoever runs a bench.

The traces are not part of this tree: their licences are their publishers', and they are large.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

VARIABLE = "SOVEREIGN_GPU_DATA"
"""Environment variable that names the folder with `traces/`."""
PHILLY = "philly_subset.csv.gz"


class Job(NamedTuple):
    """One job of a cluster trace."""

    submitted: int
    """Seconds since the epoch."""
    seconds: int
    """How long it runs."""
    gpus: int
    tenant: str
    number: int
    """Its place in the order of submission."""


def add_option(parser: argparse.ArgumentParser) -> None:
    """Let a command be told where the traces lie."""
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get(VARIABLE),
        help=f"folder that holds traces/, by default the value of {VARIABLE}",
    )


def find(data: Path | None, name: str) -> Path:
    """Return the path of a trace.

    Raises:
        SystemExit: no folder was named, or the trace is not in it.
    """
    if data is None:
        raise SystemExit(f"name the folder that holds traces/{name}: --data or {VARIABLE}")
    path = Path(data) / "traces" / name
    if not path.is_file():
        raise SystemExit(f"{path} does not exist; --data or {VARIABLE} names another folder")
    return path


def philly(path: Path, tenants: Collection[str], first: str, last: str) -> list[Job]:
    """Return the jobs of some virtual clusters of the Philly trace, in order of submission.

    Jobs of one second come the shortest first, since the trace does not say which came first; this
    is the order in which the published waits are met exactly.

    Args:
        path: the subset as prepared for siasosp23/artifacts (Microsoft Philly, CC BY 4.0).
        tenants: the clusters to keep.
        first: day of the first submission, as YYYY-MM-DD.
        last: the day after the last.
    """
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["cluster"] in tenants]
    found = sorted(_job(row) for row in rows if first <= row["timestamp"] < last)
    return [job._replace(number=place) for place, job in enumerate(found)]


def _job(row: Mapping[str, str]) -> Job:
    moment = datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC)
    seconds = int(float(row["duration"]))
    return Job(int(moment.timestamp()), seconds, int(row["num_gpus"]), row["cluster"], 0)

"""One page of figures from the raw results: `python -m bench.plots` writes docs/performance.svg.

Nothing is measured here. A file of `bench/results/` that does not exist leaves its chart out.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import openb, svg

RESULTS = Path(__file__).parent / "results"
OUT = Path(__file__).parents[1] / "docs" / "performance.svg"
_BURST_BAR = 1.4
"""What the product may cost, in times of the floor."""
TITLE = "sovereign-gpu: figures from bench/results"

Rows = list[dict[str, Any]]


def packing(rows: Rows) -> svg.Chart:
    """GPUs that could be allocated on openb."""
    mean = {(row["list"], row["policy"]): row["mean"] for row in rows}
    lists = [name for name in openb.LISTS if (name, "Pack") in mean]
    published = {
        name: dict(zip(openb.LISTS, of, strict=True)) for name, of in openb.PUBLISHED.items()
    }
    return svg.Chart(
        "Packing: % of GPUs allocated when all are asked for (openb)",
        "python -m bench.openb; axis from 85 %; BestFit and FGD as published (ATC '23)",
        ("Pack", *(f"{name}, published" for name in published)),
        tuple(
            (name, (mean[name, "Pack"], *(of[name] for of in published.values()))) for name in lists
        ),
        unit=" %",
        start=85,
    )


def waits(found: Mapping[str, Any]) -> svg.Chart:
    """Waits of all jobs, per way to share."""
    rows = {row["way"]: row["wait"] for row in found["rows"]}
    ways = ("borrowing", "one pool", "hard partitions")
    parts = {"average": "average", "p95": "p95", "p99": "p99", "most": "longest"}
    return svg.Chart(
        "Sharing: seconds of waiting, all jobs (squeezed Philly)",
        "python -m bench.philly; logarithmic; the other two are first come, first served",
        ways,
        tuple((label, tuple(rows[way][part] for way in ways)) for part, label in parts.items()),
        unit=" s",
        logarithmic=True,
        start=100,
    )


def tenants(found: Mapping[str, Any]) -> svg.Chart:
    """Average wait of each tenant, shared and apart."""
    rows = {row["way"]: row["tenants"] for row in found["rows"]}
    ways = ("borrowing", "hard partitions")
    return svg.Chart(
        "Sharing: average wait of each tenant (squeezed Philly)",
        "python -m bench.philly; logarithmic; what each has is its guarantee, or its partition",
        ways,
        tuple(
            (tenant, tuple(rows[way][tenant]["average"] for way in ways))
            for tenant in rows["borrowing"]
        ),
        unit=" s",
        logarithmic=True,
        start=10,
    )


def engine(rows: Rows) -> svg.Chart:
    """What the engine takes, beside its bars."""
    median = {(row["case"], row["figure"]): row["median"] for row in rows}
    groups = (
        ("one change, median", median["one_change", "any change, median, ms"], 0.2),
        ("one change, p99", median["one_change", "any change, p99, ms"], 2),
        ("10,000 shapes wait, p99", median["many_constraints", "any change, p99, ms"], 2),
        ("10,000 from nothing", 1000 * median["from_nothing", "in all, s"], 1000),
    )
    return svg.Chart(
        "Engine: milliseconds to decide, 1,250 nodes, 10,000 pods",
        "python -m bench.engine; logarithmic",
        ("measured", "bar"),
        tuple((label, (value, bar)) for label, value, bar in groups),
        unit=" ms",
        logarithmic=True,
        start=0.001,
    )


def burst(rows: Rows) -> svg.Chart:
    """Time and CPU of a burst, with and without the product."""
    runs = {way: [row for row in rows if row["way"] == way] for way in ("operator", "floor")}

    def median(way: str, *keys: str) -> float:
        values: list[float] = [
            sum(row["cpu_seconds"].get(key, 0.0) for key in keys) if keys else row["seconds"]
            for row in runs[way]
        ]
        return statistics.median(values)

    parts = {
        "CPU: API server": ("kube-apiserver",),
        "CPU: kube-scheduler": ("kube-scheduler",),
        "CPU: etcd, KWOK, KCM": ("etcd", "kwok", "kube-controller-manager"),
    }
    floor = median("floor")
    return svg.Chart(
        f"Burst: seconds for {rows[0]['pods']:,} pods on 1,250 nodes",
        "python -m bench.burst; medians; everything on the same two cores",
        ("product", "floor: no operator, no policies", "bar"),
        (
            ("first to last, time", (median("operator"), floor, _BURST_BAR * floor)),
            *(
                (label, (median("operator", *keys), median("floor", *keys), None))
                for label, keys in parts.items()
            ),
            ("CPU: operator", (median("operator", "operator"), None, None)),
        ),
        unit=" s",
    )


def policies(rows: Mapping[str, Mapping[str, float]]) -> svg.Chart:
    """What the admission policies cost."""
    return svg.Chart(
        "Policies: CPU of the API server per request",
        "python -m bench.policies; dry runs on an otherwise idle server",
        ("with", "without"),
        tuple((kind, (row["with"], row["without"])) for kind, row in rows.items()),
        unit=" ms",
    )


def backlog(rows: Rows) -> svg.Chart:
    """Releases of a backlog, beside a loop that only sends."""
    ways = ("operator", "loop")
    per_second = tuple(
        statistics.median(row["per_second"] for row in rows if row["way"] == way) for way in ways
    )
    return svg.Chart(
        f"Backlog: releases a second, {rows[0]['pods']:,} pods that waited",
        "python -m bench.backlog; the loop sends the same patches and decides nothing",
        ways,
        (("releases a second", per_second),),
    )


def crash(found: Mapping[str, Any]) -> svg.Chart:
    """Most GPUs held at any time, beside the quota."""
    return svg.Chart(
        f"Crashes: most GPUs held at any time, operator killed {found['kills']} times",
        "python -m bench.crash; recounted from the audit log and a watch",
        ("held", "quota"),
        tuple((row["tenant"], (row["most_held"], row["quota"])) for row in found["rows"]),
    )


def failover(found: Mapping[str, Any]) -> svg.Chart:
    """How long releases pause without their leader."""
    ways = {"killed": "kill -9", "ended": "SIGTERM", "upgraded": "rolling update"}
    return svg.Chart(
        "Fail-over: seconds without a release",
        "python -m bench.failover; lease of 15 s; bars 20, 3 and 20 s",
        ("median", "longest"),
        tuple(
            (label, (statistics.median(found[way]), max(found[way]))) for way, label in ways.items()
        ),
        unit=" s",
    )


def pressure(rows: Rows) -> svg.Chart:
    """What is asked of an API server that cannot keep up."""
    return svg.Chart(
        "Pressure: requests and releases a second; 20 pods a second come",
        "python -m bench.pressure; storm: 7 of 10 refused (429), errors: 7 of 10 fail, slow: 4 s",
        ("requests", "releases"),
        tuple(
            (f"{row['at']} s {row['weather']}", (row["requests"], row["releases"]))
            for row in rows
            if row["at"] % 10 == 0
        ),
    )


def drift(found: Mapping[str, Any]) -> svg.Chart:
    """How soon a relabelled node shows in the status."""
    return svg.Chart(
        "Drift: seconds from a node's new label to the status",
        "python -m bench.drift; medians, for so many of the pods; bar 5 s; busy machine",
        ("label to status",),
        tuple(
            (what.partition(", ")[2], (statistics.median(times),))
            for what, times in found["label change to status, s"].items()
            if what.endswith(" pods")
        ),
        unit=" s",
    )


def commands(found: Mapping[str, Any]) -> svg.Chart:
    """How long the commands take."""
    return svg.Chart(
        f"Commands: seconds from start to end, {found['pods']:,} pods",
        "python -m bench.cli; medians of the whole process; bar 1 s; busy machine",
        ("answered by the operator", "operator down: from the cluster"),
        tuple(
            (name, (asked["wall"], found["alone"][name]["wall"]))
            for name, asked in found["asked"].items()
        ),
        unit=" s",
    )


CHARTS: tuple[tuple[str, Callable[[Any], svg.Chart]], ...] = (
    ("openb.json", packing),
    ("philly.json", waits),
    ("philly.json", tenants),
    ("burst-5000-bare.json", burst),
    ("policies.json", policies),
    ("engine.json", engine),
    ("backlog-3000.json", backlog),
    ("drift.json", drift),
    ("cli-10000.json", commands),
    ("crash-2000.json", crash),
    ("failover.json", failover),
    ("pressure.json", pressure),
)


def read(path: Path) -> Any:
    """Return the content of a results file: one JSON value, or one per line."""
    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines()]


def charts(results: Path) -> Sequence[svg.Chart]:
    """Return the charts for which there are results."""
    return [make(read(results / name)) for name, make in CHARTS if (results / name).is_file()]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.plots", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.out.write_text(svg.page(TITLE, charts(options.results)), encoding="utf-8")


if __name__ == "__main__":
    main()

"""How long the engine takes, and how much memory: `python -m bench.engine`.

Every figure is the median of several runs, in CPU time: the engine waits for nothing, so that on an
idle machine it is the time by the clock, and on a busy one the neighbours are not counted. Pods
enter one by one as the informers deliver them, and `plan` is called with the limit that the
controller uses.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from random import Random

from bench import big_cluster as big
from sovereign_gpu.core import drift, report
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Pod, Release

RESULTS = Path(__file__).parent / "results" / "engine.json"
_AHEAD = 64
"""Releases per call of plan, as in the controller."""
_CHANGES = 2000
"""Single changes timed per run."""
_PERCENT = 99


def drain(engine: Engine) -> list[Release]:
    """Plan until nothing more can be released."""
    releases: list[Release] = []
    while engine.due:
        releases += engine.plan(_AHEAD)
    return releases


def settle(engine: Engine, releases: Iterable[Release]) -> None:
    """Tell the engine that its releases landed and were bound where they were planned."""
    for each in releases:
        engine.put_pod(big.released(each.pod, each.node, bound=True))


def fill(engine: Engine, pods: Iterable[Pod]) -> list[Release]:
    """Take in pods and release what can be released."""
    for pod in pods:
        engine.put_pod(pod)
    return drain(engine)


def from_nothing() -> dict[str, float]:
    """Plan 10,000 pods of 100 tenants; everything fits."""
    pods = [big.pod(n) for n in range(big.PODS)]
    gc.collect()
    start = time.process_time()
    engine = big.engine(guaranteed=100)
    read = time.process_time()
    for pod in pods:
        engine.put_pod(pod)
    queued = time.process_time()
    releases = drain(engine)
    end = time.process_time()
    if len(releases) != big.PODS:
        raise SystemExit(f"only {len(releases)} pods were released")
    return {
        "nodes and configuration, s": read - start,
        "queueing, s": queued - read,
        "deciding, s": end - queued,
        "in all, s": end - start,
    }


def _one_of_its_own(number: int) -> Pod:
    cpu, memory = 4000 + number * 7919 % 16_000, 20 * big.GIB + number * 104_729 % (16 * big.GIB)
    return big.pod(number, cpu=cpu, memory=memory)


def nodes_all_different() -> dict[str, float]:
    """Place pods that each ask for other CPU and memory, so that no two nodes are free alike."""
    pods = [_one_of_its_own(n) for n in range(big.PODS)]
    gc.collect()
    start = time.process_time()
    engine = big.engine(guaranteed=2 * big.PODS)
    releases = fill(engine, pods)
    taken = time.process_time() - start
    settle(engine, releases)
    running = [each.pod for each in releases]
    Random(1).shuffle(running)  # noqa: S311 – repeatable on purpose
    for pod in running[: big.PODS // 2]:
        engine.remove_pod(pod.uid)
    arriving = (_one_of_its_own(n) for n in range(20_000, 20_000 + _CHANGES))
    figures = changes(engine, running[big.PODS // 2 :], arriving)
    return {"10,000 pods from nothing, s": taken, **figures}


def restart() -> dict[str, float]:
    """Read a full cluster again: 10,000 bound pods."""
    pods = [big.pod(n) for n in range(big.PODS)]
    bound = [
        big.released(pod, f"gpu-{n // big.GPUS_PER_NODE:04d}", bound=True)
        for n, pod in enumerate(pods)
    ]
    gc.collect()
    start = time.process_time()
    engine = big.engine(guaranteed=100)
    for pod in bound:
        engine.put_pod(pod)
    read = time.process_time()
    known = engine.pools, engine.tenants, engine.policies
    engine.configure(known[0].values(), known[1].values(), known[2].values())
    return {"reading, s": read - start, "configuration anew, s": time.process_time() - read}


def changes(engine: Engine, running: list[Pod], spare: Iterable[Pod]) -> dict[str, float]:
    """Time single changes, each with the planning that it causes."""
    taken: dict[str, list[float]] = {"arrives": [], "is bound": [], "ends": []}
    arriving = iter(spare)

    def timed(kind: str, act: Callable[[], None]) -> list[Release]:
        start = time.process_time()
        act()
        found = engine.plan(_AHEAD)
        taken[kind].append(time.process_time() - start)
        return found

    for number in range(_CHANGES):
        new, old = next(arriving), running[number]
        found = timed("arrives", lambda new=new: engine.put_pod(new))  # type: ignore[misc]
        found += timed("ends", lambda old=old: engine.remove_pod(old.uid))  # type: ignore[misc]
        for each in found:
            shown = big.released(each.pod, each.node, bound=True)
            running.append(shown)
            timed("is bound", lambda shown=shown: engine.put_pod(shown))  # type: ignore[misc]
    every = [second for seconds in taken.values() for second in seconds]
    figures = {
        f"a pod {kind}, median, ms": 1000 * statistics.median(seconds)
        for kind, seconds in taken.items()
    }
    figures["any change, median, ms"] = 1000 * statistics.median(every)
    for kind, seconds in {**taken, "any": every}.items():
        name = f"a pod {kind}" if kind in taken else "any change"
        figures[f"{name}, p99, ms"] = 1000 * statistics.quantiles(seconds, n=100)[_PERCENT - 1]
    return figures


def one_change() -> dict[str, float]:
    """Change one pod of a full cluster in which 2,000 pods wait for their tenants' quota."""
    engine = big.engine(guaranteed=100)
    pods = [big.pod(n) for n in range(big.PODS)]
    releases = fill(engine, pods)
    settle(engine, releases)
    fill(engine, (big.pod(n) for n in range(big.PODS, big.PODS + 2000)))
    running = [each.pod for each in releases]
    return changes(engine, running, (big.pod(n) for n in range(20_000, 20_000 + _CHANGES)))


def _blocked(shape: Callable[[int], Pod]) -> tuple[Engine, list[Pod], float]:
    # The pool is full by pods of other shapes, and every tenant has quota left.
    engine = big.engine(guaranteed=2 * big.PODS)
    releases = fill(engine, (big.pod(n) for n in range(big.PODS)))
    settle(engine, releases)
    waiting = [shape(n) for n in range(20_000, 20_000 + big.PODS)]
    gc.collect()
    start = time.process_time()
    found = fill(engine, waiting)
    elapsed = time.process_time() - start
    if found:
        raise SystemExit(f"{len(found)} pods were released into a full pool")
    return engine, [each.pod for each in releases], elapsed


def _adversarial(shape: Callable[[int], Pod]) -> dict[str, float]:
    engine, running, elapsed = _blocked(shape)
    figures = changes(engine, running, (shape(n) for n in range(40_000, 40_000 + _CHANGES)))
    return {"queueing and deciding, s": elapsed, **figures}


def many_sizes() -> dict[str, float]:
    """Have 10,000 pods of 10,000 sizes wait for a full pool, all 100 tenants blocked."""
    return _adversarial(lambda n: big.pod(n, cpu=1000 + n % 20_000))


def many_constraints() -> dict[str, float]:
    """Have 10,000 pods of 10,000 affinities wait for a full pool, all 100 tenants blocked."""
    return _adversarial(lambda n: big.pod(n, constraints=big.on_racks_other_than(n)))


def nowhere() -> dict[str, float]:
    """Have 10,000 pods that fit no node ask for an empty pool, each with another affinity."""
    engine = big.engine(guaranteed=big.PODS)
    pods = [
        big.pod(n, memory=4096 * big.GIB, constraints=big.on_racks_other_than(n))
        for n in range(big.PODS)
    ]
    gc.collect()
    start = time.process_time()
    found = fill(engine, pods)
    elapsed = time.process_time() - start
    if found:
        raise SystemExit(f"{len(found)} impossible pods were released")
    (node,) = big.nodes(1)
    engine.remove_node(node.name)
    start = time.process_time()
    engine.put_node(node)
    drain(engine)
    again = time.process_time() - start
    return {"queueing and deciding, s": elapsed, "asking all again for one node, s": again}


def looking() -> dict[str, float]:
    """Read all numbers of status and metrics, 10,000 pods running and 10,000 waiting."""
    engine, _, _ = _blocked(lambda n: big.pod(n, cpu=1000 + n % 20_000))
    figures = {}
    judge = drift.Judge(engine)
    for name, read in (
        ("report.pools", report.pools),
        ("report.tenants", report.tenants),
        ("drift.Judge.look at all pods", lambda _: judge.look()),
        ("report.policies", lambda state: report.policies(state, judge.offences)),
    ):
        start = time.process_time()
        read(engine)
        figures[f"{name}, ms"] = 1000 * (time.process_time() - start)
    return figures


def one_node() -> dict[str, float]:
    """Change one node of that cluster: its state, then its labels."""
    engine, _, _ = _blocked(lambda n: big.pod(n, constraints=big.on_racks_other_than(n)))
    node = engine.nodes["gpu-0000"]
    figures = {}
    for what, change in {
        "not ready": replace(node, ready=False),
        "another label": replace(node, labels={**node.labels, "sovereign-gpu.io/rack": "x"}),
    }.items():
        start = time.process_time()
        engine.put_node(change)
        drain(engine)
        figures[f"{what}, ms"] = 1000 * (time.process_time() - start)
    return figures


def memory() -> dict[str, float]:
    """Count what the records and books of 10,000 waiting and 10,000 running pods take."""
    gc.collect()
    tracemalloc.start()
    engine = big.engine(guaranteed=100)
    settle(engine, fill(engine, (big.pod(n) for n in range(big.PODS))))
    plain = tracemalloc.get_traced_memory()[0]
    fill(engine, (big.pod(n) for n in range(big.PODS, 2 * big.PODS)))
    waiting = tracemalloc.get_traced_memory()[0]
    shapes = range(40_000, 40_000 + big.PODS)
    fill(engine, (big.pod(n, constraints=big.on_racks_other_than(n)) for n in shapes))
    varied = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    mib = 1 << 20
    return {
        "nodes and 10,000 running pods, MiB": plain / mib,
        "10,000 waiting pods of one shape more, MiB": (waiting - plain) / mib,
        "10,000 waiting pods of 10,000 affinities more, MiB": (varied - waiting) / mib,
    }


CASES: tuple[Callable[[], dict[str, float]], ...] = (
    from_nothing,
    nodes_all_different,
    restart,
    one_change,
    many_sizes,
    many_constraints,
    nowhere,
    one_node,
    looking,
    memory,
)


def main() -> None:
    """Run the cases, print a table, write one JSON line per figure."""
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=[case.__name__ for case in CASES])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    machine = {"python": platform.python_version(), "cpus": os.cpu_count()}
    lines = []
    for case in CASES:
        if options.only not in (None, case.__name__):
            continue
        runs = [case() for _ in range(1 if case is memory else options.runs)]
        print(f"\n{(case.__doc__ or '').splitlines()[0]}")
        for figure in runs[0]:
            values = [run[figure] for run in runs]
            median = statistics.median(values)
            print(f"  {figure:<52}{median:10.3f}   ({min(values):.3f} to {max(values):.3f})")
            row = {"case": case.__name__, "figure": figure, "median": round(median, 4)}
            lines.append(json.dumps({**row, "runs": len(runs), **machine}))
    if options.only is None:
        options.out.parent.mkdir(exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

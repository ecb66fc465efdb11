"""How soon a process that starts in a large cluster decides, and how much memory that takes.

`python -m bench.start` lets `--bound` pods run, leaves the others waiting, ends the operator, and
then measures, again and again: a running pod goes, the operator starts, and the audit log says when
the first release was accepted. `--nodes 5000 --pods 40000` is the largest cluster that Kubernetes
supports.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import audit, burst
from rig import product, users
from rig.client import wait_for
from rig.control_plane import Rig

RESULTS = Path(__file__).parent / "results"
_BAR_SECONDS, _BAR_MIB = 5.0, 250.0
_SETTLE = 20.0
"""Seconds after the start in which the largest size is looked for."""


@dataclass(slots=True)
class Start:
    """What one start took."""

    seconds: float
    """From the start of the process to the first accepted release."""
    mib: float
    """Largest resident size, in MiB."""
    cpu: float
    """CPU seconds until then."""


def main() -> int:
    """Measure, print, and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=burst.NODES)
    parser.add_argument("--pods", type=int, default=20_000)
    parser.add_argument("--bound", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with Rig("start") as rig:
        rig.reset()
        operator = burst.prepare(rig, options.nodes)
        trail = audit.Trail(rig.audit_log)
        trail.skip()
        burst.create(rig, options.bound, owned=True)
        burst.wait_bound(trail, options.bound)
        operator.terminate()
        burst.create(rig, options.pods - options.bound, owned=True, first=options.bound)
        starts = [_start(rig, options.bound, number) for number in range(options.rounds)]
        rig.destroy()
    seconds = statistics.median(each.seconds for each in starts)
    mib = max(each.mib for each in starts)
    print(
        f"{options.nodes} nodes, {options.pods} pods: first release after {seconds:.1f} s (median; "
        f"longest {max(each.seconds for each in starts):.1f} s, bar {_BAR_SECONDS:.0f} s), "
        f"{mib:.0f} MiB (largest, bar {_BAR_MIB:.0f} MiB), "
        f"{statistics.median(each.cpu for each in starts):.1f} s of CPU"
    )
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"start-{options.pods}.json"
    path.write_text(json.dumps([asdict(each) for each in starts], indent=1) + "\n")
    return int(seconds > _BAR_SECONDS or mib > _BAR_MIB)


def _start(rig: Rig, bound: int, number: int) -> Start:
    """Free one GPU if all are taken, start a process and see it give out the first."""
    if bound:
        admin = rig.client(users.PLATFORM_ADMIN)
        running = admin.get(
            "/api/v1/pods", fieldSelector="spec.nodeName!=", limit=1 + number
        ).must()["items"][-1]["metadata"]
        path = f"/api/v1/namespaces/{running['namespace']}/pods/{running['name']}"
        admin.delete(path, gracePeriodSeconds=0)
        wait_for(lambda: not admin.get(path).ok, 30, "a pod to be gone")
    trail = audit.Trail(rig.audit_log)
    trail.skip()
    operator = product.OperatorProcess(rig)
    began = time.time()
    operator.start(wait=False)
    moments: list[float] = []

    def released() -> bool:
        moments.extend(audit.seconds(e) for e in trail.events() if audit.is_release(e))
        return bool(moments)

    wait_for(released, 120, "the first release", 0.05)
    cpu = burst.cpu(operator.pid)
    time.sleep(_SETTLE)
    found = Start(round(moments[0] - began, 2), round(burst.peak_mib(operator.pid), 1), cpu)
    operator.terminate()
    print(found, flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())

"""How fast a waiting crowd is let in, against a loop that does nothing but patch.

`python -m bench.backlog` creates gated pods while no operator runs. Then, in alternating runs, the
operator starts and releases them, or a loop sends the very same patches, prepared before it
starts, with as many requests in flight. Rates are read from the audit log.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

from bench import audit, burst
from rig import bulk, product, users
from rig.control_plane import Rig
from sovereign_gpu import names
from sovereign_gpu.cluster import decode, patches
from sovereign_gpu.core.model import Pool, Release

PATCH = "patch pods"


@dataclass(slots=True)
class Run:
    """What one run showed."""

    way: str
    pods: int
    per_second: float
    """Accepted releases from the first to the last."""


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=burst.NODES)
    options = parser.parse_args()
    runs = []
    with Rig("backlog") as rig:
        for _ in range(options.rounds):
            for way in ("loop", "operator"):
                runs.append(measure(rig, way, options.pods, options.nodes))
                print(f"{way:<9} {runs[-1].per_second:6.1f} releases/s", flush=True)
        rig.destroy()
    medians = {
        way: statistics.median(run.per_second for run in runs if run.way == way)
        for way in ("loop", "operator")
    }
    burst.RESULTS.mkdir(exist_ok=True)
    path = burst.RESULTS / f"backlog-{options.pods}.json"
    path.write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n")
    ratio = medians["operator"] / medians["loop"]
    print(f"\nmedians {medians}; operator at {100 * ratio:.0f} % of the loop (bar 80 %)")


def measure(rig: Rig, way: str, pods: int, count: int) -> Run:
    """Do one run on an empty cluster."""
    rig.reset()
    burst.prepare(rig, count).terminate()
    burst.create(rig, pods, owned=True)
    trail = audit.Trail(rig.audit_log)
    trail.skip()
    if way == "loop":
        bulk.send(rig, users.PLATFORM_ADMIN, requests(rig, pods), 32)
        moments = released(trail, pods)
    else:
        with product.OperatorProcess(rig):
            moments = released(trail, pods)
    return Run(way, pods, pods / (max(moments) - min(moments)))


def requests(rig: Rig, pods: int) -> list[bulk.Request]:
    """Return the patches of all waiting pods, spread over the nodes."""
    admin = rig.client(users.PLATFORM_ADMIN)
    nodes = [node["metadata"]["name"] for node in admin.items("/api/v1/nodes")]
    waiting = [decode.pod(source) for source in admin.items("/api/v1/pods")]  # type: ignore[arg-type]
    gated = [pod for pod in waiting if names.GATE in pod.gates]
    if len(gated) != pods:
        raise SystemExit(f"{len(gated)} of {pods} pods wait")
    pool = Pool(burst.POOL, "DE", "eu-de-muc")
    return [
        (
            "PATCH",
            f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}",
            patches.release(
                Release(pod, "loop", pool.name, nodes[i // 8], pinned=True), pool, "loop/0"
            ),
        )
        for i, pod in enumerate(gated)
    ]


def released(trail: audit.Trail, pods: int) -> list[float]:
    """Follow the audit log until all pods are released; return the moments."""
    moments: list[float] = []
    deadline = time.monotonic() + 600

    while len(moments) < pods:
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(moments)} of {pods} pods released")
        moments.extend(audit.seconds(event) for event in trail.events() if _release(event))
        time.sleep(0.5)
    return moments


def _release(event: dict[str, Any]) -> bool:
    return audit.what(event) == PATCH and audit.succeeded(event)


if __name__ == "__main__":
    main()

"""Days of load in minutes: does anything grow that should not, and do the books stay right?

`python -m bench.soak` plays six days, each of which lasts `--minutes` / 6, with more load by day
than by night, tenants that come and go, and an operator that is watched from outside: memory, file
descriptors, tasks, series, its own audits, and its GPU-seconds beside those of a watch of our own.
Ends with 1 if something grew or the books were wrong.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import crash
from bench.history import Recorder
from rig import nodes, processes, product, stages, users
from rig.client import Client, wait_for
from rig.control_plane import Rig

RESULTS = Path(__file__).parent / "results"
_DAYS = 6
_SAMPLE_EVERY = 5.0
_PODS_A_SECOND = 6.0
_TERMINAL = frozenset({"Succeeded", "Failed"})
_NEGLIGIBLE = 0.01
"""Growth a day, as part of the mean, that is not told from none."""


@dataclass(slots=True)
class Sample:
    """What the operator was like at one moment."""

    at: float
    """Days since the start."""
    mib: float
    files: int
    tasks: int
    series: int
    differing: float
    """What its own audit last found."""


@dataclass(slots=True)
class Soak:
    """What a run showed."""

    minutes: float
    pods: int = 0
    samples: list[Sample] = field(default_factory=list)
    growth: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Part of the mean a day, and its standard error; the first day is left out."""
    audits: int = 0
    gpu_seconds: tuple[float, float] = (0.0, 0.0)
    """By the operator, and by a watch of our own."""


def main() -> int:
    """Run on a rig of its own, print, and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    minutes = parser.parse_args().minutes
    with Rig("soak") as rig:
        rig.reset()
        product.install(rig)
        nodes.create_nodes(rig, crash.Plan().nodes, region=crash.REGION, pool=crash.POOL)
        soak = run(rig, minutes)
        rig.destroy()
    faults = show(soak)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"soak-{minutes:.0f}.json"
    path.write_text(json.dumps(asdict(soak), indent=1) + "\n")
    return int(bool(faults))


def show(soak: Soak) -> list[str]:
    """Print what was found; return what must not be."""
    faults = []
    print(f"{_DAYS} days in {soak.minutes:.0f} minutes, {soak.pods} pods, {soak.audits} audits")
    for name, (slope, error) in soak.growth.items():
        mean = statistics.mean(getattr(each, name) for each in soak.samples)
        print(f"{name}: mean {mean:.1f}, growth {100 * slope:+.2f} % a day (± {200 * error:.2f})")
        if slope > max(2 * error, _NEGLIGIBLE):
            faults.append(f"{name} grows")
    ours, theirs = soak.gpu_seconds
    print(f"GPU-seconds: {ours:.1f} by the operator, {theirs:.1f} by a watch of our own")
    if any(each.differing for each in soak.samples):
        faults.append("the self-audit found a difference")
    if not soak.audits:
        faults.append("no self-audit was completed")
    for each in faults:
        print(f"FAULT: {each}")
    return faults


class Meter(Recorder):
    """Also sums up how long GPUs were held by bound pods."""

    def __init__(self, rig: Rig, tenants: Mapping[str, str]) -> None:
        super().__init__(rig, tenants)
        self.seconds: dict[str, float] = defaultdict(float)
        self._since: dict[str, tuple[str, int, float]] = {}

    def total(self) -> float:
        """Return the GPU-seconds until now, of pods that run still as well."""
        with self.lock:
            now = time.time()
            running = sum(gpus * (now - since) for _, gpus, since in self._since.values())
            return sum(self.seconds.values()) + running

    def _take(self, event: Mapping[str, Any]) -> None:
        super()._take(event)
        pod = event["object"]
        tenant = self._tenants.get(pod["metadata"].get("namespace", ""))
        if event["type"] == "BOOKMARK" or tenant is None:
            return
        uid = pod["metadata"]["uid"]
        ended = event["type"] == "DELETED" or pod["status"].get("phase") in _TERMINAL
        with self.lock:
            if ended and uid in self._since:
                _, gpus, since = self._since.pop(uid)
                self.seconds[tenant] += gpus * (time.time() - since)
            elif not ended and pod["spec"].get("nodeName") and uid not in self._since:
                limits = pod["spec"]["containers"][0]["resources"]["limits"]
                self._since[uid] = (tenant, int(limits["nvidia.com/gpu"]), time.time())


def run(rig: Rig, minutes: float) -> Soak:
    """Play the days."""
    plan = crash.Plan(pods=1_000_000, tenants=4, prefix="soak")
    soak = Soak(minutes)
    operator = product.OperatorProcess(rig)
    with operator:
        crash.prepare(rig, plan)
        with Meter(rig, crash.spaces(plan)) as meter:
            stop = threading.Event()
            threads = [
                threading.Thread(target=_submit, args=(rig, plan, soak, stop), name="submit"),
                threading.Thread(target=_sweep, args=(rig, plan, stop), name="sweep"),
                threading.Thread(target=_come_and_go, args=(rig, plan, soak, stop), name="tenants"),
            ]
            for thread in threads:
                thread.start()
            _watch(operator, soak, minutes * 60)
            stop.set()
            for thread in threads:
                thread.join()
            admin = rig.client(users.PLATFORM_ADMIN)
            wait_for(lambda: not _running(admin, plan), 120, "the last pods to end", 0.5)
            text = operator.metrics()
            soak.gpu_seconds = (_sum(text, "tenant_gpu_seconds_total"), meter.total())
            soak.audits = int(_sum(text, "self_audits_total"))
    rested = [each for each in soak.samples if each.at >= 1]
    for name in ("mib", "files", "tasks", "series"):
        values = [(each.at, float(getattr(each, name))) for each in rested]
        soak.growth[name] = _growth(values)
    return soak


def _watch(operator: product.OperatorProcess, soak: Soak, seconds: float) -> None:
    began = time.monotonic()
    while (at := time.monotonic() - began) < seconds:
        text, pid = operator.metrics(), operator.pid
        soak.samples.append(
            Sample(
                at=at / seconds * _DAYS,
                mib=processes.resident_bytes(pid) / 2**20,
                files=len(list(Path(f"/proc/{pid}/fd").iterdir())),
                tasks=int(_sum(text, "tasks")),
                series=sum(not line.startswith("#") for line in text.splitlines()),
                differing=_sum(text, "self_audit_difference"),
            )
        )
        time.sleep(_SAMPLE_EVERY)


def _growth(values: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the slope as part of the mean, and its standard error, over means of half days.

    Neighbouring samples are alike, so they are not taken for independent ones.
    """
    halves: dict[int, list[float]] = defaultdict(list)
    for at, value in values:
        halves[int(at * 2)].append(value)
    xs = [half / 2 for half in sorted(halves)]
    ys = [statistics.mean(halves[half]) for half in sorted(halves)]
    mean = statistics.mean(ys)
    slope, intercept = statistics.linear_regression(xs, ys)
    rest = [y - (slope * x + intercept) for x, y in zip(xs, ys, strict=True)]
    spread = sum((x - statistics.mean(xs)) ** 2 for x in xs)
    error = math.sqrt(sum(r * r for r in rest) / max(1, len(xs) - 2) / spread)
    return slope / mean, error / mean


def _sum(text: str, name: str) -> float:
    found = re.findall(rf"^sovereign_gpu_{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


# --- load ---------------------------------------------------------------------------------------
def _submit(rig: Rig, plan: crash.Plan, soak: Soak, stop: threading.Event) -> None:
    """Create pods, more by day than by night."""
    admin, chance = rig.client(users.PLATFORM_ADMIN), random.Random(6)  # noqa: S311 – repeatable
    day = soak.minutes * 60 / _DAYS
    began = time.monotonic()
    while True:
        share = 1 + 0.8 * math.sin(2 * math.pi * (time.monotonic() - began) / day)
        if stop.wait(1 / (_PODS_A_SECOND * share)):
            return
        body = crash.pod(soak.pods, plan)
        body["metadata"]["annotations"] = {stages.RUN_SECONDS: str(chance.randrange(2, 20))}
        size = body["spec"]["containers"][0]["resources"]
        size["limits"] = {"nvidia.com/gpu": str(chance.choice((1, 1, 1, 2, 4, 8)))}
        admin.create(f"/api/v1/namespaces/{body['metadata']['namespace']}/pods", body).must()
        soak.pods += 1


def _sweep(rig: Rig, plan: crash.Plan, stop: threading.Event) -> None:
    """Delete what has ended, as controllers do."""
    admin = rig.client(users.PLATFORM_ADMIN)
    while not stop.wait(10.0):
        for space in crash.spaces(plan):
            path = f"/api/v1/namespaces/{space}/pods"
            admin.request("DELETE", path, None, fieldSelector="status.phase=Succeeded")


def _come_and_go(rig: Rig, plan: crash.Plan, soak: Soak, stop: threading.Event) -> None:
    """Each day a tenant comes and one goes."""
    admin, number = rig.client(users.PLATFORM_ADMIN), 0
    while not stop.wait(soak.minutes * 60 / _DAYS / 2):
        name = f"soak-guest-{number // 2}"
        if number % 2 == 0:
            admin.apply(crash.namespace(name)).must()
            admin.apply(crash.quota(name, plan)).must()
        else:
            admin.delete(f"/apis/sovereign-gpu.io/v1alpha1/tenantquotas/{name}")
            admin.delete(f"/api/v1/namespaces/{name}")
        number += 1


def _running(admin: Client, plan: crash.Plan) -> bool:
    return any(
        pod["status"]["phase"] not in _TERMINAL
        for space in crash.spaces(plan)
        for pod in admin.items(f"/api/v1/namespaces/{space}/pods")
    )


if __name__ == "__main__":
    sys.exit(main())

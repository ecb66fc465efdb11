"""How long releases pause when the leader goes: killed, asked to end, and replaced by an upgrade.

`python -m bench.failover` runs two processes of the operator under a steady stream of pods and
reads from the audit log when the next release was accepted. Ends with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import audit, crash
from rig import nodes, product, users
from rig.client import wait_for
from rig.control_plane import Rig
from sovereign_gpu import names

RESULTS = Path(__file__).parent / "results"
_LEASE = 15
_AFTER_A_CRASH = _LEASE + 5.0
_AFTER_A_HAND_OVER = 3.0
_PODS_A_SECOND = 10


@dataclass(slots=True)
class Pauses:
    """Seconds from the signal to a leader to the first release of its successor."""

    killed: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    upgraded: list[float] = field(default_factory=list)
    """Longest pause between two releases while both processes are replaced, one by one."""


def main() -> int:
    """Measure, print, and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with Rig("failover") as rig:
        rig.reset()
        product.install(rig)
        nodes.create_nodes(rig, crash.Plan().nodes, region=crash.REGION, pool=crash.POOL)
        pauses = measure(rig, rounds)
        rig.destroy()
    bars = {"killed": _AFTER_A_CRASH, "ended": _AFTER_A_HAND_OVER, "upgraded": _AFTER_A_CRASH}
    missed = False
    for name, bar in bars.items():
        found = getattr(pauses, name)
        missed |= max(found) > bar
        print(
            f"{name}: {statistics.median(found):.1f} s (median), {max(found):.1f} s (longest) of "
            f"{len(found)}; bar {bar:.0f} s"
        )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "failover.json").write_text(json.dumps(asdict(pauses), indent=1) + "\n")
    return int(missed)


def measure(rig: Rig, rounds: int) -> Pauses:
    """Take the leader away again and again, each time in three ways."""
    plan = crash.Plan(pods=1_000_000, tenants=1, lease=_LEASE)
    pauses = Pauses()
    leader, standby = _operator(rig, 0), _operator(rig, 1)
    leader.start()
    standby.start(wait=False)
    standby.wait_ready()
    crash.prepare(rig, plan)
    trail = audit.Trail(rig.audit_log)
    with _stream(rig, plan):
        for _ in range(rounds):
            for took, end in (
                (pauses.killed, product.OperatorProcess.kill),
                (pauses.ended, product.OperatorProcess.terminate),
            ):
                took.append(_pause(trail, leader, end))
                leader.start(wait=False)
                leader, standby = _roles(leader, standby)
            pauses.upgraded.append(_upgrade(trail, leader, standby))
            leader, standby = _roles(leader, standby)
    leader.terminate()
    standby.terminate()
    return pauses


def _roles(
    one: product.OperatorProcess, other: product.OperatorProcess
) -> tuple[product.OperatorProcess, product.OperatorProcess]:
    """Wait until one of two processes leads and the other stands by; return them in this order."""
    for process in (one, other):
        process.wait_ready()
    wait_for(lambda: one.leads() != other.leads(), 60, "one of two to lead", 0.1)
    return (one, other) if one.leads() else (other, one)


def _operator(rig: Rig, number: int) -> product.OperatorProcess:
    return product.OperatorProcess(
        rig,
        arguments=("--lease-seconds", str(_LEASE), "--identity", f"operator-{number}"),
        log=rig.logs / f"operator-{number}.log",
    )


def _pause(
    trail: audit.Trail,
    leader: product.OperatorProcess,
    end: Callable[[product.OperatorProcess], object],
) -> float:
    trail.skip()
    _, theirs = _next(trail)
    began = time.time()
    end(leader)
    # What it had sent may still be answered.
    when, _ = _next(trail, other_than=theirs)
    return round(when - began, 2)


def _upgrade(
    trail: audit.Trail, leader: product.OperatorProcess, standby: product.OperatorProcess
) -> float:
    """Replace the standby, then the leader, as a rolling update does; return the longest pause."""
    trail.skip()
    moments = [_next(trail)[0]]
    for process in (standby, leader):
        process.terminate()
        process.start(wait=False)
        process.wait_ready()
    moments += [when for when, _ in [*_releases(trail), _next(trail)]]
    moments.sort()
    return round(max(b - a for a, b in itertools.pairwise(moments)), 2)


def _releases(trail: audit.Trail) -> list[tuple[float, str]]:
    """Return when releases were accepted since the last look, and who signed them."""
    return [
        (audit.seconds(event), _signature(event))
        for event in trail.events()
        if audit.is_release(event)
    ]


def _signature(event: dict[str, Any]) -> str:
    key = names.RELEASED_BY.replace("/", "~1")
    for step in event["requestObject"]:
        if step["path"] == f"/metadata/annotations/{key}":
            return str(step["value"])
        if step["path"] == "/metadata/annotations":
            return str(step["value"][names.RELEASED_BY])
    return ""


def _next(trail: audit.Trail, other_than: str = "") -> tuple[float, str]:
    """Wait for the next accepted release that somebody else signed."""
    found: list[tuple[float, str]] = []

    def released() -> bool:
        found.extend(each for each in _releases(trail) if each[1] != other_than)
        return bool(found)

    wait_for(released, 60, "a release", 0.02)
    return found[0]


@contextmanager
def _stream(rig: Rig, plan: crash.Plan) -> Iterator[None]:
    """Create pods at a steady pace; each runs for a moment."""
    stop = threading.Event()

    def work() -> None:
        admin, number = rig.client(users.PLATFORM_ADMIN), 0
        while not stop.wait(1 / _PODS_A_SECOND):
            body = crash.pod(number, plan)
            path = f"/api/v1/namespaces/{body['metadata']['namespace']}/pods"
            admin.create(path, body).must()
            number += 1

    thread = threading.Thread(target=work, name="stream")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())

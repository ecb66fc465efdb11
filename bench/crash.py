"""Kill the operator again and again while tenants want more than they may have.

`python -m bench.crash` ends with a table and a JSON file, and with 1 if a promise was broken:
every pod is finished, bound or waiting for a full quota, no tenant ever held more than its quota,
and the operator released each pod once at most. What the operator says of itself is not asked:
sums come from a watch of our own and from the audit log.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench import audit
from bench.history import Held, Recorder
from rig import bulk, nodes, product, stages, users
from rig.client import Client, wait_for
from rig.control_plane import Rig
from rig.errors import RigError

RESULTS = Path(__file__).parent / "results"
POOL, POLICY = "crash", "crash-eu"
REGION = "eu-de-crash"
_SEED = 20
_PATIENCE = 300.0
_API = "/apis/sovereign-gpu.io/v1alpha1"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything; tenants get a quarter less than the pool could give."""

    pods: int = 2000
    kills: int = 20
    tenants: int = 5
    nodes: int = 20
    lease: int = 3
    """Seconds."""
    prefix: str = "crash"
    """Beginning of the names of tenants and namespaces."""

    @property
    def quota(self) -> int:
        """GPUs of each tenant."""
        return self.nodes * 8 * 3 // 4 // self.tenants

    @property
    def lasting(self) -> int:
        """Pods of each tenant that never end, so that the quotas are full in the end."""
        return self.quota + 8


@dataclass(slots=True)
class Row:
    """What became of one tenant."""

    tenant: str
    quota: int
    most_held: int
    released: int
    finished: int
    bound: int
    waiting: int


@dataclass(slots=True)
class Outcome:
    """What a run showed."""

    pods: int
    kills: int
    kills_while_standing_by: int = 0
    """Kills of a process as soon as it was started."""
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    lost_leases: int = 0
    """Processes that ended by themselves because the lease could not be renewed in time."""
    landed_unanswered: int = 0
    """Releases that took effect although the operator was dead before it could be told."""
    released_twice: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def main() -> int:
    """Run on a rig of its own, print, and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=Plan().pods)
    parser.add_argument("--kills", type=int, default=Plan().kills)
    options = parser.parse_args()
    with Rig("crash") as rig:
        rig.reset()
        product.install(rig)
        nodes.create_nodes(rig, Plan().nodes, region=REGION, pool=POOL)
        outcome = run(rig, Plan(options.pods, options.kills))
        rig.destroy()
    show(outcome)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"crash-{outcome.pods}.json"
    path.write_text(json.dumps(asdict(outcome), indent=1) + "\n")
    return 1 if outcome.faults else 0


def run(rig: Rig, plan: Plan) -> Outcome:
    """Submit the pods, kill the operator meanwhile, wait for the end and judge.

    Args:
        rig: the control plane with the chart, `plan.nodes` nodes enrolled in `POOL`, no operator.
        plan: how much of everything.
    """
    operator = product.OperatorProcess(rig, arguments=("--lease-seconds", str(plan.lease)))
    outcome = Outcome(plan.pods, plan.kills)
    with operator:
        prepare(rig, plan)
        trail = audit.Trail(rig.audit_log)
        trail.skip()
        with Recorder(rig, spaces(plan)) as recorder:
            began = time.monotonic()
            sender = threading.Thread(target=submit, args=(rig, plan), name="sender")
            sender.start()
            releases = _torment(operator, trail, plan, outcome)
            sender.join()
            settle(recorder, plan, partial(_revive, operator, outcome))
            outcome.seconds = round(time.monotonic() - began, 1)
            releases += [event for event in trail.events() if audit.lifts_gate(event)]
            judge(rig, plan, recorder, releases, outcome)
    return outcome


def prepare(rig: Rig, plan: Plan) -> None:
    """Write pool, policy and tenants, and wait until pods of all of them are let in."""
    admin = rig.client(users.PLATFORM_ADMIN)
    for body in manifests(plan):
        admin.apply(body).must()
    path = f"{_API}/gpupools/{POOL}"
    admin.wait(path, lambda o: o["status"]["gpus"]["free"] == 8 * plan.nodes, 60)
    for number in range(plan.tenants):
        name = _name(plan, number)
        wait_for(partial(_is_governed, admin, number, plan), 30, f"{name} to be governed")


def _is_governed(admin: Client, number: int, plan: Plan) -> bool:
    path = f"/api/v1/namespaces/{_name(plan, number)}/pods"
    return admin.create(path, pod(number, plan), dryRun="All").ok


def submit(rig: Rig, plan: Plan) -> None:
    """Create the pods; those that last for ever are the youngest of each tenant."""
    bodies = (pod(number, plan) for number in range(plan.pods))
    requests = (
        ("POST", f"/api/v1/namespaces/{body['metadata']['namespace']}/pods", body)
        for body in bodies
    )
    bulk.send(rig, users.PLATFORM_ADMIN, requests, in_flight=8)


def _torment(
    operator: product.OperatorProcess, trail: audit.Trail, plan: Plan, outcome: Outcome
) -> list[dict[str, Any]]:
    """Kill and restart; each time after another number of releases. Returns the releases."""
    chance = random.Random(_SEED)  # noqa: S311 – the same run every time
    releases: list[dict[str, Any]] = []
    for _ in range(plan.kills):
        # Now and then it dies before it did anything: while it stands by, reads, or has just begun.
        wanted = chance.choice((0, 1, 2, 5, plan.pods // (2 * plan.kills)))
        before, deadline = _answered(releases), time.monotonic() + _PATIENCE
        while _answered(releases) - before < wanted:
            if time.monotonic() > deadline:
                raise RigError(f"no {wanted} releases within {_PATIENCE:.0f} s")
            releases += [event for event in trail.events() if audit.lifts_gate(event)]
            _revive(operator, outcome)
            time.sleep(0.02)
        outcome.kills_while_standing_by += wanted == 0
        operator.kill()
        operator.start(wait=False)
        print(f"killed, {_answered(releases)} pods released so far", flush=True)
    return releases


def _answered(patches: list[dict[str, Any]]) -> int:
    return sum(map(audit.succeeded, patches))


def _revive(operator: product.OperatorProcess, outcome: Outcome) -> None:
    """Start a process again that ended by itself, as a kubelet would."""
    try:
        operator.pid  # noqa: B018 – asking is the check
    except RigError:
        outcome.lost_leases += 1
        operator.start(wait=False)


def settle(recorder: Recorder, plan: Plan, keep_up: Callable[[], None]) -> None:
    """Wait until all quotas are full for good: only pods that last for ever run.

    Args:
        recorder: what is known of the pods.
        plan: how much of everything.
        keep_up: called now and then, to start anew what has ended.

    Raises:
        RigError: it has not come to that.
    """

    def is_settled(number: int) -> bool:
        held = recorder.read(_name(plan, number))
        return (
            held.now == plan.quota
            and held.ended + held.now + len(held.waiting) == _shares(plan)[number]
            and all(lasts(int(name.rpartition("-")[2]), plan) for name in held.running)
        )

    def settled() -> bool:
        keep_up()
        return all(is_settled(number) for number in range(plan.tenants))

    wait_for(settled, _PATIENCE, "all pods to be bound, finished or waiting for a full quota")


def judge(
    rig: Rig, plan: Plan, recorder: Recorder, releases: list[dict[str, Any]], outcome: Outcome
) -> None:
    """Write rows and faults into the outcome; `releases` are the patches of the audit log."""
    admin = rig.client(users.PLATFORM_ADMIN)
    for number in range(plan.tenants):
        tenant, space = _name(plan, number), _name(plan, number)
        path = f"/api/v1/namespaces/{space}/pods"
        _wait_bound(admin, path, plan.quota)
        found = list(admin.items(path))
        held = recorder.read(tenant)
        row = Row(
            tenant=tenant,
            quota=plan.quota,
            most_held=held.most,
            released=held.released,
            finished=sum(each["status"]["phase"] == "Succeeded" for each in found),
            bound=sum(each["status"]["phase"] == "Running" for each in found),
            waiting=len(held.waiting),
        )
        outcome.rows.append(row)
        outcome.faults += _faults(row, held, _shares(plan)[number])
    _compare(recorder, releases, plan, outcome)


def _wait_bound(admin: Client, path: str, count: int) -> None:
    running = {"fieldSelector": "status.phase=Running"}
    admin.wait(path, lambda found: len(found["items"]) == count, 60, **running)


def _faults(row: Row, held: Held, share: int) -> list[str]:
    faults = []
    if held.most > row.quota:
        faults.append(f"{row.tenant} held {held.most} GPUs of {row.quota}")
    if row.finished + row.bound + row.waiting != share:
        faults.append(
            f"{row.tenant}: of {share} pods {row.finished} finished, {row.bound} are bound and "
            f"{row.waiting} wait"
        )
    return faults


def _compare(
    recorder: Recorder, patches: list[dict[str, Any]], plan: Plan, outcome: Outcome
) -> None:
    """Hold the audit log against the watch: every release once, by the operator alone.

    A patch whose sender died is logged as 504 and may have taken effect all the same.
    """
    answered = Counter(_target(event) for event in patches if audit.succeeded(event))
    unanswered = {_target(event) for event in patches if not audit.succeeded(event)}
    outcome.released_twice = [name for name, times in answered.items() if times > 1]
    outcome.faults += [f"{name} was released twice" for name in outcome.released_twice]
    others = {event["user"]["username"] for event in patches} - {audit.OPERATOR}
    outcome.faults += [f"{user} released pods" for user in sorted(others)]
    watched = {
        f"{_name(plan, number)}/{name}"
        for number in range(plan.tenants)
        for name in recorder.read(_name(plan, number)).freed
    }
    silent = watched - answered.keys()
    outcome.landed_unanswered = len(silent)
    outcome.faults += [f"{name} lost its gate to nobody" for name in sorted(silent - unanswered)]
    lost = sorted(answered.keys() - watched)
    outcome.faults += [f"{name} was released and kept its gate" for name in lost]


def _target(event: dict[str, Any]) -> str:
    return f"{event['objectRef']['namespace']}/{event['objectRef']['name']}"


# --- objects ----------------------------------------------------------------------------------
def spaces(plan: Plan) -> dict[str, str]:
    """Return namespace -> tenant; both have the same name."""
    return {_name(plan, number): _name(plan, number) for number in range(plan.tenants)}


def _name(plan: Plan, number: int) -> str:
    return f"{plan.prefix}-{number}"


def _shares(plan: Plan) -> list[int]:
    return [len(range(number, plan.pods, plan.tenants)) for number in range(plan.tenants)]


def manifests(plan: Plan) -> list[dict[str, Any]]:
    """Return pool, policy, namespaces and tenants."""
    made = [
        _object("GpuPool", POOL, {"location": {"country": "DE", "region": REGION}}),
        _object("DataResidencyPolicy", POLICY, {"countries": {"sets": ["EU"]}}),
    ]
    for number in range(plan.tenants):
        name = _name(plan, number)
        made += [namespace(name), quota(name, plan)]
    return made


def namespace(name: str) -> dict[str, Any]:
    """Return a namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def quota(name: str, plan: Plan) -> dict[str, Any]:
    """Return the quota of a tenant that is called like its namespace."""
    spec = {
        "namespaces": [name],
        "residencyPolicies": [POLICY],
        "pools": [{"name": POOL, "guaranteed": plan.quota}],
    }
    return _object("TenantQuota", name, spec)


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "sovereign-gpu.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def lasts(number: int, plan: Plan) -> bool:
    """Whether a pod never ends."""
    return number >= plan.pods - plan.lasting * plan.tenants


def pod(number: int, plan: Plan) -> dict[str, Any]:
    """Return a one-GPU pod that runs for one to three seconds, or for ever."""
    annotations = {} if lasts(number, plan) else {stages.RUN_SECONDS: str(1 + number % 3)}
    limits = {"nvidia.com/gpu": "1"}
    requests = {"cpu": "1", "memory": "1Gi"}
    main = {"name": "main", "image": "example.com/train:1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"pod-{number:05d}",
            "namespace": _name(plan, number % plan.tenants),
            "annotations": annotations,
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "containers": [{**main, "resources": {"requests": requests, "limits": limits}}],
        },
    }


def show(outcome: Outcome) -> None:
    """Print the table."""
    print(f"{outcome.pods} pods, operator killed {outcome.kills} times, {outcome.seconds:.0f} s")
    print(f"{'tenant':<10}{'quota':>7}{'most held':>11}{'released':>10}", end="")
    print(f"{'finished':>10}{'bound':>7}{'waiting':>9}")
    for row in outcome.rows:
        print(f"{row.tenant:<10}{row.quota:>7}{row.most_held:>11}{row.released:>10}", end="")
        print(f"{row.finished:>10}{row.bound:>7}{row.waiting:>9}")
    print(
        f"{outcome.kills_while_standing_by} kills of a process that had only just begun, "
        f"{outcome.lost_leases} lost leases, "
        f"{outcome.landed_unanswered} releases landed after the death of their sender"
    )
    for fault in outcome.faults:
        print(f"FAULT: {fault}")


if __name__ == "__main__":
    sys.exit(main())

"""Break whatever can break, at random and on a real control plane, and count from outside.

`python -m bench.chaos --schedules 10` plays random schedules on one rig: operators, API server,
etcd, kube-scheduler, controller manager and KWOK are killed, frozen and ended; a proxy between the
operators and the API server delays, swallows and cuts; definitions are deleted and applied anew;
objects that mean nothing and namespaces that vanish come in between. After each schedule every pod
has to be finished, bound or waiting for a full quota; no tenant may ever have held more than its
quota, no pod may have been released twice or run outside the pool. Ends with 1 if one did.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import yaml

from bench import audit, crash
from bench.fault_proxy import FaultProxy
from bench.history import Recorder
from rig import nodes, product, users
from rig.client import Client, wait_for
from rig.control_plane import Rig
from rig.errors import RigError

RESULTS = Path(__file__).parent / "results"
_API = "/apis/sovereign-gpu.io/v1alpha1"
_DEFINITIONS = Path(__file__).parent.parent / "crds"
_LEASE = 4
_DAEMONS = ("etcd", "kube-apiserver", "kube-scheduler", "kube-controller-manager", "kwok")
_ABROAD = "us-chaos"


@dataclass(slots=True)
class Told:
    """What one schedule did and what came of it."""

    seed: int
    faults: list[str] = field(default_factory=list)
    releases: int = 0
    recovered: float = 0.0
    """Seconds from the last fault until all was as it should be."""
    violations: list[str] = field(default_factory=list)


def main() -> int:
    """Play schedules, print, and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule")
    options = parser.parse_args()
    told = []
    with Rig("chaos") as rig:
        rig.reset()
        product.install(rig)
        nodes.create_nodes(rig, crash.Plan().nodes, region=crash.REGION, pool=crash.POOL)
        nodes.create_nodes(rig, 2, region=_ABROAD, prefix="abroad")
        with FaultProxy(rig.url) as proxy, Stage(rig, proxy) as stage:
            for seed in range(options.seed, options.seed + options.schedules):
                told.append(stage.play(seed))
                show(told[-1])
        rig.destroy()
    recoveries = [each.recovered for each in told]
    wrong = sum(bool(each.violations) for each in told)
    print(
        f"{len(told)} schedules, {sum(each.releases for each in told)} releases, {wrong} with "
        f"violations; recovered after {statistics.median(recoveries):.1f} s (median), "
        f"{max(recoveries):.1f} s (longest)"
    )
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"chaos-{len(told)}.json"
    path.write_text(json.dumps([asdict(each) for each in told], indent=1) + "\n")
    return 1 if wrong else 0


def show(told: Told) -> None:
    """Print one schedule."""
    print(
        f"seed {told.seed}: {', '.join(told.faults)}: {told.releases} releases, recovered after "
        f"{told.recovered:.1f} s",
        flush=True,
    )
    for each in told.violations:
        print(f"VIOLATION: {each}", flush=True)


class Stage:
    """Two processes of the operator behind the proxy, and everything that can happen to them."""

    def __init__(self, rig: Rig, proxy: FaultProxy) -> None:
        self._rig, self._proxy = rig, proxy
        arguments = ("--lease-seconds", str(_LEASE))
        self._operators = [
            product.OperatorProcess(
                rig,
                arguments=(*arguments, "--identity", f"chaos-{number}"),
                log=rig.logs / f"operator-{number}.log",
                server=proxy.url,
            )
            for number in range(2)
        ]
        self._chance = random.Random()  # noqa: S311 – seeded by each schedule
        self._plan = crash.Plan()
        self._frozen: dict[int, float] = {}
        """Process -> when it goes on."""
        self._admin: Client = rig.client(users.PLATFORM_ADMIN)

    def __enter__(self) -> Self:
        """Start both; the second stands by."""
        for number, operator in enumerate(self._operators):
            operator.start(wait=number == 0)
        return self

    def __exit__(self, *_: object) -> None:
        """End both."""
        self._thaw(everybody=True)
        for operator in self._operators:
            with contextlib.suppress(RigError):
                operator.kill()

    # --- one schedule ---------------------------------------------------------------------------
    def play(self, seed: int) -> Told:
        """Play one schedule in namespaces of its own and judge it."""
        self._chance.seed(seed)
        told = Told(seed)
        plan = self._plan = crash.Plan(
            pods=240, kills=0, tenants=3, lease=_LEASE, prefix=f"chaos-{seed}"
        )
        crash.prepare(self._rig, plan)
        trail = audit.Trail(self._rig.audit_log)
        trail.skip()
        with Recorder(self._rig, crash.spaces(plan)) as recorder:
            sender = threading.Thread(target=self._submit, args=(plan,), name="sender")
            sender.start()
            for _ in range(self._chance.randrange(3, 7)):
                self._one_fault(told)
            sender.join()
            self._heal()
            healed = time.monotonic()
            try:
                self._end_well(plan, trail, recorder, told)
            except RigError as error:
                told.violations.append(str(error))
            told.recovered = round(time.monotonic() - healed, 1)
        self._clear(plan)
        return told

    def _end_well(
        self, plan: crash.Plan, trail: audit.Trail, recorder: Recorder, told: Told
    ) -> None:
        crash.settle(recorder, plan, self._keep_up)
        outcome = crash.Outcome(plan.pods, 0)
        releases = [event for event in trail.events() if audit.lifts_gate(event)]
        crash.judge(self._rig, plan, recorder, releases, outcome)
        told.violations += outcome.faults
        told.releases = sum(row.released for row in outcome.rows)
        for space in crash.spaces(plan):
            for pod in self._admin.items(f"/api/v1/namespaces/{space}/pods"):
                if pod["spec"].get("nodeName", "").startswith("abroad"):
                    told.violations.append(f"{space}/{pod['metadata']['name']} runs abroad")

    def _submit(self, plan: crash.Plan) -> None:
        """Create every pod, however often it has to be asked for."""
        admin = self._rig.client(users.PLATFORM_ADMIN)
        for number in range(plan.pods):
            body = crash.pod(number, plan)
            path = f"/api/v1/namespaces/{body['metadata']['namespace']}/pods"
            wait_for(partial(_created, admin, path, body), 180, "a pod", 0.2)

    def _clear(self, plan: crash.Plan) -> None:
        for kind in ("tenantquotas", "gpupools"):
            for body in self._admin.items(f"{_API}/{kind}"):
                if body["metadata"]["name"].startswith("nonsense-"):
                    self._admin.delete(f"{_API}/{kind}/{body['metadata']['name']}")
        for space in crash.spaces(plan):
            self._admin.delete(f"{_API}/tenantquotas/{space}")
            self._admin.delete(f"/api/v1/namespaces/{space}")
        for space in crash.spaces(plan):
            wait_for(partial(self._is_gone, space), 120, f"the end of {space}", 0.2)

    def _is_gone(self, space: str) -> bool:
        return self._admin.get(f"/api/v1/namespaces/{space}").status == 404  # noqa: PLR2004

    # --- faults -----------------------------------------------------------------------------------
    def _one_fault(self, told: Told) -> None:
        name, fault = self._chance.choice(self._faults())
        told.faults.append(name)
        # What is to be killed may be dead already.
        with contextlib.suppress(RigError, KeyError, ProcessLookupError):
            fault()
        pause = time.monotonic() + self._chance.uniform(0.5, 4.0)
        while time.monotonic() < pause:
            self._keep_up()
            time.sleep(0.1)

    def _faults(self) -> list[tuple[str, Callable[[], None]]]:
        daemon = self._chance.choice(_DAEMONS)
        operator = self._chance.choice(self._operators)
        seconds = self._chance.uniform(0.5, 2.5 * _LEASE)
        return [
            *[("kill an operator", lambda: self._signal(operator, signal.SIGKILL))] * 3,
            *[("end an operator", lambda: self._signal(operator, signal.SIGTERM))] * 2,
            *[("freeze an operator", lambda: self._freeze(operator.pid, seconds))] * 3,
            *[(f"kill {daemon}", lambda: self._kill(daemon))] * 3,
            *[(f"freeze {daemon}", lambda: self._freeze(self._rig.pids()[daemon], seconds))] * 2,
            ("cut the line", self._proxy.cut),
            ("slow the line", self._slow),
            ("close the line", self._close),
            ("delete a definition", self._delete_definition),
            ("write nonsense", self._nonsense),
            ("delete a namespace", self._vanish),
        ]

    def _signal(self, operator: product.OperatorProcess, number: signal.Signals) -> None:
        with contextlib.suppress(RigError, ProcessLookupError):
            os.kill(operator.pid, number)

    def _freeze(self, pid: int, seconds: float) -> None:
        os.kill(pid, signal.SIGSTOP)
        self._frozen[pid] = time.monotonic() + seconds

    def _thaw(self, *, everybody: bool = False) -> None:
        for pid, until in list(self._frozen.items()):
            if everybody or time.monotonic() >= until:
                del self._frozen[pid]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _kill(self, daemon: str) -> None:
        os.kill(self._rig.pids()[daemon], signal.SIGKILL)

    def _slow(self) -> None:
        self._proxy.delay = self._chance.uniform(0.05, 1.0)

    def _close(self) -> None:
        self._proxy.close()

    def _delete_definition(self) -> None:
        """Delete a definition with all its objects and apply both anew, as GitOps would."""
        name = self._chance.choice(("tenantquotas", "dataresidencypolicies", "gpupools"))
        self._insist("DELETE", f"{_KINDS}/{name}.sovereign-gpu.io", None)
        self._restore()

    def _nonsense(self) -> None:
        space = next(iter(crash.spaces(self._plan)))
        for number in range(30):
            for path, body in _nonsense(number, space):
                with contextlib.suppress(OSError, RigError):
                    self._admin.request("POST", path, body)

    def _vanish(self) -> None:
        """Make a namespace of a tenant of its own with pods, and delete it under load."""
        name = f"{self._plan.prefix}-gone"
        quota = crash.quota(name, self._plan)
        for body in (crash.namespace(name), quota):
            with contextlib.suppress(RigError, OSError):
                self._admin.apply(body).must()
        self._insist("DELETE", f"/api/v1/namespaces/{name}", None)
        self._insist("DELETE", f"{_API}/tenantquotas/{name}", None)

    def _insist(self, method: str, path: str, body: Any) -> None:
        def done() -> bool:
            self._keep_up()
            with contextlib.suppress(OSError, RigError):
                answer = self._admin.request(method, path, body)
                return answer.ok or answer.status in {404, 409}
            return False

        wait_for(done, 60, f"{method} {path}", 0.2)

    # --- mending ----------------------------------------------------------------------------------
    def _keep_up(self) -> None:
        """Do what kubelets and systemd do: let go on what was frozen, start what has ended."""
        self._thaw()
        self._rig.revive()
        for operator in self._operators:
            try:
                operator.pid  # noqa: B018 – asking is the check
            except RigError:
                with contextlib.suppress(RigError, OSError):
                    operator.start(wait=False)

    def _heal(self) -> None:
        self._thaw(everybody=True)
        self._proxy.open()
        self._rig.revive()
        wait_for(self._answers, 90, "the API server to answer", 0.2)
        self._restore()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, RigError):
            return self._admin.get("/readyz").ok
        return False

    def _restore(self) -> None:
        """Apply definitions and objects until all of them are accepted."""

        def applied() -> bool:
            self._keep_up()
            with contextlib.suppress(OSError, RigError):
                return all(self._admin.apply(body).ok for body in self._wanted())
            return False

        wait_for(applied, 90, "definitions and objects to be applied", 0.5)

    def _wanted(self) -> Iterator[dict[str, Any]]:
        for path in sorted(_DEFINITIONS.glob("*.yaml")):
            yield yaml.safe_load(path.read_text("utf-8"))
        yield from crash.manifests(self._plan)


_KINDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def _created(admin: Client, path: str, body: dict[str, Any]) -> bool:
    with contextlib.suppress(OSError, RigError):
        answer = admin.create(path, body)
        return answer.ok or answer.status == 409  # noqa: PLR2004
    return False


def _nonsense(number: int, space: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield paths and bodies that mean nothing; most are refused, and none may do harm."""
    limits = {"nvidia.com/gpu": str(number - 3)}
    container = {"name": "x", "image": "x", "resources": {"limits": limits}}
    name = {"metadata": {"name": f"nonsense-{number}"}}
    yield "/api/v1/namespaces/default/pods", {**name, "spec": {"containers": [container] * 2}}
    yield (
        f"{_API}/gpupools",
        {
            "apiVersion": "sovereign-gpu.io/v1alpha1",
            "kind": "GpuPool",
            **name,
            "spec": {"location": {"country": "XX"[: number % 3], "region": "r" * number}},
        },
    )
    yield (
        f"{_API}/tenantquotas",
        {
            "apiVersion": "sovereign-gpu.io/v1alpha1",
            "kind": "TenantQuota",
            **name,
            "spec": {
                "namespaces": [space],
                "residencyPolicies": ["none"] * (number % 2),
                "pools": [{"name": "none", "guaranteed": number - 2}],
            },
        },
    )


if __name__ == "__main__":
    sys.exit(main())

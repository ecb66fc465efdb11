"""From the first create to the last binding: thousands of one-GPU pods on 1,250 nodes.

`python -m bench.burst` compares, in alternating runs on the same machine, the product with the
same pods on the same control plane without operator, policies or gate. Everything is read from
the audit log and from the kernel's accounting of each process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import audit
from rig import bulk, nodes, product, users
from rig.control_plane import Rig
from sovereign_gpu import names

TENANTS = 10
NODES = 1250
POOL = "munich-b200"
RESULTS = Path(__file__).parent / "results"
_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 900.0


@dataclass(slots=True)
class Run:
    """What one run showed."""

    way: str
    pods: int
    owned: bool
    seconds: float = 0.0
    """First create sent to last binding answered."""
    create_seconds: float = 0.0
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    operator_peak_mib: float = 0.0
    operator_writes: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    policy_ms: dict[str, float] = field(default_factory=dict)
    """Mean time of one evaluation of each admission policy, by its own account."""


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--owned", action="store_true", help="pods that have a controller")
    parser.add_argument("--way", choices=("both", "floor", "operator"), default="both")
    options = parser.parse_args()
    ways = ("floor", "operator") if options.way == "both" else (options.way,)
    runs = []
    with Rig("bench") as rig:
        for number in range(options.rounds):
            for way in ways:
                run = measure(rig, way, options.pods, options.nodes, owned=options.owned)
                print(f"round {number + 1}: {_line(run)}", flush=True)
                runs.append(run)
        rig.destroy()
    _report(runs)


def measure(rig: Rig, way: str, pods: int, count: int, *, owned: bool) -> Run:
    """Do one run on an empty cluster."""
    rig.reset()
    run = Run(way, pods, owned)
    operator = prepare(rig, count) if way == "operator" else None
    if operator is None:
        bare(rig, count)
    trail = audit.Trail(rig.audit_log)
    trail.skip()
    pids = rig.pids() | ({"operator": operator.pid} if operator else {})
    before = {name: cpu(pid) for name, pid in pids.items()}
    started = time.time()
    create(rig, pods, owned=owned)
    run.create_seconds = time.time() - started
    events = wait_bound(trail, pods)
    run.seconds = max(audit.seconds(e) for e in events if audit.what(e) == BINDING) - started
    run.cpu_seconds = {name: cpu(pid) - before[name] for name, pid in pids.items()}
    run.requests = dict(Counter(audit.what(e) for e in events if e["verb"] != "watch"))
    run.policy_ms = policy_costs(rig)
    if operator:
        run.operator_writes = dict(audit.by_verb(events, audit.OPERATOR))
        run.operator_peak_mib = peak_mib(operator.pid)
        operator.terminate()
    return run


BINDING = "create pods/binding"


def bare(rig: Rig, count: int) -> None:
    """Nodes and namespaces, nothing of the product."""
    admin = rig.client(users.PLATFORM_ADMIN)
    for tenant in range(TENANTS):
        admin.apply(namespace(tenant)).must()
    nodes.create_nodes(rig, count)


def prepare(rig: Rig, count: int) -> product.OperatorProcess:
    """Install the product, ten tenants and the nodes; return the operator, ready."""
    admin = rig.client(users.PLATFORM_ADMIN)
    product.install(rig)
    for manifest in (
        pool(),
        policy(),
        *map(namespace, range(TENANTS)),
        *map(quota, range(TENANTS)),
    ):
        admin.apply(manifest).must()
    nodes.create_nodes(rig, count, pool=POOL)
    operator = product.OperatorProcess(rig).start()
    path = "/apis/sovereign-gpu.io/v1alpha1/gpupools/" + POOL
    admin.wait(path, lambda o: o.get("status", {}).get("gpus", {}).get("free") == 8 * count, 120)
    for tenant in range(TENANTS):
        admin.wait(
            f"/api/v1/namespaces/{_name(tenant)}",
            lambda o: "sovereign-gpu.io/regions" in o["metadata"].get("annotations", {}),
            60,
        )
    marked = names.NODE_RESIDENCY_PREFIX + "eu-only=" + names.NODE_ALLOWED
    admin.wait("/api/v1/nodes", lambda o: len(o["items"]) == count, 120, labelSelector=marked)
    return operator


def create(rig: Rig, pods: int, *, owned: bool, first: int = 0) -> None:
    """Create the pods, 32 requests in flight; `first` is the number of the first one."""
    owners = _owners(rig) if owned else {}
    requests = (
        ("POST", f"/api/v1/namespaces/{_name(i % TENANTS)}/pods", pod(i, owners))
        for i in range(first, first + pods)
    )
    bulk.send(rig, users.PLATFORM_ADMIN, requests)


def _owners(rig: Rig) -> dict[str, str]:
    # Any object that exists and controls: what matters is that the pod has an owner.
    admin = rig.client(users.PLATFORM_ADMIN)
    found = {}
    for tenant in range(TENANTS):
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "owner", "namespace": _name(tenant)},
        }
        found[_name(tenant)] = admin.apply(body).must()["metadata"]["uid"]
    return found


def wait_bound(trail: audit.Trail, pods: int) -> list[dict[str, Any]]:
    """Follow the audit log until all pods are bound; return all events."""
    events: list[dict[str, Any]] = []
    deadline = time.monotonic() + _PATIENCE
    bound = 0
    while bound < pods:
        if time.monotonic() > deadline:
            raise SystemExit(f"{bound} of {pods} pods bound after {_PATIENCE:.0f} s")
        for event in trail.events():
            events.append(event)
            bound += audit.what(event) == BINDING and audit.succeeded(event)
        time.sleep(0.5)
    return events


def policy_costs(rig: Rig) -> dict[str, float]:
    """Return milliseconds per evaluation of each policy, from the API server's metrics."""
    text = str(rig.client(users.PLATFORM_ADMIN).get("/metrics").body)
    found: dict[str, dict[str, float]] = {}
    pattern = (
        r"^apiserver_(?:valid|mut)ating_admission_policy_check_duration_seconds_(sum|count)"
        r'{[^}]*policy="([^"]+)"[^}]*} (\S+)$'
    )
    for part, policy, value in re.findall(pattern, text, re.MULTILINE):
        sums = found.setdefault(policy, {})
        sums[part] = sums.get(part, 0.0) + float(value)
    return {
        f"{name} x{sums['count']:.0f}": round(1000 * sums["sum"] / sums["count"], 3)
        for name, sums in found.items()
        if sums.get("count")
    }


def cpu(pid: int) -> float:
    """Return the CPU seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_mib(pid: int) -> float:
    """Return the largest resident size of a process so far, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def _name(tenant: int) -> str:
    return f"bench-{tenant}"


def namespace(tenant: int) -> dict[str, Any]:
    """Return the namespace of a tenant."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _name(tenant)}}


def pool() -> dict[str, Any]:
    """Return the pool."""
    return {
        "apiVersion": "sovereign-gpu.io/v1alpha1",
        "kind": "GpuPool",
        "metadata": {"name": POOL},
        "spec": {"location": {"country": "DE", "region": "eu-de-muc"}},
    }


def policy() -> dict[str, Any]:
    """Return the policy."""
    return {
        "apiVersion": "sovereign-gpu.io/v1alpha1",
        "kind": "DataResidencyPolicy",
        "metadata": {"name": "eu-only"},
        "spec": {"countries": {"sets": ["EU"]}},
    }


def quota(tenant: int) -> dict[str, Any]:
    """Return the quota of a tenant: a tenth of the pool."""
    return {
        "apiVersion": "sovereign-gpu.io/v1alpha1",
        "kind": "TenantQuota",
        "metadata": {"name": f"tenant-{tenant}"},
        "spec": {
            "namespaces": [_name(tenant)],
            "residencyPolicies": ["eu-only"],
            "pools": [{"name": POOL, "guaranteed": NODES * 8 // TENANTS}],
        },
    }


def pod(number: int, owners: dict[str, str]) -> dict[str, Any]:
    """Return a one-GPU pod; it tolerates the GPU taint itself, so that the floor can use it."""
    space = _name(number % TENANTS)
    metadata: dict[str, Any] = {"name": f"pod-{number:05d}", "namespace": space}
    if owners:
        metadata["ownerReferences"] = [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "name": "owner",
                "uid": owners[space],
                "controller": True,
            }
        ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "tolerations": [
                {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
            ],
            "containers": [
                {
                    "name": "main",
                    "image": "example.com/train:1",
                    "resources": {
                        "requests": {"cpu": "8", "memory": "64Gi"},
                        "limits": {"nvidia.com/gpu": "1"},
                    },
                }
            ],
        },
    }


def _line(run: Run) -> str:
    cpus = " ".join(f"{name} {used:.0f}" for name, used in run.cpu_seconds.items())
    return f"{run.way:<9} {run.seconds:6.1f} s ({run.pods / run.seconds:5.1f}/s) CPU s: {cpus}"


def _report(runs: list[Run]) -> None:
    RESULTS.mkdir(exist_ok=True)
    kind = "owned" if runs[0].owned else "bare"
    path = RESULTS / f"burst-{runs[0].pods}-{kind}.json"
    path.write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n")
    medians = {}
    for way in dict.fromkeys(run.way for run in runs):
        mine = [run for run in runs if run.way == way]
        medians[way] = statistics.median(run.seconds for run in mine)
        print(f"\n{way}: median {medians[way]:.1f} s of {len(mine)} runs")
        for part in mine[0].cpu_seconds:
            print(f"  CPU {part}: {statistics.median(r.cpu_seconds[part] for r in mine):.1f} s")
        for what, number in sorted(mine[-1].requests.items(), key=lambda item: -item[1])[:12]:
            print(f"  {what}: {number}")
    for run in runs:
        if run.way == "operator":
            per_pod = 1000 * run.cpu_seconds["operator"] / run.pods
            print(
                f"operator: {per_pod:.2f} ms CPU per pod, peak {run.operator_peak_mib:.0f} MiB, "
                f"writes {run.operator_writes}"
            )
            print(f"milliseconds per evaluation: {run.policy_ms}")
    if len(medians) == 2:  # noqa: PLR2004
        print(f"\nratio operator / floor: {medians['operator'] / medians['floor']:.2f} (bar 1.4)")


if __name__ == "__main__":
    main()

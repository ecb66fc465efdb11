"""How long `why`, `queue`, `top` and `nodes` take, as people type them, with 10,000 pods.

`python -m bench.cli` starts each command as a process of its own, from its start to its end: asked
of the operator with a token, and worked out from the cluster when the operator is not asked. Nearly
all pods wait, on 1,250 nodes; how soon a new one is told why is read from the audit log.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import audit, burst
from rig import product, users
from rig.client import wait_for
from rig.control_plane import Rig

GUARANTEED = 50
"""GPUs per tenant, so that 500 of the pods run."""
SPACE = "bench-0"
COMMANDS: dict[str, tuple[str, ...]] = {
    "why": ("why", f"{SPACE}/pod-09990"),
    "queue of one namespace": ("queue", "-n", SPACE),
    "queue of all": ("queue", "-A"),
    "top": ("top", "-A"),
    "nodes": ("nodes", "-A"),
    "nodes one by one": ("nodes", "-A", "-o", "wide"),
}
TOLD = "patch pods/status"
_CODES = {0, 3}
_PATIENCE = 900.0
_RBAC = "rbac.authorization.k8s.io"


@dataclass(slots=True)
class Typed:
    """One command, in seconds: medians of its whole process."""

    wall: float
    cpu: float
    """Its own; what is left of `wall` is the servers' time and the machine's other work."""


@dataclass(slots=True)
class Result:
    """What was measured, in seconds unless said otherwise."""

    pods: int
    nodes: int
    rounds: int
    asked: dict[str, Typed] = field(default_factory=dict)
    """Per command, answered by the operator."""
    alone: dict[str, Typed] = field(default_factory=dict)
    """Per command, worked out from the cluster."""
    never_fits_told: float = 0.0
    """Median time from creation to the reason on the pod."""
    quota_exhausted_told: float = 0.0
    operator_peak_mib: float = 0.0


def main() -> None:
    """Run the measurement and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--nodes", type=int, default=burst.NODES)
    options = parser.parse_args()
    result = Result(options.pods, options.nodes, options.rounds)
    with Rig("bench-cli") as rig:
        rig.reset()
        measure(rig, result)
        rig.destroy()
    burst.RESULTS.mkdir(exist_ok=True)
    path = burst.RESULTS / f"cli-{options.pods}.json"
    path.write_text(json.dumps(asdict(result), indent=1) + "\n")
    print(f"{'command':<24} {'operator':>9} {'(CPU)':>9} {'alone':>9} {'(CPU)':>9}   s, medians")
    for name, asked in result.asked.items():
        alone = result.alone[name]
        print(f"{name:<24} {asked.wall:9.2f} {asked.cpu:9.2f} {alone.wall:9.2f} {alone.cpu:9.2f}")
    print(
        f"told: NeverFits after {result.never_fits_told:.2f} s (bar 1), "
        f"QuotaExhausted after {result.quota_exhausted_told:.2f} s (bar 5)"
    )
    print(f"operator, largest resident size: {result.operator_peak_mib:.0f} MiB")


def measure(rig: Rig, result: Result) -> None:
    """Fill the cluster and type the commands."""
    operator = burst.prepare(rig, result.nodes)
    try:
        _measure(rig, result, operator)
    finally:
        operator.terminate()


def _measure(rig: Rig, result: Result, operator: product.OperatorProcess) -> None:
    admin = rig.client(users.PLATFORM_ADMIN)
    for tenant in range(burst.TENANTS):
        quota = burst.quota(tenant)
        quota["spec"]["pools"][0]["guaranteed"] = GUARANTEED
        admin.apply(quota).must()
    burst.create(rig, result.pods, owned=False)
    waiting = result.pods - burst.TENANTS * GUARANTEED
    wait_for(lambda: _waiting(operator) >= waiting, _PATIENCE, f"{waiting} pods to wait")
    trail = audit.Trail(rig.audit_log)
    trail.skip()
    # The notices of the thousands are still being written.
    result.never_fits_told = _time_to_tell(rig, trail, "never", 9, result.rounds)
    result.quota_exhausted_told = _time_to_tell(rig, trail, "late", 1, result.rounds)
    kubeconfig = _administrator(rig)
    way = ("--server", operator.read_api, "--insecure-skip-tls-verify")
    for name, words in COMMANDS.items():
        result.asked[name] = _typed(kubeconfig, (*words, *way), result.rounds)
        result.alone[name] = _typed(kubeconfig, words, result.rounds)
        print(f"{name}: {result.asked[name]}, alone {result.alone[name]}", flush=True)
    result.operator_peak_mib = burst.peak_mib(operator.pid)


def _waiting(operator: product.OperatorProcess) -> float:
    """Return how many pods the operator knows to wait."""
    found = re.findall(
        r"^sovereign_gpu_tenant_waiting_pods{[^}]*} (\S+)$", operator.metrics(), re.MULTILINE
    )
    return sum(map(float, found))


def _time_to_tell(rig: Rig, trail: audit.Trail, word: str, gpus: int, rounds: int) -> float:
    """Create pods that will wait, one after the other; return the median time to their reason."""
    admin = rig.client(users.PLATFORM_ADMIN)
    taken = []
    for number in range(rounds):
        body = burst.pod(0, {})
        body["metadata"]["name"] = f"{word}-{number}"
        body["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = str(gpus)
        found: dict[str, float] = {}
        admin.create(f"/api/v1/namespaces/{SPACE}/pods", body).must()

        def told(name: str = f"{word}-{number}", found: dict[str, float] = found) -> bool:
            for event in trail.events():
                if event.get("objectRef", {}).get("name") == name:
                    found.setdefault(audit.what(event), audit.seconds(event))
            return TOLD in found

        wait_for(told, 60.0, f"{word}-{number} to be told", longest_pause=0.05)
        taken.append(found[TOLD] - found["create pods"])
    return round(statistics.median(taken), 3)


def _administrator(rig: Rig) -> Path:
    """Return the kubeconfig of a service account that may do everything: it has a token."""
    admin = rig.client(users.PLATFORM_ADMIN)
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": "default"}
    binding = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "bench-cli"},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [subject],
    }
    admin.apply(binding).must()
    return rig.service_account_kubeconfig("default", "default")


def _typed(kubeconfig: Path, words: tuple[str, ...], rounds: int) -> Typed:
    environment = {
        **os.environ,
        "PYTHONPATH": str(product.TREE / "operator"),
        "KUBECONFIG": str(kubeconfig),
    }
    wall, cpu = [], []
    for _ in range(rounds):
        began, before = time.perf_counter(), _children_cpu()
        done = subprocess.run(
            [sys.executable, "-m", "sovereign_gpu", *words],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        wall.append(time.perf_counter() - began)
        cpu.append(_children_cpu() - before)
        if done.returncode not in _CODES or not done.stdout:
            raise SystemExit(f"{' '.join(words)}: {done.returncode} {done.stderr}")
    return Typed(round(statistics.median(wall), 3), round(statistics.median(cpu), 3))


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()

"""How soon a changed label is judged when 10,000 pods run on 1,250 nodes, and what judging costs.

`python -m bench.drift` measures verdicts and decisions in process; then it fills a control plane
with pods, relabels nodes to another region as a platform administrator, and waits until the status
of the policy counts the pods that run there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import replace

from bench import big_cluster as big
from bench import burst
from rig import bulk, nodes, product, users
from rig.client import Client, wait_for
from rig.control_plane import Rig
from sovereign_gpu import names
from sovereign_gpu.core.drift import Judge
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.eviction import decide
from sovereign_gpu.core.model import Pod

ABROAD = "us-east-1"
POLICY = "/apis/sovereign-gpu.io/v1alpha1/dataresidencypolicies/eu-only"
FEW, MANY = 1, 50
"""Nodes relabelled at a time; with eight pods each, 50 nodes hold 4 % of the pods."""
_POLL = 0.02
_REPEATS = 20


def main() -> None:
    """Measure, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=big.PODS)
    parser.add_argument("--nodes", type=int, default=big.NODES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-process", action="store_true", help="without a control plane")
    options = parser.parse_args()
    figures: dict[str, object] = {"in process, ms": in_process()}
    if not options.in_process:
        figures["label change to status, s"] = on_a_cluster(
            options.pods, options.nodes, options.rounds
        )
    for name, found in figures.items():
        print(name, json.dumps(found, indent=1))
    if not options.in_process:
        burst.RESULTS.mkdir(exist_ok=True)
        (burst.RESULTS / "drift.json").write_text(json.dumps(figures, indent=1) + "\n")


# --- in process -------------------------------------------------------------------------------
def in_process() -> dict[str, float]:
    """Return the medians of what one verdict and one decision take."""
    engine = big.engine(guaranteed=big.PODS)
    for number in range(big.PODS):
        node = f"gpu-{number // big.GPUS_PER_NODE:04d}"
        engine.put_pod(big.released(big.pod(number), node, bound=True))
    judge = Judge(engine)
    found = {"all pods, nothing wrong": timed(lambda: everything(judge))}
    found["the part of them judged in one turn"] = timed(lambda: part(judge))
    everything(judge)
    found["one node, moved and back"] = timed(lambda: one_node(engine, judge))
    found["decision, nobody guilty"] = timed(lambda: decided(judge))
    for name, moved_nodes in (("4 %", MANY), ("all", big.NODES)):
        for number in range(moved_nodes):
            relabel(engine, judge, f"gpu-{number:04d}", ABROAD)
        found[f"verdicts on {name} of the pods"] = timed(lambda: everything(judge))
        evicts(engine, judge)
        found[f"decision, {name} of the pods guilty"] = timed(lambda: decided(judge))
    return {name: round(value, 3) for name, value in found.items()}


def timed(act: object) -> float:
    """Return the median time of a call in milliseconds."""
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        act()  # type: ignore[operator]
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def part(judge: Judge) -> None:
    """Judge as many pods as the loop does in one turn."""
    judge.everything()
    judge.look(500)


def everything(judge: Judge) -> None:
    """Judge all pods."""
    judge.everything()
    judge.look()


def one_node(engine: Engine, judge: Judge) -> None:
    """Judge the pods of a node that moves away and comes back: two verdicts."""
    for region in (ABROAD, big.REGION):
        relabel(engine, judge, "gpu-0000", region)
        judge.look()


def decided(judge: Judge) -> None:
    """Decide once."""
    decide(judge, time.time(), 100, lambda _: False)


def relabel(engine: Engine, judge: Judge, name: str, region: str) -> None:
    """Show engine and judge a node in a region."""
    node = engine.nodes[name]
    engine.put_node(replace(node, labels={**node.labels, names.REGION_LABEL: region}))
    judge.node(name)


def evicts(engine: Engine, judge: Judge) -> None:
    """Let the policy evict, confirmed, after an hour."""
    policies = [
        replace(each, evicts=True, grace=3600, generation=1, confirmed=1)
        for each in engine.policies.values()
    ]
    engine.configure(engine.pools.values(), engine.tenants.values(), policies)
    everything(judge)
    for each in decide(judge, time.time(), 0, lambda _: False).announce:
        shown: Pod = replace(each.pod, notice=each.notice.text())
        engine.put_pod(shown)
        judge.pod(shown.uid)


# --- on a cluster -----------------------------------------------------------------------------
def on_a_cluster(pods: int, count: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds from the first patch sent to the status that counts all pods there."""
    found: dict[str, list[float]] = {}
    with Rig("bench-drift") as rig:
        rig.reset()
        names_of_nodes = nodes.create_nodes(rig, count, pool=burst.POOL)
        fill(rig, pods, names_of_nodes)
        operator = start(rig, pods, count)
        admin = rig.client(users.PLATFORM_ADMIN)
        for some in (FEW, MANY):
            chosen, guilty = names_of_nodes[:some], some * big.GPUS_PER_NODE
            times = found[f"{some} nodes, {guilty} of {pods} pods"] = []
            used = found[f"{some} nodes, CPU of the operator"] = []
            for _ in range(rounds):
                before = burst.cpu(operator.pid)
                times.append(round(moved(rig, admin, chosen, ABROAD, guilty), 3))
                used.append(round(burst.cpu(operator.pid) - before, 3))
                times.append(round(moved(rig, admin, chosen, big.REGION, 0), 3))
                print(f"{some} nodes: away {times[-2]} s, back {times[-1]} s", flush=True)
        found["load average"] = [round(value, 1) for value in os.getloadavg()]
        operator.terminate()
        rig.destroy()
    return found


def fill(rig: Rig, pods: int, places: list[str]) -> None:
    """Create running pods before the product is there: nobody has to schedule or release them."""
    admin = rig.client(users.PLATFORM_ADMIN)
    for tenant in range(burst.TENANTS):
        admin.apply(burst.namespace(tenant)).must()
    bulk.send(rig, users.PLATFORM_ADMIN, (placed(n, places) for n in range(pods)))


def placed(number: int, places: list[str]) -> bulk.Request:
    """Return the request that creates a pod on its node."""
    body = burst.pod(number, {})
    body["spec"]["nodeName"] = places[number // big.GPUS_PER_NODE]
    return "POST", f"/api/v1/namespaces/{body['metadata']['namespace']}/pods", body


def start(rig: Rig, pods: int, count: int) -> product.OperatorProcess:
    """Install the product and start the operator; it is ready and has counted all pods."""
    admin = rig.client(users.PLATFORM_ADMIN)
    product.install(rig)
    for manifest in (burst.pool(), burst.policy(), *map(burst.quota, range(burst.TENANTS))):
        admin.apply(manifest).must()
    # How soon is judged is the question here, not whether a busy machine renews a lease in time.
    operator = product.OperatorProcess(rig, arguments=("--lease-seconds", "120")).start()
    path = "/apis/sovereign-gpu.io/v1alpha1/gpupools/" + burst.POOL
    admin.wait(path, lambda o: o.get("status", {}).get("gpus", {}).get("counted") == pods, 300)
    admin.wait(POLICY, lambda o: o.get("status", {}).get("violations", {}).get("now") == 0, 300)
    marked = names.NODE_RESIDENCY_PREFIX + "eu-only=" + names.NODE_ALLOWED
    admin.wait("/api/v1/nodes", lambda o: len(o["items"]) == count, 300, labelSelector=marked)
    return operator


def moved(rig: Rig, admin: Client, chosen: list[str], region: str, violations: int) -> float:
    """Relabel nodes and wait until the policy counts so many pods in violation; seconds."""
    body = {"metadata": {"labels": {names.REGION_LABEL: region}}}
    start = time.perf_counter()
    bulk.send(
        rig,
        users.PLATFORM_ADMIN,
        [("PATCH", f"/api/v1/nodes/{name}", body) for name in chosen],
        len(chosen),
    )
    wait_for(
        lambda: admin.get(POLICY).must()["status"]["violations"]["now"] == violations,
        60.0,
        f"{violations} violations",
        longest_pause=_POLL,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

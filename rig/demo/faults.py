"""Machines fail under running pods: capacity leaves at once, pods stay counted, all comes back."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rig import bulk, nodes, users
from rig.demo import crowd, facts
from rig.demo.facts import BIND, during
from rig.demo.manifests import GPUS_PER_NODE, HOME_POOL
from rig.demo.scene import OBJECTS
from rig.errors import RigError
from sovereign_gpu import names
from sovereign_gpu.core.health import FaultKind

if TYPE_CHECKING:
    from rig.demo.pods import Pod
    from rig.demo.scene import Scene

_FAILED_DEVICES = 3
_LEAST_NODES, _ONE_IN = 4, 200
"""Nodes upgraded beyond what no guarantee needs: so many, or one in so many if that is more."""
_FREED = 3
"""Pods that end on nodes with a fault, so that there would be room."""
_PATIENCE = 30.0
_UPGRADING, _UPGRADED = "pod-restart-required", "upgrade-done"
_POOL = f"{OBJECTS}/gpupools/{HOME_POOL}"


@dataclass(slots=True)
class Faults:
    """What is broken.

    Attributes:
        devices: node whose kubelet reports fewer GPUs as allocatable.
        silent: node whose kubelet reports NotReady.
        upgrading: nodes whose driver the GPU operator replaces.
        began: when the first fault was reported, in seconds since the epoch.
        told: when the product had answered all of them.
        running: pods on these nodes then.
        freed: nodes on which a pod ended during the fault.
    """

    devices: str
    silent: str
    upgrading: list[str]
    began: float
    told: float = 0.0
    running: list[Pod] = field(default_factory=list)
    freed: set[str] = field(default_factory=set)

    @property
    def nodes(self) -> set[str]:
        """All of them."""
        return {self.devices, self.silent, *self.upgrading}

    @property
    def kinds(self) -> dict[str, tuple[int, int]]:
        """Nodes and GPUs by kind, in the words of the product."""
        upgrading = len(self.upgrading)
        return {
            FaultKind.DEVICES_UNHEALTHY: (1, _FAILED_DEVICES),
            FaultKind.NOT_READY: (1, GPUS_PER_NODE),
            FaultKind.DRIVER_UPGRADE: (upgrading, upgrading * GPUS_PER_NODE),
        }

    @property
    def lost(self) -> int:
        """GPUs that cannot be given out."""
        return sum(gpus for _, gpus in self.kinds.values())


def strike(stage: Scene) -> Faults:
    """Let devices, a kubelet and a row of drivers fail under running pods."""
    found = _chosen(stage)
    kubelet = stage.rig.client(f"{users.KUBELET_PREFIX}{found.devices}")
    nodes.set_allocatable_gpus(kubelet, found.devices, GPUS_PER_NODE - _FAILED_DEVICES)
    nodes.set_ready(stage.admin, found.silent, ready=False)
    _label(stage, found.upgrading, _UPGRADING)
    stage.screen.line(
        f"{found.devices}: its kubelet reports {_FAILED_DEVICES} GPUs as unhealthy; "
        f"{found.silent}: NotReady; {len(found.upgrading)} nodes: driver upgrade begins"
    )
    began = time.time()
    status = _wait_pool(stage, found.lost)
    found.told = time.time()
    kinds = {each["kind"]: (each["nodes"], each["gpus"]) for each in status["faults"]}
    stage.screen.expect(
        "capacity leaves at once",
        kinds == found.kinds,
        f"{found.lost} GPUs lost, {found.told - began:.1f} s after the last report: "
        + ", ".join(f"{kind} on {number} nodes" for kind, (number, _) in sorted(kinds.items())),
    )
    pods = stage.pods()
    found.running = [each for each in pods if each.running and each.node in found.nodes]
    _stay_counted(stage, found, {each.name: crowd.bound(pods, each) for each in stage.tenants})
    _tenants_see(stage, found)
    return found


def _stay_counted(stage: Scene, found: Faults, bound: dict[str, int]) -> None:
    stage.screen.follow(
        stage.board.draw, lambda: _used(stage) == bound, _PATIENCE, f"{bound} to be counted as used"
    )
    stage.screen.expect(
        "pods there run on and stay counted",
        found.running,
        f"{len(found.running)} pods; used is what all bound pods hold: {_said(bound)}",
    )


def _tenants_see(stage: Scene, found: Faults) -> None:
    """Compare what each tenant is told with what the nodes and pods add up to."""
    promised = sum(each.guaranteed for each in stage.tenants)
    missing = max(0, promised - (stage.gpus - found.lost))
    holding: Counter[str] = Counter()
    for each in found.running:
        holding[stage.tenant_of(each.namespace).name] += each.gpus

    def told() -> tuple[dict[str, int], dict[str, int]]:
        totals = {name: total for name, total in _totals(stage).items() if total}
        return (
            {name: total["lost"] for name, total in totals.items() if total.get("lost")},
            {name: n for name, total in totals.items() if (n := total.get("onFaultyNodes"))},
        )

    stage.screen.follow(
        stage.board.draw,
        lambda: sum(told()[0].values()) == missing and told()[1] == holding,
        _PATIENCE,
        "the tenants' statuses to say what is lost",
    )
    lost, on_faulty = told()
    stage.screen.expect(
        "every tenant sees its part of what is lost, and what it holds on such nodes",
        sum(lost.values()) == missing and on_faulty == holding,
        f"{missing} of {promised:,} promised GPUs: {_said(lost)}; on faulty nodes {_said(holding)}",
    )


def make_room(stage: Scene, found: Faults) -> None:
    """Let pods end on nodes with a fault: the room may not be given out."""
    ending = [
        each
        for each in found.running
        if each.owner == "Job" and each.gpus == GPUS_PER_NODE and each.node in found.upgrading
    ][:_FREED]
    tenant = stage.tenant_of(ending[0].namespace)
    used = _used(stage)[tenant.name]
    freed = sum(each.gpus for each in ending)
    found.freed = {each.node for each in ending}
    crowd.end_some(stage, tenant, ending)
    crowd.follow(
        stage,
        lambda: stage.board.row(tenant.name).used <= used - freed,
        f"{freed} GPUs of {tenant.name} to come free",
    )
    stage.screen.line(f"{len(ending)} pods end on nodes whose driver is being replaced")


def recover(stage: Scene, found: Faults) -> None:
    """See that nothing was bound meanwhile, and that everything is back the moment it is well."""
    pods = stage.pods()
    stage.trail.read()
    there = [
        each
        for each in during(stage.trail.steps, found.told, time.time(), BIND)
        if facts.target(each) in found.nodes
    ]
    waiting = sum(each.gated and each.fits for each in pods)
    stage.screen.expect(
        "nothing was bound on a node with a fault, although pods wait and GPUs are free there",
        not there and waiting,
        f"{len(there)} bindings, {waiting} pods wait, {len(found.freed) * GPUS_PER_NODE} GPUs free",
    )
    now = {each.uid: each.node for each in pods if each.running}
    kept = [each for each in found.running if each.node not in found.freed]
    moved = [each for each in kept if now.get(each.uid) != each.node]
    stage.screen.expect("nobody there was touched", not moved, f"{len(kept)} pods run on")
    began = time.time()
    kubelet = stage.rig.client(f"{users.KUBELET_PREFIX}{found.devices}")
    nodes.set_allocatable_gpus(kubelet, found.devices, GPUS_PER_NODE)
    nodes.set_ready(stage.admin, found.silent, ready=True)
    _label(stage, found.upgrading, _UPGRADED)
    stage.screen.record.span("faults", f"{found.lost} GPUs lost", found.began)

    def used_again() -> bool:
        bound = during(stage.trail.steps, began, time.time(), BIND)
        return found.freed <= {facts.target(each) for each in bound}

    crowd.follow(stage, used_again, "the nodes that are well again to be used")
    took = time.time() - began
    status = _wait_pool(stage, 0)
    stage.screen.expect(
        "nodes that are well again are used again",
        not status["faults"],
        f"pods that waited are bound there after {took:.1f} s; 0 GPUs lost",
    )


def _chosen(stage: Scene) -> Faults:
    """Choose nodes full of one Job pod for row and silence, and one of many pods for devices."""
    by_node: dict[str, list[Pod]] = defaultdict(list)
    for each in stage.pods():
        if each.running and not each.notice:
            by_node[each.node].append(each)
    first = stage.tenants[0].namespaces
    whole = sorted(
        node
        for node, pods in by_node.items()
        if [each.gpus for each in pods if each.owner == "Job" and each.namespace in first]
        == [GPUS_PER_NODE]
    )
    small = [node for node, pods in by_node.items() if node not in whole and pods[0].gpus]
    spare = stage.gpus - sum(each.guaranteed for each in stage.tenants)
    row = spare // GPUS_PER_NODE + max(_LEAST_NODES, stage.size // _ONE_IN)
    if not small or len(whole) <= row:
        raise RigError(
            f"the hall is too small: {len(whole)} nodes run one large pod, needs {row + 1}"
        )
    return Faults(max(small), whole[0], whole[1 : 1 + row], time.time())


def _label(stage: Scene, targets: list[str], state: str) -> None:
    body = {"metadata": {"labels": {names.DRIVER_UPGRADE_STATE: state}}}
    requests = [("PATCH", f"/api/v1/nodes/{each}", body) for each in targets]
    bulk.send(stage.rig, users.PLATFORM_ADMIN, requests)


def _wait_pool(stage: Scene, lost: int) -> Any:
    return stage.admin.wait(_POOL, lambda body: body["status"]["gpus"]["lost"] == lost, _PATIENCE)[
        "status"
    ]


def _totals(stage: Scene) -> dict[str, dict[str, int]]:
    found = stage.admin.get(f"{OBJECTS}/tenantquotas").must()["items"]
    return {each["metadata"]["name"]: each["status"]["total"] for each in found}


def _used(stage: Scene) -> dict[str, int]:
    return {name: total["used"] for name, total in _totals(stage).items()}


def _said(gpus: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(gpus.items()))

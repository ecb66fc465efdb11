"""A policy is narrowed by mistake, under all running pods: alarm, standstill, and no eviction."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rig.client import wait_for
from rig.demo import crowd
from rig.demo.cheats import pod
from rig.demo.drift import POLICY_PATH, SHOWN, drifting, wait_policy
from rig.demo.facts import BIND, EVICT, during
from rig.demo.manifests import GPUS_PER_NODE
from rig.demo.scene import COMPANIONS, allowed_nodes
from sovereign_gpu.core.model import Reason

if TYPE_CHECKING:
    from rig.demo.pods import Pod
    from rig.demo.scene import Scene

_AT_HOME = "DE"
_AWAITING = "AwaitingConfirmation"
_FREED = 3
_PATIENCE = 60.0


def narrow(stage: Scene) -> None:
    """Take Germany off the policy of all tenants, see what follows, and put it back."""
    pods = len(_running(stage))
    _exclude(stage, [_AT_HOME])
    began = time.time()
    stage.screen.line(f"spec.countries.exclude: [{_AT_HOME}], in a policy that evicts")
    before = _is_judged(stage, pods, began)
    wait_for(lambda: not allowed_nodes(stage.admin), _PATIENCE, "the marks of nodes to go", 1.0)
    closed = time.time()
    _newcomer_is_told(stage)
    ending = _make_room(stage, before)
    _nothing_moved(stage, before, ending, closed)
    _exclude(stage, [])
    stage.screen.record.span("drift", f"policy without {_AT_HOME}", began)
    _is_well(stage)


def _is_judged(stage: Scene, pods: int, began: float) -> list[Pod]:
    """Return the pods that run, all of them in violation."""
    wait_policy(stage, lambda s: s["violations"]["now"] >= pods)
    took = time.time() - began
    # One that was just being bound counts as well.
    before = _running(stage)
    status = wait_policy(
        stage,
        lambda s: s["violations"]["now"] == len(before) and drifting(s)["reason"] == _AWAITING,
    )
    stage.screen.expect(
        "all running pods are judged again",
        status["violations"]["now"] == len(before),
        f"{len(before):,} run and are in violation, the status says so {took:.1f} s later",
    )
    stage.screen.expect(
        "so many at once are rather a mistake: nobody is evicted without a confirmation",
        not status["violations"]["announced"],
        drifting(status)["message"][:SHOWN],
    )
    return before


def _running(stage: Scene) -> list[Pod]:
    return [each for each in stage.pods() if each.node and each.lives]


def _newcomer_is_told(stage: Scene) -> None:
    tenant = stage.tenants[-1]
    body = pod("too-late")
    path = f"/api/v1/namespaces/{tenant.namespaces[0]}/pods"
    stage.rig.client(tenant.user).create(path, body).must()
    began = time.time()
    found = stage.admin.wait(
        f"{path}/too-late",
        lambda each: Reason.NO_ELIGIBLE_POOL in each["status"]["conditions"][0]["message"],
        _PATIENCE,
    )
    message = found["status"]["conditions"][0]["message"]
    stage.screen.expect(
        "a new pod is told at once that nothing is eligible",
        message.startswith(Reason.NO_ELIGIBLE_POOL),
        f"{time.time() - began:.1f} s: {message}",
    )
    stage.admin.delete(f"{path}/too-late").must()


def _make_room(stage: Scene, before: list[Pod]) -> list[Pod]:
    tenant = stage.tenants[0]
    own = [each for each in before if each.namespace in tenant.namespaces]
    ending = crowd.chosen_to_end(own, _FREED * GPUS_PER_NODE)
    stage.board.read()
    used = stage.board.row(tenant.name).used
    crowd.end_some(stage, tenant, ending)
    freed = sum(each.gpus for each in ending)
    crowd.follow(
        stage,
        lambda: stage.board.row(tenant.name).used <= used - freed,
        f"{freed} GPUs of {tenant.name} to come free",
    )
    return ending


def _nothing_moved(stage: Scene, before: list[Pod], ending: list[Pod], closed: float) -> None:
    now = {each.uid: each.node for each in stage.pods() if each.running}
    stage.trail.read()
    since = (stage.trail.steps, closed, time.time())
    bound = [each for each in during(*since, BIND) if each.pod[0] in set(stage.namespaces)]
    stage.screen.expect(
        "nothing new is bound, although GPUs come free and pods wait",
        not bound,
        f"{len(bound)} bindings, {sum(each.gpus for each in ending)} GPUs free",
    )
    ended = {each.uid for each in ending}
    lost = [each for each in before if each.uid not in ended and each.uid not in now]
    evicted = during(*since, EVICT)
    stage.screen.expect(
        "and nobody who runs is touched",
        not lost and not evicted,
        f"{len(before) - len(ended):,} pods run on, {len(evicted)} evictions",
    )


def _is_well(stage: Scene) -> None:
    began = time.time()
    first = len(stage.trail.steps)
    status = wait_policy(stage, lambda s: not s["violations"]["now"])
    judged = time.time() - began
    crowd.follow(
        stage,
        lambda: any(each.what == BIND for each in stage.trail.steps[first:]),
        "pods to be bound again",
    )
    marked = stage.size + COMPANIONS
    wait_for(lambda: allowed_nodes(stage.admin) == marked, _PATIENCE, "marks on all nodes", 1.0)
    stage.screen.expect(
        "the mistake is taken back, and all is well",
        not status["violations"]["now"],
        f"0 in violation after {judged:.1f} s; {marked:,} nodes marked and pods bound again after "
        f"{time.time() - began:.1f} s",
    )


def _exclude(stage: Scene, countries: list[str]) -> None:
    stage.admin.patch(POLICY_PATH, {"spec": {"countries": {"exclude": countries}}}).must()

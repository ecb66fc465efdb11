"""A node moves abroad under running pods: judged, announced, evicted, and replaced at home."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rig.demo import crowd, facts
from rig.demo.facts import BIND, during
from rig.demo.manifests import POLICY
from rig.demo.scene import AWAY, HOME, OBJECTS
from rig.errors import RigError
from sovereign_gpu import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from rig.demo.pods import Pod
    from rig.demo.scene import Scene

POLICY_PATH = f"{OBJECTS}/dataresidencypolicies/{POLICY}"
_GRACE_SECONDS = 10
_PATIENCE = 30.0
_LONG = 150.0
"""Seconds: an operator evicts nobody in its first minute."""
MANY = 20
"""More than one in so many running pods wait for an administrator's word."""
SHOWN = 200
"""Letters of a long message."""


@dataclass(slots=True)
class Move:
    """A node that stands abroad all of a sudden.

    Attributes:
        pods: that run on it.
        began: when it was relabelled, in seconds since the epoch.
        evict_after: when each pod may be evicted, by uid, as its notice says.
    """

    node: str
    pods: list[Pod]
    began: float
    evict_after: dict[str, float] = field(default_factory=dict)


def move_abroad(stage: Scene) -> Move:
    """Relabel a node under running pods; the policy only alerts."""
    node, pods = _chosen(stage)
    before = {each.uid: _annotations(stage, each) for each in pods}
    _relabel(stage, node, AWAY)
    move = Move(node, pods, time.time())
    stage.screen.line(f"{node} with {_told(pods)} is labelled {names.REGION_LABEL}={AWAY}")
    status = wait_policy(stage, lambda s: s["violations"]["now"] == len(pods))
    said = drifting(status)
    stage.screen.expect(
        "its pods are judged again, and no others",
        said["status"] == "True" and node in said["message"],
        f"violations.now {status['violations']['now']} after {time.time() - move.began:.1f} s: "
        f"{said['message'][:SHOWN]}",
    )
    _expect_event(stage, "who looks after the policy is alarmed", POLICY, said["reason"])
    now = {each.uid: _annotations(stage, each) for each in pods}
    stage.screen.expect("Alert touches no pod", now == before, f"{len(now)} pods as they were")
    return move


def announce(stage: Scene, move: Move) -> None:
    """Let the policy evict, and see that every pod is told when and why."""
    on_drift = {"action": "Evict", "graceSeconds": _GRACE_SECONDS}
    policy = stage.admin.patch(POLICY_PATH, {"spec": {"onDrift": on_drift}}).must()
    running = sum(each.running for each in stage.pods())
    stage.screen.line(
        f"the platform admin sets onDrift: Evict, graceSeconds: {_GRACE_SECONDS} "
        "(so short for the story's sake)"
    )
    if len(move.pods) * MANY > running:
        stage.screen.line(f"and confirms it: more than one in {MANY} pods of this small hall")
        generation = str(policy["metadata"]["generation"])
        word = {"metadata": {"annotations": {names.CONFIRM_DRIFT: generation}}}
        stage.admin.patch(POLICY_PATH, word).must()
    notices = {each.uid: _notice(stage, each) for each in move.pods}
    move.evict_after = {
        uid: datetime.fromisoformat(said["evictAfter"]).timestamp() for uid, said in notices.items()
    }
    example = next(iter(notices.values()))
    stage.screen.expect(
        "every pod on the node carries a notice: why, and until when",
        all(said["node"] == move.node and POLICY in said["policies"] for said in notices.values()),
        f"{len(notices)} pods; {example['cause']}; evictAfter {example['evictAfter']}",
    )
    owner = move.pods[0].owner_name
    _expect_event(stage, "and its owner gets an event", owner, "EvictionAnnounced")


def see_evicted(stage: Scene, move: Move) -> None:
    """Wait for the evictions, and for what replaces the pods."""
    stage.screen.line(
        "nobody is evicted before its notice is over, nor in an operator's first minute"
    )
    keys = {each.key for each in move.pods}
    crowd.follow(stage, lambda: keys <= facts.deleted(stage.trail.steps), "the evictions", _LONG)
    stage.departed += move.pods
    evicted = facts.indexed(stage.trail.steps).evicted
    early = [
        each.name
        for each in move.pods
        if each.key not in evicted or evicted[each.key].received < move.evict_after[each.uid]
    ]
    stage.screen.expect(
        "evicted are the pods on that node, none before its time, and nobody else",
        not early and evicted.keys() == keys,
        f"{len(evicted)} evictions, {len(early)} of them early",
    )
    _expect_event(stage, "the owner is told", move.pods[0].owner_name, "EvictedForResidency")
    _replaced(stage, move, [each for each in move.pods if _goes_first(stage, each)])


def _replaced(stage: Scene, move: Move, old: list[Pod]) -> None:
    """The owners make new pods; as they go first in their tenant's order, they run at once."""
    tenant = stage.tenant_of(old[0].namespace)
    own = [each for each in stage.pods() if each.namespace in tenant.namespaces]
    ending = crowd.chosen_to_end(own, sum(each.gpus for each in old))
    stage.screen.line(f"{len(ending)} Job pods of {tenant.name} end, so that there is room at home")
    crowd.end_some(stage, tenant, ending)
    owners = {(each.namespace, each.owner_name) for each in old}
    what = "their owners have as many pods again, all of them at home"
    try:
        for namespace, name in owners:
            path = f"/apis/apps/v1/namespaces/{namespace}/replicasets/{name}"
            stage.admin.wait(
                path, lambda body: body["status"]["readyReplicas"] == body["spec"]["replicas"], 60.0
            )
    except RigError as error:
        stage.screen.expect(what, holds=False, found=str(error))
        return
    known = {each.uid for each in stage.departed}
    began = min(move.evict_after.values()) - 1
    new = [
        each
        for each in stage.pods()
        if (each.namespace, each.owner_name) in owners
        and each.created >= began
        and each.uid not in known
    ]
    places = {each.node for each in new}
    stage.screen.expect(
        what,
        len(new) == len(old)
        and move.node not in places
        and {stage.regions[each] for each in places} == {HOME},
        f"{len(new)} new pods on {', '.join(sorted(places))}",
    )


def bring_home(stage: Scene, move: Move) -> None:
    """Nothing went there meanwhile; the node returns and serves again."""
    stage.trail.read()
    there = [
        each
        for each in during(stage.trail.steps, move.began, time.time(), BIND)
        if facts.target(each) == move.node
    ]
    stage.screen.expect(
        "nothing was bound there while it stood abroad", not there, f"{len(there)} bindings"
    )
    home = time.time()
    _relabel(stage, move.node, HOME)
    stage.screen.record.span("drift", f"{move.node} in {AWAY}", move.began)

    def serves() -> bool:
        bound = during(stage.trail.steps, home, time.time(), BIND)
        return any(facts.target(each) == move.node for each in bound)

    crowd.follow(stage, serves, f"{move.node} to be used again")
    status = wait_policy(stage, lambda s: s["violations"]["now"] == 0)
    found = (
        f"now 0, total {status['violations']['total']}, evicted {status['violations']['evicted']}"
    )
    stage.screen.expect(
        "the policy's status counts them for good",
        status["violations"]["evicted"] == len(move.pods),
        found,
    )


def _chosen(stage: Scene) -> tuple[str, list[Pod]]:
    """Return a node and its pods: many of the Deployment that goes first, if possible no others."""
    by_node: dict[str, list[Pod]] = defaultdict(list)
    for each in stage.pods():
        if each.running:
            by_node[each.node].append(each)

    def rank(node: str) -> tuple[bool, int]:
        served = sum(_goes_first(stage, each) for each in by_node[node])
        return served == len(by_node[node]), served

    node = max(sorted(by_node), key=rank)
    pods = sorted(by_node[node], key=lambda each: not _goes_first(stage, each))
    if not _goes_first(stage, pods[0]):
        raise RigError("no pod of a Deployment runs that could move abroad with its node")
    return node, pods


def _goes_first(stage: Scene, pod: Pod) -> bool:
    # The first tenant's second namespace serves, with a higher priority than training has.
    return pod.owner == "ReplicaSet" and pod.namespace == stage.tenants[0].namespaces[-1]


def _told(pods: list[Pod]) -> str:
    owners = ", ".join(
        sorted({f"{each.namespace}/{each.owner_name or each.name}" for each in pods})
    )
    return f"{len(pods)} running pods of {owners}"


def _relabel(stage: Scene, node: str, region: str) -> None:
    labels = {names.REGION_LABEL: region, names.ZONE_LABEL: f"{region}-a"}
    stage.admin.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": labels}}).must()


def _annotations(stage: Scene, pod: Pod) -> Any:
    return stage.admin.get(pod.path).must()["metadata"]["annotations"]


def _notice(stage: Scene, pod: Pod) -> Any:
    body = stage.admin.wait(
        pod.path, lambda found: names.DRIFT_NOTICE in found["metadata"]["annotations"], _PATIENCE
    )
    return json.loads(body["metadata"]["annotations"][names.DRIFT_NOTICE])


def wait_policy(stage: Scene, holds: Callable[[Any], bool]) -> Any:
    """Wait until the status of the policy is as wanted, and return it."""
    return stage.admin.wait(POLICY_PATH, lambda body: holds(body["status"]), _PATIENCE)["status"]


def drifting(status: Any) -> Any:
    """Return the condition that says whether pods run where the policy does not allow it."""
    return next(each for each in status["conditions"] if each["type"] == "Drifting")


def _expect_event(stage: Scene, what: str, about: str, reason: str) -> None:
    field = f"involvedObject.name={about},reason={reason}"
    try:
        found = stage.admin.wait(
            "/api/v1/events", lambda body: body["items"], _PATIENCE, fieldSelector=field
        )
    except RigError as error:
        stage.screen.expect(what, holds=False, found=str(error))
        return
    event = found["items"][0]
    subject = f"{event['involvedObject']['kind']} {about}"
    stage.screen.expect(
        what, holds=True, found=f"{reason} on {subject}: {event['message'][:SHOWN]}"
    )

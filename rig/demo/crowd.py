"""What tenants do besides cheating: submit, and let their pods come to an end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from rig import bulk, stages
from rig.demo import kubectl, manifests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rig.demo.manifests import Manifest, Tenant
    from rig.demo.pods import Pod
    from rig.demo.scene import Scene

_PATIENCE = 300.0


def submit(scene: Scene, tenants: Iterable[Tenant]) -> int:
    """Let tenants apply their workloads with kubectl; return how many pods that makes."""
    work = {each: manifests.workload(each, scene.scale) for each in tenants}
    with ThreadPoolExecutor(len(work)) as people:
        list(people.map(lambda each: kubectl.apply(scene.rig, each.user, work[each]), work))
    for tenant, documents in work.items():
        scene.screen.line(_said(tenant, documents))
    return sum(manifests.pods_of(each) for documents in work.values() for each in documents)


def _said(tenant: Tenant, documents: list[Manifest]) -> str:
    gpus = sum(map(manifests.gpus_of, documents))
    parts = [
        f"{each['kind']} {each['metadata']['name']} "
        f"{manifests.pods_of(each)} x {manifests.gpus_of(each) // manifests.pods_of(each)}"
        for each in documents
        if each["kind"] != "Pod"
    ]
    bare = sum(each["kind"] == "Pod" for each in documents)
    parts.append(f"{bare} bare pods")
    return f"{tenant.user} asks for {gpus:,} GPUs of {tenant.guaranteed:,}: {', '.join(parts)}"


def follow(scene: Scene, done: Callable[[], bool], what: str, seconds: float = _PATIENCE) -> None:
    """Follow the table until a condition holds and everything that was released is bound."""

    def settled() -> bool:
        scene.operator.pid  # noqa: B018 - says so if it ended: nobody would start it again
        scene.trail.read()
        return done() and not any(row.reserved for row in scene.board.rows)

    scene.screen.follow(scene.board.draw, settled, seconds, what)


def bound(pods: Iterable[Pod], tenant: Tenant) -> int:
    """Return the GPUs of a tenant's pods that are bound and have not ended."""
    return sum(
        each.gpus
        for each in pods
        if each.namespace in tenant.namespaces and each.node and each.lives
    )


def end_some(scene: Scene, tenant: Tenant, running: Iterable[Pod]) -> None:
    """Let running pods of a tenant end now, with success."""
    body = {"metadata": {"annotations": {stages.RUN_SECONDS: "0"}}}
    bulk.send(scene.rig, tenant.user, [("PATCH", each.path, body) for each in running])


def chosen_to_end(pods: list[Pod], enough: int) -> list[Pod]:
    """Choose running pods of Jobs that hold at least so many GPUs."""
    chosen: list[Pod] = []
    for pod in pods:
        if sum(each.gpus for each in chosen) >= enough:
            break
        if pod.running and pod.owner == "Job":
            chosen.append(pod)
    return chosen


def bindings(scene: Scene) -> int:
    """Return how many pods have been bound so far."""
    scene.trail.read()
    return sum(scene.trail.bound.values())


def follow_bound(scene: Scene, wanted: int) -> None:
    """Follow the table until so many pods have been bound."""
    follow(scene, lambda: sum(scene.trail.bound.values()) >= wanted, f"{wanted} pods to be bound")

"""What the mutating policies have to bring about; one effect per part of a patch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sovereign_gpu import names
from tests.admission.world import (
    GOVERNED,
    RESIDENCY_LABEL,
    World,
    daemonset,
    daemonsets_path,
    pod,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def _created(world: World, body: dict[str, Any]) -> dict[str, Any]:
    answer = world.create(world.tenant, GOVERNED, body)
    return answer.body if answer.ok else {"metadata": {}, "spec": {}}


def _daemons(world: World) -> dict[str, Any]:
    answer = world.tenant.create(daemonsets_path(GOVERNED), daemonset(pod()), dryRun="All")
    return answer.must()["spec"]["template"]["spec"]


def _tolerates(spec: dict[str, Any], key: str) -> bool:
    wanted = {"key": key, "operator": "Exists", "effect": "NoSchedule"}
    return wanted in spec.get("tolerations", [])


def gate(world: World) -> bool:
    gates = _created(world, pod(gpus=1))["spec"].get("schedulingGates", [])
    own = [{"name": "example.com/other"}]
    beside = _created(world, pod(gpus=1, schedulingGates=own))["spec"].get("schedulingGates", [])
    return gates == [{"name": names.GATE}] and beside == [*own, {"name": names.GATE}]


def requested_by(world: World) -> bool:
    forged = {"annotations": {names.REQUESTED_BY: "tenant-other"}}
    annotations = _created(world, pod(gpus=1, metadata=forged))["metadata"].get("annotations", {})
    return annotations.get(names.REQUESTED_BY) == "tenant-acme"


def residency_selector(world: World) -> bool:
    plain = _created(world, pod())["spec"].get("nodeSelector")
    own = {"disk": "fast", RESIDENCY_LABEL: "forbidden"}
    beside = _created(world, pod(nodeSelector=own))["spec"].get("nodeSelector")
    allowed = {RESIDENCY_LABEL: names.NODE_ALLOWED}
    return plain == allowed and beside == {"disk": "fast"} | allowed


def gpu_toleration(world: World) -> bool:
    return _tolerates(_created(world, pod(gpus=1))["spec"], names.GPU_TAINT)


def companion_toleration(world: World) -> bool:
    return _tolerates(_created(world, pod())["spec"], names.COMPANION_TAINT)


def daemonset_residency_selector(world: World) -> bool:
    return bool(_daemons(world).get("nodeSelector") == {RESIDENCY_LABEL: names.NODE_ALLOWED})


def daemonset_companion_toleration(world: World) -> bool:
    return _tolerates(_daemons(world), names.COMPANION_TAINT)


EFFECTS: dict[str, Callable[[World], bool]] = {
    "gate": gate,
    "requested-by": requested_by,
    "residency-selector": residency_selector,
    "gpu-toleration": gpu_toleration,
    "companion-toleration": companion_toleration,
    "daemonset-residency-selector": daemonset_residency_selector,
    "daemonset-companion-toleration": daemonset_companion_toleration,
}


def _daemons_changed(world: World) -> bool:
    """Whether a DaemonSet that is changed is given the selector again."""
    path = f"{daemonsets_path(GOVERNED)}/door"
    if not world.admin.get(path).ok:
        world.tenant.create(daemonsets_path(GOVERNED), daemonset(pod(), "door")).must()
    without = [{"op": "remove", "path": "/spec/template/spec/nodeSelector"}]
    answer = world.tenant.patch(path, without, dryRun="All")
    selector = answer.must()["spec"]["template"]["spec"].get("nodeSelector", {})
    return RESIDENCY_LABEL in selector


DOORS: dict[tuple[str, str, str], Callable[[World], bool]] = {
    ("sovereign-gpu-pod-patch", "pods", "CREATE"): gate,
    ("sovereign-gpu-daemonset-patch", "daemonsets", "CREATE"): daemonset_residency_selector,
    ("sovereign-gpu-daemonset-patch", "daemonsets", "UPDATE"): _daemons_changed,
}
"""What policies that patch bring about at each of their doors."""

"""The operator stops: what the API server alone goes on to refuse, and what goes on to work."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rig import users
from rig.client import wait_for
from rig.demo import crowd, kubectl, manifests
from rig.demo.cheats import pod
from rig.demo.scene import OFFICE, OFFICE_USER
from rig.errors import RigError

if TYPE_CHECKING:
    from rig.demo.manifests import Tenant
    from rig.demo.pods import Pod
    from rig.demo.scene import Scene

GPUS_PER_LATE_POD = 250
"""Every tenant submits one more pod for so many GPUs of its guarantee."""
CPU_PODS = 10
_PATIENCE = 60.0


@dataclass(slots=True)
class Outage:
    """What happened while the operator was away.

    Attributes:
        began: when its process had ended, in seconds since the epoch.
        ended: when it was started again.
        owed: pods that wait although their tenant has room again.
    """

    began: float
    ended: float = 0.0
    owed: list[Pod] = field(default_factory=list)


def begin(scene: Scene) -> Outage:
    """End the operator as a node drain would."""
    asked = time.monotonic()
    code = scene.operator.terminate()
    scene.screen.expect(
        "the operator ended in order after SIGTERM",
        code == 0,
        f"exit code {code} after {time.monotonic() - asked:.1f} s",
    )
    return Outage(began=time.time())


def live_on(scene: Scene, outage: Outage) -> None:
    """Submit, finish and run things, and see that only admission of GPU pods stands still."""
    before = scene.pods()
    late = _submit_late(scene)
    ending = _finish_jobs(scene, before, late)
    _office_works(scene)
    now = scene.pods()
    _judge_waiting(scene, before, now, late, outage)
    _judge_running(scene, before, now, {each.uid for each in ending})


def _submit_late(scene: Scene) -> dict[Tenant, int]:
    late: dict[Tenant, int] = {}
    for tenant in scene.tenants:
        job = manifests.late_job(tenant, max(1, tenant.guaranteed // GPUS_PER_LATE_POD))
        kubectl.apply(scene.rig, tenant.user, [job])
        late[tenant] = manifests.gpus_of(job)
    return late


def _finish_jobs(scene: Scene, before: list[Pod], late: dict[Tenant, int]) -> list[Pod]:
    """Let Jobs end until everybody who waits would fit."""
    ending: list[Pod] = []
    for tenant in scene.tenants:
        own = [each for each in before if each.namespace in tenant.namespaces]
        short = late[tenant] + sum(each.gpus for each in own if each.gated and each.fits)
        chosen = crowd.chosen_to_end(own, short)
        crowd.end_some(scene, tenant, chosen)
        ending += chosen
    scene.screen.line(
        f"{len(ending)} pods of Jobs end; {sum(late.values())} more GPUs are asked for"
    )
    gone = {each.uid for each in ending}
    wait_for(
        lambda: not any(each.running for each in scene.pods() if each.uid in gone),
        _PATIENCE,
        "the chosen pods to end",
        longest_pause=1.0,
    )
    return ending


def _office_works(scene: Scene) -> None:
    """CPU pods of a namespace without a tenant, from an ordinary Deployment."""
    labels = {"app": "reports"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "reports", "namespace": OFFICE},
        "spec": {
            "replicas": CPU_PODS,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod("reports", gpus=0)["spec"]},
        },
    }
    kubectl.apply(scene.rig, OFFICE_USER, [deployment])
    path = f"/apis/apps/v1/namespaces/{OFFICE}/deployments/reports"
    what = "pods without GPUs run in a namespace without a tenant"
    try:
        began = time.monotonic()
        scene.admin.wait(path, lambda body: body["status"]["readyReplicas"] == CPU_PODS, _PATIENCE)
        found = f"{CPU_PODS} of {CPU_PODS} after {time.monotonic() - began:.1f} s"
        scene.screen.expect(what, holds=True, found=found)
    except RigError as error:
        scene.screen.expect(what, holds=False, found=str(error))


def _judge_waiting(
    scene: Scene, before: list[Pod], now: list[Pod], late: dict[Tenant, int], outage: Outage
) -> None:
    outage.owed = [each for each in now if each.gated and each.fits]
    known = {each.uid for each in before}
    new = sum(each.gpus for each in outage.owed if each.uid not in known)
    scene.screen.expect(
        "new GPU pods were taken in and wait at the gate",
        new == sum(late.values()),
        f"{new} of {sum(late.values())} GPUs",
    )
    waited = {each.uid for each in before if each.gated}
    still = {each.uid for each in now if each.gated}
    scene.screen.expect(
        "nobody got past the gate, although Jobs ended and made room",
        waited <= still,
        f"{len(still)} pods wait, {len(outage.owed)} of them with room for all",
    )


def _judge_running(scene: Scene, before: list[Pod], now: list[Pod], ended: set[str]) -> None:
    places = {each.uid: each.node for each in now if each.running}
    expected = {each.uid: each.node for each in before if each.running and each.uid not in ended}
    lost = [uid for uid, node in expected.items() if places.get(uid) != node]
    scene.screen.expect(
        "running pods ran on where they were", not lost, f"{len(expected):,} pods, {len(lost)} lost"
    )


def kinds_are_readable(scene: Scene) -> None:
    """Our kinds can be read and changed while nobody serves them."""
    path = "/apis/sovereign-gpu.io/v1alpha1/tenantquotas/kleinwerk"
    client = scene.rig.client(users.PLATFORM_ADMIN)
    body = {"metadata": {"annotations": {"example.com/contract": "2026-11"}}}
    scene.screen.expect("a TenantQuota can be written", client.patch(path, body).ok)

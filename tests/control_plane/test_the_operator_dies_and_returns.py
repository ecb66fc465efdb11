"""One process writes; whatever ends it, the next one knows what was done and carries on.

The session's operator stands aside, and each test starts processes of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from bench import audit, crash
from rig.client import Client, wait_for
from rig.errors import RigError
from rig.users import PLATFORM_ADMIN
from sovereign_gpu import names
from tests.control_plane.cluster import is_gated, pod, refused
from tests.control_plane.processes import LEASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.control_plane.cluster import Cluster, Site, Tenant
    from tests.control_plane.processes import Process

MARGIN = 2.0


pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture
def tenant(site: Site, start: Callable[..., Process]) -> Tenant:
    """A tenant with 4 GPUs, made while an operator ran that is gone now."""
    operator = start()
    made = site.tenant("acme", {site.pool(nodes=2): 4}, [site.policy()])
    assert operator.terminate() == 0
    return made


def _lease(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.admin.get(LEASE).must()["spec"]
    return found


def _burst(site: Site, tenant: Tenant, count: int) -> None:
    site.submit(tenant, *(pod(f"burst-{number}") for number in range(count)))


def _free(site: Site, tenant: Tenant, wanted: int) -> list[Any]:
    """Wait until so many pods of a tenant are past the gate and bound; return them."""

    def bound(body: Any) -> list[Any]:
        return [each for each in body["items"] if each["spec"].get("nodeName")]

    found = site.admin.wait(tenant.pods, lambda body: len(bound(body)) == wanted)
    return bound(found)


def _token(body: Any) -> str:
    return str(body["metadata"]["annotations"][names.RELEASED_BY])


def test_without_an_operator_gpu_pods_wait_and_others_run(site: Site, tenant: Tenant) -> None:
    site.submit(tenant, pod("gpu"), pod("cpu", gpus=0, nodeSelector={}))
    answer = tenant.client.patch(
        tenant.pod("gpu"), [{"op": "remove", "path": "/spec/schedulingGates"}]
    )
    assert refused(answer)
    assert is_gated(site.admin.get(tenant.pod("gpu")).must())
    # A governed pod without GPUs has no gate; it waits for companions of the pool only.
    assert not is_gated(site.admin.get(tenant.pod("cpu")).must())


def test_an_orderly_end_gives_the_lease_back_so_that_the_next_start_is_quick(
    site: Site, tenant: Tenant, start: Callable[..., Process]
) -> None:
    first = start(lease=60)
    assert _lease(site.cluster)["holderIdentity"] != ""
    assert first.terminate() == 0
    assert _lease(site.cluster)["holderIdentity"] == ""
    assert not first.said('"exception"')
    site.submit(tenant, pod("quick"))
    start(lease=60)  # ready long before 60 s are over, or this fails
    site.bound(tenant, "quick", seconds=20)


def test_writes_in_flight_are_finished_and_nothing_is_begun_at_the_end(
    site: Site, tenant: Tenant, start: Callable[..., Process]
) -> None:
    site.quota(tenant.name, [tenant.namespace], {site.name("pool"): 16}, [site.name("policy")])
    _burst(site, tenant, 40)
    trail = audit.Trail(site.cluster.rig.audit_log)
    trail.skip()
    operator = start()
    events: list[dict[str, Any]] = []

    def has_begun() -> bool:
        events.extend(trail.events())
        return any(audit.is_release(event) for event in events)

    wait_for(has_begun, 20, "the first release", 0.02)
    assert operator.terminate() == 0
    events.extend(trail.events())
    ours = [event for event in events if event["user"]["username"] == audit.OPERATOR]
    patches = [event for event in ours if event["verb"] == "patch"]
    assert {event["responseStatus"]["code"] for event in patches} == {200}
    writes = [event for event in ours if event["verb"] in {"create", "update", "patch"}]
    assert audit.what(writes[-1]) == "update leases"
    found = site.admin.get(tenant.pods).must()["items"]
    released = [each for each in found if not is_gated(each)]
    assert 1 <= len(released) <= 16
    assert len(released) == sum(audit.is_release(event) for event in patches)

    start()
    _free(site, tenant, 16)


def test_after_a_crash_the_next_waits_for_the_lease_and_carries_on(
    site: Site, tenant: Tenant, start: Callable[..., Process]
) -> None:
    trail = audit.Trail(site.cluster.rig.audit_log)
    trail.skip()
    first = start(lease=3)
    _burst(site, tenant, 6)
    _free(site, tenant, 4)
    first.kill()
    left = _lease(site.cluster)
    second = start(lease=3, wait=False)
    second.wait_ready(20)
    assert "sovereign_gpu_leader 0.0" in second.metrics()
    assert second.page("livez") == (200, "ok")
    # The quota is full, so what comes next is released by the second process.
    site.end(tenant, _free(site, tenant, 4)[0]["metadata"]["name"])
    second.wait_leading()
    _free(site, tenant, 5)

    releases = [event for event in trail.events() if audit.is_release(event)]
    by_second = [each for each in releases if _signature(each) > left["leaseTransitions"]]
    assert (len(releases), len(by_second)) == (5, 1)
    last_renewal = datetime.fromisoformat(left["renewTime"]).timestamp()
    assert audit.seconds(by_second[0]) - last_renewal >= 3 + MARGIN


def _signature(release: dict[str, Any]) -> int:
    """Return the transitions of the lease that a release was signed with."""
    for step in release["requestObject"]:
        value = step.get("value")
        if isinstance(value, dict) and names.RELEASED_BY in value:
            return int(value[names.RELEASED_BY].rpartition("/")[2])
        if step["path"].endswith(names.RELEASED_BY.replace("/", "~1")):
            return int(value.rpartition("/")[2])
    raise AssertionError(f"a release without signature: {release}")


def test_a_second_process_stands_by_and_takes_over(
    site: Site, tenant: Tenant, start: Callable[..., Process]
) -> None:
    first = start(lease=3)
    second = start(lease=3, wait=False)
    second.wait_ready(20)
    site.submit(tenant, pod("by-first"))
    holder = _lease(site.cluster)["holderIdentity"]
    assert _token(site.bound(tenant, "by-first")).startswith(f"{holder}/")
    assert second.page("readyz") == (200, "ok")
    # The books are the leader's to tell: two tellers would be added up.
    assert "sovereign_gpu_leader 0.0" in second.metrics()
    assert "sovereign_gpu_pool" not in second.metrics()
    assert "sovereign_gpu_pool_capacity_gpus" in first.metrics()

    first.kill()
    site.submit(tenant, pod("by-second"))
    second.wait_leading(30)
    assert _lease(site.cluster)["holderIdentity"] not in {"", holder}
    assert not _token(site.bound(tenant, "by-second")).startswith(f"{holder}/")


def test_a_leader_whose_lease_is_taken_ends_at_once(
    site: Site, tenant: Tenant, start: Callable[..., Process]
) -> None:
    first = start(lease=3)
    transitions = _lease(site.cluster)["leaseTransitions"]
    taken = {"holderIdentity": "usurper", "leaseTransitions": transitions + 1}
    taken["leaseDurationSeconds"] = 1
    site.admin.patch(LEASE, {"spec": taken}).must()
    assert first.ended() == 1
    assert first.said("the lease is lost")
    assert _lease(site.cluster)["holderIdentity"] == "usurper"

    site.submit(tenant, pod("later"))
    start(lease=3)  # the usurper does not renew
    site.bound(tenant, "later")
    assert _lease(site.cluster)["leaseTransitions"] == transitions + 2


def test_a_short_hang_of_the_api_server_ends_nothing(
    site: Site, tenant: Tenant, start: Callable[..., Process]
) -> None:
    operator = start(lease=30)
    pid = operator.pid
    with _frozen(site.cluster):
        with pytest.raises(RigError, match="timed out"):
            _hasty(site.cluster).get("/api/v1/namespaces/default")
        assert operator.page("livez") == (200, "ok")
    _burst(site, tenant, 6)
    _free(site, tenant, 4)
    assert operator.pid == pid
    assert operator.page("readyz") == (200, "ok")


def test_a_long_hang_costs_the_lease_and_the_next_start_carries_on(
    site: Site, tenant: Tenant, start: Callable[..., Process]
) -> None:
    operator = start(lease=3)
    _burst(site, tenant, 3)
    _free(site, tenant, 3)
    with _frozen(site.cluster):
        assert operator.ended() == 1
        assert operator.said("could not be renewed in time")
    start(lease=3)
    site.submit(tenant, pod("later"))
    site.bound(tenant, "later")
    assert len(_free(site, tenant, 4)) == 4


def _hasty(cluster: Cluster) -> Client:
    rig = cluster.rig
    pair = rig.certificate(PLATFORM_ADMIN)
    return Client(rig.url, rig.ca_file, certificate=pair, timeout=2.0)


@contextlib.contextmanager
def _frozen(cluster: Cluster) -> Iterator[None]:
    """The API server neither answers nor goes away inside the block."""
    pid = cluster.rig.pids()["kube-apiserver"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_many_crashes_in_a_burst_lose_nothing_and_exceed_nothing(site: Site) -> None:
    plan = crash.Plan(pods=200, kills=5, tenants=2, nodes=4, lease=2)
    for body in crash.manifests(plan):
        site.admin.apply(body).must()
        if body["kind"] == "Namespace":
            site.adopt(body["metadata"]["name"])
        else:
            site.undo(site.admin.object_path(body))
    for node in site.take(plan.nodes):
        site.enrol(node, crash.POOL, crash.REGION)
    outcome = crash.run(site.cluster.rig, plan)
    crash.show(outcome)
    assert outcome.faults == []
    assert [row.most_held for row in outcome.rows] == [plan.quota] * plan.tenants

"""Two processes that both believe they lead: what the one that was replaced sends is refused.

The fence in the API server follows the lease with a watch and may lag, so each story is told with
it and without it: the leader's own clock has to be enough.
"""

from __future__ import annotations

import contextlib
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from bench import audit
from rig.client import wait_for
from rig.product import NAME, NAMESPACE
from sovereign_gpu import names
from tests.control_plane.cluster import is_gated, pod
from tests.control_plane.processes import LEASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rig.client import Client
    from tests.control_plane.cluster import Cluster, Site, Tenant
    from tests.control_plane.processes import Process

pytestmark = pytest.mark.usefixtures("alone")

FENCE = (
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/sovereign-gpu-fence"
)
TRIES = int(os.environ.get("STALE_TRIES", "1000"))
SIGNED = "/metadata/annotations/" + names.RELEASED_BY.replace("/", "~1")


@pytest.fixture
def tenant(site: Site, start: Callable[..., Process]) -> Tenant:
    """A tenant with 16 GPUs, made while an operator ran that is gone now."""
    operator = start()
    made = site.tenant("acme", {site.pool(nodes=2): 16}, [site.policy()])
    assert operator.terminate() == 0
    return made


@pytest.fixture(params=["with the fence", "without the fence"])
def fence(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[None]:
    """The fence is there; or it is not, as if the API server had not heard of the lease yet."""
    if request.param == "with the fence":
        yield
        return
    body = cluster.admin.get(FENCE).must()
    cluster.admin.delete(FENCE).must()
    yield
    cluster.admin.create(FENCE.rpartition("/")[0], _plain(body)).must()


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in body["metadata"].items() if k in {"name", "labels"}}
    return {**body, "metadata": kept}


@contextlib.contextmanager
def _stopped(process: Process) -> Iterator[None]:
    pid = process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.usefixtures("fence")
def test_a_stale_leader_releases_nothing(
    site: Site, tenant: Tenant, start: Callable[..., Process]
) -> None:
    trail = audit.Trail(site.cluster.rig.audit_log)
    trail.skip()
    first = start(lease=3)
    second = start(lease=3, wait=False)
    second.wait_ready(20)
    site.submit(tenant, *(pod(f"first-{number}") for number in range(4)))
    site.admin.wait(tenant.pods, lambda found: not any(map(is_gated, found["items"])))
    with _stopped(first):
        # It wakes with work before it: pods that it has not heard of, and quota for them.
        site.submit(tenant, *(pod(f"later-{number}") for number in range(24)))
        second.wait_leading(30)
        site.admin.wait(tenant.pods, lambda found: sum(map(is_gated, found["items"])) == 28 - 16)
        for number in range(4):
            site.end(tenant, f"first-{number}")
        site.admin.wait(tenant.pods, lambda found: sum(map(is_gated, found["items"])) == 8)
        lease = site.admin.get(LEASE).must()["spec"]
    assert first.ended() == 1
    assert first.said("the lease is lost")
    releases = [event for event in trail.events() if audit.is_release(event)]
    holders = [_holder(event) for event in releases if event["responseStatus"]["code"] == 200]
    assert len(holders) == 20
    assert holders[4:] == [lease["holderIdentity"]] * 16
    assert lease["holderIdentity"] not in holders[:4]


def _holder(release: dict[str, Any]) -> str:
    for step in release["requestObject"]:
        value = step.get("value")
        if step["path"] == SIGNED:
            return str(value).rpartition("/")[0]
        if isinstance(value, dict) and names.RELEASED_BY in value:
            return str(value[names.RELEASED_BY]).rpartition("/")[0]
    raise AssertionError(f"a release without signature: {release}")


@pytest.fixture
def led(site: Site) -> Iterator[Callable[[str | None], None]]:
    """Say who leads; afterwards it is as it was."""
    path = f"/api/v1/namespaces/{NAMESPACE}"
    before = site.admin.get(path).must()["metadata"]["annotations"][names.LEADER]

    def by(signature: str | None) -> None:
        body = {"metadata": {"annotations": {names.LEADER: signature}}}
        site.admin.patch(path, body).must()

    yield by
    by(before)
    site.expect_fencing()


def test_what_a_stale_leader_sends_is_refused_a_thousand_times(
    site: Site, tenant: Tenant, led: Callable[[str | None], None]
) -> None:
    site.submit(tenant, pod("waits"))
    path = tenant.pod("waits")
    operator = site.cluster.rig.service_account_client(NAMESPACE, NAME)

    def counts(signature: str) -> bool:
        return bool(_release(operator, path, signature, dry=True).ok)

    wait_for(lambda: not counts("x/0"), 10, "the fence")
    for number in range(TRIES):
        mine = f"leader-{number}/{number}"
        led(mine)
        wait_for(partial(counts, mine), 10, "the fence to know", 0.01)
        for stale in (f"leader-{number - 1}/{number - 1}", f"leader-{number}/{number - 1}"):
            answer = _release(operator, path, stale)
            assert answer.status == 403
            assert f"fence: found a release signed '{stale}'" in answer.message
            assert f"signed by the leader, '{mine}'" in answer.message
    led(None)
    wait_for(lambda: not counts(mine), 10, "the fence to know of nobody", 0.01)
    assert "of whom there is none" in _release(operator, path, "").message
    assert is_gated(site.admin.get(path).must())


def test_a_fence_that_was_away_judges_by_what_is(
    site: Site, tenant: Tenant, start: Callable[..., Process], led: Callable[[str | None], None]
) -> None:
    """The API server stops following some kinds for good when no policy needs them any more."""
    body = site.admin.get(FENCE).must()
    site.admin.delete(FENCE).must()
    site.submit(tenant, pod("waits"))
    operator = site.cluster.rig.service_account_client(NAMESPACE, NAME)

    def counts(signature: str) -> bool:
        return bool(_release(operator, tenant.pod("waits"), signature, dry=True).ok)

    wait_for(lambda: counts("x/0"), 10, "no fence")
    site.admin.create(FENCE.rpartition("/")[0], _plain(body)).must()
    wait_for(lambda: not counts("x/0"), 10, "the fence again")
    led("mine/1")
    wait_for(lambda: counts("mine/1"), 10, "the fence to know")
    # And a leader that finds another's name there writes its own.
    process = start()
    site.bound(tenant, "waits")
    led("mine/2")
    for number in range(8):
        site.submit(tenant, pod(f"later-{number}"))
        site.bound(tenant, f"later-{number}", seconds=10)
    assert process.said("fence: found a release signed")


def _release(operator: Client, path: str, signature: str, *, dry: bool = False) -> Any:
    patch = [
        {"op": "remove", "path": "/spec/schedulingGates/0"},
        {"op": "add", "path": SIGNED, "value": signature},
    ]
    return operator.patch(path, patch, **({"dryRun": "All"} if dry else {}))

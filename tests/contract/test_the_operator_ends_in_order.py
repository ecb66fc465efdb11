"""SIGTERM finishes what was begun; a lost lease ends at once; nobody waits longer than needed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from sovereign_gpu import names, settings
from sovereign_gpu.app import Operator
from sovereign_gpu.cluster.kinds import NAMESPACES, NODES, PODS
from tests.cluster.pods import pod
from tests.contract.fake_api import Answer, FakeApi, Seen

LEASES = "/apis/coordination.k8s.io/v1/namespaces/sovereign-gpu-system/leases"
RESOURCES = f"/apis/{names.GROUP}/{names.VERSION}"
LEASE = f"{LEASES}/sovereign-gpu"
PATCHES = "/api/v1/namespaces/a/pods"


def resource(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": name, "uid": f"uid-{name}", "generation": 1}
    meta["creationTimestamp"] = "2026-11-23T12:00:00Z"
    return {
        "apiVersion": f"{names.GROUP}/{names.VERSION}",
        "kind": kind,
        "metadata": meta,
        "spec": spec,
    }


def furnish(fake: FakeApi) -> None:
    """One pool with one node, one tenant with one waiting pod."""
    pool = {"nodes": {"enrolment": "Labelled"}, "location": {"country": "DE", "region": "muc"}}
    fake.put(f"{RESOURCES}/gpupools", "munich", resource("GpuPool", "munich", pool))
    policy = {"countries": {"sets": ["EU"]}, "enforcement": "Deny"}
    kind = "DataResidencyPolicy"
    fake.put(f"{RESOURCES}/dataresidencypolicies", "eu", resource(kind, "eu", policy))
    quota = {
        "namespaces": ["a"],
        "residencyPolicies": ["eu"],
        "pools": [{"name": "munich", "guaranteed": 8}],
    }
    fake.put(f"{RESOURCES}/tenantquotas", "t", resource("TenantQuota", "t", quota))
    fake.put(NAMESPACES.path, "a", {"metadata": {"labels": {names.TENANT_LABEL: "t"}}})
    room = {"cpu": "200", "memory": "2Ti", names.GPU_RESOURCE: "8"}
    labels = {names.NODE_POOL_LABEL: "munich", names.REGION_LABEL: "muc"}
    ready = [{"type": "Ready", "status": "True"}]
    status = {"capacity": room, "allocatable": room, "conditions": ready}
    fake.put(NODES.path, "n", {"metadata": {"labels": labels}, "status": status})
    fake.put(PODS.path, "p", pod())
    fake.put(LEASES, "sovereign-gpu", {"spec": {}})
    fake.put(NAMESPACES.path, "sovereign-gpu-system", {})


@asynccontextmanager
async def running(
    fake: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[asyncio.Task[int]]:
    async def without_kopf(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("sovereign_gpu.handlers.resources.serve", without_kopf)
    config = tmp_path / "kubeconfig"
    here = {"cluster": "c", "user": "u"}
    config.write_text(
        yaml.safe_dump(
            {
                "current-context": "x",
                "contexts": [{"name": "x", "context": here}],
                "clusters": [{"name": "c", "cluster": {"server": fake.url}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )
    wanted = settings.read(
        ["--kubeconfig", str(config), "--listen", "127.0.0.1:0", "--lease-seconds", "2"], {}
    )
    task = asyncio.create_task(Operator(wanted).run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def holder(fake: FakeApi) -> str:
    return str(fake.objects[LEASES]["sovereign-gpu"]["spec"]["holderIdentity"])


def is_release(seen: Seen) -> bool:
    return seen.method == "PATCH" and seen.path == f"{PATCHES}/p"


def releases(fake: FakeApi) -> list[Seen]:
    return [seen for seen in fake.seen if is_release(seen)]


@pytest.fixture
def furnished(fake: FakeApi) -> FakeApi:
    furnish(fake)
    return fake


def always(fake: FakeApi, answer: Callable[[], Answer]) -> None:
    fake.always = lambda seen: answer() if is_release(seen) else None


async def test_a_write_in_flight_ends_and_then_the_lease_is_given_back(
    furnished: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, gate = furnished, asyncio.Event()
    always(fake, lambda: Answer(until=gate))
    async with running(fake, tmp_path, monkeypatch) as task:
        await fake.until(lambda: len(releases(fake)) == 1)
        os.kill(os.getpid(), signal.SIGTERM)
        seen = len(fake.seen)
        await fake.until(lambda: len(fake.seen) > seen)  # the lease is renewed meanwhile
        assert not task.done()
        assert holder(fake) != ""
        gate.set()
        assert await asyncio.wait_for(task, 10) == 0
    assert holder(fake) == ""
    assert fake.writes()[-1].path.startswith(LEASES)


async def test_a_release_that_may_still_land_keeps_the_lease(
    furnished: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = furnished
    always(fake, lambda: Answer(cut=True))
    async with running(fake, tmp_path, monkeypatch) as task:
        await fake.until(lambda: len(releases(fake)) == 2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(task, 10) == 0
    assert holder(fake) != ""


async def test_a_lost_lease_ends_at_once_and_nothing_is_written_any_more(
    furnished: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, gate = furnished, asyncio.Event()
    always(fake, lambda: Answer(until=gate))
    async with running(fake, tmp_path, monkeypatch) as task:
        await fake.until(lambda: len(releases(fake)) == 1)
        other = {"spec": {"holderIdentity": "other", "leaseTransitions": 9}}
        fake.put(LEASES, "sovereign-gpu", other)
        assert await asyncio.wait_for(task, 10) == 1  # though the release has no answer
        gate.set()
    assert holder(fake) == "other"
    assert len(releases(fake)) == 1


async def test_nothing_is_released_before_the_cluster_was_confirmed_under_the_lease(
    furnished: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = furnished
    async with running(fake, tmp_path, monkeypatch):
        await fake.until(lambda: len(releases(fake)) == 1)
    taken = next(i for i, seen in enumerate(fake.seen) if seen.method == "PUT")
    released = fake.seen.index(releases(fake)[0])
    under = [seen for seen in fake.seen[taken:released] if "watch" not in seen.query]
    for path in (PODS.path, NODES.path, NAMESPACES.path, f"{RESOURCES}/tenantquotas"):
        asked = [seen for seen in under if seen.path == path]
        assert asked
        assert all("resourceVersion" not in seen.query for seen in asked)
    # Begun under the lease, one list is enough.
    assert [len(fake.lists(path)) for path in (PODS.path, NODES.path, NAMESPACES.path)] == [1, 1, 1]


async def test_a_standby_knows_everything_and_decides_nothing(
    furnished: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = furnished
    held = {"holderIdentity": "other", "leaseDurationSeconds": 15, "leaseTransitions": 1}
    fake.put(LEASES, "sovereign-gpu", {"spec": held})
    async with running(fake, tmp_path, monkeypatch):
        watched = {NAMESPACES.path, NODES.path, PODS.path}
        await fake.until(lambda: watched <= {watch.path for watch in fake.watches})
        looks = len(fake.lists(LEASES)) + 4
        await fake.until(lambda: [s.path for s in fake.seen].count(LEASE) >= looks)
        assert fake.writes() == []
        # Given back: what it knows is confirmed, and the first release follows.
        free = {**held, "holderIdentity": "", "leaseTransitions": 1}
        fake.put(LEASES, "sovereign-gpu", {"spec": free})
        await fake.until(lambda: len(releases(fake)) == 1)


async def test_what_cannot_be_read_makes_it_not_ready(
    furnished: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = furnished
    fake.put(PODS.path, "odd", pod("odd", containers="none"))
    checks: list[Any] = []
    original = Operator._checks  # noqa: SLF001

    def note(self: Operator) -> Any:
        checks.append(original(self))
        return checks[-1]

    monkeypatch.setattr(Operator, "_checks", note)
    async with running(fake, tmp_path, monkeypatch):
        await fake.until(lambda: len(releases(fake)) == 1)  # the others are served
        assert "a/odd" in checks[0].ready()

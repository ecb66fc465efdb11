"""The annotation that releases are held to: never overwritten by a leader that was replaced."""

from __future__ import annotations

import asyncio

import pytest

from sovereign_gpu import names
from sovereign_gpu.cluster.lease import Lease
from sovereign_gpu.cluster.session import Api
from sovereign_gpu.controller import fence as module
from sovereign_gpu.controller.fence import Fence
from tests.contract.fake_api import Answer, FakeApi

NAMESPACES = "/api/v1/namespaces"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/ours/leases"
OURS = f"{NAMESPACES}/ours"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, fake: FakeApi) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    fake.put(NAMESPACES, "ours", {"metadata": {}})


def signature(fake: FakeApi) -> object:
    return fake.objects[NAMESPACES]["ours"]["metadata"].get("annotations", {}).get(names.LEADER)


async def sure() -> bool:
    return True


async def test_written_once_and_not_again(fake: FakeApi, api: Api) -> None:
    fence = Fence(api, "ours", lambda: "me/1", sure)
    await fence.put()
    await fence.put()
    assert signature(fake) == "me/1"
    assert [seen.method for seen in fake.seen] == ["GET", "PATCH", "GET"]


async def test_what_another_wrote_meanwhile_is_a_conflict(fake: FakeApi, api: Api) -> None:
    """We were stopped between reading and writing, and are no leader any more when we go on."""
    gate = asyncio.Event()
    fake.answers["PATCH", OURS].append(Answer(until=gate))
    leading = True

    async def leads() -> bool:
        return leading

    fence = Fence(api, "ours", lambda: "me/1", leads)
    task = asyncio.create_task(fence.put())
    await fake.until(lambda: any(seen.method == "PATCH" for seen in fake.seen))
    read = fake.objects[NAMESPACES]["ours"]["metadata"]["resourceVersion"]
    (patch,) = [seen for seen in fake.seen if seen.method == "PATCH"]
    assert patch.body["metadata"]["resourceVersion"] == read
    fake.put(NAMESPACES, "ours", {"metadata": {"annotations": {names.LEADER: "other/2"}}})
    leading = False
    gate.set()
    gets = len(fake.seen)
    await fake.until(lambda: len(fake.seen) > gets + 2)
    assert {seen.method for seen in fake.seen[gets:]} == {"GET"}
    task.cancel()
    assert signature(fake) == "other/2"


async def test_errors_are_outlasted(fake: FakeApi, api: Api) -> None:
    fake.answers["GET", OURS].extend([Answer(status=500), Answer(cut=True)])
    fake.answers["PATCH", OURS].extend([Answer(status=429), Answer(cut=True)])
    await Fence(api, "ours", lambda: "me/1", sure).put()
    assert signature(fake) == "me/1"


async def test_put_right_when_it_is_doubted(fake: FakeApi, api: Api) -> None:
    fence = Fence(api, "ours", lambda: "me/2", sure)
    task = asyncio.create_task(fence.keep())
    fake.put(NAMESPACES, "ours", {"metadata": {"annotations": {names.LEADER: "other/1"}}})
    fence.doubt()
    await fake.until(lambda: signature(fake) == "me/2")
    task.cancel()


async def test_a_leader_whose_lease_was_deleted_does_not_put_it_right(
    fake: FakeApi, api: Api
) -> None:
    """Its clock says that it leads; another has made the lease anew, and its own mark here."""
    fake.put(LEASES, "l", {"spec": {}})
    mine = Lease(api, "ours", "l", "me")
    await mine.acquire()
    fence = Fence(api, "ours", lambda: mine.token, mine.sure)
    await fence.put()
    fake.remove(LEASES, "l")
    fake.put(LEASES, "l", {"spec": {"holderIdentity": "other", "leaseTransitions": 1}})
    fake.put(NAMESPACES, "ours", {"metadata": {"annotations": {names.LEADER: "other/1"}}})
    assert mine.valid
    task = asyncio.create_task(fence.keep())
    fence.doubt()
    gets = len(fake.seen)
    await fake.until(lambda: len(fake.seen) > gets + 4)
    task.cancel()
    assert signature(fake) == "other/1"
    assert not mine.valid

"""A holder that cannot be sure of its lease stops; one that ends lets the next one start."""

from __future__ import annotations

import asyncio

import pytest

from sovereign_gpu.cluster.errors import ApiError, ClusterError, UncertainError
from sovereign_gpu.cluster.lease import Lease, LeaseLostError
from sovereign_gpu.cluster.session import Api
from tests.contract.fake_api import Answer, FakeApi
from tests.contract.leases import FOLDER, MemoryApi, lease, now, taken
from tests.contract.virtual_time import run


class TestHolding:
    """Whoever cannot be sure stops."""

    def test_it_stays_valid_while_it_is_renewed(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            api.after = lambda: 1.0
            mine = await taken(api)
            holding = asyncio.create_task(mine.hold())
            acquired = None
            for _ in range(1000):
                await asyncio.sleep(0.5)
                assert mine.valid
                assert api.stored is not None
                acquired = acquired or api.stored["spec"]["acquireTime"]
                assert api.stored["spec"]["acquireTime"] == acquired
            holding.cancel()
            assert mine.transitions == 5

        run(scene())

    @pytest.mark.parametrize("by", ["taken", "deleted"])
    def test_it_is_lost_when_another_writes_it(self, by: str) -> None:
        async def scene() -> None:
            api = MemoryApi()
            mine = await taken(api)
            if by == "taken":
                api.held_by("you")
            else:
                api.stored = None
            began = now()
            with pytest.raises(LeaseLostError, match="another process"):
                await mine.hold()
            assert now() - began <= 4
            assert not mine.valid

        run(scene())

    @pytest.mark.parametrize("method", ["PUT", "GET"])
    @pytest.mark.parametrize("fault", [ApiError(403, "no"), UncertainError("cut")])
    def test_it_is_lost_when_it_cannot_be_renewed(self, fault: ClusterError, method: str) -> None:
        async def scene() -> None:
            api = MemoryApi()
            mine = await taken(api)
            if method == "GET":  # our renewals conflict, and we cannot see why
                assert api.stored is not None
                api.write(api.stored)
            api.fault = lambda asked: fault if asked == method else None
            began = now()
            with pytest.raises(LeaseLostError, match="in time"):
                await mine.hold()
            assert now() - began == pytest.approx(10.0)
            assert not mine.valid

        run(scene())

    def test_a_server_that_never_answers_is_not_waited_for(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            mine = await taken(api)
            api.before = lambda: 3600.0
            began = now()
            with pytest.raises(LeaseLostError, match="in time"):
                await mine.hold()
            assert now() - began == pytest.approx(10.0)

        run(scene())

    def test_a_renewal_that_landed_without_an_answer_is_ours(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            mine = await taken(api)
            faults = [UncertainError("cut")]
            api.lands = True
            api.fault = lambda method: faults.pop() if method == "PUT" and faults else None
            holding = asyncio.create_task(mine.hold())
            await asyncio.sleep(60)
            assert mine.valid
            holding.cancel()

        run(scene())

    def test_somebody_who_labels_it_does_not_end_us(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            mine = await taken(api)
            holding = asyncio.create_task(mine.hold())
            for _ in range(10):
                await asyncio.sleep(7)
                assert api.stored is not None
                api.write({**api.stored, "metadata": {"name": "l", "labels": {"a": "b"}}})
            assert mine.valid
            holding.cancel()

        run(scene())


class TestGivingBack:
    """The next one need not wait."""

    def test_frees_it(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            mine = await taken(api)
            await mine.give_back()
            assert not mine.valid
            began = now()
            other = lease(api, "you")
            await other.acquire()
            assert now() == began
            assert other.transitions == mine.transitions + 1

        run(scene())

    def test_ends_it_before_the_answer_is_there(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            mine = await taken(api)
            api.after = lambda: 3.0
            giving = asyncio.create_task(mine.give_back())
            await asyncio.sleep(1)
            assert not mine.valid
            await giving
            assert not mine.valid

        run(scene())

    def test_works_after_a_renewal_without_an_answer(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            mine = await taken(api)
            assert api.stored is not None
            api.write(api.stored)
            await mine.give_back()
            assert api.stored["spec"]["holderIdentity"] == ""

        run(scene())

    def test_leaves_the_lease_of_another_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        async def scene() -> None:
            api = MemoryApi()
            mine = await taken(api)
            api.held_by("you")
            await mine.give_back()
            assert api.stored is not None
            assert api.stored["spec"]["holderIdentity"] == "you"

        run(scene())
        assert "giving the lease back: another process" in caplog.text

    @pytest.mark.parametrize("fault", [UncertainError("cut"), ApiError(403, "no")])
    def test_does_not_fail(self, fault: ClusterError, caplog: pytest.LogCaptureFixture) -> None:
        async def scene() -> None:
            api = MemoryApi()
            mine = await taken(api)
            api.fault = lambda _: fault
            await mine.give_back()
            assert not mine.valid

        run(scene())
        assert "giving the lease back" in caplog.text


async def test_it_works_over_the_wire(fake: FakeApi, api: Api) -> None:
    fake.put(FOLDER, "l", {"metadata": {"labels": {"a": "b"}}})
    mine = Lease(api, "system", "l", "me", 0.3)
    await mine.acquire()
    holding = asyncio.create_task(mine.hold())
    await fake.until(lambda: len(fake.writes()) > 3)
    assert mine.valid
    fake.answers["PUT", FOLDER].append(Answer(cut=True, applied=True))
    count = len(fake.writes())
    await fake.until(lambda: len(fake.writes()) > count + 2)
    assert mine.valid
    holding.cancel()
    await mine.give_back()
    stored = fake.objects[FOLDER]["l"]
    assert stored["spec"]["holderIdentity"] == ""
    assert stored["metadata"]["labels"] == {"a": "b"}

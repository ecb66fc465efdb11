"""A lease is taken once nobody else's write can still be under way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sovereign_gpu.cluster.errors import ApiError, UncertainError
from sovereign_gpu.cluster.lease import MARGIN
from tests.contract.leases import MemoryApi, lease, now
from tests.contract.virtual_time import run


class TestTaking:
    """Nobody starts while somebody else's write can still be under way."""

    def test_a_lease_that_was_given_back_is_free(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            api.held_by("")
            mine = lease(api)
            began = now()
            await mine.acquire()
            assert now() == began
            assert mine.valid
            assert mine.token == "me/5"  # noqa: S105

        run(scene())

    @pytest.mark.parametrize("spec", [None, {}, {"holderIdentity": None, "leaseTransitions": None}])
    def test_a_lease_nobody_ever_held_is_free(self, spec: dict[str, Any] | None) -> None:
        async def scene() -> None:
            api = MemoryApi()
            api.write({"metadata": {"name": "l"}, **({} if spec is None else {"spec": spec})})
            mine = lease(api)
            await mine.acquire()
            assert mine.transitions == 1

        run(scene())

    def test_a_lease_of_another_is_taken_after_its_time_and_a_margin(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            api.held_by("you")
            mine = lease(api)
            began = now()
            await mine.acquire()
            assert 15 + MARGIN <= now() - began < 15 + MARGIN + 3
            assert mine.transitions == 5

        run(scene())

    def test_renewals_start_the_waiting_again_whatever_their_clock_says(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            api.held_by("you")
            mine = lease(api)
            waiting = asyncio.create_task(mine.acquire())
            for _ in range(10):
                await asyncio.sleep(10)
                api.held_by("you", renewTime="1970-01-01T00:00:00.000000Z")
            assert not waiting.done()
            began = now()
            await waiting
            assert now() - began >= 15 + MARGIN

        run(scene())

    @pytest.mark.parametrize(("theirs", "waited"), [(60, 60), (2, 15)])
    def test_the_longer_duration_counts(self, theirs: int, waited: int) -> None:
        async def scene() -> None:
            api = MemoryApi()
            api.held_by("you", leaseDurationSeconds=theirs)
            began = now()
            await lease(api).acquire()
            assert waited + MARGIN <= now() - began < waited + MARGIN + 3

        run(scene())

    def test_a_lease_that_is_not_there_may_have_a_holder_who_does_not_know_yet(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            mine = lease(api)
            began = now()
            await mine.acquire()
            assert now() - began >= 15 + MARGIN
            writes = [method for method, _ in api.requests if method != "GET"]
            assert writes[0] == "POST"  # nobody else can make it meanwhile
            assert set(writes[1:]) == {"PUT"}
            assert mine.valid
            assert mine.transitions == 1

        run(scene())

    def test_one_that_came_and_went_between_two_looks_is_outlasted(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            first, second = lease(api, "first"), lease(api, "second")
            holder = asyncio.create_task(first.acquire())
            await holder
            assert first.valid
            api.stored = None  # deleted under its holder, who does not know
            waiting = asyncio.create_task(second.acquire())
            while not waiting.done():
                await asyncio.sleep(0.1)
                assert not (waiting.done() and first.valid)
            assert second.valid

        run(scene())

    def test_one_that_is_deleted_while_it_is_outlasted_is_outlasted_anew(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            mine = lease(api)
            waiting = asyncio.create_task(mine.acquire())
            await asyncio.sleep(12)
            api.stored = None
            began = now()
            await waiting
            assert now() - began >= 15 + MARGIN
            assert mine.valid

        run(scene())

    def test_one_that_cannot_be_renewed_while_it_is_outlasted_is_not_held(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            mine = lease(api)
            waiting = asyncio.create_task(mine.acquire())
            await asyncio.sleep(1)
            api.fault = lambda _: UncertainError("cut")
            await asyncio.sleep(30)
            assert not waiting.done()
            api.fault = lambda _: None
            await waiting
            assert mine.valid

        run(scene())

    def test_of_two_who_create_it_one_wins(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            leases = [lease(api, name) for name in "ab"]
            tasks = [asyncio.create_task(each.acquire()) for each in leases]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            assert sum(each.valid for each in leases) == 1
            for task in tasks:
                task.cancel()

        run(scene())

    def test_one_that_is_ours_already_is_taken_at_once(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            api.held_by("")
            api.lands = True
            faults: list[Exception | None] = [None, UncertainError("cut")]
            api.fault = lambda _: faults.pop(0) if faults else None
            mine = lease(api)
            began = now()
            await mine.acquire()
            assert now() - began < 3
            assert mine.transitions == 5  # the same term

        run(scene())

    def test_a_conflict_means_that_another_was_quicker(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            api.held_by("")
            mine = lease(api)

            def quicker(method: str) -> None:
                if method == "PUT" and not taken:
                    taken.append(True)
                    api.held_by("you")

            taken: list[bool] = []
            api.fault = quicker
            began = now()
            await mine.acquire()
            assert now() - began > 15

        run(scene())

    def test_errors_are_waited_out(self, caplog: pytest.LogCaptureFixture) -> None:
        async def scene() -> None:
            api = MemoryApi()
            api.held_by("")
            errors: list[Exception | None] = [
                ApiError(403, "no"),
                UncertainError("x"),
                None,
                ApiError(422, "bad"),
            ]
            api.fault = lambda _: errors.pop(0) if errors else None
            await lease(api).acquire()

        run(scene())
        assert "403: no" in caplog.text
        assert "422: bad" in caplog.text

    def test_what_others_wrote_on_the_object_stays(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            labels = {"app.kubernetes.io/managed-by": "Helm"}
            api.write({"metadata": {"name": "l", "labels": labels}, "spec": {"strategy": "x"}})
            await lease(api).acquire()
            assert api.stored is not None
            assert api.stored["metadata"]["labels"] == labels
            assert api.stored["spec"]["strategy"] == "x"

        run(scene())

    def test_an_answer_that_comes_too_late_is_not_holding(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            api.held_by("")
            mine = lease(api)
            delays = iter([0.0, 4.9])
            api.after = lambda: next(delays, 0.0)
            await mine.acquire()
            assert mine.valid
            await asyncio.sleep(10 - 4.9 - 0.01)
            assert mine.valid
            await asyncio.sleep(0.02)
            assert not mine.valid  # counted from when it was asked

        run(scene())


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}", b"null"])
def test_an_answer_that_is_no_lease_is_no_answer(
    answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        api = MemoryApi()
        api.held_by("")
        request = api.request
        odd = [answer]

        async def sometimes(*arguments: Any, **more: Any) -> bytes:
            return odd.pop() if odd else await request(*arguments, **more)

        api.request = sometimes  # type: ignore[method-assign]
        mine = lease(api)
        await mine.acquire()
        assert mine.valid

    run(scene())
    assert "the answer is no lease" in caplog.text

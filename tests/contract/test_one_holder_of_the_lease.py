"""At no moment do two processes believe that they may write."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import logging
import random
from collections.abc import Callable
from typing import Any, cast

import pytest

from sovereign_gpu.cluster.errors import ApiError, ClusterError, UncertainError
from sovereign_gpu.cluster.lease import MARGIN, Lease, LeaseLostError
from sovereign_gpu.cluster.session import Api
from tests.contract.fake_api import Answer, FakeApi
from tests.contract.virtual_time import run

FOLDER = "/apis/coordination.k8s.io/v1/namespaces/system/leases"


class MemoryApi:
    """One lease object, without a socket, so that time can be virtual."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] | None = None
        self.version = 100
        self.fault: Callable[[str], Exception | None] = lambda _: None
        """Asked for each request by method; what it returns is raised."""
        self.lands = False
        """A write that a fault answers took effect all the same."""
        self.before: Callable[[], float] = lambda: 0.0
        """Seconds until a request takes effect."""
        self.after: Callable[[], float] = lambda: 0.0
        """Seconds from there to the answer."""
        self.requests: list[tuple[str, dict[str, Any] | None]] = []

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        timeout: float,  # noqa: ASYNC109
    ) -> bytes:
        assert path == (FOLDER if method == "POST" else f"{FOLDER}/l")
        self.requests.append((method, copy.deepcopy(body)))
        try:
            async with asyncio.timeout(timeout):
                await asyncio.sleep(self.before())
                fault = self.fault(method)
                if fault is None or (self.lands and isinstance(fault, UncertainError)):
                    self._apply(method, body)
                answer = json.dumps(self.stored).encode()
                await asyncio.sleep(self.after())
        except TimeoutError as error:
            raise UncertainError("timed out") from error
        if fault is not None:
            raise fault
        return answer

    def _apply(self, method: str, body: Any) -> None:
        if method != "POST" and self.stored is None:
            raise ApiError(404, "not found")
        if method == "GET":
            return
        if method == "POST" and self.stored is not None:
            raise ApiError(409, "already exists")
        if self.stored is not None:
            asked = body["metadata"]["resourceVersion"]
            if asked != self.stored["metadata"]["resourceVersion"]:
                raise ApiError(409, "the object has been modified")
        self.write(body)

    def write(self, body: dict[str, Any]) -> None:
        """Store it, as anybody may."""
        self.version += 1
        self.stored = copy.deepcopy(body)
        self.stored.setdefault("metadata", {})["resourceVersion"] = str(self.version)

    def held_by(self, holder: str, **spec: Any) -> None:
        """Store a lease of somebody."""
        base = {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 4}
        self.write({"metadata": {"name": "l"}, "spec": {**base, **spec}})


def lease(api: MemoryApi, holder: str = "me", duration: float = 15.0) -> Lease:
    return Lease(cast("Api", api), "system", "l", holder, duration)


def now() -> float:
    return asyncio.get_running_loop().time()


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
            assert [method for method, _ in api.requests if method != "GET"] == ["POST"]
            assert mine.valid
            assert mine.transitions == 1

        run(scene())

    def test_absence_is_not_continuous_while_we_could_not_look(self) -> None:
        async def scene() -> None:
            api = MemoryApi()
            mine = lease(api)
            waiting = asyncio.create_task(mine.acquire())
            await asyncio.sleep(10)
            api.fault = lambda _: UncertainError("cut")  # somebody may create it now, and lose it
            await asyncio.sleep(20)
            api.fault = lambda _: None
            began = now()
            await waiting
            assert now() - began >= 15 + MARGIN

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


async def taken(api: MemoryApi) -> Lease:
    if api.stored is None:
        api.held_by("")
    mine = lease(api)
    await mine.acquire()
    return mine


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


class BadDay:
    """Several processes that live, hang, die and come back, at an API server that fails often."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311
        # Either durations differ, or the lease is deleted at times: a newcomer cannot know how
        # long a lease was that it never saw.
        self._durations = (15.0,) if seed % 2 else (5.0, 15.0, 30.0)
        self._deletes = bool(seed % 2)
        self.leases: list[Lease] = []
        self.terms: list[str] = []
        self.api = MemoryApi()
        self.api.fault = self._fault
        self.api.before = self.api.after = self._latency

    def _fault(self, _: str) -> Exception | None:
        faults = [UncertainError("cut"), ApiError(403, "x"), ApiError(429, "x")]
        return self._chance.choice(faults) if self._chance.random() < 0.25 else None

    def _latency(self) -> float:
        return self._chance.choice([0.0, 0.01, 0.01, 0.5, 3.0, 4.9, 20.0])

    async def _live(self, name: str) -> None:
        for life in range(1000):
            mine = lease(self.api, f"{name}{life}", self._chance.choice(self._durations))
            self.leases.append(mine)
            await mine.acquire()
            self.terms.append(mine.token)
            with contextlib.suppress(TimeoutError, LeaseLostError):
                async with asyncio.timeout(self._chance.uniform(1, 200)):
                    await mine.hold()
            if self._chance.random() < 0.5:
                await mine.give_back()
            # Else it is killed, and counts as writing on until its own time is over.

    async def pass_by(self, steps: int) -> None:
        lives = [asyncio.create_task(self._live(name)) for name in "abc"]
        deleted = now()
        for _ in range(steps):
            await asyncio.sleep(self._chance.uniform(0.0, 0.4))
            assert sum(each.valid for each in self.leases[-20:]) <= 1
            self.api.lands = self._chance.random() < 0.5
            if self._deletes and now() > deleted + 100 and self._chance.random() < 0.003:
                self.api.stored, deleted = None, now()
        for task in lives:
            assert not task.done()
            task.cancel()


@pytest.mark.parametrize("seed", range(12))
def test_of_many_contenders_on_a_bad_day_one_at_most_is_valid(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    random.seed(seed)  # the jitter
    day = BadDay(seed)
    run(day.pass_by(20_000))
    assert len(day.terms) > 10
    assert len(set(day.terms)) == len(day.terms)


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

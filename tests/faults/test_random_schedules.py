"""Whatever breaks, nothing is given away twice, and everything ends well once it is mended."""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from unittest import mock

import pytest

from sovereign_gpu.cluster import informer, lease, writer
from sovereign_gpu.cluster.errors import ApiError
from sovereign_gpu.controller import fence, releases
from sovereign_gpu.core.engine import Engine
from tests.faults import schedule

SCHEDULES = int(os.environ.get("FAULT_SCHEDULES", "2000"))
FIRST = int(os.environ.get("FAULT_SEED", "0"))
_CHUNK = 50
_ENOUGH = 400
"""Seeds within which a defect must be found."""


def _play(first: int) -> tuple[list[tuple[int, str]], int, list[float]]:
    found, released, recoveries = [], 0, []
    for seed in range(first, min(first + _CHUNK, FIRST + SCHEDULES)):
        try:
            outcome = schedule.run(seed)
        except schedule.Violation as violation:
            found.append((seed, str(violation)))
        else:
            released += outcome.releases
            recoveries.append(outcome.recovered)
    return found, released, recoveries


def test_nothing_is_given_away_twice_and_every_pod_runs() -> None:
    chunks = range(FIRST, FIRST + SCHEDULES, _CHUNK)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        played = list(pool.map(_play, chunks))
    found = [each for violations, _, _ in played for each in violations]
    recoveries = [seconds for _, _, part in played for seconds in part]
    if found:
        seed, sentence = found[0]
        least = schedule.smallest(seed, schedule.actions(seed))
        pytest.fail(f"{len(found)} of {SCHEDULES}; seed {seed}: {sentence}\nsmallest: {least}")
    released = sum(part for _, part, _ in played)
    assert released > 5 * SCHEDULES
    median, longest = statistics.median(recoveries), max(recoveries)
    print(  # noqa: T201 – the figure of the run
        f"{SCHEDULES} schedules, {released} releases, 0 violations; recovered after "
        f"{median:.1f} s (median), {longest:.1f} s (longest)"
    )


# --- the oracle sees what it is for ---------------------------------------------------------------
def _charge_nothing() -> object:
    charge = Engine.charge

    def forgetful(self: Engine, uid: str, charged: object) -> object:
        if charged is not None and uid in self.assumed:
            return None
        return charge(self, uid, charged)  # type: ignore[arg-type]

    return mock.patch.object(Engine, "charge", forgetful)


def _take_nothing_over() -> object:
    async def put(_: fence.Fence) -> None:
        """Leave the signature of the predecessor."""

    return mock.patch.object(fence.Fence, "put", put)


def _give_up_what_is_unknown() -> object:
    init = writer.Write.__init__

    def unpersisted(self: writer.Write, *args: object, **more: object) -> None:
        init(self, *args, **{**more, "persist": False})  # type: ignore[arg-type]

    return mock.patch.object(writer.Write, "__init__", unpersisted)


def _skip_a_gap() -> object:
    listing = informer.Informer._list  # noqa: SLF001

    async def listed(self: informer.Informer[object]) -> None:
        if self.health.relists and not self._must_list():
            self._version = str(await self._newest())
        else:
            await listing(self)

    return mock.patch.object(informer.Informer, "_list", listed)


def _wait_for_nobody() -> object:
    async def taken(self: lease.Lease) -> bool:
        with contextlib.suppress(ApiError):
            self._remember(await self._get())
            held = int((self._object.get("spec") or {}).get("leaseTransitions") or 0)
            self.transitions = held + 1
            await self._put(self._spec(renewing=False))
        return self.valid

    return mock.patch.object(lease.Lease, "_try", taken)


def _forget_what_was_refused() -> object:
    return mock.patch.object(releases.Releaser, "_retry", return_value=None)


@pytest.fixture(
    params=[
        _charge_nothing,
        _take_nothing_over,
        _give_up_what_is_unknown,
        _skip_a_gap,
        _wait_for_nobody,
        _forget_what_was_refused,
    ],
    ids=lambda each: each.__name__.strip("_"),
)
def defect(request: pytest.FixtureRequest) -> Iterator[None]:
    with request.param():
        yield


@pytest.mark.usefixtures("defect")
def test_a_defect_of_the_operator_is_found() -> None:
    for seed in range(_ENOUGH):
        try:
            schedule.run(seed)
        except schedule.Violation:
            return
    pytest.fail(f"not within {_ENOUGH} schedules")


def test_the_smallest_part_that_fails_is_found() -> None:
    with _charge_nothing():  # type: ignore[attr-defined]
        seed = next(s for s in range(_ENOUGH) if schedule._fails(s, schedule.actions(s)))  # noqa: SLF001
        whole = schedule.actions(seed)
        least = schedule.smallest(seed, whole)
        assert len(least) < len(whole)
        assert {action.name for action in least} <= {"create"}
        with pytest.raises(schedule.Violation):
            schedule.run(seed, least)


def test_a_seed_is_one_story() -> None:
    assert schedule.run(7) == schedule.run(7)

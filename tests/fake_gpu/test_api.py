"""Following objects over whatever an API server does on a bad day."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from rig.fake_gpu import api as module
from rig.fake_gpu import control
from rig.fake_gpu.api import Api, ApiError
from rig.pki import Authority
from tests.contract.fake_api import Answer, FakeApi, serving
from tests.fake_gpu.kubelet import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from rig.fake_gpu.scenario import Scenario

MAPS = "/api/v1/namespaces/fake-gpu/configmaps"


@pytest.fixture
async def fake() -> AsyncIterator[FakeApi]:
    async with serving() as server:
        server.objects[MAPS] = {}
        yield server


@pytest.fixture
async def api(fake: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    authority = Authority(tmp_path / "ca").pair.certificate.read_text()
    tokens = iter(f"token-{number}\n" for number in range(1000))
    async with Api(fake.url, authority, lambda: next(tokens)) as client:
        yield client


def put(fake: FakeApi, text: str, uid: str = "1") -> None:
    fake.put(MAPS, "fake-gpu", {"metadata": {"uid": uid}, "data": {"_default": text}})


@pytest.fixture
async def seen(api: Api) -> AsyncIterator[list[Scenario]]:
    """Every scenario that a part would have been told, in order."""
    told: list[Scenario] = []

    async def follow() -> None:
        found = control.scenarios(api, "fake-gpu", "fake-gpu", "dgx-0")
        async for each in found:
            told.append(each)  # noqa: PERF401 - endless, and read while it grows

    task = asyncio.create_task(follow())
    await until(lambda: told, "a first scenario")
    yield told
    assert not task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_the_scenario_is_that_of_the_config_map_now(
    fake: FakeApi, seen: list[Scenario]
) -> None:
    assert seen[0].gpus == 8
    put(fake, "gpus: 4")
    await until(lambda: len(seen) == 2, "the change")
    put(fake, "gpus: nonsense")
    put(fake, "gpus: 4 # the same")
    put(fake, "gpus: 2")
    await until(lambda: len(seen) == 3, "the next change")
    fake.remove(MAPS, "fake-gpu")
    await until(lambda: len(seen) == 4, "the end of the ConfigMap")
    put(fake, "gpus: 1", uid="2")
    await until(lambda: len(seen) == 5, "another ConfigMap of the same name")
    assert [each.gpus for each in seen] == [8, 4, 2, 8, 1]
    # Each request has the token of its time.
    tokens = [each.headers["Authorization"] for each in fake.seen]
    assert len(set(tokens)) == len(tokens)
    assert tokens[0] == "Bearer token-0"


@pytest.mark.parametrize("harm", ["expire", "cut", "end", "half a line", "nonsense"])
async def test_nothing_is_missed_when_a_watch_goes_wrong(
    fake: FakeApi, seen: list[Scenario], harm: str
) -> None:
    await until(lambda: fake.watches, "a watch")
    old = set(fake.watches)
    if harm == "half a line":
        fake.say(b'{"type":"MODIFIED","obj')
        fake.end()
    elif harm == "nonsense":
        fake.say(b"<html>\n")
    else:
        getattr(fake, harm)()
    put(fake, "gpus: 3")
    await until(lambda: seen[-1].gpus == 3, "what changed meanwhile")
    await until(lambda: fake.watches - old, "another watch")
    put(fake, "gpus: 5")
    await until(lambda: seen[-1].gpus == 5, "what changed later")


@pytest.mark.parametrize("answer", [Answer(401), Answer(403), Answer(503), Answer(cut=True)])
async def test_a_refusal_is_not_for_ever(
    fake: FakeApi, seen: list[Scenario], answer: Answer
) -> None:
    fake.answers["GET", MAPS].extend([answer] * 3)
    fake.end()
    await until(lambda: not fake.answers["GET", MAPS], "three refusals")
    put(fake, "gpus: 3")
    await until(lambda: seen[-1].gpus == 3, "the change after them")


async def test_errors_carry_the_words_of_the_server(fake: FakeApi, api: Api) -> None:
    fake.answers["PATCH", MAPS].append(Answer(422, message="no such field"))
    with pytest.raises(ApiError, match="422 no such field") as error:
        await api.patch(f"{MAPS}/fake-gpu", {}, module.MERGE)
    assert error.value.status == 422

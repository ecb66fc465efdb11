"""After a refusal the pod is read again before its GPUs are given to another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sovereign_gpu import names
from sovereign_gpu.cluster import decode, wire
from sovereign_gpu.cluster.backoff import Backoff
from sovereign_gpu.cluster.session import Api
from sovereign_gpu.cluster.writer import Writer
from sovereign_gpu.controller.fence import Fence
from sovereign_gpu.controller.releases import Releaser
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.ledger import Charge
from sovereign_gpu.core.model import Pod, Pool, Release
from sovereign_gpu.telemetry.metrics import Metrics
from tests.cluster.pods import pod
from tests.contract.fake_api import Answer, FakeApi

PODS = "/api/v1/namespaces/a/pods"
UID = "uid-a-p"


class Scene:
    """An engine that has decided one release, and what carries it."""

    def __init__(self, fake: FakeApi, api: Api) -> None:
        self.fake = fake
        self.engine = Engine()
        self.engine.pools["munich"] = Pool("munich", "DE", "muc")
        self.woken = asyncio.Event()
        self.writer = Writer(api, retry=Backoff(0.001, 0.01))
        self.releaser = Releaser(
            api=api,
            writer=self.writer,
            engine=self.engine,
            metrics=Metrics(self.engine),
            fence=Fence(api, "here", lambda: "me/1", lambda: True),
            signature=lambda: "me/1",
            wake=self.woken.set,
            timeout=5.0,
        )
        self.pod = read(pod())
        self.engine.put_pod(self.pod)
        self.engine.dequeue(UID)
        self.engine.assumed[UID] = "munich"
        self.engine.charge(UID, Charge("t", "munich", "n", self.pod.demand, bound=False))

    def send(self) -> None:
        self.releaser.send(Release(self.pod, "t", "munich", "n", pinned=False))

    @property
    def charged(self) -> bool:
        return UID in self.engine.ledger.charges


def read(source: dict[str, Any]) -> Pod:
    return decode.pod(wire.POD.validate_json(json.dumps(source)))


@pytest.fixture
async def scene(fake: FakeApi, api: Api) -> AsyncIterator[Scene]:
    made = Scene(fake, api)
    fake.answers["PATCH", PODS].append(Answer(status=422))
    yield made
    await made.writer.close(0.0)


async def woken(scene: Scene) -> None:
    await asyncio.wait_for(scene.woken.wait(), 10)


async def test_still_gated_gives_the_gpus_back_and_says_why(scene: Scene) -> None:
    scene.fake.put(PODS, "p", pod())
    scene.send()
    await woken(scene)
    assert not scene.charged
    assert "scripted" in scene.engine.stopped[UID].message


async def test_already_released_stays_charged(scene: Scene) -> None:
    labels = {names.POOL_LABEL: "munich"}
    scene.fake.put(PODS, "p", pod(gated=False, meta={"labels": labels}))
    scene.send()
    await woken(scene)
    assert scene.charged
    assert names.GATE not in scene.engine.pods[UID].gates


@pytest.mark.parametrize(
    "found", [None, pod(uid="another"), pod(phase="Failed"), pod(phase="Succeeded", gated=False)]
)
async def test_gone_frees_the_gpus(scene: Scene, found: dict[str, Any] | None) -> None:
    if found is not None:
        scene.fake.put(PODS, "p", found)
    scene.send()
    await woken(scene)
    assert not scene.charged
    assert UID not in scene.engine.pods


async def test_nobody_knows_keeps_them_charged_until_somebody_does(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sovereign_gpu.controller.releases._READ_AGAIN", 0.01)
    scene.fake.put(PODS, "p", pod())
    scene.fake.answers["GET", PODS].append(Answer(status=500))
    scene.send()
    await scene.fake.until(lambda: len(scene.fake.seen) == 2)
    assert scene.charged
    await woken(scene)
    assert not scene.charged


async def test_a_try_that_lands_after_the_refusal_of_another_is_counted(scene: Scene) -> None:
    scene.releaser.timeout = 0.2
    scene.fake.put(PODS, "p", pod())
    scene.fake.answers["PATCH", PODS].insert(0, Answer(status=500))
    scene.send()
    await scene.fake.until(lambda: len(scene.fake.seen) == 2)
    scene.fake.put(PODS, "p", pod(gated=False))
    await woken(scene)
    assert scene.charged


async def test_an_answer_about_a_pod_that_is_gone_by_then_leaves_no_ghost(scene: Scene) -> None:
    late = asyncio.Event()
    scene.fake.put(PODS, "p", pod(gated=False, node="n"))
    scene.fake.answers["GET", PODS].append(Answer(until=late))
    scene.send()
    await scene.fake.until(lambda: len(scene.fake.seen) == 2)
    scene.engine.remove_pod(UID)  # the watch was quicker
    late.set()
    async with asyncio.timeout(10):
        while scene.writer._busy:  # noqa: SLF001, ASYNC110
            await asyncio.sleep(0)
    assert UID not in scene.engine.pods
    assert not scene.charged

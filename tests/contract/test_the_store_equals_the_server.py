"""Whatever the wire does, the store ends equal to the server, and its changes tell all of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from sovereign_gpu.cluster.session import Api
from tests.cluster.pods import pod
from tests.contract.fake_api import Answer, FakeApi
from tests.contract.watching import PATH, fill, following, watching


async def test_a_list_in_pages_is_taken_whole(fake: FakeApi, api: Api) -> None:
    fake.page = 7
    fill(fake, 30)
    async with following(fake, api) as follower:
        await follower.until_equal()
        assert len(follower.store) == 30
        assert len(fake.lists(PATH)) == 1


async def test_the_list_is_read_by_quorum(fake: FakeApi, api: Api) -> None:
    async with following(fake, api):
        await watching(fake)
    assert "resourceVersion" not in fake.lists(PATH)[0].query


async def test_synced_means_that_everything_is_there(fake: FakeApi, api: Api) -> None:
    fake.page = 2
    fill(fake, 5)
    async with following(fake, api) as follower:
        await follower.informer.health.synced.wait()
        assert len(follower.store) == 5


async def test_changes_arrive(fake: FakeApi, api: Api) -> None:
    fill(fake, 3)
    async with following(fake, api) as follower:
        await watching(fake)
        fake.put(PATH, "p1", pod("p1", gated=False, node="n1"))
        fake.put(PATH, "p9", pod("p9"))
        fake.remove(PATH, "p0")
        await follower.until_equal()
        assert follower.informer.health.events == 3


async def test_a_burst_of_changes_arrives_whole(fake: FakeApi, api: Api) -> None:
    async with following(fake, api) as follower:
        await watching(fake)
        fill(fake, 300)
        await follower.until_equal()
        assert follower.informer.health.events == 300


async def test_a_finished_pod_is_gone(fake: FakeApi, api: Api) -> None:
    fill(fake, 1)
    async with following(fake, api) as follower:
        await watching(fake)
        await follower.until_equal()
        fake.put(PATH, "p0", pod("p0", phase="Succeeded"))
        await follower.until(lambda: len(follower.store) == 0)
        await follower.until_equal()


async def test_a_pod_made_anew_under_the_same_name_is_another(fake: FakeApi, api: Api) -> None:
    fake.put(PATH, "p", pod(uid="old"))
    async with following(fake, api) as follower:
        await watching(fake)
        fake.remove(PATH, "p")
        fake.put(PATH, "p", pod(uid="new"))
        await follower.until_equal()
        assert follower.store.get("old") is None
        assert follower.store.get("new") is not None


async def test_deletions_in_a_gap_are_noticed(fake: FakeApi, api: Api) -> None:
    fill(fake, 20)
    async with following(fake, api) as follower:
        await watching(fake)
        await follower.until_equal()
        fake.always = lambda _: Answer(status=503)
        fake.cut()
        for i in range(5):
            fake.remove(PATH, f"p{i}")
        fake.compact()
        follower.drain()
        assert len(follower.known) == 20
        fake.always = lambda _: None
        await follower.until_equal()
        assert len(follower.known) == 15


async def test_a_watch_resumes_where_it_was_and_lists_nothing_again(
    fake: FakeApi, api: Api
) -> None:
    fill(fake, 3)
    async with following(fake, api) as follower:
        await watching(fake)
        fake.put(PATH, "p5", pod("p5"))
        await follower.until_equal()
        newest = str(fake.version)
        for breaking in (fake.end, fake.cut):
            asked = len(fake.watched(PATH))
            breaking()
            await watching(fake, asked + 1)
            assert fake.watched(PATH)[-1].query["resourceVersion"] == newest
        fake.put(PATH, "p6", pod("p6"))
        await follower.until_equal()
        assert len(fake.lists(PATH)) == 1


async def test_a_bookmark_moves_the_place_to_resume(fake: FakeApi, api: Api) -> None:
    fill(fake, 1)
    async with following(fake, api):
        await watching(fake)
        fake.put("/api/v1/nodes", "n", {})
        fake.bookmark(PATH)
        fake.end()
        await watching(fake, 2)
        assert fake.watched(PATH)[1].query["resourceVersion"] == str(fake.version)
        assert fake.watched(PATH)[1].query["allowWatchBookmarks"] == "true"


@pytest.mark.parametrize("how", ["event", "status"])
async def test_a_version_that_is_too_old_leads_to_one_new_list(
    fake: FakeApi, api: Api, how: str
) -> None:
    fill(fake, 3)
    async with following(fake, api) as follower:
        await watching(fake)
        if how == "event":
            fake.expire()
        else:
            fake.put("/api/v1/nodes", "n", {})
            fake.compact()
            fake.cut()
        fake.put(PATH, "p7", pod("p7"))
        await follower.until(lambda: follower.informer.health.relists == 2)
        await follower.until_equal()
        assert len(fake.lists(PATH)) == 2


async def test_a_continue_token_that_is_too_old_starts_the_list_again(
    fake: FakeApi, api: Api
) -> None:
    fake.page = 2
    fill(fake, 5)

    def once(seen: Any) -> Answer | None:
        if "continue" in seen.query and len(fake.lists(PATH)) == 1:
            return Answer(status=410)
        return None

    fake.always = once
    async with following(fake, api) as follower:
        await follower.until_equal()
        assert len(fake.lists(PATH)) == 2


async def test_a_list_that_breaks_half_way_takes_nothing_in(fake: FakeApi, api: Api) -> None:
    fake.page = 2
    fill(fake, 5)
    fake.always = lambda seen: Answer(status=500) if "continue" in seen.query else None
    async with following(fake, api) as follower:
        await follower.until(lambda: follower.informer.health.failures > 3)
        assert len(follower.store) == 0
        assert not follower.informer.health.synced.is_set()
        fake.always = lambda _: None
        await follower.until_equal()


@pytest.mark.parametrize(
    "answer", ["garbage", "[]", '{"items":[]}', '{"metadata":{},"items":null}']
)
async def test_a_list_that_is_no_list_is_asked_for_again(
    fake: FakeApi, api: Api, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(fake, 1)
    request = api.request
    asked = 0

    async def sometimes(*arguments: Any, **more: Any) -> bytes:
        nonlocal asked
        asked += 1
        return answer.encode() if asked == 1 else await request(*arguments, **more)

    monkeypatch.setattr(api, "request", sometimes)
    async with following(fake, api) as follower:
        await follower.until_equal()
        assert follower.informer.health.failures == 1


class Chaos:
    """Random changes and random faults; the same seed does the same."""

    def __init__(self, fake: FakeApi, seed: int) -> None:
        self._fake = fake
        self._random = random.Random(seed)  # noqa: S311 – to be repeated
        self._number = 0
        fake.page = self._random.choice((1, 3, 500))
        self._deeds: tuple[tuple[int, Callable[[], object]], ...] = (
            (30, self._create),
            (20, self._change),
            (10, self._finish),
            (12, self._delete),
            (4, fake.cut),
            (4, fake.end),
            (3, fake.expire),
            (3, fake.compact),
            (4, lambda: fake.bookmark(PATH)),
            (4, self._half_a_line),
            (3, self._again),
            (3, lambda: fake.say(b"\n")),
            (3, self._refuse),
            (2, self._chop),
        )

    def step(self) -> None:
        weights = [weight for weight, _ in self._deeds]
        (deed,) = self._random.choices([deed for _, deed in self._deeds], weights)
        deed()

    def _any(self) -> str | None:
        names = sorted(self._fake.objects[PATH])
        return self._random.choice(names) if names else None

    def _create(self) -> None:
        self._number += 1
        name = f"p{self._random.randrange(12)}"
        if name not in self._fake.objects[PATH]:
            self._fake.put(PATH, name, pod(name, uid=f"u{self._number}"))

    def _change(self) -> None:
        if name := self._any():
            uid = self._fake.objects[PATH][name]["metadata"]["uid"]
            body = pod(name, uid=uid, gated=False, node=self._random.choice(("", "n1", "n2")))
            self._fake.put(PATH, name, body)

    def _finish(self) -> None:
        if name := self._any():
            uid = self._fake.objects[PATH][name]["metadata"]["uid"]
            phase = self._random.choice(("Succeeded", "Failed", "Running"))
            self._fake.put(PATH, name, pod(name, uid=uid, phase=phase))

    def _delete(self) -> None:
        if name := self._any():
            self._fake.remove(PATH, name)

    def _again(self) -> None:
        """Tell the newest change a second time."""
        if self._fake.history[PATH]:
            newest = self._fake.history[PATH][-1]
            for watch in self._fake.watches:
                self._fake._tell(watch, newest)  # noqa: SLF001

    def _half_a_line(self) -> None:
        self._fake.say(b'{"type":"ADDED","object":{"metadata":{"name":"ghost","uid":"gh')
        self._random.choice((self._fake.cut, self._fake.end))()

    def _refuse(self) -> None:
        answers = (Answer(status=429), Answer(status=500), Answer(status=410), Answer(cut=True))
        self._fake.answers["GET", PATH].append(self._random.choice(answers))

    def _chop(self) -> None:
        self._fake.chop = self._random.choice((0, 1, 5, 100))


@pytest.mark.parametrize("seed", range(25))
async def test_after_any_mischief(fake: FakeApi, api: Api, seed: int) -> None:
    chaos = Chaos(fake, seed)
    turns = random.Random(-seed)  # noqa: S311
    async with following(fake, api) as follower:
        for _ in range(8):
            for _ in range(turns.randrange(1, 25)):
                chaos.step()
                for _ in range(turns.choice((0, 0, 1, 5, 20))):
                    await asyncio.sleep(0)
                follower.drain(turns.choice((1, 3, 100)))
            fake.answers.clear()
            await follower.until_equal()

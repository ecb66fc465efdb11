"""A store is current when the server says so, not when its watch was last heard."""

from __future__ import annotations

import asyncio

from sovereign_gpu.cluster.session import Api
from tests.cluster.pods import pod
from tests.contract.fake_api import Answer, FakeApi
from tests.contract.watching import PATH, fill, following, watching


async def test_a_watch_that_has_passed_the_version_is_enough(fake: FakeApi, api: Api) -> None:
    fill(fake, 3)
    async with following(fake, api) as follower:
        await watching(fake)
        lists = len(fake.lists(PATH))
        # The server is ahead of the watch while the question is answered, and then is not.
        watch = next(iter(fake.watches))
        watch.path = "/elsewhere"
        fake.put("/elsewhere-too", "x", pod("x"))
        asked = asyncio.create_task(follower.informer.confirm())
        await fake.until(lambda: len(fake.lists(PATH)) > lists)
        watch.path = PATH
        fill(fake, 1, start=3)
        await asked
        assert len(fake.lists(PATH)) == lists + 1
        assert len(follower.store) == 4


async def test_a_quiet_watch_is_not_believed_and_all_is_listed_again(
    fake: FakeApi, api: Api
) -> None:
    fill(fake, 3)
    async with following(fake, api) as follower:
        await watching(fake)
        # Somebody writes, and the watch says nothing of it.
        for watch in fake.watches:
            watch.path = "/elsewhere"
        fill(fake, 2, start=3)
        assert len(follower.store) == 3
        await follower.informer.confirm()
        assert len(follower.store) == 5
        follower.drain()
        assert follower.known == follower.truth()


async def test_an_answer_that_does_not_come_is_asked_for_again(fake: FakeApi, api: Api) -> None:
    fill(fake, 1)
    async with following(fake, api) as follower:
        await watching(fake)
        fake.answers["GET", PATH].extend([Answer(status=500), Answer(status=429), Answer(cut=True)])
        await follower.informer.confirm()
        assert not fake.answers["GET", PATH]


async def test_confirmed_while_it_connects_it_lists_again(fake: FakeApi, api: Api) -> None:
    gate = asyncio.Event()
    fill(fake, 1)
    fake.answers["GET", PATH].append(Answer(until=gate))  # the first list waits
    async with following(fake, api) as follower:
        await fake.until(lambda: len(fake.lists(PATH)) == 1)
        asked = asyncio.create_task(follower.informer.confirm())
        await fake.until(lambda: len(fake.lists(PATH)) == 2)
        await asyncio.wait([asked], timeout=0.7)
        assert not asked.done()
        gate.set()
        await asked
        assert len(fake.lists(PATH)) == 3

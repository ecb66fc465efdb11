"""Broken connections, silence and refusals: a watch goes on, and does not hammer the server."""

from __future__ import annotations

import asyncio
import json
import logging
import random

import pytest

from sovereign_gpu.cluster.backoff import Backoff
from sovereign_gpu.cluster.session import Api
from tests.cluster.pods import pod
from tests.contract.fake_api import Answer, FakeApi
from tests.contract.watching import PATH, fill, following, watching


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_lines_may_come_in_pieces(fake: FakeApi, api: Api, size: int) -> None:
    async with following(fake, api) as follower:
        await watching(fake)
        fake.chop = size
        fill(fake, 3)
        await follower.until_equal()


async def test_a_connection_cut_in_the_middle_of_a_line_loses_nothing(
    fake: FakeApi, api: Api
) -> None:
    for cutting in (fake.cut, fake.end):
        async with following(fake, api) as follower:
            await watching(fake)
            fill(fake, 2)
            await follower.until_equal()
            fake.say(b'{"type":"DELETED","object":{"metadata":{"uid":"uid-a-p0"')
            cutting()
            fake.put(PATH, "p1", pod("p1", gated=False))
            await follower.until_equal()
            assert len(fake.lists(PATH)) == 1
            assert follower.informer.health.failures == 1
        fake.seen.clear()


async def test_an_event_told_twice_is_one_change(fake: FakeApi, api: Api) -> None:
    async with following(fake, api) as follower:
        await watching(fake)
        stored = fake.put(PATH, "p0", pod("p0"))
        await follower.until_equal()
        line = json.dumps({"type": "MODIFIED", "object": stored}).encode() + b"\n"
        fake.say(line + b"\n" + line)  # and an empty line means nothing
        await follower.until(lambda: follower.informer.health.events == 3)
        assert follower.store.drain(10) == {}


async def test_an_event_of_a_kind_that_is_not_known_is_passed_over(fake: FakeApi, api: Api) -> None:
    async with following(fake, api) as follower:
        await watching(fake)
        fake.say(b'{"type":"HINT","object":{"metadata":{"resourceVersion":"99"}}}\n')
        fill(fake, 1)
        await follower.until_equal()
        assert follower.informer.health.failures == 0


@pytest.mark.parametrize(
    "line",
    [
        b"garbage\n",
        b"[]\n",
        b'{"type":"ADDED"}\n',
        b'{"type":"ERROR","object":{"code":500,"message":"etcd"}}\n',
        b'{ "type" : "ERROR", "object": "odd" }\n',
    ],
)
async def test_what_is_no_event_ends_the_watch_and_nothing_else(
    fake: FakeApi, api: Api, line: bytes
) -> None:
    async with following(fake, api) as follower:
        await watching(fake)
        fake.say(line)
        await watching(fake, 2)
        fill(fake, 2)
        await follower.until_equal()
        assert len(fake.lists(PATH)) == 1


async def test_silence_ends_a_watch(fake: FakeApi, api: Api) -> None:
    async with following(fake, api, silence=0.02) as follower:
        await watching(fake, 3)
        fill(fake, 1)
        await follower.until_equal()
        assert len(fake.lists(PATH)) == 1


async def test_bytes_without_end_are_silence_too(fake: FakeApi, api: Api) -> None:
    async with following(fake, api, silence=0.05) as follower:
        await watching(fake)
        async with asyncio.timeout(10):
            while len(fake.watched(PATH)) == 1:
                fake.say(b"x")
                await asyncio.sleep(0.001)
        fill(fake, 1)
        await follower.until_equal()


async def test_errors_are_retried_for_as_long_as_they_last(
    fake: FakeApi, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    fill(fake, 2)
    answers = [Answer(status=s) for s in (403, 429, 500, 503)] + [Answer(cut=True)]
    fake.always = lambda _: random.Random(len(fake.seen)).choice(answers)  # noqa: S311
    with caplog.at_level(logging.WARNING):
        async with following(fake, api) as follower:
            await follower.until(lambda: follower.informer.health.failures > 50)
            fake.always = lambda _: None
            await follower.until_equal()
            failures = follower.informer.health.failures
            fill(fake, 3)
            await follower.until_equal()
            assert follower.informer.health.failures == failures
    assert f"watch of {PATH}: 403: scripted" in caplog.text


async def test_a_watch_that_always_ends_at_once_is_not_a_hot_loop(fake: FakeApi, api: Api) -> None:
    async with following(fake, api, backoff=Backoff(0.2, 30.0)) as follower:
        await watching(fake)
        fake.end()
        await follower.until(lambda: follower.informer.health.failures == 1)
        assert len(fake.watched(PATH)) == 1  # it pauses


async def test_pauses_double_up_to_a_limit_and_start_again_after_success(
    fake: FakeApi, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def record(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr("sovereign_gpu.cluster.informer.asyncio.sleep", record)
    monkeypatch.setattr("sovereign_gpu.cluster.backoff.random.uniform", lambda _, most: most)
    fake.answers["GET", PATH].extend(Answer(status=500) for _ in range(6))
    async with following(fake, api, backoff=Backoff(0.2, 3.0)) as follower:
        await watching(fake)
        fill(fake, 1)
        await follower.until_equal()
        fake.answers["GET", PATH].append(Answer(status=429, headers={"Retry-After": "2"}))
        fake.cut()
        await watching(fake, 3)
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 0.2, 2.0]


async def test_cancelling_ends_it_wherever_it_is(fake: FakeApi, api: Api) -> None:
    stuck = asyncio.Event()
    fake.answers["GET", PATH].append(Answer(until=stuck))
    async with following(fake, api):
        await fake.until(lambda: len(fake.seen) == 1)
    stuck.set()
    async with following(fake, api):
        await watching(fake)

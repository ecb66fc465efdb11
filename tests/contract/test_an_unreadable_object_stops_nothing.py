"""What is not understood is named and kept apart, and all other objects go on."""

from __future__ import annotations

from typing import Any

import pytest

from sovereign_gpu.cluster.session import Api
from tests.cluster.pods import REQUIRED, pod
from tests.contract.fake_api import FakeApi
from tests.contract.watching import PATH, fill, following, watching


class TestUnreadable:
    """One object that is not understood: all others go on, and it is not forgotten silently."""

    BAD = (
        pod("bad", containers=[{"resources": {"requests": {"nvidia.com/gpu": "many"}}}]),
        pod("bad", containers="none"),
        pod("bad", meta={"creationTimestamp": "yesterday"}),
        pod("bad", affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"x": 1}, 2]}}}),
    )

    @pytest.mark.parametrize("bad", BAD)
    async def test_in_a_list_is_named(
        self, fake: FakeApi, api: Api, bad: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        fill(fake, 3)
        fake.put(PATH, "bad", bad)
        async with following(fake, api) as follower:
            await follower.informer.health.synced.wait()
            assert len(follower.store) == 3
            (sentence,) = follower.informer.health.unreadable.values()
            assert sentence.startswith("a/bad: ")
            fake.put(PATH, "p3", pod("p3"))
            await follower.until(lambda: len(follower.store) == 4)
        assert "cannot read a/bad" in caplog.text

    @pytest.mark.parametrize("bad", BAD)
    async def test_in_a_watch_stays_as_it_was_last_understood(
        self, fake: FakeApi, api: Api, bad: dict[str, Any]
    ) -> None:
        good = pod("bad", gated=False, node="n")
        fake.put(PATH, "bad", good)
        async with following(fake, api) as follower:
            await watching(fake)
            await follower.until_equal()
            fake.put(PATH, "bad", bad)
            unreadable = follower.informer.health.unreadable
            await follower.until(lambda: len(unreadable) == 1)
            kept = follower.store.get("uid-a-bad")
            assert kept is not None
            assert kept.demand.gpus == 1
            fake.expire()  # and a list does not forget it either
            await follower.until(lambda: follower.informer.health.relists == 2)
            assert follower.store.get("uid-a-bad") == kept
            fake.put(PATH, "bad", pod("bad", gpus=2, gated=False, node="n"))
            await follower.until_equal()
            assert unreadable == {}

    @pytest.mark.parametrize("leave", ["deleted", "finished", "in a gap"])
    async def test_is_forgotten_when_it_is_gone(self, fake: FakeApi, api: Api, leave: str) -> None:
        fake.put(PATH, "bad", self.BAD[1])
        async with following(fake, api) as follower:
            await watching(fake)
            unreadable = follower.informer.health.unreadable
            assert len(unreadable) == 1
            if leave == "finished":
                fake.put(PATH, "bad", {**self.BAD[1], "status": {"phase": "Failed"}})
            elif leave == "deleted":
                fake.remove(PATH, "bad")
            else:
                fake.expire()
                fake.remove(PATH, "bad")
            await follower.until(lambda: not unreadable)

    async def test_is_logged_once(
        self, fake: FakeApi, api: Api, caplog: pytest.LogCaptureFixture
    ) -> None:
        fake.put(PATH, "bad", self.BAD[1])
        async with following(fake, api) as follower:
            await watching(fake)
            fake.put(PATH, "bad", self.BAD[1])
            fake.expire()
            await follower.until(lambda: follower.informer.health.relists == 2)
        assert caplog.text.count("cannot read") == 1

    async def test_without_any_name_is_still_noticed(self, fake: FakeApi, api: Api) -> None:
        async with following(fake, api) as follower:
            await watching(fake)
            fake.say(b'{"type":"ADDED","object":{"spec":{}}}\n{"type":"ADDED","object":7}\n')
            unreadable = follower.informer.health.unreadable
            await follower.until(lambda: bool(unreadable))
            assert "without metadata" in next(iter(unreadable.values()))
            fill(fake, 1)
            await follower.until_equal()

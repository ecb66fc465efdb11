"""The server makes the next page while we read this one; what comes is the whole list, once."""

from __future__ import annotations

import contextlib

import pytest

from sovereign_gpu.cluster import listing
from sovereign_gpu.cluster.errors import ClusterError
from sovereign_gpu.cluster.kinds import PODS
from sovereign_gpu.cluster.reading import GoneError, Reader
from sovereign_gpu.cluster.session import Api
from tests.contract.fake_api import Answer, FakeApi
from tests.contract.watching import PATH, fill


async def _all(api: Api) -> list[str]:
    found: list[str] = []
    async for page in listing.pages(api, PODS, Reader(PODS)):
        found += page.items
    return found


async def test_every_pod_comes_once(fake: FakeApi, api: Api) -> None:
    fake.page = 3
    fill(fake, 10)
    found = await _all(api)
    assert len(found) == len(set(found)) == 10
    assert len(fake.seen) == 4


async def test_the_next_page_is_asked_for_before_this_one_is_read(fake: FakeApi, api: Api) -> None:
    fake.page = 3
    fill(fake, 10)
    async with contextlib.aclosing(listing.pages(api, PODS, Reader(PODS))) as pages:
        await anext(pages)
        await fake.until(lambda: len(fake.seen) == 2)


async def test_a_server_that_writes_its_lists_otherwise_is_read_all_the_same(
    fake: FakeApi, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_more", lambda _: "")
    fake.page = 3
    fill(fake, 10)
    assert len(await _all(api)) == 10


@pytest.mark.parametrize("content", [b"", b"[]", b'{"metadata":7,"items":[]}', b'{"a":1,"items":['])
def test_a_head_that_says_nothing_is_no_token(content: bytes) -> None:
    assert listing._more(content) == ""  # noqa: SLF001


async def test_a_page_that_fails_ends_the_list(fake: FakeApi, api: Api) -> None:
    fake.page = 3
    fill(fake, 10)
    fake.answers["GET", PATH].extend([Answer(), Answer(status=500)])
    with pytest.raises(ClusterError):
        await _all(api)


async def test_a_token_that_the_server_forgot_is_told(fake: FakeApi, api: Api) -> None:
    fake.page = 3
    fill(fake, 10)
    async with contextlib.aclosing(listing.pages(api, PODS, Reader(PODS))) as pages:
        await anext(pages)
        await fake.until(lambda: len(fake.seen) == 2)
        fake.compact()
        fill(fake, 1, start=10)
        fake.compact()
        with pytest.raises(GoneError):
            async for _ in pages:
                pass

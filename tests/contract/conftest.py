"""A fake API server, our client to it, and a writer to it that can be held up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sovereign_gpu.cluster.session import Api, Credentials
from sovereign_gpu.cluster.writer import Writer
from tests.contract.fake_api import Answer, FakeApi, serving
from tests.contract.writing import QUICK, Desk


@pytest.fixture
async def fake() -> AsyncIterator[FakeApi]:
    async with serving() as server:
        yield server


@pytest.fixture
async def api(fake: FakeApi) -> AsyncIterator[Api]:
    client = Api(Credentials(server=fake.url), user_agent="test")
    yield client
    await client.close()


@pytest.fixture
async def desk(fake: FakeApi, api: Api) -> AsyncIterator[Desk]:
    writer = Writer(api, most=4, retry=QUICK)
    yield Desk(fake, writer)
    await writer.close(0.0)


@pytest.fixture
def gate(fake: FakeApi) -> asyncio.Event:
    """Writes wait for it."""
    event = asyncio.Event()
    fake.always = lambda seen: None if seen.method == "GET" else Answer(until=event)
    return event

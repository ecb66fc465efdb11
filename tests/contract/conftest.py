"""A fake API server and our client to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sovereign_gpu.cluster.session import Api, Credentials
from tests.contract.fake_api import FakeApi, serving


@pytest.fixture
async def fake() -> AsyncIterator[FakeApi]:
    async with serving() as server:
        yield server


@pytest.fixture
async def api(fake: FakeApi) -> AsyncIterator[Api]:
    client = Api(Credentials(server=fake.url), user_agent="test")
    yield client
    await client.close()

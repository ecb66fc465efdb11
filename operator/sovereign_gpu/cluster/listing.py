"""Complete lists, page by page, read by quorum."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import TypeVar

from sovereign_gpu.cluster.errors import GONE, ApiError
from sovereign_gpu.cluster.reading import GoneError, Kind, Page, Reader
from sovereign_gpu.cluster.session import Api

T = TypeVar("T")
_PAGE = 500
_TURNS = 3
"""Turns of the event loop in which a request is on its way."""


async def pages(api: Api, kind: Kind[T], reader: Reader[T]) -> AsyncGenerator[Page[T]]:
    """Yield the pages of a list; all show the cluster at the resource version that they carry.

    No resource version is asked for, so that the list is as new as the request. The server works
    on the next page while we read this one.

    Raises:
        GoneError: turning the pages took so long that the server forgot them.
        ClusterError: a page could not be had.
    """
    more = ""
    coming = asyncio.create_task(_ask(api, kind, more))
    try:
        while True:
            content = await coming
            more = _more(content)
            if more:
                coming = asyncio.create_task(_ask(api, kind, more))
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
            page = reader.page(content)
            yield page
            if not page.more:
                return
            if page.more != more:
                coming.cancel()
                coming = asyncio.create_task(_ask(api, kind, page.more))
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def _ask(api: Api, kind: Kind[T], more: str) -> bytes:
    query = kind.query(limit=str(_PAGE), **({"continue": more} if more else {}))
    try:
        return await api.request("GET", kind.path, query=query)
    except ApiError as error:
        if error.status == GONE:
            raise GoneError from error
        raise


def _more(content: bytes) -> str:
    """Return the token of the next page from what stands before the items; empty: not known."""
    head, found, _ = content.partition(b',"items":')
    try:
        return str(json.loads(head + b"}")["metadata"].get("continue", "")) if found else ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""

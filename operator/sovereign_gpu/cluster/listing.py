"""Complete lists, page by page, read by quorum."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from sovereign_gpu.cluster.errors import GONE, ApiError
from sovereign_gpu.cluster.reading import GoneError, Kind, Page, Reader
from sovereign_gpu.cluster.session import Api

T = TypeVar("T")
_PAGE = 500


async def pages(api: Api, kind: Kind[T], reader: Reader[T]) -> AsyncIterator[Page[T]]:
    """Yield the pages of a list; all show the cluster at the resource version that they carry.

    No resource version is asked for, so that the list is as new as the request.

    Raises:
        GoneError: turning the pages took so long that the server forgot them.
        ClusterError: a page could not be had.
    """
    more = ""
    while True:
        query = kind.query(limit=str(_PAGE), **({"continue": more} if more else {}))
        try:
            content = await api.request("GET", kind.path, query=query)
        except ApiError as error:
            if error.status == GONE:
                raise GoneError from error
            raise
        page = reader.page(content)
        yield page
        more = page.more
        await asyncio.sleep(0)
        if not more:
            return

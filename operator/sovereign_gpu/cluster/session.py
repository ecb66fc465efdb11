"""Requests to the API server: every answer is a value or one of the errors of `errors`."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from sovereign_gpu.cluster.credentials import Credentials, load_credentials
from sovereign_gpu.cluster.errors import UNAUTHORIZED, ApiError, ClusterError, UncertainError
from sovereign_gpu.cluster.patches import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH

__all__ = [
    "JSON_PATCH",
    "MERGE_PATCH",
    "METADATA_ONLY",
    "STRATEGIC_PATCH",
    "Api",
    "Credentials",
    "load_credentials",
]

METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""Accept header for answers of which only metadata is of interest: 1 KB instead of 6."""

_CONNECT = 10.0
"""Seconds to open a connection."""
_NO_SUCCESS = 300
_REQUEST_TIMEOUT, _SERVER_ERROR = 408, 500
_BUDGET = "DisruptionBudget"
"""Cause that the eviction subresource names when a PodDisruptionBudget is in the way."""


class Api:
    """One API server, as one identity."""

    def __init__(self, credentials: Credentials, *, user_agent: str) -> None:
        """Open nothing yet.

        Raises:
            ConfigurationError: the credentials cannot be read.
        """
        self.credentials = credentials
        credentials.bearer()
        self._ssl = credentials.ssl_context()
        self._session = aiohttp.ClientSession(
            # No limit here: the writer has its own, and the lease must never wait behind writes.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            # Packing costs both sides more CPU than the bytes cost inside a cluster.
            headers={"User-Agent": user_agent, "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], *, idle: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a GET whose body is read as it comes; `idle` seconds without a byte end it.

        Raises:
            ClusterError: the server answered with an error, or we have no credentials.
            aiohttp.ClientError, TimeoutError: the connection failed, now or while reading.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT, sock_read=idle)
        async with self._session.get(
            self._url(path, query),
            headers=self._headers({}),
            ssl=self._tls,
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            if response.status >= _NO_SUCCESS:
                if response.status == UNAUTHORIZED:
                    self.credentials.renewed()
                raise _error("GET", path, response, await response.read())
            yield response

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: float = 30.0,  # noqa: ASYNC109 – the limit belongs to the request
    ) -> bytes:
        """Send one request and return the body of its answer.

        Raises:
            ApiError: the server refused; nothing was written.
            UncertainError: no answer, 408 or 5xx; a write may have happened or not.
            ConfigurationError: there is no token to send.
        """
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        types = {"Accept": accept, **({} if data is None else {"Content-Type": content_type})}
        limit = aiohttp.ClientTimeout(total=timeout, sock_connect=_CONNECT)
        while True:
            headers = self._headers(dict(types))
            try:
                async with self._session.request(
                    method,
                    self._url(path, query or {}),
                    data=data,
                    headers=headers,
                    ssl=self._tls,
                    timeout=limit,
                    allow_redirects=False,
                ) as response:
                    content = await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise UncertainError(f"{method} {path}: {type(error).__name__}: {error}") from error
            # A token that was replaced before its minute was over: nothing happened yet.
            if response.status == UNAUTHORIZED and self.credentials.renewed():
                continue
            if response.status >= _NO_SUCCESS:
                raise _error(method, path, response, content)
            return content

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """Return the decoded JSON of a GET.

        Raises:
            ClusterError: as `request`; UncertainError also if the answer is not JSON.
        """
        content = await self.request("GET", path, query=query)
        try:
            return json.loads(content)
        except ValueError as error:
            raise UncertainError(f"GET {path}: the answer is not JSON: {error}") from error

    @property
    def _tls(self) -> ssl.SSLContext | bool:
        return self._ssl if self._ssl is not None else True

    def _headers(self, headers: dict[str, str]) -> dict[str, str]:
        token = self.credentials.bearer()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _url(self, path: str, query: Mapping[str, str]) -> URL:
        text = "&".join(f"{quote(k)}={quote(v, safe='')}" for k, v in query.items())
        return URL(self.credentials.server + path + (f"?{text}" if text else ""), encoded=True)


def _error(
    method: str, path: str, response: aiohttp.ClientResponse, content: bytes
) -> ClusterError:
    budget = False
    try:
        said = json.loads(content)
        message = str(said["message"])
        causes = (said.get("details") or {}).get("causes") or ()
        budget = any(cause.get("reason") == _BUDGET for cause in causes)
    except (ValueError, TypeError, KeyError, AttributeError):
        message = content[:500].decode(errors="replace")
    pause = _seconds(response.headers.get("Retry-After"))
    if response.status >= _SERVER_ERROR or response.status == _REQUEST_TIMEOUT:
        return UncertainError(f"{method} {path}: {response.status}: {message}", pause)
    refusal = ApiError(response.status, message, pause)
    refusal.budget = budget
    return refusal


def _seconds(text: str | None) -> float | None:
    # The API server sends whole seconds; a proxy may send a date, which we do not follow.
    return float(text) if text is not None and text.isdecimal() else None

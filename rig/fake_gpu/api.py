"""The API server, as far as this stack needs it: follow a few objects, patch one.

Small on purpose, with no library but aiohttp: the image is to be small, and nothing of the product
that is tested with this stack may be part of it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import yaml

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REQUEST_SECONDS: Final = 15.0
WATCH_SECONDS: Final = 60
"""A watch is opened anew that often: a connection that died unseen costs no more."""
PAUSE_SECONDS: Final = 1.0
LINE_BYTES: Final = 2**22
"""An event is one line and may be as large as an object."""
APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
log = logging.getLogger(__name__)

Objects = dict[str, dict[str, Any]]
"""Objects by uid."""


class ApiError(Exception):
    """An answer that is not 2xx.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """One identity at one API server; used as an asynchronous context manager.

    Args:
        server: base URL.
        authority: certificates that vouch for it, PEM.
        token: called for every request, because tokens of service accounts are replaced hourly.
    """

    def __init__(self, server: str, authority: str, token: Callable[[], str]) -> None:
        self._server = server.rstrip("/")
        self._token = token
        self._context = ssl.create_default_context(cadata=authority)
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def in_cluster(cls) -> Self:
        """Return the service account of the pod that this runs in."""
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        if ":" in host:
            host = f"[{host}]"
        authority = (SERVICE_ACCOUNT / "ca.crt").read_text(encoding="ascii")
        return cls(f"https://{host}:{port}", authority, (SERVICE_ACCOUNT / "token").read_text)

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Self:
        """Return the token of a kubeconfig that has one, and one cluster."""
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        cluster = config["clusters"][0]["cluster"]
        token = config["users"][0]["user"]["token"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        return cls(cluster["server"], authority, lambda: token)

    async def __aenter__(self) -> Self:
        """Open the session."""
        connector = aiohttp.TCPConnector(ssl=self._context)
        self._session = aiohttp.ClientSession(connector=connector, read_bufsize=LINE_BYTES)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, **query: str) -> Any:
        """Return an object or a list.

        Raises:
            ApiError: the answer is not 2xx.
            aiohttp.ClientError: there was none.
        """
        async with self._request("GET", path, params=query) as answer:
            return await answer.json()

    async def patch(self, path: str, body: Any, content_type: str, **query: str) -> Any:
        """Patch an object and return what it is then."""
        data = json.dumps(body)
        kind = {"Content-Type": content_type}
        async with self._request("PATCH", path, params=query, data=data, headers=kind) as answer:
            return await answer.json()

    async def follow(self, path: str, selector: str) -> AsyncIterator[Objects]:
        """Yield the objects that match a field selector, now and after every change.

        Never ends and never fails: what goes wrong is logged and tried again.
        """
        while True:
            try:
                listed = await self.get(path, fieldSelector=selector)
                found = {each["metadata"]["uid"]: each for each in listed["items"]}
                yield found
                async for event in self._watch(path, selector, listed):
                    uid = event["object"]["metadata"]["uid"]
                    found = {key: each for key, each in found.items() if key != uid}
                    if event["type"] != "DELETED":
                        found[uid] = event["object"]
                    yield found
            # Half a line, or a proxy's page where JSON should be, is a ValueError.
            except (aiohttp.ClientError, ApiError, OSError, TimeoutError, ValueError) as error:
                log.warning("%s: %s", path, error or type(error).__name__)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _watch(
        self, path: str, selector: str, listed: dict[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        query = {
            "watch": "true",
            "fieldSelector": selector,
            "resourceVersion": listed["metadata"]["resourceVersion"],
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        longest = aiohttp.ClientTimeout(total=WATCH_SECONDS + REQUEST_SECONDS)
        async with self._request("GET", path, params=query, timeout=longest) as answer:
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"].get("code", 0), event["object"]["message"])
                yield event

    @contextlib.asynccontextmanager
    async def _request(
        self, method: str, path: str, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise RuntimeError("not inside `async with`")
        options.setdefault("timeout", aiohttp.ClientTimeout(total=REQUEST_SECONDS))
        headers = {
            "Accept": "application/json",
            "Authorization": f"Bearer {self._token().strip()}",
            **options.pop("headers", {}),
        }
        url = self._server + path
        async with self._session.request(method, url, headers=headers, **options) as answer:
            if not answer.ok:
                text = await answer.text()
                raise ApiError(answer.status, f"{method} {path}: {answer.status} {_message(text)}")
            yield answer


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200]

"""How the operator reaches the API server, for its own requests and for kopf's.

Inside a cluster the service account is used and its token is read anew before it expires;
elsewhere a kubeconfig with certificates or a token. Plugins that run a command are not
supported: the operator's image holds none.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import yaml
from yarl import URL

from sovereign_gpu.cluster.errors import ApiError, ConfigurationError, UncertainError

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_MAX_AGE = 60.0
"""Seconds; a projected token is rotated long before it expires."""
_IN_FLIGHT = 128

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""Accept header for answers of which only metadata is of interest: 1 KB instead of 6."""


@dataclass(slots=True)
class Credentials:
    """Where the API server is and who we are."""

    server: str
    ca_file: str | None = None
    ca_data: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None
    token: str | None = None
    token_file: Path | None = None
    _read_at: float = field(default=float("-inf"), init=False)

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the context for the server's and our certificates; None for plain HTTP."""
        if not self.server.startswith("https"):
            return None
        context = ssl.create_default_context(cafile=self.ca_file, cadata=self.ca_data)
        if self.client_cert_file:
            context.load_cert_chain(self.client_cert_file, self.client_key_file)
        return context

    def bearer(self) -> str | None:
        """Return the token, read again from its file once a minute."""
        if self.token_file is not None and time.monotonic() - self._read_at > _TOKEN_MAX_AGE:
            self.token = self.token_file.read_text().strip()
            self._read_at = time.monotonic()
        return self.token


def load_credentials(kubeconfig: str | None = None) -> Credentials:
    """Return the credentials of the given kubeconfig, $KUBECONFIG, or the service account.

    Raises:
        ConfigurationError: neither is there, or the kubeconfig asks for what is not supported.
    """
    path = kubeconfig or os.environ.get("KUBECONFIG")
    if path:
        return _from_kubeconfig(Path(path))
    host, port = (
        os.environ.get("KUBERNETES_SERVICE_HOST"),
        os.environ.get("KUBERNETES_SERVICE_PORT"),
    )
    if not host or not port:
        raise ConfigurationError(
            "no way to the API server: give --kubeconfig, set KUBECONFIG, or run in a pod"
        )
    host = f"[{host}]" if ":" in host else host
    return Credentials(
        server=f"https://{host}:{port}",
        ca_file=str(_SERVICE_ACCOUNT / "ca.crt"),
        token_file=_SERVICE_ACCOUNT / "token",
    )


def _from_kubeconfig(path: Path) -> Credentials:
    try:
        config = yaml.safe_load(path.read_text())
        context = _named(config, "contexts", config["current-context"])["context"]
        cluster = _named(config, "clusters", context["cluster"])["cluster"]
        user = _named(config, "users", context["user"])["user"]
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"kubeconfig {path} is not usable: {error!r}") from error
    if "exec" in user or "auth-provider" in user:
        raise ConfigurationError(
            f"kubeconfig {path}: users.user.exec is not supported; give a token or certificates"
        )
    ca_data = cluster.get("certificate-authority-data")
    return Credentials(
        server=cluster["server"].rstrip("/"),
        ca_file=cluster.get("certificate-authority"),
        ca_data=base64.b64decode(ca_data).decode() if ca_data else None,
        client_cert_file=_file_of(user, "client-certificate"),
        client_key_file=_file_of(user, "client-key"),
        token=user.get("token"),
        token_file=Path(user["tokenFile"]) if user.get("tokenFile") else None,
    )


def _named(config: Any, kind: str, name: str) -> Any:
    for entry in config[kind]:
        if entry["name"] == name:
            return entry
    raise KeyError(f"{kind}[name={name}]")


def _file_of(user: Mapping[str, str], key: str) -> str | None:
    data = user.get(f"{key}-data")
    if data is None:
        return user.get(key)
    # The ssl module loads certificates from files only.
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(base64.b64decode(data))
    return file.name


class Api:
    """Requests to one API server; every answer is a value or one of the errors of `errors`."""

    def __init__(self, credentials: Credentials, *, user_agent: str) -> None:
        self.credentials = credentials
        self._ssl = credentials.ssl_context()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_IN_FLIGHT, keepalive_timeout=60),
            headers={"User-Agent": user_agent},
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=True,
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
            ApiError: the server answered with an error.
            aiohttp.ClientError, TimeoutError: the connection failed.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=idle)
        async with self._session.get(
            self._url(path, query), headers=self._headers({}), ssl=self._tls, timeout=timeout
        ) as response:
            if response.status >= 400:  # noqa: PLR2004
                raise _error(response.status, await response.read(), response.headers)
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
            ApiError: the server answered with a status of 400 and more, but not 5xx.
            UncertainError: no answer, or 5xx; a write may have happened or not.
        """
        headers = self._headers({"Accept": accept})
        data = None
        if body is not None:
            data = json.dumps(body, separators=(",", ":")).encode()
            headers["Content-Type"] = content_type
        try:
            async with self._session.request(
                method,
                self._url(path, query or {}),
                data=data,
                headers=headers,
                ssl=self._tls,
                timeout=aiohttp.ClientTimeout(total=timeout),
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            raise UncertainError(f"{method} {path}: {type(error).__name__}: {error}") from error
        if response.status >= 500:  # noqa: PLR2004
            raise UncertainError(f"{method} {path}: {_error(response.status, content, {})}")
        if response.status >= 400:  # noqa: PLR2004
            raise _error(response.status, content, response.headers)
        return content

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """Return the decoded JSON of a GET."""
        return json.loads(await self.request("GET", path, query=query))

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


def _error(status: int, content: bytes, headers: Mapping[str, str]) -> ApiError:
    try:
        message = str(json.loads(content).get("message", ""))
    except (ValueError, AttributeError):
        message = content[:500].decode(errors="replace")
    try:
        retry_after = float(headers.get("Retry-After", "nan"))
    except ValueError:
        retry_after = float("nan")
    return ApiError(status, message, retry_after if retry_after == retry_after else None)  # noqa: PLR0124

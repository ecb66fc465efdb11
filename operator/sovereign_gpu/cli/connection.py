"""Requests over one kept connection, with nothing but the standard library."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

_TRIES = 2
"""A kept connection may have been closed by the other side since."""


class ConnectionFailedError(Exception):
    """No answer came."""


class Answer(NamedTuple):
    """Status and body."""

    status: int
    body: bytes
    retry_after: float = 0.0
    """Seconds that the server asks to wait before the next try."""
    warnings: tuple[str, ...] = ()
    """Texts of Warning headers (RFC 9111, code 299)."""

    def document(self) -> dict[str, Any]:
        """Return the JSON object; empty if it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def message(self) -> str:
        """What the server says is wrong."""
        text = self.document().get("message")
        return str(text) if text else self.body[:200].decode(errors="replace").strip()


class Connection:
    """One server, as one person."""

    def __init__(
        self,
        server: str,
        tls: ssl.SSLContext | None,
        timeout: float,
        headers: Mapping[str, str],
    ) -> None:
        """Open nothing yet; `timeout` in seconds is for each wait on the socket."""
        parts = urlsplit(server)
        self._server = server
        self._base = parts.path.rstrip("/")
        self._headers = dict(headers)
        host, port = parts.hostname or "", parts.port
        self._http: http.client.HTTPConnection
        if tls is None:
            self._http = http.client.HTTPConnection(host, port, timeout=timeout)
        else:
            self._http = http.client.HTTPSConnection(host, port, timeout=timeout, context=tls)

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        """Return the answer, whatever its status.

        Raises:
            ConnectionFailedError: there is none.
        """
        return self.request("GET", path, query)

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        content_type: str = "",
    ) -> Answer:
        """Return the answer to a request that does no harm when it arrives twice.

        Raises:
            ConnectionFailedError: there is none.
        """
        headers = {**self._headers, "Content-Type": content_type} if content_type else self._headers
        target = self._base + quote(path, safe="/:")
        if query:
            target += "?" + urlencode(query)
        for left in reversed(range(_TRIES)):
            kept = self._http.sock is not None
            try:
                self._http.request(method, target, body=content, headers=headers)
                response = self._http.getresponse()
                pause = response.getheader("Retry-After", "")
                wait = float(pause) if pause.isdecimal() else 0.0
                warned = response.headers.get_all("Warning") or ()
                texts = tuple(text for each in warned if (text := _warning(each)))
                return Answer(response.status, response.read(), wait, texts)
            except (OSError, http.client.HTTPException) as error:
                self._http.close()
                if not (kept and left) or isinstance(error, TimeoutError | ssl.SSLError):
                    raise ConnectionFailedError(f"{self._server}: {_said(error)}") from error
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


def _warning(header: str) -> str:
    _, quote_, rest = header.partition('"')
    return rest.rpartition('"')[0].replace('\\"', '"') if quote_ else ""


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return f"no such host: {error.strerror}"
    return str(error) or type(error).__name__

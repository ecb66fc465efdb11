"""Where connections come in: so many at a time, each for a while, and no noise about garbage.

The port can be reached by every pod that the network lets through, long before anybody shows a
token; the process behind it has better things to do than to hold their connections.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Collection

from aiohttp import web

_CONNECTIONS = 256
"""At a time; more are closed at once."""
_OPEN = 60.0
"""Seconds after which a connection ends, or soon after the answer that is under way."""
_SOON = 0.1
_HANDSHAKE = 5.0
_BACKLOG = 128

quiet = logging.getLogger(f"{__name__}.http")
"""For aiohttp, which would log bytes of a stranger with a traceback."""
quiet.setLevel(logging.CRITICAL)


class _Turned(asyncio.Protocol):
    """Closes what it is given."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class Door(web.BaseSite):
    """A TLS port of an application."""

    def __init__(
        self,
        runner: web.AppRunner,
        host: str,
        port: int,
        tls: ssl.SSLContext,
        busy: Collection[object],
    ) -> None:
        """Prepare; `busy` are the transports on which an answer is under way."""
        super().__init__(runner, ssl_context=tls, backlog=_BACKLOG)
        self._host, self._port, self._tls = host, port, tls
        self._busy = busy

    @property
    def name(self) -> str:
        """Address, for messages."""
        return f"https://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be listened on.
        """
        await super().start()
        self._server = await asyncio.get_running_loop().create_server(
            self._let_in,
            self._host,
            self._port,
            ssl=self._tls,
            backlog=_BACKLOG,
            ssl_handshake_timeout=_HANDSHAKE,
        )

    def _let_in(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None or len(server.connections) >= _CONNECTIONS:
            return _Turned()
        handler = server()
        asyncio.get_running_loop().call_later(_OPEN, self._end, handler)
        return handler

    def _end(self, handler: web.RequestHandler) -> None:
        if handler.transport in self._busy:
            asyncio.get_running_loop().call_later(_SOON, self._end, handler)
        else:
            handler.force_close()

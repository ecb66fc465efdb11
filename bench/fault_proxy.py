"""A TCP proxy that delays, swallows and cuts on command; TLS passes through it unread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

_CHUNK = 65536


@dataclass(slots=True)
class FaultProxy:
    """Runs in a thread of its own between `start` and `stop`."""

    target: str
    """Address of the server, as URL."""
    url: str = ""
    """Where it listens."""
    delay: float = 0.0
    """Seconds that every piece waits."""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _passes: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _thread: threading.Thread | None = None
    _server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        """Listen."""
        self._passes.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy")
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"https://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        """End everything."""
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Break every connection at once."""
        self._loop.call_soon_threadsafe(self._abort)

    def close(self) -> None:
        """Let nothing pass; connections stay."""
        self._loop.call_soon_threadsafe(self._passes.clear)

    def open(self) -> None:
        """Let everything pass at once."""
        self.delay = 0.0
        self._loop.call_soon_threadsafe(self._passes.set)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        self._abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        where = urlsplit(self.target)
        try:
            there, back = await asyncio.open_connection(where.hostname, where.port)
        except OSError:
            writer.transport.abort()
            return
        ways = ((reader, back), (there, writer))
        self._writers |= {writer, back}
        tasks = [asyncio.create_task(self._carry(*way)) for way in ways]
        self._tasks.update(tasks)
        # Either side's end is the end of both, as it is of a connection without a proxy.
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
            self._tasks.discard(task)
        for each in (writer, back):
            self._writers.discard(each)
            each.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_CHUNK):
                await self._passes.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(piece)
                await writer.drain()

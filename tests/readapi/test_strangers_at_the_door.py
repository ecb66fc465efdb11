"""Connections of strangers: few at a time, none for ever, and nothing of theirs in the log."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest

from sovereign_gpu.readapi import door as module
from tests.core.build import engine, node
from tests.readapi.desk import Desk, desk


@pytest.fixture
async def open_desk() -> AsyncIterator[Desk]:
    async with desk(engine(node())) as opened:
        yield opened


async def connect(
    opened: Desk, *, tls: bool = True
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    port = int(opened.url.rpartition(":")[2])
    return await asyncio.open_connection("127.0.0.1", port, ssl=context if tls else None)


async def rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_a_connection_that_says_nothing_is_closed(
    open_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OPEN", 0.05)
    reader, writer = await connect(open_desk)
    assert await rest(reader) == b""
    writer.close()


async def test_a_connection_that_never_comes_to_the_point_is_closed(
    open_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OPEN", 0.05)
    reader, writer = await connect(open_desk)
    writer.write(b"GET /v1/queue HTTP/1.1\r\nHost: x\r\nA: ")
    assert await rest(reader) == b""
    writer.close()


async def test_an_answer_under_way_is_given(
    open_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OPEN", 0.05)
    open_desk.registrar.gate = asyncio.Event()
    asked = asyncio.create_task(open_desk.ask("/v1/queue"))
    done, _ = await asyncio.wait([asked], timeout=0.2)
    assert not done
    open_desk.registrar.gate.set()
    assert (await asked)[0] == 200


async def test_too_many_connections_are_turned_away_and_room_comes_back(
    open_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CONNECTIONS", 2)
    held = [await connect(open_desk) for _ in range(2)]
    # Each has asked something, so that it is known to be let in.
    for reader, writer in held:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 404")
    reader, writer = await connect(open_desk)
    assert await rest(reader) == b""
    writer.close()
    for reader, kept in held:
        kept.close()
        await kept.wait_closed()
        await rest(reader)
    line = b""
    async with asyncio.timeout(10):
        while not line:
            reader, writer = await connect(open_desk)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            line = await reader.readline()
            writer.close()
    assert line.startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nSovereign-Gpu-Token: secret" + b"x" * 20_000 + b"\r\n\r\n",
    ],
)
async def test_garbage_is_refused_and_not_repeated_in_the_log(
    open_desk: Desk, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await connect(open_desk)
    writer.write(data)
    assert (await rest(reader)).startswith(b"HTTP/1.0 400")
    writer.close()
    assert caplog.text == ""


async def test_words_in_the_clear_are_not_heard(
    open_desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await connect(open_desk, tls=False)
    writer.write(b"GET /v1/queue HTTP/1.1\r\n\r\n")
    assert await rest(reader) == b""
    writer.close()
    assert caplog.text == ""

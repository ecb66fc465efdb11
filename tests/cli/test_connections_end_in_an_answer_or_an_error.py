"""Requests over a kept connection: sent again where the other side closed it, else an error."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest

from sovereign_gpu.cli import asking
from sovereign_gpu.cli.connection import Answer, Connection, ConnectionFailedError
from sovereign_gpu.cli.question import Exit, FailedError, NotAskedError, Question
from sovereign_gpu.cluster.credentials import Credentials
from sovereign_gpu.readapi.certificate import server_context

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Start = Callable[..., str]


@pytest.fixture
def start() -> Iterator[Start]:
    """Serve one scripted answer per connection; None closes without a word."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def begin(*answers: bytes | None, tls: ssl.SSLContext | None = None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            for answer in answers:
                peer, _ = listener.accept()
                try:
                    talk = tls.wrap_socket(peer, server_side=True) if tls else peer
                except OSError:
                    peer.close()
                    continue
                with talk:
                    talk.recv(65_536)
                    if answer is not None:
                        talk.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        threads.append(thread)
        thread.start()
        scheme = "https" if tls else "http"
        return f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"

    yield begin
    for thread in threads:
        thread.join(10)
    for listener in listeners:
        listener.close()


def test_a_kept_connection_that_was_closed_is_opened_again(start: Start) -> None:
    connection = Connection(start(OK, OK), None, 5, {})
    assert connection.get("/a") == Answer(200, b"{}")
    assert connection.get("/b", {"q": "a b"}) == Answer(200, b"{}")
    connection.close()


def test_a_new_connection_that_is_closed_is_an_error(start: Start) -> None:
    url = start(None)
    connection = Connection(url, None, 5, {})
    with pytest.raises(ConnectionFailedError, match=f"{url}: "):
        connection.get("/a")


def test_silence_is_an_error_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ConnectionFailedError, match="no answer in time"):
            Connection(url, None, 0.05, {}).get("/a")


def test_a_host_that_is_none_is_named() -> None:
    with pytest.raises(ConnectionFailedError, match="no such host"):
        Connection("http://no-such-host.invalid", None, 5, {}).get("/a")


@pytest.mark.parametrize(
    ("body", "message"),
    [(b'{"message": "full"}', "full"), (b"[]", "[]"), (b"<html>", "<html>"), (b"", "")],
)
def test_a_refusal_is_quoted(body: bytes, message: str) -> None:
    assert Answer(503, body).message == message


# --- the operator's own address ---------------------------------------------------------------
ME = Credentials(server="http://unused", token="secret")  # noqa: S106
QUEUE = Question("nodes", "")


def test_the_certificate_of_the_operator_is_not_believed_unless_told_to(start: Start) -> None:
    url = start(None, OK, tls=server_context())
    doubting = asking.directly(ME, url, "", 5, verify=True)
    with pytest.raises(NotAskedError, match="CERTIFICATE_VERIFY_FAILED"):
        doubting.answer(QUEUE)
    doubting.close()
    believing = asking.directly(ME, url, "", 5, verify=False)
    assert believing.answer(QUEUE) == {}
    believing.close()


def test_an_authority_that_cannot_be_read_is_a_wrong_command_line() -> None:
    with pytest.raises(FailedError, match="--certificate-authority none: ") as caught:
        asking.directly(ME, "https://h", "none", 5, verify=True)
    assert caught.value.code is Exit.USAGE

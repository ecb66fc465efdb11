"""Many objects read and changed with the user's own rights, some at a time.

One object that cannot be changed does not stop the others: its answer is returned, never raised.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple, TypeVar

from sovereign_gpu.cli.connection import Answer, Connection, ConnectionFailedError
from sovereign_gpu.cli.question import FailedError
from sovereign_gpu.cluster.backoff import Backoff, jittered
from sovereign_gpu.cluster.errors import NOT_FOUND

_SUCCESS = range(200, 300)
_PAGE = "500"
_AT_ONCE = 16
_TRIES = 6
_PAUSES = Backoff(0.25, 4.0)
_LONGEST_PAUSE = 30.0
_LATER = frozenset({408, 429, 500, 502, 503, 504})
"""Answers that say nothing about the object: ask again."""

T = TypeVar("T")


class Outcome(NamedTuple):
    """What became of one object."""

    changed: bool
    """False: there was nothing to change any more, or it failed."""
    problem: str = ""
    """Why it could not be changed; empty if it was, or need not be."""


class Server:
    """The API server, for several threads."""

    def __init__(self, connect: Callable[[], Connection], *, dry_run: bool = False) -> None:
        """Open nothing yet; with `dry_run` the server judges every change and makes none."""
        self._connect = connect
        self._query = {"dryRun": "All"} if dry_run else {}
        self._of_thread = threading.local()
        self._opened: list[Connection] = []

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        """Return the answer, whatever its status.

        Raises:
            FailedError: there is none.
        """
        return self._ask("GET", path, query)

    def items(self, path: str, query: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield all objects of a list.

        Raises:
            FailedError: it cannot be read.
        """
        query = {**(query or {}), "limit": _PAGE}
        while True:
            answer = self.get(path, query)
            if not _ok(answer):
                raise FailedError(f"{path}: {answer.status}: {answer.message}")
            page = answer.document()
            yield from page.get("items") or ()
            token = page.get("metadata", {}).get("continue")
            if not token:
                return
            query["continue"] = token

    def patch(self, path: str, body: Any, content_type: str) -> Answer:
        """Change one object.

        Raises:
            FailedError: no answer came.
        """
        content = json.dumps(body, separators=(",", ":")).encode()
        return self._ask("PATCH", path, self._query, content, content_type)

    def create(self, path: str, body: Any) -> Answer:
        """Let the server judge an object as if it were created; none is.

        Raises:
            FailedError: no answer came.
        """
        content = json.dumps(body, separators=(",", ":")).encode()
        return self._ask("POST", path, {"dryRun": "All"}, content, "application/json")

    def each(
        self,
        things: Sequence[T],
        change: Callable[[T], Outcome],
        progress: Callable[[int, int], None],
    ) -> Iterator[tuple[T, Outcome]]:
        """Yield what became of each thing, in the order in which the answers come.

        Args:
            things: what to change.
            change: changes one; runs in several threads.
            progress: is told how many of how many are through.
        """
        pool = ThreadPoolExecutor(_AT_ONCE, "change")
        try:
            running = {pool.submit(_safely, change, thing): thing for thing in things}
            for done, future in enumerate(as_completed(running), 1):
                progress(done, len(running))
                yield running[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def close(self) -> None:
        """Close the connections."""
        for connection in self._opened:
            connection.close()

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        content_type: str = "",
    ) -> Answer:
        pause = _PAUSES.first
        for left in reversed(range(_TRIES)):
            try:
                answer = self._connection().request(method, path, query, content, content_type)
            except ConnectionFailedError as error:
                if not left:
                    raise FailedError(str(error)) from error
                wait = jittered(pause)
            else:
                if answer.status not in _LATER or not left:
                    return answer
                wait = min(answer.retry_after, _LONGEST_PAUSE) or jittered(pause)
            time.sleep(wait)
            pause = _PAUSES.next(pause)
        raise AssertionError("the last try returns or raises")

    def _connection(self) -> Connection:
        found: Connection | None = getattr(self._of_thread, "connection", None)
        if found is None:
            found = self._of_thread.connection = self._connect()
            self._opened.append(found)
        return found


def outcome(answer: Answer) -> Outcome:
    """Return what an answer to a change means; an object that is gone needs none."""
    if _ok(answer):
        return Outcome(changed=True)
    return Outcome(
        changed=False,
        problem="" if answer.status == NOT_FOUND else f"{answer.status}: {answer.message}",
    )


def _ok(answer: Answer) -> bool:
    return answer.status in _SUCCESS


def _safely(change: Callable[[T], Outcome], thing: T) -> Outcome:
    try:
        return change(thing)
    except FailedError as error:
        return Outcome(changed=False, problem=str(error))

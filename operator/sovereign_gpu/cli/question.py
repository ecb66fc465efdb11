"""What is asked, and what can go wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol


class Exit(IntEnum):
    """Exit codes, as --help has them."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    WAITS = 3
    """The pod waits, and what it waits for comes about by itself."""
    STUCK = 4
    """The pod waits until somebody acts."""
    NOT_FOUND = 5


@dataclass(frozen=True, slots=True)
class Question:
    """One command."""

    view: str
    """why, queue, top or nodes."""
    namespace: str
    """Whose pods; for top and nodes also who asks. Empty: all."""
    pod: str = ""
    by_node: bool = False


class Source(Protocol):
    """Somebody who can be asked."""

    def answer(self, question: Question) -> dict[str, Any]:
        """Return the document of the read API."""


class FailedError(Exception):
    """There is no answer; the message says why, the code how the process ends."""

    def __init__(self, message: str, code: Exit = Exit.FAILURE) -> None:
        super().__init__(message)
        self.code = code


class NotAskedError(Exception):
    """The operator did not answer; the cluster may."""

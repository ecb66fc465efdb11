"""Conditions as they are made: without the time, which is that of the first write."""

from __future__ import annotations

from typing import Literal, NamedTuple

LONGEST_MESSAGE = 1024


class Aspect(NamedTuple):
    """A condition without its time."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


def adjective(kind: str, reason: str, message: str | None) -> Aspect:
    """Return a condition that is True when there is something to say."""
    return Aspect(kind, "True", reason, message) if message else Aspect(kind, "False", "InOrder")


def reconciled() -> Aspect:
    """Return the condition that nothing is under way."""
    return Aspect("Reconciling", "False", "UpToDate")

"""Reads what happened from the API server's audit log: who wrote what, when, with which answer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

OPERATOR = "system:serviceaccount:sovereign-gpu-system:sovereign-gpu"


@dataclass(slots=True)
class Trail:
    """Follows the log from where it stands now."""

    path: Path
    offset: int = 0

    def skip(self) -> None:
        """Forget everything written so far."""
        self.offset = self.path.stat().st_size

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the complete events written since the last call."""
        with self.path.open("rb") as log:
            log.seek(self.offset)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                self.offset += len(line)
                yield json.loads(line)


def seconds(event: dict[str, Any]) -> float:
    """Return when the answer was sent, in seconds since the epoch."""
    return datetime.fromisoformat(event["stageTimestamp"]).timestamp()


def what(event: dict[str, Any]) -> str:
    """Return verb, resource and subresource, such as `create pods/binding`."""
    target = event.get("objectRef", {})
    resource = target.get("resource", "-")
    sub = target.get("subresource")
    return f"{event['verb']} {resource}{'/' + sub if sub else ''}"


def succeeded(event: dict[str, Any]) -> bool:
    """Whether the answer was a success."""
    return 200 <= int(event.get("responseStatus", {}).get("code", 0)) < 300  # noqa: PLR2004


def by_verb(events: list[dict[str, Any]], user: str) -> Counter[str]:
    """Count the requests of one user by what they did; streams are left out."""
    return Counter(
        what(event)
        for event in events
        if event["user"]["username"] == user and event["verb"] != "watch"
    )


def lifts_gate(event: dict[str, Any]) -> bool:
    """Whether an audit event is a patch that lifts a gate, whatever its answer was."""
    body = event.get("requestObject")
    return (
        what(event) == "patch pods"
        and isinstance(body, list)
        and any(
            step["op"] == "remove" and step["path"].startswith("/spec/schedulingGates")
            for step in body
        )
    )


def is_release(event: dict[str, Any]) -> bool:
    """Whether an audit event is a patch that lifted a gate and was answered with success."""
    return lifts_gate(event) and succeeded(event)

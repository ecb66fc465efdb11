"""What the API server wrote down about pods: who did what, when, with which body.

Only answers of success count. The log is read as it grows, so that it also tells how far things
are, without a single request to the API server.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rig import product

OPERATOR = f"system:serviceaccount:{product.NAMESPACE}:{product.NAME}"
_PODS = b'"resource":"pods"'
_WRITES = frozenset({"create", "update", "patch", "delete"})

PodKey = tuple[str, str]
"""Namespace and name; in the demo no name is used twice."""


@dataclass(frozen=True, slots=True)
class Step:
    """One successful write.

    Attributes:
        received: when the request came in, in seconds since the epoch.
        answered: when the answer left.
        user: who.
        what: verb, resource and subresource, such as `create pods/binding`.
        pod: namespace and name; for other resources, of that object.
        body: the request, where the audit policy keeps it.
    """

    received: float
    answered: float
    user: str
    what: str
    pod: PodKey
    body: Any = None


@dataclass(slots=True)
class Trail:
    """Follows the audit log of a rig."""

    path: Path
    steps: list[Step] = field(default_factory=list)
    bound: Counter[str] = field(default_factory=Counter)
    """Bindings per namespace."""
    created: Counter[str] = field(default_factory=Counter)
    """Pods created per namespace."""
    _offset: int = 0

    def read(self) -> None:
        """Take in what was written since the last call."""
        for event in self._events():
            step = _step(event)
            if step is None:
                continue
            self.steps.append(step)
            if step.what == "create pods/binding":
                self.bound[step.pod[0]] += 1
            elif step.what == "create pods":
                self.created[step.pod[0]] += 1

    def _events(self) -> Iterator[dict[str, Any]]:
        operator = OPERATOR.encode()
        with self.path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                if _PODS in line or operator in line:
                    yield json.loads(line)


def _step(event: dict[str, Any]) -> Step | None:
    code = int(event.get("responseStatus", {}).get("code", 0))
    uri = event.get("requestURI", "")
    if event["verb"] not in _WRITES or not 200 <= code < 300 or "dryRun" in uri:  # noqa: PLR2004
        return None
    target = event.get("objectRef", {})
    sub = target.get("subresource")
    what = f"{event['verb']} {target.get('resource', '-')}{f'/{sub}' if sub else ''}"
    return Step(
        received=_seconds(event["requestReceivedTimestamp"]),
        answered=_seconds(event["stageTimestamp"]),
        user=event["user"]["username"],
        what=what,
        pod=(target.get("namespace", ""), target.get("name", "")),
        body=event.get("requestObject"),
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()

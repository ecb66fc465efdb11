"""The notice on a pod that will be evicted: announced there, so that deadlines survive a restart.

An annotation on the pod itself is the only record. Its times are rounded up to whole seconds, so
that what is written never promises less than the grace.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Notice:
    """Who evicts the pod, why and when. Times are seconds since the epoch."""

    policies: tuple[tuple[str, int], ...]
    """Each policy with the time since when the pod is under its notice; sorted, never empty."""
    node: str
    cause: str
    """A sentence."""
    evict_after: int

    @property
    def since(self) -> int:
        """When the first policy announced it."""
        return min(since for _, since in self.policies)

    @property
    def deadline(self) -> str:
        """`evict_after` as RFC 3339."""
        return _rfc3339(self.evict_after)

    def text(self) -> str:
        """Return the value of the annotation."""
        said = {
            "policies": {policy: _rfc3339(since) for policy, since in self.policies},
            "node": self.node,
            "cause": self.cause,
            "since": _rfc3339(self.since),
            "evictAfter": self.deadline,
        }
        return json.dumps(said, separators=(",", ":"))


@lru_cache(maxsize=16384)
def parse(text: str) -> Notice | None:
    """Return the notice that an annotation holds, None if it holds none that can be read."""
    try:
        said = json.loads(text)
        policies = {str(policy): _seconds(since) for policy, since in said["policies"].items()}
        node, cause = str(said["node"]), str(said["cause"])
        evict_after = _seconds(said["evictAfter"])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    return Notice(tuple(sorted(policies.items())), node, cause, evict_after) if policies else None


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())

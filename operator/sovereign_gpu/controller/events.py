"""Events: what happened to an object, for those who look at it with `kubectl describe`."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from sovereign_gpu.cluster.errors import ApiError, UncertainError
from sovereign_gpu.cluster.writer import Lane, Write, Writer

log = logging.getLogger(__name__)

_FOR_CLUSTER_SCOPED = "default"
"""Where events about objects without a namespace live."""
_LONGEST_NAME, _LONGEST_MESSAGE, _LONGEST_INSTANCE = 220, 1024, 128


class Subject(NamedTuple):
    """The object that an event is about."""

    api_version: str
    kind: str
    name: str
    uid: str
    namespace: str = ""


@dataclass(slots=True)
class Events:
    """Posts them, after everything that matters more; a lost one is not sent again."""

    writer: Writer
    holder: str
    """Which process of the operator speaks."""

    def marks_moved(self, kind: str, name: str) -> None:
        """Post that somebody changed what the operator wrote on a node or namespace."""
        self.post(
            Subject("v1", kind, name, name),
            "MarksChanged",
            f"labels or annotations of {kind} {name} that only the operator writes were changed; "
            "they are put right again",
            warning=True,
        )

    def post(self, subject: Subject, reason: str, message: str, *, warning: bool) -> None:
        """Post one event that happened now."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        namespace = subject.namespace or _FOR_CLUSTER_SCOPED
        # A name cut off must not end in what a DNS label may not end in.
        name = f"{subject.name[:_LONGEST_NAME].rstrip('.-')}.{time.time_ns():x}"
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": subject.api_version,
                "kind": subject.kind,
                "name": subject.name,
                "uid": subject.uid,
                **({"namespace": subject.namespace} if subject.namespace else {}),
            },
            "reason": reason,
            "message": message[:_LONGEST_MESSAGE],
            "type": "Warning" if warning else "Normal",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": "sovereign-gpu"},
            "reportingComponent": "sovereign-gpu.io/operator",
            "reportingInstance": self.holder[:_LONGEST_INSTANCE],
        }

        def answered(error: ApiError | UncertainError | None) -> None:
            if error is not None:
                log.warning("event on %s %s: %s", subject.kind, subject.name, error)

        path = f"/api/v1/namespaces/{namespace}/events"
        self.writer.submit(
            Write(Lane.REPORT, f"event/{name}", "POST", path, body, "application/json", answered)
        )

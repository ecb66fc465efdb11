"""What the operator did to others, and was not allowed to do, by the word of the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import audit

if TYPE_CHECKING:
    from collections.abc import Collection

    from rig.control_plane import Rig


def operator_writes(rig: Rig, namespace: str, name: str) -> list[str]:
    """Return what the operator wrote to one pod, from the audit log."""
    return [
        audit.what(event)
        for event in audit.Trail(rig.audit_log).events()
        if event["user"]["username"] == audit.OPERATOR
        and event["verb"] in {"patch", "update", "create", "delete"}
        and event.get("objectRef", {}).get("namespace") == namespace
        and event["objectRef"].get("name") == name
    ]


def forbidden(rig: Rig, fenced: Collection[str] = ()) -> list[str]:
    """Return the requests of operators that were refused, but for releases in `fenced` namespaces.

    Tests that borrow the operator's identity are not operators.
    """
    return [
        f"{audit.what(event)} {event['requestURI']}"
        for event in audit.Trail(rig.audit_log).events()
        if event["user"]["username"] == audit.OPERATOR
        and not event["userAgent"].startswith("python-requests/")
        and event.get("responseStatus", {}).get("code") == 403
        and not (audit.lifts_gate(event) and event["objectRef"]["namespace"] in fenced)
    ]

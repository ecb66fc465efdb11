"""The one error that people see when the rig cannot do what was asked."""

from __future__ import annotations


class RigError(Exception):
    """Something the caller can act on; the message says what and how."""

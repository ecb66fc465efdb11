"""What can go wrong with the API server, as a small tree.

ClusterError
├── ConfigurationError   we do not know how to reach it
├── ApiError             it said no: `status`, `message`; nothing was written
│   └── UnwantedError    we did not ask after all
└── UncertainError       no clear answer: a write may have happened
"""

from __future__ import annotations

UNAUTHORIZED = 401
NOT_FOUND = 404
CONFLICT = 409
GONE = 410
TOO_MANY_REQUESTS = 429


class ClusterError(Exception):
    """Root of the tree."""

    retry_after: float | None = None
    """Seconds the server asks to wait, if it does."""


class ConfigurationError(ClusterError):
    """Settings or credentials cannot work."""


class ApiError(ClusterError):
    """The API server refused."""

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
        self.retry_after = retry_after
        self.budget = False
        """A PodDisruptionBudget is what says no; 429 then means nothing about the server's load."""
        self.unsettled = False
        """An earlier try of the same write had no clear answer and may still land."""


class UnwantedError(ApiError):
    """A write waited for its turn until nobody wanted it any more."""

    def __init__(self) -> None:
        super().__init__(0, "not sent: not wanted any more")


class UncertainError(ClusterError):
    """Nobody knows whether the request took effect."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after

"""Who somebody is and what they may do: asked of the API server, remembered for seconds.

TokenReview names the holder of a token, SubjectAccessReview answers for that name; so the rights
of the read API are exactly those of the cluster's RBAC, and an authorizer webhook counts as well.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sovereign_gpu.cluster.errors import UncertainError
from sovereign_gpu.cluster.session import Api

_TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCESS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_REMEMBERED = 10.0
"""Seconds an answer holds; so long may a right live on that was taken away."""
_MOST_REMEMBERED = 4096
_AT_A_TIME = 16
"""Reviews in flight; whoever floods us must not flood the API server through us."""
_TIMEOUT = 5.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody, as the API server names them."""

    digest: bytes
    """Hash of the token; the token itself is not kept."""
    user: str
    uid: str
    groups: tuple[str, ...]
    extra: dict[str, list[str]]


class _Memory(Generic[T]):
    """Answers by key, for a while, and only so many."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[Any, tuple[float, T]] = {}

    def get(self, key: Any) -> T | None:
        found = self._known.get(key)
        return found[1] if found is not None and self._clock() < found[0] else None

    def put(self, key: Any, answer: T) -> None:
        self._known.pop(key, None)  # at the end again: the oldest go first
        while len(self._known) >= _MOST_REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[key] = self._clock() + _REMEMBERED, answer


@dataclass(frozen=True, slots=True)
class _Nobody:
    """A token that is not valid."""


@dataclass(slots=True)
class Reviews:
    """Asks the API server."""

    api: Api
    clock: Callable[[], float] = time.monotonic
    _people: _Memory[Identity | _Nobody] = field(init=False)
    _rights: _Memory[bool] = field(init=False)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_A_TIME))

    def __post_init__(self) -> None:
        self._people = _Memory(self.clock)
        self._rights = _Memory(self.clock)

    async def who(self, token: str) -> Identity | None:
        """Return whom the token names, None if it is not valid.

        Raises:
            ClusterError: the API server could not be asked.
        """
        digest = hashlib.sha256(token.encode()).digest()
        known = self._people.get(digest)
        if known is None:
            status = await self._ask(_TOKENS, "authentication.k8s.io", "TokenReview", token=token)
            known = _identity(digest, status) if status.get("authenticated") else _Nobody()
            self._people.put(digest, known)
        return known if isinstance(known, Identity) else None

    async def may(
        self, who: Identity, verb: str, resource: str, *, group: str = "", namespace: str = ""
    ) -> bool:
        """Return whether somebody may do this; without a namespace: everywhere.

        Raises:
            ClusterError: the API server could not be asked.
        """
        key = who.digest, verb, group, resource, namespace
        known = self._rights.get(key)
        if known is None:
            wanted = {"verb": verb, "group": group, "resource": resource, "namespace": namespace}
            status = await self._ask(
                _ACCESS,
                "authorization.k8s.io",
                "SubjectAccessReview",
                user=who.user,
                uid=who.uid,
                groups=list(who.groups),
                extra=who.extra,
                resourceAttributes=wanted,
            )
            known = status.get("allowed") is True
            self._rights.put(key, known)
        return known

    async def _ask(self, path: str, group: str, kind: str, **spec: Any) -> dict[str, Any]:
        body = {"apiVersion": f"{group}/v1", "kind": kind, "spec": spec}
        async with self._turns:
            content = await self.api.request("POST", path, body, timeout=_TIMEOUT)
        try:
            status: dict[str, Any] = json.loads(content)["status"]
        except (ValueError, KeyError, TypeError) as error:
            raise UncertainError(f"{kind}: the answer is none: {error}") from error
        return status


def _identity(digest: bytes, status: dict[str, Any]) -> Identity:
    user = status["user"]
    return Identity(
        digest=digest,
        user=user["username"],
        uid=user.get("uid", ""),
        groups=tuple(user.get("groups") or ()),
        extra=user.get("extra") or {},
    )

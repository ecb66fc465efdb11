"""Thousands of objects, quickly: many requests in flight, written by a real user.

A synchronous client makes some 200 objects a second here; a hall of 1,250 nodes or a burst of
10,000 pods should not be what a measurement waits for.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp

from rig.errors import RigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rig.control_plane import Rig

IN_FLIGHT = 32
ATTEMPTS = 6
TOO_MANY = 429
_ACCOUNT = "system:serviceaccount:"

Request = tuple[str, str, Any]
"""Method, path and body; a PATCH body that is a list is a JSON patch."""


def create(
    rig: Rig, user: str, path: str, bodies: Iterable[Any], in_flight: int = IN_FLIGHT
) -> None:
    """POST every body to a collection.

    Args:
        rig: the control plane, which is up.
        user: in whose name.
        path: the collection.
        bodies: the objects.
        in_flight: requests at a time.

    Raises:
        RigError: one was refused; the rest may or may not have been written.
    """
    send(rig, user, (("POST", path, body) for body in bodies), in_flight)


def send(rig: Rig, user: str, requests: Iterable[Request], in_flight: int = IN_FLIGHT) -> None:
    """Send requests, all of which have to succeed; see `create`."""
    asyncio.run(_send(rig, user, requests, in_flight))


async def _send(rig: Rig, user: str, requests: Iterable[Request], in_flight: int) -> None:
    pending = iter(requests)
    connector = aiohttp.TCPConnector(limit=in_flight, ssl=_context(rig, user))
    try:
        async with (
            aiohttp.ClientSession(
                rig.url, connector=connector, headers=_headers(rig, user)
            ) as session,
            asyncio.TaskGroup() as workers,
        ):
            for _ in range(in_flight):
                workers.create_task(_work(session, pending))
    except* (RigError, aiohttp.ClientError, TimeoutError) as group:
        raise RigError(str(group.exceptions[0])) from group


async def _work(session: aiohttp.ClientSession, pending: Iterator[Request]) -> None:
    for method, path, body in pending:
        await _one(session, method, path, body)


async def _one(session: aiohttp.ClientSession, method: str, path: str, body: Any) -> None:
    patch = "json-patch" if isinstance(body, list) else "merge-patch"
    headers = {
        "Content-Type": f"application/{patch}+json" if method == "PATCH" else "application/json",
        # Nobody reads the answers: the metadata is enough.
        "Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    }
    data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
    for attempt in range(1, ATTEMPTS + 1):
        async with session.request(method, path, data=data, headers=headers) as answer:
            text = await answer.text()
            if answer.ok:
                return
            if answer.status != TOO_MANY or attempt == ATTEMPTS:
                raise RigError(f"{method} {path}: {answer.status} {_message(text)}")
            pause = float(answer.headers.get("Retry-After", "1"))
        await asyncio.sleep(pause)


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text


def _headers(rig: Rig, user: str) -> dict[str, str]:
    if not user.startswith(_ACCOUNT):
        return {}
    namespace, _, name = user.removeprefix(_ACCOUNT).partition(":")
    return {"Authorization": f"Bearer {rig.service_account_token(namespace, name)}"}


def _context(rig: Rig, user: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=rig.ca_file)
    if user.startswith(_ACCOUNT):
        return context
    pair = rig.certificate(user)
    context.load_cert_chain(pair.certificate, pair.key)
    return context

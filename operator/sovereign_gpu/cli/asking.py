"""Asks the operator, through the API server or directly."""

from __future__ import annotations

import ssl
from typing import Any

from sovereign_gpu import names
from sovereign_gpu.cli.connection import Answer, Connection, ConnectionFailedError
from sovereign_gpu.cli.question import Exit, FailedError, NotAskedError, Question
from sovereign_gpu.cluster.credentials import Credentials

_SERVICE = "sovereign-gpu"
_PAGE = "1000"
_OK = 200
_OURS = frozenset({400, 401, 403, 404})
"""Refusals that the operator means; the cluster would not say otherwise."""
_NOT_FOUND = 404


class Operator:
    """The read API of the leader."""

    def __init__(self, connection: Connection, base: str) -> None:
        self._connection = connection
        self._base = base

    def answer(self, question: Question) -> dict[str, Any]:
        """Return the complete answer.

        Raises:
            NotAskedError: the operator cannot be reached, or does not lead.
            FailedError: it refuses.
        """
        if question.view == "why":
            return self._get(f"/v1/why/{question.namespace}/{question.pod}", {})
        query = {"limit": _PAGE}
        if question.namespace:
            query["namespace"] = question.namespace
        if question.by_node:
            query["by"] = "node"
        whole = page = self._get(f"/v1/{question.view}", query)
        while page.get("continue"):
            page = self._get(f"/v1/{question.view}", {**query, "continue": page["continue"]})
            whole["items"] += page["items"]
        whole.pop("continue", None)
        return whole

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        try:
            answer = self._connection.get(self._base + path, query)
        except ConnectionFailedError as error:
            raise NotAskedError(str(error)) from error
        if answer.status == _OK:
            return answer.document()
        if answer.status not in _OURS or _of_api_server(answer):
            raise NotAskedError(f"{answer.status}: {answer.message}")
        code = Exit.NOT_FOUND if answer.status == _NOT_FOUND else Exit.FAILURE
        raise FailedError(answer.message, code)


def _of_api_server(answer: Answer) -> bool:
    return answer.document().get("kind") == "Status"


def through_the_api_server(credentials: Credentials, namespace: str, timeout: float) -> Operator:
    """Return the operator behind the service of its namespace.

    Raises:
        NotAskedError: there is no token to say who asks.
        ConfigurationError: certificates cannot be read.
    """
    token = _token(credentials)
    headers = {"Authorization": f"Bearer {token}", names.CALLER_HEADER: token}
    connection = Connection(credentials.server, credentials.ssl_context(), timeout, headers)
    proxy = f"/api/v1/namespaces/{namespace}/services/https:{_SERVICE}:{names.READ_PORT}/proxy"
    return Operator(connection, proxy)


def directly(
    credentials: Credentials, server: str, authority: str, timeout: float, *, verify: bool
) -> Operator:
    """Return the operator at an address of its own.

    Raises:
        NotAskedError: there is no token to say who asks.
        FailedError: the authority's file cannot be read.
    """
    try:
        tls = ssl.create_default_context(cafile=authority or None)
    except OSError as error:
        raise FailedError(f"--certificate-authority {authority}: {error}", Exit.USAGE) from error
    if not verify:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    headers = {names.CALLER_HEADER: _token(credentials)}
    return Operator(Connection(server, tls, timeout, headers), "")


def _token(credentials: Credentials) -> str:
    token = credentials.bearer()
    if not token:
        raise NotAskedError(
            "your kubeconfig identifies you by a certificate, which cannot be passed on to it"
        )
    return token

"""The same views without the operator: the cluster is read and decided upon in memory.

Whoever may list nodes, namespaces, pods and our kinds gets all of it, planned by the operator's own
engine on a copy that nobody writes from. Everybody else is shown what they may read (`partial`).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, TypeVar

from sovereign_gpu import names
from sovereign_gpu.cli.connection import Answer, Connection, ConnectionFailedError
from sovereign_gpu.cli.question import Exit, FailedError, Question
from sovereign_gpu.cluster.errors import UncertainError
from sovereign_gpu.cluster.kinds import NAMESPACES, NODES, PODS
from sovereign_gpu.cluster.reading import Kind, Reader
from sovereign_gpu.controller.records import Kind as OwnKind
from sovereign_gpu.controller.registry import KINDS, Registry
from sovereign_gpu.core import inventory, views, why
from sovereign_gpu.core.engine import Engine

_PAGE = "2000"
_PLAN = 1000
_EVERYTHING = 1_000_000
_OK, _FORBIDDEN, _NOT_FOUND = 200, 403, 404
PLURALS: dict[OwnKind, str] = {
    "GpuPool": "gpupools",
    "TenantQuota": "tenantquotas",
    "DataResidencyPolicy": "dataresidencypolicies",
}

T = TypeVar("T")


class NotAllowedError(Exception):
    """The user may not read what this needs."""


class Cluster:
    """The API server, read with the user's own rights."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, path: str, query: dict[str, str] | None = None) -> Answer:
        """Return a successful answer.

        Raises:
            NotAllowedError: the user may not read it.
            FailedError: it is not there, or the API server did not answer.
        """
        try:
            answer = self._connection.get(path, query)
        except ConnectionFailedError as error:
            raise FailedError(str(error)) from error
        if answer.status == _FORBIDDEN:
            raise NotAllowedError(answer.message)
        if answer.status != _OK:
            code = Exit.NOT_FOUND if answer.status == _NOT_FOUND else Exit.FAILURE
            raise FailedError(f"{answer.status}: {answer.message}", code)
        return answer

    def own(self, kind: OwnKind, registry: Registry) -> None:
        """Read all objects of one of our kinds into the registry.

        Raises:
            NotAllowedError, FailedError: as `get`.
        """
        body = self.get(f"/apis/{names.GROUP}/{names.VERSION}/{PLURALS[kind]}").document()
        registry.replace(kind, body["items"], body["metadata"]["resourceVersion"])

    def all(self, kind: Kind[T]) -> list[T]:
        """Return all objects of a kind that can be understood.

        Raises:
            NotAllowedError, FailedError: as `get`.
        """
        reader = Reader(kind)
        found: list[T] = []
        query = kind.query(limit=_PAGE)
        while True:
            try:
                page = reader.page(self.get(kind.path, query).body)
            except UncertainError as error:
                raise FailedError(f"{kind.path}: {error}") from error
            found += page.items.values()
            if not page.more:
                return found
            query["continue"] = page.more


def engine(cluster: Cluster) -> Engine:
    """Return the engine's books of the cluster as it is, with what it would release next.

    Raises:
        NotAllowedError: the user may not read all of it.
        FailedError: the API server did not answer.
    """
    registry, made = Registry(lambda: None), Engine()
    # What is most likely refused comes first, and is small.
    for kind in KINDS:
        cluster.own(kind, registry)
    nodes, namespaces = cluster.all(NODES), cluster.all(NAMESPACES)
    for namespace in namespaces:
        made.put_namespace(namespace)
    made.configure(*registry.specs(datetime.now(UTC).date()))
    for node in nodes:
        made.put_node(node)
    for pod in cluster.all(PODS):
        made.put_pod(pod)
    while made.due:
        made.plan(_PLAN)
    return made


def answer(cluster: Cluster, question: Question) -> dict[str, Any]:
    """Return the answer of the whole cluster, of which the user sees everything.

    Raises:
        NotAllowedError: the user may not read all of it.
        FailedError: there is no such pod, or the API server did not answer.
    """
    books, now = engine(cluster), time.time()
    match question.view:
        case "why":
            pod = why.find(books, question.namespace, question.pod)
            if pod is None:
                raise missing(question)
            return views.document(why.why(books, pod, now))
        case "queue":
            spaces = frozenset({question.namespace}) if question.namespace else None
            page = views.queue_page(books, views.Sight(spaces), now, limit=_EVERYTHING)
            return {
                "items": [views.document(row) for row in page.rows],
                "others": views.document(page.others),
            }
        case "top":
            top = inventory.top(books, views.Sight())
            return {
                "items": [views.document(row) for row in top.rows],
                "others": [],
                "totals": views.document(top.totals),
            }
    nodes = inventory.node_rows(books)
    rows = nodes if question.by_node else inventory.pool_rows(nodes)
    return {"items": [views.document(row) for row in rows]}


def missing(question: Question) -> FailedError:
    """Return the error that there is no such pod."""
    return FailedError(
        f"no unfinished pod {question.pod} in namespace {question.namespace}", Exit.NOT_FOUND
    )

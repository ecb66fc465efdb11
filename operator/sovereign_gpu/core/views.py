"""The queue as people see it, read from the books; pure. `inventory` has tenants and nodes.

Who asks decides what is shown: a `Sight` says which namespaces and tenants somebody may see, and
of everything else a view holds sums and never a name. Rows become documents with `document`, the
one form that the read API sends and the commands print.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NamedTuple

from sovereign_gpu.core.ledger import FOREIGN
from sovereign_gpu.core.model import LASTING, Pod, Reason, Wait
from sovereign_gpu.core.queue import Line, Queue
from sovereign_gpu.core.state import State

WAITING, HELD, RELEASED = "Waiting", "Held", "Released"
"""States of a pod in the queue: in its tenant's order, kept out of it, gone to its pool unbound."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What somebody may see; None: all of them."""

    namespaces: frozenset[str] | None = None
    tenants: frozenset[str] | None = None

    def sees(self, pod: Pod) -> bool:
        """Whether the pod may be shown by name."""
        return self.namespaces is None or pod.namespace in self.namespaces

    def knows(self, tenant: str) -> bool:
        """Whether the tenant may be shown by name."""
        return self.tenants is None or tenant in self.tenants


class Place(NamedTuple):
    """Where a pod stands in the listing: by tenant, then state, then the order of service."""

    tenant: str
    group: int
    priority: int
    created: float
    uid: str


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One pod that waits, or that was released and is not bound yet."""

    position: int | None
    """In its tenant's order, 1 is next; None: waiting does not bring it forward."""
    name: str
    namespace: str
    tenant: str
    pool: str
    """Where it was released to, else the pool that its reason speaks of."""
    state: str
    gpus: int
    age_seconds: int
    gpus_ahead: int | None
    reason: str
    message: str
    """As of the last try; `why` has the numbers of this moment."""


@dataclass(frozen=True, slots=True)
class Others:
    """Pods that may not be shown, in numbers."""

    pods: int
    gpus: int


@dataclass(frozen=True, slots=True)
class QueuePage:
    """Part of the queue."""

    rows: tuple[QueueRow, ...]
    others: Others
    more: Place | None
    """Where the next page begins behind; None: this is the last."""


class _Entry(NamedTuple):
    place: Place
    pod: Pod
    position: int | None
    ahead: int | None
    state: str
    pool: str
    wait: Wait | None


def served(queue: Queue | None) -> list[tuple[Pod, Line]]:
    """Return the waiting pods of a tenant with their lines, in the order of service."""
    if queue is None:
        return []
    pods = [(pod, line) for line in queue.lines.values() for pod in line.members.values()]
    pods.sort(key=lambda each: (-each[0].priority, each[0].created, each[0].uid))
    return pods


def moves(line: Line) -> bool:
    """Whether waiting can bring the line forward; if not, it has no place, and is in no way."""
    return line.wait is None or line.wait.reason not in LASTING


def queue_page(
    state: State, sight: Sight, now: float, *, limit: int, after: Place | None = None
) -> QueuePage:
    """Return up to `limit` rows behind `after`.

    Args:
        state: the books.
        sight: who asks.
        now: seconds since the epoch.
        limit: most rows.
        after: `more` of the page before; pods that come and go meanwhile shift nothing.
    """
    loose = _loose(state)
    rows: list[QueueRow] = []
    more = last = None
    for tenant in _tenants(state, sight, loose):
        if after is not None and tenant < after.tenant:
            continue
        found = [e for e in _entries(state, tenant, loose[tenant]) if sight.sees(e.pod)]
        begin = bisect_right(found, after, key=lambda e: e.place) if after is not None else 0
        for entry in found[begin:]:
            if len(rows) == limit:
                more = last
                break
            rows.append(_row(entry, now))
            last = entry.place
        if more is not None:
            break
    return QueuePage(tuple(rows), _others(state, sight, loose), more)


def _loose(state: State) -> dict[str, list[Pod]]:
    """Return pods outside the lines by tenant: held ones, and released ones that are not bound."""
    found: dict[str, list[Pod]] = defaultdict(list)
    for uid in state.stopped:
        pod = state.pods[uid]
        found[state.tenant_of(pod.namespace)].append(pod)
    for uid, charge in state.ledger.charges.items():
        if not charge.bound and charge.tenant != FOREIGN and uid in state.pods:
            found[charge.tenant].append(state.pods[uid])
    return found


def _tenants(state: State, sight: Sight, loose: Iterable[str]) -> list[str]:
    if sight.namespaces is None:
        return sorted({*state.queues, *loose})
    return sorted({state.tenant_of(namespace) for namespace in sight.namespaces})


def _entries(state: State, tenant: str, loose: Iterable[Pod]) -> Iterator[_Entry]:
    entries = [_loose_entry(state, tenant, pod) for pod in loose]
    number = ahead = 0
    for pod, line in served(state.queues.get(tenant)):
        place = Place(tenant, 1, -pod.priority, pod.created, pod.uid)
        position = before = None
        if moves(line):
            number += 1
            position, before = number, ahead
            ahead += pod.demand.gpus
        entries.append(_Entry(place, pod, position, before, WAITING, line.pool, line.wait))
    entries.sort(key=lambda entry: entry.place)
    yield from entries


def _loose_entry(state: State, tenant: str, pod: Pod) -> _Entry:
    held = state.stopped.get(pod.uid)
    order = (-pod.priority, pod.created, pod.uid)
    if held is not None:
        return _Entry(Place(tenant, 2, *order), pod, None, None, HELD, "", held)
    wait = Wait(Reason.CANNOT_BIND, pod.unschedulable) if pod.unschedulable else None
    pool = state.ledger.charges[pod.uid].pool
    return _Entry(Place(tenant, 0, *order), pod, None, None, RELEASED, pool, wait)


def _row(entry: _Entry, now: float) -> QueueRow:
    pod, wait = entry.pod, entry.wait
    return QueueRow(
        position=entry.position,
        name=pod.name,
        namespace=pod.namespace,
        tenant=entry.place.tenant,
        pool=entry.pool,
        state=entry.state,
        gpus=pod.demand.gpus,
        age_seconds=age(pod.created, now),
        gpus_ahead=entry.ahead,
        reason=wait.reason.value if wait else "",
        message=wait.message if wait else "",
    )


def _others(state: State, sight: Sight, loose: dict[str, list[Pod]]) -> Others:
    if sight.namespaces is None:
        return Others(0, 0)
    pods = gpus = 0
    for queue in state.queues.values():
        for line in queue.lines.values():
            pods += len(line.members)
            gpus += line.gpus
    for tenant in _tenants(state, sight, loose):
        for pod, _ in served(state.queues.get(tenant)):
            if sight.sees(pod):
                pods -= 1
                gpus -= pod.demand.gpus
    unseen = [pod for each in loose.values() for pod in each if not sight.sees(pod)]
    return Others(pods + len(unseen), gpus + sum(pod.demand.gpus for pod in unseen))


# --- documents --------------------------------------------------------------------------------
def age(since: float, now: float) -> int:
    """Return whole seconds since a moment; 0 if clocks disagree."""
    return max(0, int(now - since))


def document(row: Any) -> dict[str, Any]:
    """Return a row as JSON knows it, its words written as Kubernetes writes them."""
    return {
        word: _plain(getattr(row, name))  # tuples hold rows, nothing else does
        for name, word in _words(type(row))
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [document(each) for each in value]
    return document(value) if is_dataclass(value) else value


def _words(kind: type) -> tuple[tuple[str, str], ...]:
    return _WORDS.get(kind) or _WORDS.setdefault(
        kind, tuple((each.name, _camel(each.name)) for each in fields(kind))
    )


_WORDS: dict[type, tuple[tuple[str, str], ...]] = {}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)

"""The documents of the read API as tables: columns after squeue, sshare and sinfo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sovereign_gpu.cli import text
from sovereign_gpu.cli.text import Column, Row, field
from sovereign_gpu.core.model import LASTING

_OTHERS, _TOTAL = "(others)", "(total)"
_SHORT: dict[str, str] = {
    "Waiting": "PD",
    "Held": "PD",
    "Released": "CF",
    "Running": "R",
    "Ending": "CG",
}
"""States as squeue has them: pending, configuring, running, completing."""


def _age(row: Row) -> str:
    seconds = row.get("ageSeconds")
    return "-" if seconds is None else text.age(seconds)


def _share(row: Row) -> str:
    share = row.get("share")
    return "-" if share is None else f"{share / 1_000_000:.3f}"


def _short(row: Row) -> str:
    return _SHORT.get(row["state"], "-")


def _urgency(row: Row) -> str:
    reason = row.get("reason")
    return "red" if reason in LASTING else "yellow" if reason else ""


def _health(row: Row) -> str:
    return "" if row.get("state") == "Ready" else "red"


_QUEUE = (
    Column("POSITION", field("position")),
    Column("NAME", field("name")),
    Column("NAMESPACE", field("namespace")),
    Column("TENANT", field("tenant")),
    Column("POOL", field("pool")),
    Column("ST", _short),
    Column("GPUS", field("gpus")),
    Column("AGE", _age),
    Column("GPUS-AHEAD", field("gpusAhead")),
    Column("REASON", field("reason"), _urgency),
)
_TOP = (
    Column("TENANT", field("tenant")),
    Column("POOL", field("pool")),
    Column("GUARANTEED", field("guaranteed")),
    Column("USED", field("used")),
    Column("BORROWED", field("borrowed")),
    Column("LENT", field("lent")),
    Column("PENDING-GPUS", field("pendingGpus")),
    Column("PENDING-PODS", field("pendingPods")),
    Column("LOST", field("lost")),
    Column("WEIGHT", field("weight")),
    Column("SHARE", _share),
)
_POOLS = (
    Column("POOL", field("pool")),
    Column("REGION", field("region")),
    Column("MODEL", field("model")),
    Column("NODES", field("nodes")),
    Column("GPUS", field("gpus")),
    Column("USED", field("used")),
    Column("FREE", field("free")),
    Column("WHOLE-NODES-FREE", field("wholeNodesFree")),
    Column("LARGEST", field("largest")),
    Column("UNHEALTHY", field("unhealthy")),
)
_NODES = (
    Column("NODE", field("node")),
    Column("POOL", field("pool")),
    Column("REGION", field("region")),
    Column("MODEL", field("model")),
    Column("GPUS", field("gpus")),
    Column("ALLOCATABLE", field("allocatable")),
    Column("USED", field("used")),
    Column("FREE", field("free")),
    Column("STATE", field("state"), _health),
)
_WHY = (
    Column("POOL", field("pool")),
    Column("GUARANTEED", field("guaranteed")),
    Column("ALLOWANCE", field("allowance")),
    Column("USED", field("used")),
    Column("BORROWED", field("borrowed")),
    Column("FREE", field("free")),
    Column("WHOLE-NODES-FREE", field("wholeNodesFree")),
    Column("LARGEST", field("largest")),
    Column("REASON", field("reason"), _urgency),
)
_MESSAGE = Column("MESSAGE", field("message"))
_ADMITS = Column("WOULD-ADMIT-IT", field("admits"))

Lines = Callable[[Sequence[Column], Sequence[Row]], list[str]]


def lines(
    view: str, document: dict[str, Any], *, wide: bool, headers: bool, colours: bool
) -> list[str]:
    """Return what is printed for the answer to a question."""

    def made(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
        return text.table(columns, rows, headers=headers, colours=colours)

    if view == "why":
        return _why(document, made, wide=wide, colours=colours)
    rows = document["items"]
    if view == "queue":
        return [*made((*_QUEUE, _MESSAGE) if wide else _QUEUE, rows), *_and_others(document)]
    if view == "top":
        others = [{**row, "tenant": _OTHERS} for row in document.get("others", ())]
        total = [{**document["totals"], "tenant": _TOTAL}] if document.get("totals") else []
        return made(_TOP, [*rows, *others, *total])
    return made(_NODES if rows and "node" in rows[0] else _POOLS, rows)


def _and_others(document: dict[str, Any]) -> list[str]:
    others = document.get("others") or {}
    if not others.get("pods"):
        return []
    return [f"(others: {others['pods']} pods, {others['gpus']} GPUs)"]


def _why(document: dict[str, Any], made: Lines, *, wide: bool, colours: bool) -> list[str]:
    reason = document["reason"]
    head = f"{document['state']}: {reason}" if reason else document["state"]
    colour = "" if not colours else _urgency(document) or "green"
    found = [
        f"{document['namespace']}/{document['name']}   {text.painted(head, colour)}",
        f"  {document['message']}",
    ]
    if document["admits"]:
        found.append(f"  would admit it: {document['admits']}")
    found += [f"  {line}" for line in _place(document)]
    pools = document["pools"]
    if pools:
        found += ["", *made((*_WHY, _MESSAGE, _ADMITS) if wide else _WHY, pools)]
    return found


def _place(document: dict[str, Any]) -> list[str]:
    said = [f"{document['gpus']} GPUs, age {_age(document)}"]
    if document.get("tenant"):
        said[0] += f", tenant {document['tenant']}"
    if document.get("position"):
        said.append(
            f"position {document['position']} of {document['podsWaiting']} in the tenant's order; "
            f"{document['gpusAhead']} GPUs of {document['podsAhead']} pods ahead"
        )
    if document.get("node"):
        since = document.get("boundSeconds")
        said.append(
            f"pool {document['pool'] or '-'}, node {document['node']}"
            + (f", for {text.age(since)}" if since is not None else "")
        )
    return said

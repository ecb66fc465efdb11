"""The live table: what the product itself says, read from its objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.table import Table

from rig.demo.manifests import AWAY_POOL, HOME_POOL
from sovereign_gpu import names

if TYPE_CHECKING:
    from rig.client import Client

_OBJECTS = f"/apis/{names.GROUP}/{names.VERSION}"
_NUMBER = {"justify": "right", "no_wrap": True}
_FIGURES = ("guaranteed", "used", "borrowed", "lent", "lost")


@dataclass(frozen=True, slots=True)
class Row:
    """A tenant in its pool at home; numbers are GPUs unless named pods."""

    tenant: str
    guaranteed: int = 0
    used: int = 0
    borrowed: int = 0
    lent: int = 0
    lost: int = 0
    reserved: int = 0
    pending_pods: int = 0
    pending_gpus: int = 0
    why: tuple[tuple[str, int], ...] = ()
    message: str = ""


@dataclass(slots=True)
class Board:
    """Reads tenants and pools and draws them."""

    admin: Client
    title: str = ""
    rows: list[Row] = field(default_factory=list)
    pools: dict[str, dict[str, Any]] = field(default_factory=dict)

    def read(self) -> None:
        """Read the present state."""
        found = self.admin.get(f"{_OBJECTS}/tenantquotas").must()["items"]
        self.rows = sorted(map(_row, found), key=lambda row: -row.guaranteed)
        pools = self.admin.get(f"{_OBJECTS}/gpupools").must()["items"]
        self.pools = {each["metadata"]["name"]: each.get("status", {}) for each in pools}

    def row(self, tenant: str) -> Row:
        """Return what was read last of a tenant."""
        return next((row for row in self.rows if row.tenant == tenant), Row(tenant))

    def draw(self) -> tuple[Table, str]:
        """Read, and return the table and the same as one line."""
        self.read()
        return self._table(), self._line()

    def _table(self) -> Table:
        table = Table(title=self.title, title_justify="left", caption_justify="left")
        for heading in ("tenant", *_FIGURES, "waiting pods", "GPUs"):
            table.add_column(heading, **(_NUMBER if heading != "tenant" else {"no_wrap": True}))
        table.add_column("why", overflow="fold")
        for row in self.rows:
            why = " ".join(f"{reason} {pods}" for reason, pods in row.why)
            table.add_row(
                row.tenant,
                *(f"{getattr(row, figure):,}" for figure in _FIGURES),
                f"{row.pending_pods:,}",
                f"{row.pending_gpus:,}",
                f"{why}\n[dim]{row.message}[/dim]" if row.message else why,
            )
        table.caption = "\n".join(_pool(name, self.pools) for name in (HOME_POOL, AWAY_POOL))
        return table

    def _line(self) -> str:
        parts = (
            f"{row.tenant} {row.used:,}/{row.guaranteed:,}"
            + (f" ({row.lent:,} lent)" if row.lent else "")
            + (f" ({row.lost:,} lost)" if row.lost else "")
            + (f" +{row.pending_pods} waiting" if row.pending_pods else "")
            for row in self.rows
        )
        return " | ".join(parts)


def _row(quota: dict[str, Any]) -> Row:
    status = quota.get("status", {})
    pools: list[dict[str, Any]] = status.get("pools", [])
    home: dict[str, Any] = next((p for p in pools if p["name"] == HOME_POOL), {})
    waiting = status.get("waiting", [])
    return Row(
        tenant=quota["metadata"]["name"],
        guaranteed=next(p["guaranteed"] for p in quota["spec"]["pools"] if p["name"] == HOME_POOL),
        used=home.get("used", 0),
        borrowed=home.get("borrowed", 0),
        lent=home.get("lent", 0),
        lost=home.get("lost", 0),
        reserved=home.get("reserved", 0),
        pending_pods=home.get("pendingPods", 0),
        pending_gpus=home.get("pendingGpus", 0),
        why=tuple((each["reason"], each.get("pods", 0)) for each in waiting),
        message=waiting[0].get("message", "") if waiting else "",
    )


def _pool(name: str, pools: dict[str, dict[str, Any]]) -> str:
    status = pools.get(name, {})
    nodes, gpus = status.get("nodes", {}), status.get("gpus", {})
    return (
        f"pool {name}: {nodes.get('ready', 0):,} nodes ready, {nodes.get('companions', 0)} "
        f"companions; {gpus.get('capacity', 0):,} GPUs, {gpus.get('counted', 0):,} counted, "
        f"{gpus.get('free', 0):,} free, {gpus.get('wholeNodesFree', 0):,} whole nodes free"
        + (f", {gpus['lost']:,} lost to faults" if gpus.get("lost") else "")
    )

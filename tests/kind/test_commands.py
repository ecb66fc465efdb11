"""What tenants ask the operator, through the API server's proxy and with their own tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kind.world import pod

if TYPE_CHECKING:
    from tests.kind.world import World

WAITS = 3
"""Exit code of a pod that waits for what comes about by itself."""


def test_a_tenant_asks_why_and_sees_its_own_only(world: World) -> None:
    tenant, other = world.tenant("acme", 4), world.tenant("bolt", 4)
    tenant.submit(pod("holder", gpus=4))
    tenant.running("holder")
    tenant.submit(pod("patient", gpus=2))
    tenant.told("patient", "QuotaExhausted")

    where = ("--namespace", tenant.namespace)
    why = tenant.command("why", "patient", *where)
    assert why.returncode == WAITS, why.stderr
    assert "QuotaExhausted" in why.stdout
    assert "uses 4 of 4" in why.stdout
    runs = tenant.command("why", "holder", *where)
    assert runs.returncode == 0, runs.stderr
    queue = tenant.command("queue", *where)
    assert queue.returncode == 0, queue.stderr
    assert "patient" in queue.stdout

    stranger = other.command("why", "patient", *where)
    assert stranger.returncode != 0
    assert "uses 4 of 4" not in stranger.stdout + stranger.stderr

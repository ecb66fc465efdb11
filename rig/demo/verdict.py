"""What has to be true at each point of the story, and the count at its end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich.table import Table

from rig.client import wait_for
from rig.demo import crowd, facts
from rig.demo.facts import BIND, during, quantile
from rig.demo.manifests import GPUS_PER_NODE
from rig.demo.scene import HOME, OFFICE
from rig.errors import RigError

if TYPE_CHECKING:
    from rig.demo.facts import Facts
    from rig.demo.outage import Outage
    from rig.demo.pods import Pod
    from rig.demo.scene import Scene

_TOLD_SECONDS = 45.0


def filled(stage: Scene) -> None:
    """Everybody has what is guaranteed, and more is asked for."""
    pods = stage.pods()
    for tenant in stage.tenants:
        own = [each for each in pods if each.namespace in tenant.namespaces]
        bound = crowd.bound(own, tenant)
        waiting = sum(each.gpus for each in own if each.gated)
        stage.screen.expect(
            f"{tenant.name} has what is guaranteed, and waits for more",
            tenant.guaranteed - GPUS_PER_NODE < bound <= tenant.allowance and waiting,
            f"{bound:,} of {tenant.guaranteed:,} GPUs bound, {waiting:,} more asked for",
        )


def everybody_knows_why(stage: Scene) -> None:
    """Each pod that waits says why in its own condition."""
    waiting: list[Pod] = []

    def told() -> bool:
        waiting[:] = [each for each in stage.pods() if each.gated]
        return all(": " in each.why for each in waiting)

    what = "every pod that waits says why"
    try:
        wait_for(told, _TOLD_SECONDS, "the waiting pods to be told why", longest_pause=1.0)
    except RigError as error:
        stage.screen.expect(what, holds=False, found=str(error))
        return
    words = sorted({each.why.partition(":")[0] for each in waiting})
    stage.screen.expect(what, words, f"{len(waiting)} pods, {', '.join(words)}")
    for word in words:
        example = next(each for each in waiting if each.why.startswith(word))
        stage.screen.line(f"{example.namespace}/{example.name}: {example.why}", "dim")


def drained(stage: Scene) -> None:
    """Nobody waits who could ever be served."""
    pods = stage.pods()
    stuck = [each for each in pods if each.fits and not each.node]
    hopeless = [each for each in pods if each.gated and not each.fits]
    stage.screen.expect(
        "every pod that fits on a node has had its turn",
        not stuck and hopeless,
        f"{len(stuck)} left; {len(hopeless)} asks for more than a node has and goes on waiting",
    )


def deliver(stage: Scene, gap: Outage) -> None:
    """Count everything that happened, and judge it."""
    stage.trail.read()
    tenant_of = {name: each.name for each in stage.tenants for name in each.namespaces}
    pods = [*stage.pods(), *stage.departed]
    found = facts.count(stage.trail.steps, pods, tenant_of, stage.regions, until=gap.began)
    stage.screen.show(_table(stage, found, pods))
    _judge_quota(stage, found)
    _judge_places(stage, found)
    _judge_gap(stage, gap)
    _judge_cost(stage, found)


def _table(stage: Scene, found: Facts, pods: list[Pod]) -> Table:
    regions = sorted(set(stage.regions.values()))
    table = Table(title="Recounted", title_justify="left")
    table.add_column("tenant")
    places = (f"bound in {region}" for region in regions)
    headings = ("guaranteed", "may borrow", "most at once", "releases", *places, "GPUs now")
    for heading in headings:
        table.add_column(heading, justify="right")
    for tenant in stage.tenants:
        own = [each for each in pods if each.namespace in tenant.namespaces]
        now = sum(each.gpus for each in own if each.running and each not in stage.departed)
        table.add_row(
            tenant.name,
            f"{tenant.guaranteed:,}",
            f"{tenant.borrowing_limit:,}",
            f"{found.peak.get(tenant.name, 0):,}",
            f"{found.decisions.get(tenant.name, 0):,}",
            *(f"{found.bound[tenant.name][region]:,}" for region in regions),
            f"{now:,}",
        )
    return table


def _judge_quota(stage: Scene, found: Facts) -> None:
    screen = stage.screen
    over = [each.name for each in stage.tenants if found.peak[each.name] > each.allowance]
    screen.expect(
        "no tenant held more than its guarantee and its borrowing limit at any decision",
        not over,
        f"{sum(found.decisions.values()):,} releases replayed" + (f", {over}" if over else ""),
    )
    screen.expect(
        "all tenants together never held more than there is",
        found.together <= stage.gpus,
        f"{found.together:,} of {stage.gpus:,} GPUs at most",
    )
    screen.expect(
        "no GPU pod was bound that the operator had not released",
        not found.unreleased and not found.vanished,
        f"{len(found.unreleased)} without a release, {len(found.vanished)} not there to be counted",
    )


def _judge_places(stage: Scene, found: Facts) -> None:
    elsewhere = sum(
        number
        for source in (found.bound, found.shown)
        for regions in source.values()
        for region, number in regions.items()
        if region != HOME
    )
    bound = sum(sum(each.values()) for each in found.bound.values())
    stage.screen.expect(
        "no pod of a tenant was bound outside the EU",
        not elsewhere and bound,
        f"{bound:,} bindings, {elsewhere} of them elsewhere",
    )
    stage.screen.expect(
        "bindings in the audit log and pods on nodes agree", found.bound == found.shown
    )


def _judge_gap(stage: Scene, gap: Outage) -> None:
    bindings = during(stage.trail.steps, gap.began, gap.ended, BIND)
    ours = [each for each in bindings if each.pod[0] in set(stage.namespaces)]
    others = [each for each in bindings if each.pod[0] == OFFICE]
    stage.screen.expect(
        "while no operator ran, only pods without GPUs were bound",
        not ours and others,
        f"{len(ours)} of tenants, {len(others)} of others in {gap.ended - gap.began:.0f} s",
    )


def _judge_cost(stage: Scene, found: Facts) -> None:
    spent = sum(number * pods for number, pods in found.writes.items())
    stage.screen.expect(
        "one write for an admitted pod, and one for each reason it was told while it waited",
        not found.idle_writes and found.admitted,
        f"{found.admitted:,} admitted with {spent:,} writes, {found.told} of them after waiting "
        f"({spent / max(1, found.admitted):.3f} writes for each)",
    )
    delays = found.delays
    stage.screen.line(
        f"create to bound of {len(delays):,} GPU pods that found room: "
        f"p50 {quantile(delays, 0.5):.1f} s, p99 {quantile(delays, 0.99):.1f} s, in one burst, on "
        f"{os.cpu_count()} cores that the whole cluster shares"
    )
    writes = ", ".join(f"{what} {n:,}" for what, n in found.operator_writes.most_common(6))
    stage.screen.line(f"all writes of the operator: {writes}")

"""What one company leaves unused works for the others, until it asks for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rig.client import wait_for
from rig.demo import crowd, facts
from rig.demo.facts import EVICT
from rig.demo.manifests import GPUS_PER_NODE
from rig.errors import RigError
from sovereign_gpu.core.model import Reason

if TYPE_CHECKING:
    from rig.demo.manifests import Tenant
    from rig.demo.pods import Pod
    from rig.demo.scene import Scene

_TOLD_SECONDS = 45.0


def lend(stage: Scene) -> None:
    """Let all but the lender ask, and see how far they borrow."""
    lender, borrowers = _parts(stage)
    largest = max(borrowers, key=lambda each: each.guaranteed)
    others = [each for each in borrowers if each is not largest]
    # The largest last: what it borrowed before others woke up would be theirs.
    crowd.submit(stage, others)
    crowd.follow(
        stage,
        lambda: all(_is_full(stage, each) for each in others),
        "the smaller companies to have their guarantees",
    )
    crowd.submit(stage, [largest])
    least = _borrowable(stage) - GPUS_PER_NODE
    crowd.follow(
        stage,
        lambda: sum(row.borrowed for row in stage.board.rows) > least,
        f"more than {least} GPUs to be borrowed",
    )
    pods = stage.pods()
    for tenant in borrowers:
        bound = crowd.bound(pods, tenant)
        stage.screen.expect(
            f"{tenant.name} borrows, {tenant.borrowing_limit:,} GPUs at most",
            tenant.guaranteed < bound <= tenant.allowance,
            f"{bound:,} GPUs bound, {tenant.guaranteed:,} of them guaranteed",
        )
    free = stage.gpus - sum(crowd.bound(pods, each) for each in stage.tenants)
    stage.screen.expect(
        f"{lender.name} sleeps; of its {lender.guaranteed:,} GPUs it keeps {lender.kept:,}, "
        "and everything else works",
        lender.kept <= free < lender.kept + GPUS_PER_NODE,
        f"{free:,} free on the nodes",
    )


def ask_back(stage: Scene) -> None:
    """Let the lender ask: what it kept is there at once, the rest is lent, and it is told so."""
    lender, _ = _parts(stage)
    stage.trail.read()
    first, began = len(stage.trail.steps), time.time()
    crowd.submit(stage, [lender])

    def served() -> bool:
        return stage.board.row(lender.name).used > lender.kept - GPUS_PER_NODE

    crowd.follow(stage, served, f"{lender.name} to have what it keeps")
    bound = crowd.bound(stage.pods(), lender)
    ends = sum(facts.reports_an_end(each) for each in stage.trail.steps[first:])
    stage.screen.expect(
        "what was kept is there at once, without anybody's end",
        lender.kept - GPUS_PER_NODE < bound <= lender.guaranteed and not ends,
        f"{bound:,} of {lender.guaranteed:,} GPUs bound {time.time() - began:.1f} s after kubectl "
        f"began, {ends} pods ended",
    )
    _is_told(stage, lender)


def _is_told(stage: Scene, lender: Tenant) -> None:
    waiting: list[Pod] = []

    def told() -> bool:
        waiting[:] = [each for each in _of(stage.pods(), lender) if each.gated]
        return bool(waiting) and all(each.reason for each in waiting)

    what = f"the pods of {lender.name} that wait say {Reason.GUARANTEE_LENT}"
    try:
        wait_for(told, _TOLD_SECONDS, "the lender's pods to be told why", longest_pause=1.0)
    except RigError as error:
        stage.screen.expect(what, holds=False, found=str(error))
        return
    lent = [each for each in waiting if each.reason == Reason.GUARANTEE_LENT]
    stage.screen.expect(what, lent, f"{len(lent)} of {len(waiting)} pods")
    for each in lent[:1]:
        stage.screen.line(f"{each.namespace}/{each.name}: {each.why}", "dim")


def give_back(stage: Scene) -> None:
    """Let borrowers' pods end: the lender is next, although others wait longer."""
    lender, borrowers = _parts(stage)
    before = stage.pods()
    missing = lender.guaranteed - crowd.bound(before, lender)
    stage.trail.read()
    first, began = len(stage.trail.steps), time.time()
    ending = _end_borrowed(stage, before, borrowers, missing)

    crowd.follow(stage, lambda: _is_full(stage, lender), f"{lender.name} to have its guarantee")
    took = time.time() - began
    now = stage.pods()
    bound = crowd.bound(now, lender)
    stage.screen.expect(
        f"the guarantee of {lender.name} is back, one end after the other",
        lender.guaranteed - GPUS_PER_NODE < bound <= lender.guaranteed,
        f"{len(ending)} pods of borrowers ended; {bound:,} of {lender.guaranteed:,} GPUs "
        f"bound {took:.1f} s later",
    )
    steps = stage.trail.steps[first:]
    gpus = {each.key: each.gpus for each in now}
    released = [each.pod for each in steps if facts.is_release(each)]
    others = sum(gpus[key] for key in released if key[0] not in lender.namespaces)
    spare = sum(each.gpus for each in ending) - missing
    waiting = sum(
        each.gated and each.fits and each.namespace not in lender.namespaces for each in now
    )
    stage.screen.expect(
        "what came free went to it, although borrowers wait longer",
        others < spare + GPUS_PER_NODE and waiting,
        f"{others} GPUs went to others, {waiting} older pods of borrowers go on waiting",
    )
    evicted = sum(step.what == EVICT for step in steps)
    stage.screen.expect("nobody was evicted for it", not evicted, f"{evicted} evictions")


def _end_borrowed(
    stage: Scene, pods: list[Pod], borrowers: list[Tenant], missing: int
) -> list[Pod]:
    """Let borrowers' pods end, of whoever borrows most first, and none below its guarantee."""
    ended: list[Pod] = []
    for borrower in sorted(borrowers, key=lambda each: each.guaranteed - crowd.bound(pods, each)):
        borrowed = crowd.bound(pods, borrower) - borrower.guaranteed
        enough = min(borrowed, missing - sum(each.gpus for each in ended))
        chosen = crowd.chosen_to_end(_of(pods, borrower), enough)
        crowd.end_some(stage, borrower, chosen)
        ended += chosen
    return ended


def _parts(stage: Scene) -> tuple[Tenant, list[Tenant]]:
    """Return the tenant that limits what it lends, and those that borrow."""
    lender = next(each for each in stage.tenants if each.lending_limit is not None)
    return lender, [each for each in stage.tenants if each is not lender]


def _is_full(stage: Scene, tenant: Tenant) -> bool:
    return stage.board.row(tenant.name).used > tenant.guaranteed - GPUS_PER_NODE


def _borrowable(stage: Scene) -> int:
    """Return the GPUs that can be borrowed while the lender uses none of its own."""
    lender, borrowers = _parts(stage)
    promised = sum(each.guaranteed for each in borrowers) + lender.kept
    return min(stage.gpus - promised, sum(each.borrowing_limit for each in borrowers))


def _of(pods: list[Pod], tenant: Tenant) -> list[Pod]:
    return [each for each in pods if each.namespace in tenant.namespaces]

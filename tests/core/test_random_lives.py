"""The ledger against random orders of events; `python -m bench.ledger_steps` runs many more."""

from __future__ import annotations

from collections import Counter

import pytest

from sovereign_gpu.core.health import FaultKind
from tests.core.driver import Drive

LIVES, STEPS = 40, 400


@pytest.mark.parametrize("group", range(4))
def test_no_order_of_events_breaks_a_quota_or_leaves_anything_behind(group: int) -> None:
    for seed in range(group * LIVES, (group + 1) * LIVES):
        drive = Drive(seed)
        drive.run(STEPS)
        drive.finish()


def test_the_drive_really_meets_what_it_claims_to_test() -> None:
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    faults: set[str] = set()
    bound = reserved = 0
    for seed in range(60):
        drive = Drive(seed)
        drive.run(STEPS)
        drive.settle()
        counts += drive.counts
        faults.update(fault.kind for each in drive.engine.faults.of.values() for fault in each)
        reasons.update(wait.reason for wait in drive.engine.stopped.values())
        for queue in drive.engine.queues.values():
            reasons.update(line.wait.reason for line in queue.lines.values() if line.wait)
        bound += sum(charge.bound for charge in drive.engine.ledger.charges.values())
        reserved += sum(not charge.bound for charge in drive.engine.ledger.charges.values())

    assert counts["decisions"] > 500
    assert min(counts[step] for step in ("deliver_stale", "restart", "lose", "retry")) > 50
    assert {
        "Held",
        "TenantQuotaMissing",
        "PolicyMissing",
        "NoEligiblePool",
        "NeverFits",
        "QuotaExhausted",
        "PoolFull",
        "NodeConstraints",
    } <= reasons.keys()
    assert faults == set(FaultKind)
    assert bound > 100
    assert reserved > 20

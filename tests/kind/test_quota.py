"""Quotas on real kubelets: who waits is told why, and comes next; what is lent comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kind.world import deployment, is_gated, job, pod

if TYPE_CHECKING:
    from tests.kind.world import World


def test_a_full_quota_lets_the_next_wait_with_a_reason_until_somebody_ends(world: World) -> None:
    tenant = world.tenant("acme", 8)
    tenant.submit(pod("bare", gpus=4), job("batch", gpus=4))
    (batch,) = tenant.of("batch")
    assert tenant.running("bare")["spec"]["nodeName"] in world.eu
    assert tenant.running(batch)["spec"]["nodeName"] in world.eu

    tenant.submit(deployment("serve", gpus=4))
    (serve,) = tenant.of("serve")
    message = tenant.told(serve, "QuotaExhausted")
    assert "asks for 4 GPUs" in message
    assert "uses 8 of 8" in message
    status = tenant.status(lambda found: found["total"]["pendingPods"] == 1)
    assert status["total"]["used"] == 8

    tenant.end(batch)
    assert tenant.running(serve)["spec"]["nodeName"] in world.eu
    finished = f"/apis/batch/v1/namespaces/{tenant.namespace}/jobs/batch"
    tenant.client.wait(finished, lambda found: found["status"]["succeeded"] == 1)
    tenant.status(lambda found: (found["total"]["used"], found["total"]["pendingPods"]) == (8, 0))


def test_what_is_lent_comes_back_when_a_borrowing_pod_ends(world: World) -> None:
    lender = world.tenant("lender", 12)
    borrower = world.tenant("borrower", 4, borrowingLimit=12)
    mine = borrower.submit(*(pod(f"job-{number}", gpus=4) for number in range(4)))
    for name in mine:
        borrower.running(name)
    borrower.status(lambda found: found["total"]["borrowed"] == 12)
    lender.status(lambda found: found["total"]["lent"] == 12)

    lender.submit(pod("urgent", gpus=4))
    assert "12 lent" in lender.told("urgent", "GuaranteeLent")
    borrower.submit(pod("more", gpus=4))
    borrower.end(mine[0])
    lender.running("urgent")
    assert is_gated(borrower.client.get(borrower.pod("more")).must())
    borrower.status(lambda found: found["total"]["borrowed"] == 8)

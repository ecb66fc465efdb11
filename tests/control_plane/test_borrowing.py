"""Unused guarantees are lent, come back as pods end, and what was borrowed is remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rig.client import wait_for
from tests.control_plane.cluster import is_gated, pod

if TYPE_CHECKING:
    from tests.control_plane.cluster import Site, Tenant


def share(pool: str, guaranteed: int, **limits: int) -> dict[str, object]:
    return {"name": pool, "guaranteed": guaranteed, **limits}


@pytest.fixture
def pool(site: Site) -> str:
    """A pool of one node, eight GPUs."""
    return site.pool()


@pytest.fixture
def policy(site: Site) -> str:
    return site.policy()


@pytest.fixture
def borrower(site: Site, pool: str, policy: str) -> Tenant:
    return site.tenant("borrower", [share(pool, 2, borrowingLimit=6)], [policy])


@pytest.fixture
def lender(site: Site, pool: str, policy: str) -> Tenant:
    return site.tenant("lender", [share(pool, 6)], [policy])


def test_lent_gpus_come_back_to_the_guarantee_as_pods_end(
    site: Site, pool: str, borrower: Tenant, lender: Tenant
) -> None:
    names = site.submit(borrower, *(pod(f"b-{n}", gpus=2) for n in range(5)))
    for name in names[:4]:
        site.bound(borrower, name)
    status = site.tenant_status(borrower.name, lambda s: s["total"]["borrowed"] == 6)
    assert status["total"]["used"] == 8
    assert status["pools"][0]["borrowed"] == 6
    site.tenant_status(lender.name, lambda s: s["total"]["lent"] == 6)

    site.submit(lender, pod("mine", gpus=2))
    message = site.told(lender, "mine", "GuaranteeLent")
    assert f"0 of 6 guaranteed are used, but pool {pool} has 0 free and 6 lent" in message
    site.end(borrower, names[0])
    site.bound(lender, "mine")
    # The borrower's fifth pod is older, and waits: it would borrow.
    assert is_gated(site.admin.get(borrower.pod(names[4])).must())
    site.tenant_status(borrower.name, lambda s: s["total"]["borrowed"] == 4)
    found = site.cluster.series("tenant_borrowed_gpus", tenant=borrower.name, pool=pool)
    assert found == [4]


def test_what_is_not_lent_is_there_at_once(site: Site, pool: str, policy: str) -> None:
    borrower = site.tenant("taker", [share(pool, 0, borrowingLimit=8)], [policy])
    careful = site.tenant("careful", [share(pool, 6, lendingLimit=2)], [policy])
    names = site.submit(borrower, *(pod(f"b-{n}", gpus=1) for n in range(8)))
    site.tenant_status(borrower.name, lambda s: s["total"]["used"] == 4)
    waiting = [n for n in names if is_gated(site.admin.get(borrower.pod(n)).must())]
    assert "kept for tenants that do not lend them" in site.told(
        borrower, waiting[0], "QuotaExhausted"
    )
    for name in site.submit(careful, pod("a", gpus=2), pod("b", gpus=2)):
        site.bound(careful, name)


def test_a_lending_limit_above_the_guarantee_is_refused_with_the_field(
    site: Site, pool: str, policy: str
) -> None:
    spec = {
        "namespaces": ["nowhere"],
        "residencyPolicies": [policy],
        "pools": [share(pool, 2, lendingLimit=3)],
    }
    body = {
        "apiVersion": "sovereign-gpu.io/v1alpha1",
        "kind": "TenantQuota",
        "metadata": {"name": site.name("wrong")},
        "spec": spec,
    }
    answer = site.admin.apply(body)
    assert answer.status == 422
    assert "spec.pools[0].lendingLimit" in answer.message
    assert "at most what is guaranteed" in answer.message


def test_a_restarted_operator_remembers_who_borrowed(site: Site, borrower: Tenant) -> None:
    cluster = site.cluster
    site.submit(borrower, *(pod(f"b-{n}", gpus=2) for n in range(4)))
    site.tenant_status(borrower.name, lambda s: s["total"]["borrowed"] == 6)
    history = {"history": 400_000, "observedTime": "2100-01-01T00:00:00Z"}
    status = {"status": {"fairShare": history}}
    path = f"/apis/sovereign-gpu.io/v1alpha1/tenantquotas/{borrower.name}/status"
    usual = cluster.operator
    usual.terminate()
    site.admin.patch(path, status).must()
    cluster.operator = usual.start()

    def remembered() -> bool:
        series = cluster.series("tenant_history_ratio", tenant=borrower.name)
        return bool(series) and series[0] > 0.39

    wait_for(remembered, 60.0, "the history of borrowing to be taken over")
    stored = site.tenant_status(borrower.name, lambda s: "fairShare" in s)
    assert stored["fairShare"]["history"] > 390_000

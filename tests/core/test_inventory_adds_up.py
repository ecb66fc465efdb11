"""Who has what and what is free where: rows, sums, and of other tenants only sums."""

from __future__ import annotations

from sovereign_gpu import names
from sovereign_gpu.core import inventory
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Resources, Share
from sovereign_gpu.core.views import Sight
from tests.core.build import REGION, engine, munich, node, pod, put, tenant

B200 = {names.PRODUCT_LABEL: "NVIDIA-B200"}
ACME = Sight(frozenset({"acme-train"}), frozenset({"acme"}))


def shared() -> Engine:
    """Three tenants in one pool, one of them also in another; acme borrows of bolt."""
    made = engine(
        *(node(f"n{n}", labels=B200) for n in range(2)),
        node("p1", pool="paris"),
        pools=(munich(), munich(name="paris")),
        tenants=(
            tenant("acme", weight=3, shares=(Share("munich", 4, borrowing_limit=4),)),
            tenant("bolt", 8),
            tenant("corp", shares=(Share("munich", 4), Share("paris", 8))),
        ),
    )
    put(made, *(pod(1) for _ in range(7)), pod(2, "bolt-train"))
    put(made, pod(5, "acme-train"), pod(9, "corp-train"))
    return made


def test_each_tenant_has_a_row_per_pool_and_all_have_a_sum() -> None:
    found = inventory.top(shared(), Sight())
    assert [(r.tenant, r.pool) for r in found.rows] == [
        ("acme", "munich"),
        ("bolt", "munich"),
        ("corp", "munich"),
        ("corp", "paris"),
    ]
    acme = found.rows[0]
    assert (acme.guaranteed, acme.used, acme.borrowed, acme.weight) == (4, 7, 3, 3)
    assert (acme.pending_gpus, acme.pending_pods) == (5, 1)
    assert acme.share is not None
    assert acme.share > 0
    assert found.others == ()
    total = found.totals
    assert (total.tenant, total.guaranteed, total.used, total.borrowed) == ("", 24, 9, 3)
    assert total.lent == sum(row.lent for row in found.rows) == 3
    assert total.pending_pods == 2


def test_a_tenant_sees_the_others_of_its_pools_as_one() -> None:
    found = inventory.top(shared(), ACME)
    assert [row.tenant for row in found.rows] == ["acme"]
    (others,) = found.others
    assert (others.pool, others.used, others.lent) == ("munich", 2, 3)
    assert (others.guaranteed, others.weight, others.share) == (None, None, None)
    assert found.totals.used == 7
    assert "bolt" not in str(found)
    assert "corp" not in str(found)
    assert "paris" not in str(found)


def test_a_tenant_whose_quota_is_gone_has_no_weight() -> None:
    made = shared()
    made.configure(made.pools.values(), (), made.policies.values())
    weights = {row.tenant: row.weight for row in inventory.top(made, Sight()).rows}
    assert weights == {"acme": None, "bolt": None, "corp": None}


def hall() -> Engine:
    """A pool with nodes of every state and two models."""
    made = engine(
        node("whole", labels=B200),
        node("part", labels=B200),
        node("degraded", labels=B200, allocatable=Resources(6, 64_000, 1024)),
        node("cordoned", labels=B200, unschedulable=True),
        node("silent", labels=B200, ready=False),
        node("abroad", labels={**B200, names.REGION_LABEL: "us-1"}),
        node("old", gpus=4),
        node("companion", gpus=0),
        node("other", pool="paris"),
        pools=(munich(), munich(name="paris")),
    )
    put(made, pod(3, gates=(), node="part", pool="munich"))
    return made


def test_nodes_are_listed_with_what_they_carry() -> None:
    found = {row.node: row for row in inventory.node_rows(hall())}
    assert "companion" not in found
    assert {name: row.state for name, row in found.items()} == {
        "whole": "Ready",
        "part": "Ready",
        "degraded": "DevicesUnhealthy",
        "cordoned": "Cordoned",
        "silent": "NotReady",
        "abroad": "Unusable",
        "old": "Ready",
        "other": "Ready",
    }
    part, cordoned = found["part"], found["cordoned"]
    assert (part.gpus, part.allocatable, part.used, part.free) == (8, 8, 3, 5)
    assert (part.region, part.model) == (REGION, "NVIDIA-B200")
    assert (cordoned.gpus, cordoned.free) == (8, 0)


def test_nodes_of_other_pools_can_be_left_out() -> None:
    found = inventory.node_rows(hall(), frozenset({"paris"}))
    assert [row.node for row in found] == ["other"]


def test_pools_sum_up_their_nodes_by_model() -> None:
    rows = inventory.pool_rows(inventory.node_rows(hall()))
    assert [(r.pool, r.model, r.nodes, r.gpus) for r in rows] == [
        ("munich", "NVIDIA-B200", 6, 48),
        ("munich", "Unknown", 1, 4),
        ("paris", "Unknown", 1, 8),
    ]
    b200 = rows[0]
    assert (b200.used, b200.free, b200.largest) == (3, 8 + 5 + 6, 8)
    assert b200.whole_nodes_free == 2
    assert b200.unhealthy == 4

"""What people see of the queue: places, what is ahead, pages, and of others only numbers."""

from __future__ import annotations

from dataclasses import replace

from sovereign_gpu.core import views
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Pod, Reason, Share
from sovereign_gpu.core.views import QueueRow, Sight
from tests.core.build import engine, node, pod, put, tenant

NOW = 10_000.0
BOTH = ("acme-train", "acme-serve")
ACME = Sight(frozenset({"acme-train"}), frozenset({"acme"}))


def rows(made: Engine, sight: Sight = Sight()) -> tuple[QueueRow, ...]:  # noqa: B008 – immutable
    return views.queue_page(made, sight, NOW, limit=1000).rows


def named(name: str, gpus: int = 1, namespace: str = "acme-train", **fields: object) -> Pod:
    return pod(gpus, namespace, name=name, uid=name, **fields)


def crowd() -> Engine:
    """Two tenants with full guarantees, and pods that wait."""
    made = engine(
        node("n1"),
        node("n2"),
        tenants=(
            tenant("acme", 2, namespaces=BOTH),
            tenant("bolt", 4),
        ),
    )
    put(made, named("a-run", 2, created=1.0), named("b-run", 4, "bolt-train", created=1.0))
    put(
        made,
        named("a-late", 2, created=30.0),
        named("a-early", 1, "acme-serve", created=20.0),
        named("a-high", 1, created=40.0, priority=5),
        named("a-never", 9, created=10.0),
        named("b-wait", 3, "bolt-train", created=15.0),
    )
    return made


def test_places_follow_priority_then_age_and_count_what_is_ahead() -> None:
    seen = [(r.name, r.position, r.gpus_ahead) for r in rows(crowd()) if r.state == views.WAITING]
    assert seen == [
        ("a-high", 1, 0),
        ("a-never", None, None),
        ("a-early", 2, 1),
        ("a-late", 3, 2),
        ("b-wait", 1, 0),
    ]


def test_what_never_fits_has_no_place_and_is_in_nobodys_way() -> None:
    (never,) = [row for row in rows(crowd()) if row.name == "a-never"]
    assert (never.position, never.reason) == (None, Reason.NEVER_FITS)
    assert never.state == views.WAITING


def test_a_row_says_who_where_and_why() -> None:
    (row,) = [row for row in rows(crowd()) if row.name == "b-wait"]
    assert row == QueueRow(
        position=1,
        name="b-wait",
        namespace="bolt-train",
        tenant="bolt",
        pool="munich",
        state="Waiting",
        gpus=3,
        age_seconds=9985,
        gpus_ahead=0,
        reason=Reason.QUOTA_EXHAUSTED,
        message=row.message,
    )
    assert "uses 4 of 4" in row.message


def test_pods_that_are_not_tried_yet_have_a_place_and_no_reason() -> None:
    made = engine(node())
    made.put_pod(named("new"))
    (row,) = rows(made)
    assert (row.position, row.reason, row.pool) == (1, "", "")


def test_released_pods_stand_first_until_they_are_bound() -> None:
    made = engine(node())
    put(made, named("assumed"))
    seen = named("shown", gates=(), pool="munich", planned_node="n1")
    made.put_pod(seen)
    stuck = replace(seen, uid="stuck", name="stuck", unschedulable="0/1 nodes are available")
    made.put_pod(stuck)
    made.put_pod(named("bound", gates=(), node="n1", pool="munich"))
    found = {row.name: (row.state, row.pool, row.reason, row.message) for row in rows(made)}
    assert found == {
        "assumed": ("Released", "munich", "", ""),
        "shown": ("Released", "munich", "", ""),
        "stuck": ("Released", "munich", "CannotBind", "0/1 nodes are available"),
    }


def test_held_pods_stand_last_without_a_place() -> None:
    made = engine(node(), tenants=(tenant(guaranteed=0),))
    put(made, named("waits"), named("held", gates=("sovereign-gpu.io/quota", "example.com/data")))
    held = rows(made)[-1]
    assert (held.name, held.state, held.position, held.reason) == ("held", "Held", None, "Held")


def test_what_runs_outside_any_tenant_is_not_in_the_queue() -> None:
    made = engine(node())
    made.put_pod(named("foreign", 1, "gpu-operator", gates=(), pool=""))
    assert rows(made) == ()


def test_a_tenant_sees_its_namespace_and_of_the_others_numbers() -> None:
    page = views.queue_page(crowd(), ACME, NOW, limit=1000)
    assert {row.name for row in page.rows} == {"a-run", "a-high", "a-never", "a-late"}
    # a-early of the same tenant counts in the places, and is not shown.
    (late,) = [row for row in page.rows if row.name == "a-late"]
    assert (late.position, late.gpus_ahead) == (3, 2)
    # a-early, b-run (released) and b-wait.
    assert (page.others.pods, page.others.gpus) == (3, 1 + 4 + 3)


def test_a_tenant_reads_no_name_of_another_anywhere() -> None:
    page = views.queue_page(crowd(), ACME, NOW, limit=1000)
    assert "bolt" not in str(page)
    assert "acme-serve" not in str(page)


def test_whoever_sees_everything_is_told_of_no_others() -> None:
    page = views.queue_page(crowd(), Sight(), NOW, limit=1000)
    assert (page.others.pods, page.others.gpus) == (0, 0)


def test_pages_join_to_the_whole_whatever_their_size() -> None:
    made = crowd()
    whole = rows(made)
    for limit in range(1, len(whole) + 2):
        found: list[QueueRow] = []
        page = views.queue_page(made, Sight(), NOW, limit=limit)
        found += page.rows
        while page.more is not None:
            page = views.queue_page(made, Sight(), NOW, limit=limit, after=page.more)
            assert page.rows
            found += page.rows
        assert tuple(found) == whole


def test_a_page_goes_on_where_a_pod_vanished() -> None:
    made = crowd()
    first = views.queue_page(made, Sight(), NOW, limit=2)
    made.remove_pod(first.rows[-1].name)
    second = views.queue_page(made, Sight(), NOW, limit=1000, after=first.more)
    assert [row.name for row in second.rows] == [
        row.name for row in rows(made) if row not in first.rows
    ]


def test_a_clock_behind_the_api_servers_makes_nobody_younger_than_nothing() -> None:
    assert views.age(20.0, 10.0) == 0
    assert views.age(10.0, 20.9) == 10


def test_documents_use_the_words_of_kubernetes() -> None:
    made = engine(node(), tenants=(tenant(shares=(Share("munich", 0),)),))
    put(made, named("waits"))
    page = views.document(views.queue_page(made, Sight(), NOW, limit=10))
    (row,) = page["rows"]
    assert {"ageSeconds", "gpusAhead", "position"} <= row.keys()
    assert page["others"] == {"pods": 0, "gpus": 0}

"""Ages as kubectl has them, columns that align, colour only where it helps."""

from __future__ import annotations

import io

import pytest

from sovereign_gpu.cli import tables, text
from sovereign_gpu.cli.text import Column, field
from tests.cli.stand import row, why

DAY = 86_400


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (11_100, "3h5m"),
        (28_799, "7h59m"),
        (28_800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (2 * DAY + 3600, "2d1h"),
        (8 * DAY, "8d"),
        (729 * DAY, "729d"),
        (730 * DAY, "2y"),
        (731 * DAY, "2y1d"),
        (8 * 365 * DAY, "8y"),
    ],
)
def test_ages_are_those_of_kubectl(seconds: int, shown: str) -> None:
    assert text.age(seconds) == shown


def lines(**options: bool) -> list[str]:
    columns = (Column("A", field("a")), Column("LONG", field("b"), lambda r: r.get("c", "")))
    rows = ({"a": "xyz", "b": 1, "c": "red"}, {"a": None, "b": "a value that is not cut"})
    return text.table(columns, rows, **{"headers": True, "colours": False, **options})


def test_columns_align_and_nothing_is_cut_or_padded_at_the_end() -> None:
    assert lines() == ["A     LONG", "xyz   1", "-     a value that is not cut"]


def test_titles_can_be_left_out() -> None:
    assert lines(headers=False) == ["xyz   1", "-     a value that is not cut"]


def test_colour_is_put_around_a_cell_and_moves_nothing() -> None:
    assert lines(colours=True)[1] == "xyz   \x1b[31m1\x1b[0m"


def test_a_table_without_rows_is_its_titles() -> None:
    assert text.table((Column("A", field("a")),), (), headers=True, colours=False) == ["A"]
    assert text.table((Column("A", field("a")),), (), headers=False, colours=False) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "wanted"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_colour_needs_a_terminal_that_wants_it(
    *, stream: io.StringIO, environment: dict[str, str], wanted: bool
) -> None:
    assert text.wants_colour(stream, environment) is wanted


def shown(view: str, document: dict[str, object], **options: bool) -> list[str]:
    usual = {"wide": False, "headers": True, "colours": False}
    return tables.lines(view, document, **{**usual, **options})


def test_the_queue_reads_like_squeue() -> None:
    document = {
        "items": [
            row("a", pool="mun", reason="PoolFull"),
            row("never", pool="mun", position=None, gpusAhead=None, reason="NeverFits"),
            row("gone", pool="mun", state="Released", reason="", position=None, gpusAhead=None),
        ],
        "others": {"pods": 2, "gpus": 16},
    }
    assert shown("queue", document) == [
        "POSITION   NAME    NAMESPACE    TENANT   POOL   ST   GPUS   AGE   GPUS-AHEAD   REASON",
        "1          a       acme-train   acme     mun    PD   8      75s   0            PoolFull",
        "-          never   acme-train   acme     mun    PD   8      75s   -            NeverFits",
        "-          gone    acme-train   acme     mun    CF   8      75s   -            -",
        "(others: 2 pods, 16 GPUs)",
    ]
    assert shown("queue", document, wide=True)[1].endswith("PoolFull    asks for 8 GPUs")
    painted = shown("queue", document, colours=True)
    assert painted[1].endswith("\x1b[33mPoolFull\x1b[0m")
    assert painted[2].endswith("\x1b[31mNeverFits\x1b[0m")


def test_top_shows_the_others_and_the_sum_apart_from_tenants() -> None:
    numbers = {"pool": "munich", "used": 3, "share": 250_000}
    document = {
        "items": [{**numbers, "tenant": "acme", "weight": 2}],
        "others": [{**numbers, "tenant": "", "share": None}],
        "totals": {**numbers, "tenant": "", "pool": "", "share": None},
    }
    table = shown("top", document)
    assert [line.split()[0] for line in table] == ["TENANT", "acme", "(others)", "(total)"]
    assert table[1].split()[-2:] == ["2", "0.250"]


def test_nodes_come_by_pool_or_one_by_one() -> None:
    assert shown("nodes", {"items": [{"pool": "munich"}]})[0].startswith("POOL   ")
    one = {"node": "n1", "pool": "munich", "state": "NotReady"}
    table = shown("nodes", {"items": [one, {**one, "state": "Ready"}]}, colours=True)
    assert table[0].startswith("NODE")
    assert table[1].endswith("\x1b[31mNotReady\x1b[0m")
    assert table[2].endswith("Ready")


def test_why_begins_with_the_pod_its_state_and_its_reason() -> None:
    assert shown("why", why()) == [
        "acme-train/train   Waiting: QuotaExhausted",
        "  asks for 8 GPUs; tenant acme uses 16 of 16 guaranteed in pool munich",
        "  would admit it: 8 more GPUs",
        "  8 GPUs, age 5m, tenant acme",
        "  position 3 of 12 in the tenant's order; 4 GPUs of 2 pods ahead",
    ]


def test_why_of_a_running_pod_says_where() -> None:
    running = why(
        state="Running",
        reason="",
        message="bound to node n1",
        admits="",
        position=None,
        pool="munich",
        node="n1",
        boundSeconds=60,
        tenant="",
    )
    assert shown("why", running, colours=True) == [
        "acme-train/train   \x1b[32mRunning\x1b[0m",
        "  bound to node n1",
        "  8 GPUs, age 5m",
        "  pool munich, node n1, for 60s",
    ]


def test_why_lists_the_pools_of_the_tenant() -> None:
    pool = {"pool": "munich", "guaranteed": 16, "reason": "PoolFull", "message": "m", "admits": "a"}
    table = shown("why", why(pools=[pool]))
    assert table[-2].startswith("POOL     GUARANTEED")
    assert table[-1].endswith("PoolFull")
    assert shown("why", why(pools=[pool]), wide=True)[-1].endswith("PoolFull   m         a")

"""Replays of pod lists: nothing is placed twice or where it does not fit, by any policy."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from bench import openb
from sovereign_gpu.core.packing import DEVICE, Ask, Room, whole

NODES = """sn,cpu_milli,memory_mib,gpu,model
a,8000,64,2,T4
b,96000,512,8,G2
"""
PODS = """name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec
p0,1000,8,1,500,
p1,12000,64,8,1000,
p2,2000,1,0,0,
p3,1000,1,1,1000,T4|G2
p4,1000,1,1,250,T4
"""


def rng() -> Random:
    return Random(1)  # noqa: S311 – repeatable on purpose


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "traces"
    folder.mkdir()
    (folder / "openb_node_list_gpu_node.csv").write_text(NODES)
    (folder / "openb_pod_list_default.csv").write_text(PODS)
    return tmp_path


def test_nodes_and_pods_are_read_in_the_words_of_the_core(data: Path) -> None:
    trace = openb.read(data, "default")
    assert trace.nodes[0] == Room(whole(2), 8000, 64, 2, "T4")
    assert trace.units == 10 * DEVICE
    assert trace.pods[0] == Ask(1, DEVICE // 2, 1000, 8)
    assert trace.pods[2] == Ask(0, 0, 2000, 1)
    assert trace.pods[3].kinds == ("G2", "T4")


def test_as_many_pods_arrive_as_are_asked_for_and_the_order_is_the_seeds(data: Path) -> None:
    trace = openb.read(data, "default")
    drawn = list(openb.arrivals(trace, rng()))
    assert sorted(drawn[:5]) == sorted(trace.pods)
    assert sum(ask.gpus * ask.units for ask in drawn) >= 1.3 * trace.units
    assert drawn == list(openb.arrivals(trace, rng()))


@pytest.mark.parametrize("policy", openb.POLICIES)
@pytest.mark.parametrize("knows_list", [True, False])
def test_no_policy_gives_more_than_there_is_or_refuses_what_fits(
    data: Path, policy: str, *, knows_list: bool
) -> None:
    trace = openb.read(data, "default")
    chooser = openb.POLICIES[policy](trace, rng(), knows_list=knows_list)
    small = Ask(1, DEVICE // 4, 1000, 1, ("T4",))
    assert [chooser.place(small) for _ in range(9)] == [True] * 8 + [False]
    assert [chooser.place(Ask(8, DEVICE, 0, 0)) for _ in range(2)] == [True, False]
    assert chooser.place(Ask(0, 0, 96_000, 0))
    assert not chooser.place(Ask(0, 0, 1, 0))


def test_the_figure_is_what_was_allocated_of_all(data: Path) -> None:
    trace = openb.read(data, "default")
    trace = trace._replace(pods=[Ask(1, DEVICE, 1000, 1)])
    for policy in openb.POLICIES:
        assert openb.replay(trace, policy, 0, knows_list=False) == 100


def test_the_command_writes_one_row_per_list_and_policy(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "openb.json"
    words = f"openb --list default --policy Pack --seeds 2 --data {data} --out {out}"
    monkeypatch.setattr("sys.argv", words.split())
    openb.main()
    (row,) = out.read_text().splitlines()
    assert '"policy": "Pack"' in row
    assert "default" in capsys.readouterr().out

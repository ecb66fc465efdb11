"""The page of figures, from small files of results."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from bench import plots, svg

if TYPE_CHECKING:
    from pathlib import Path

BARS = svg.Chart("Bars", "made up", ("a", "b"), (("x & y", (1.0, 3.0)), ("z", (2.0, None))))


def widths(text: str) -> list[float]:
    root = ET.fromstring(text)  # noqa: S314 - made here
    bars = [each for each in root.iter("{http://www.w3.org/2000/svg}rect") if each.get("x")]
    return [float(each.attrib["width"]) for each in bars if each.attrib["width"] != "10"]


def test_bars_are_as_long_as_their_values() -> None:
    one, three, two = widths(svg.page("Page", [BARS]))
    assert three == pytest.approx(3 * one, abs=0.2)
    assert two == pytest.approx(2 * one, abs=0.2)


def test_a_logarithmic_axis_gives_equal_room_to_equal_ratios() -> None:
    groups = (("x", (10.0,)), ("y", (100.0,)), ("z", (1000.0,)))
    chart = svg.Chart("L", "", ("a",), groups, logarithmic=True, start=1)
    ten, hundred, thousand = widths(svg.page("Page", [chart]))
    assert hundred == pytest.approx(2 * ten, abs=0.2)
    assert thousand == pytest.approx(3 * ten, abs=0.2)


def test_words_are_escaped_and_numbers_keep_three_digits() -> None:
    chart = svg.Chart("1 < 2", "", ("a",), (("x & y", (0.01234,)), ("z", (1234567.8,))), " s")
    text = "".join(ET.fromstring(svg.page("Page", [chart])).itertext())  # noqa: S314
    assert "1 < 2" in text
    assert "x & y" in text
    assert "0.0123 s" in text
    assert "1,234,568 s" in text


def test_every_results_file_of_the_tree_is_drawn() -> None:
    drawn = plots.charts(plots.RESULTS)
    present = [name for name, _ in plots.CHARTS if (plots.RESULTS / name).is_file()]
    assert len(drawn) == len(present) > 0
    assert ET.fromstring(svg.page("Page", drawn)).tag.endswith("svg")  # noqa: S314


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    rows = [
        {"way": way, "pods": 3000, "per_second": rate}
        for way, rate in (("loop", 9), ("operator", 7))
    ]
    (tmp_path / "backlog-3000.json").write_text(json.dumps(rows))
    (chart,) = plots.charts(tmp_path)
    assert chart.groups == (("releases a second", (7, 9)),)

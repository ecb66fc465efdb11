"""Bar charts as SVG text: all that the page of figures needs, and no library for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_FONT = "font-family='ui-sans-serif, system-ui, Helvetica, Arial, sans-serif'"
_BAR, _GAP, _LEFT, _RIGHT, _HEAD = 13, 9, 150, 78, 62
_COLOURS = ("#76b900", "#6b7280", "#2f6fde", "#d97706", "#9333ea")
_INK, _FAINT = "#1f2430", "#6b7280"


@dataclass(frozen=True, slots=True)
class Chart:
    """Horizontal bars in groups; the first series is the product's own."""

    title: str
    note: str
    """What is measured, and by which command."""
    series: tuple[str, ...]
    groups: tuple[tuple[str, tuple[float | None, ...]], ...]
    """A label with one value per series; None: nothing is known."""
    unit: str = ""
    logarithmic: bool = False
    start: float = 0.0
    """Value at the left edge; above 0 on a logarithmic axis."""

    @property
    def height(self) -> int:
        """Pixels."""
        rows = sum(sum(value is not None for value in values) for _, values in self.groups)
        return _HEAD + rows * _BAR + len(self.groups) * _GAP + 12


def page(title: str, charts: Sequence[Chart], *, columns: int = 2, width: int = 560) -> str:
    """Return an SVG document with the charts in columns, each put where most room is."""
    tops = [44] * columns
    parts = []
    for chart in charts:
        column = min(range(columns), key=lambda number: tops[number])
        x, y = 16 + column * (width + 24), tops[column]
        parts.append(f"<g transform='translate({x},{y})'>{_chart(chart, width)}</g>")
        tops[column] += chart.height + 18
    wide, high = 32 + columns * width + (columns - 1) * 24, max(tops) + 8
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {wide} {high}' width='{wide}'"
        f" height='{high}' {_FONT} fill='{_INK}'>\n"
        f"<rect width='{wide}' height='{high}' fill='#ffffff'/>\n"
        + _text(16, 28, title, size=18, weight=600)
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _chart(chart: Chart, width: int) -> str:
    parts = [
        _text(0, 14, chart.title, size=13, weight=600),
        _text(0, 30, chart.note, size=10, colour=_FAINT),
        *_legend(chart.series),
    ]
    room = width - _LEFT - _RIGHT
    largest = max(v for _, values in chart.groups for v in values if v is not None)
    y = _HEAD
    for label, values in chart.groups:
        shown = [(n, value) for n, value in enumerate(values) if value is not None]
        middle = y + len(shown) * _BAR / 2 + 3.5
        parts.append(_text(_LEFT - 8, middle, label, size=11, anchor="end"))
        for number, value in shown:
            long = max(1.0, room * _part(chart, value, largest))
            colour = _COLOURS[number % len(_COLOURS)]
            parts.append(
                f"<rect x='{_LEFT}' y='{y}' width='{long:.1f}' height='{_BAR - 2}'"
                f" fill='{colour}'/>"
            )
            words = _number(value) + chart.unit
            parts.append(_text(_LEFT + long + 5, y + 9.5, words, size=10))
            y += _BAR
        y += _GAP
    return "\n".join(parts)


def _legend(series: Sequence[str]) -> list[str]:
    if len(series) == 1:
        return []
    parts, x = [], float(_LEFT)
    for number, name in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(f"<rect x='{x:.0f}' y='40' width='10' height='10' fill='{colour}'/>")
        parts.append(_text(x + 14, 49, name, size=10))
        x += 30 + 5.6 * len(name)
    return parts


def _part(chart: Chart, value: float, largest: float) -> float:
    """Return how much of the axis a value takes, 0 to 1."""
    if not chart.logarithmic:
        return (value - chart.start) / (largest - chart.start)
    if value <= chart.start:
        return 0.0
    return math.log(value / chart.start) / math.log(largest / chart.start)


def _number(value: float) -> str:
    """Return three digits that count, or all of a larger number."""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _text(
    x: float,
    y: float,
    words: str,
    *,
    size: int,
    weight: int = 400,
    colour: str = _INK,
    anchor: str = "start",
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' font-weight='{weight}'"
        f" fill='{colour}' text-anchor='{anchor}'>{escape(words)}</text>"
    )

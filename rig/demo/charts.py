"""Charts over time as SVG text, made by hand so that a page needs nothing besides itself.

All of them share one axis, so that what happened at the same time stands in one column.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rig.demo.record import Act, Finding, Span
    from rig.demo.samples import Curve

WIDTH = 1100
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 20, 22, 20
_INK, _FAINT, _GRID = "#1f2430", "#6b7280", "#e5e7eb"
OWN, BORROWED, WAITING = "#2f6fde", "#d97706", "#9333ea"
GOOD, BAD = "#15803d", "#dc2626"
_LANES = {"drift": "#fcd34d", "faults": "#fca5a5", "outage": "#d1d5db"}
_ROW = 20
_TICKS = 8
_MIDDLE = (_LEFT + WIDTH - _RIGHT) / 2


@dataclass(frozen=True, slots=True)
class Axis:
    """The time that all charts of a page show, in seconds since the epoch."""

    began: float
    ended: float

    def x(self, at: float) -> float:
        """Return where a time stands; what lies outside stands at the edge."""
        part = (at - self.began) / max(1e-9, self.ended - self.began)
        return _LEFT + min(1.0, max(0.0, part)) * (WIDTH - _LEFT - _RIGHT)

    def marks(self) -> list[tuple[float, str]]:
        """Return places of round times and their names."""
        length = self.ended - self.began
        every = next((n for n in (5, 10, 15, 20, 30, 60, 120) if length / n <= _TICKS), 300)
        return [
            (self.x(self.began + second), f"{second} s")
            for second in range(0, int(length) + 1, every)
        ]


def tenant(axis: Axis, curve: Curve, guaranteed: int, allowance: int) -> str:
    """Draw what a tenant holds: up to its guarantee, and beyond it what is borrowed."""
    height, most = 110, max(1, allowance, *(value for _, value in curve), 0)
    within = [(at, min(value, guaranteed)) for at, value in curve]
    lines = [(guaranteed, "guaranteed", _INK)]
    if allowance > guaranteed:
        lines.append((allowance, "with all it may borrow", BORROWED))
    parts = [
        *_frame(axis, height, most),
        _area(axis, curve, height, most, BORROWED),
        _area(axis, within, height, most, OWN),
    ]
    for value, name, colour in lines:
        y = _y(value, height, most)
        parts.append(_line((_LEFT, y), (WIDTH - _RIGHT, y), colour, "5 4"))
        parts.append(_text(_LEFT + 4, y - 3, f"{name} {value:,}", colour, "start"))
    return _svg(height, parts)


def waiting(axis: Axis, curve: Curve) -> str:
    """Draw how many pods wait."""
    height, most = 110, max(1, *(value for _, value in curve), 0)
    area = _area(axis, curve, height, most, WAITING)
    return _svg(height, [*_frame(axis, height, most), area])


def rate(axis: Axis, seconds: Mapping[int, int]) -> str:
    """Draw how many happened in each second."""
    height, most = 110, max(1, *seconds.values(), 0)
    parts = _frame(axis, height, most)
    for second, number in seconds.items():
        x, y = axis.x(second), _y(number, height, most)
        wide = max(1.0, axis.x(second + 1) - x - 0.5)
        parts.append(_rect((x, y), (wide, _floor(height) - y), OWN, f"{number} in this second"))
    return _svg(height, parts)


def timeline(
    axis: Axis, acts: Iterable[Act], findings: Iterable[Finding], spans: Iterable[Span]
) -> str:
    """Draw the acts, what became of the expectations in them, and what went on besides."""
    spans = list(spans)
    height = _TOP + _ROW * (2 + len(spans)) + _BOTTOM
    parts = _frame(axis, height, 0)
    parts.append(_text(_LEFT - 8, _TOP + 14, "acts", _FAINT, "end"))
    for number, act in enumerate(acts, start=1):
        x = axis.x(act.began)
        wide = max(2.0, axis.x(act.ended) - x - 1)
        colour = "#93c5fd" if number % 2 else "#bfdbfe"
        parts.append(_rect((x, _TOP), (wide, _ROW - 4), colour, f"{number} {act.title}"))
        parts.append(_text(x + wide / 2, _TOP + 12, str(number), _INK, "middle"))
    y = _TOP + _ROW
    parts.append(_text(_LEFT - 8, y + 14, "expectations", _FAINT, "end"))
    parts += [
        _dot(axis.x(each.at), y + 9, GOOD if each.holds else BAD, each.said) for each in findings
    ]
    for number, span in enumerate(spans, start=2):
        parts += _span(axis, span, _TOP + number * _ROW)
    return _svg(height, parts)


def _span(axis: Axis, span: Span, y: int) -> list[str]:
    x, end = axis.x(span.began), axis.x(span.ended)
    # Where the words would leave the page, they stand before it.
    words = (end + 4, "start") if end < _MIDDLE else (x - 4, "end")
    return [
        _text(_LEFT - 8, y + 14, span.lane, _FAINT, "end"),
        _rect((x, y + 2), (max(2.0, end - x), _ROW - 4), _LANES.get(span.lane, _GRID), span.text),
        _text(words[0], y + 14, span.text, _INK, words[1]),
    ]


def _frame(axis: Axis, height: int, most: int) -> list[str]:
    floor = _floor(height)
    parts = []
    for x, name in axis.marks():
        parts.append(_line((x, _TOP), (x, floor), _GRID))
        parts.append(_text(x, height - 5, name, _FAINT, "middle"))
    parts.append(_line((_LEFT, floor), (WIDTH - _RIGHT, floor), _FAINT))
    if most:
        parts.append(_text(_LEFT - 8, _TOP + 8, f"{most:,}", _FAINT, "end"))
        parts.append(_text(_LEFT - 8, floor, "0", _FAINT, "end"))
    return parts


def _area(axis: Axis, curve: Curve, height: int, most: int, colour: str) -> str:
    """Draw the area below a curve that keeps each value until the next."""
    floor, y = _floor(height), float(_floor(height))
    points = [f"M{_LEFT},{floor}"]
    for at, value in curve:
        x = axis.x(at)
        points.append(f"L{x:.1f},{y:.1f}")
        y = _y(value, height, most)
        points.append(f"L{x:.1f},{y:.1f}")
    end = axis.x(axis.ended)
    points.append(f"L{end:.1f},{y:.1f}L{end:.1f},{floor}Z")
    return f"<path d='{''.join(points)}' fill='{colour}'/>"


def _floor(height: int) -> int:
    return height - _BOTTOM


def _y(value: int, height: int, most: int) -> float:
    return _floor(height) - (_floor(height) - _TOP) * value / most


def _svg(height: int, parts: Iterable[str]) -> str:
    return f"<svg viewBox='0 0 {WIDTH} {height}' role='img'>{''.join(parts)}</svg>"


def _line(
    start: tuple[float, float], end: tuple[float, float], colour: str, dashes: str = ""
) -> str:
    dashed = f" stroke-dasharray='{dashes}'" if dashes else ""
    ends = f"x1='{start[0]:.1f}' y1='{start[1]:.1f}' x2='{end[0]:.1f}' y2='{end[1]:.1f}'"
    return f"<line {ends} stroke='{colour}'{dashed}/>"


def _rect(at: tuple[float, float], size: tuple[float, float], colour: str, said: str) -> str:
    box = f"x='{at[0]:.1f}' y='{at[1]:.1f}' width='{size[0]:.1f}' height='{size[1]:.1f}'"
    return f"<rect {box} fill='{colour}'><title>{escape(said)}</title></rect>"


def _dot(x: float, y: float, colour: str, said: str) -> str:
    place = f"cx='{x:.1f}' cy='{y:.1f}' r='4'"
    return f"<circle {place} fill='{colour}'><title>{escape(said)}</title></circle>"


def _text(x: float, y: float, words: str, colour: str, anchor: str) -> str:
    place = f"x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'"
    return f"<text {place} fill='{colour}'>{escape(words)}</text>"

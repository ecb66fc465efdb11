"""Lines for people: aligned columns, ages as kubectl prints them, colour on a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_YEAR = 365 * _DAY
_SPANS = (
    (2 * _MINUTE, (1, "s", 0, "")),
    (10 * _MINUTE, (_MINUTE, "m", 1, "s")),
    (3 * _HOUR, (_MINUTE, "m", 0, "")),
    (8 * _HOUR, (_HOUR, "h", _MINUTE, "m")),
    (2 * _DAY, (_HOUR, "h", 0, "")),
    (8 * _DAY, (_DAY, "d", _HOUR, "h")),
    (2 * _YEAR, (_DAY, "d", 0, "")),
    (8 * _YEAR, (_YEAR, "y", _DAY, "d")),
    (float("inf"), (_YEAR, "y", 0, "")),
)
"""Below which age: seconds of the large unit, its letter, seconds of the small one, its letter.
As k8s.io/apimachinery/pkg/util/duration has them."""
_GAP = "   "
_COLOURS = {"red": "31", "green": "32", "yellow": "33"}

Row = Mapping[str, Any]


class Column(NamedTuple):
    """One column of a table."""

    title: str
    cell: Callable[[Row], str]
    colour: Callable[[Row], str] = lambda _: ""
    """red, green, yellow or none."""


def field(name: str) -> Callable[[Row], str]:
    """Return how a field of a document is shown; what is not known is a hyphen."""

    def cell(row: Row) -> str:
        value = row.get(name)
        return "-" if value is None or value == "" else str(value)

    return cell


def age(seconds: int) -> str:
    """Return a time span as kubectl's AGE column has it."""
    large, unit, small, part = next(how for limit, how in _SPANS if seconds < limit)
    rest = seconds % large // small if small else 0
    return f"{seconds // large}{unit}" + (f"{rest}{part}" if rest else "")


def table(
    columns: Sequence[Column], rows: Iterable[Row], *, headers: bool, colours: bool
) -> list[str]:
    """Return the lines of a table; nothing is wrapped, cut or padded at the end."""
    cells = [[(c.cell(row), c.colour(row) if colours else "") for c in columns] for row in rows]
    titles = [[(column.title, "") for column in columns]] if headers else []
    widths = [
        max((len(line[index][0]) for line in (*titles, *cells)), default=0)
        for index in range(len(columns))
    ]
    return [_line(line, widths) for line in (*titles, *cells)]


def _line(line: Sequence[tuple[str, str]], widths: Sequence[int]) -> str:
    last = len(line) - 1
    return _GAP.join(
        painted(text if index == last else text.ljust(width), colour)
        for index, ((text, colour), width) in enumerate(zip(line, widths, strict=True))
    )


def painted(text: str, colour: str) -> str:
    """Return the text in a colour; as it is without one."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if colour else text


def wants_colour(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether colour is of use: on a terminal that knows it, unless NO_COLOR says otherwise."""
    return (
        stream.isatty()
        and not environment.get("NO_COLOR")
        and environment.get("TERM", "dumb") != "dumb"
    )

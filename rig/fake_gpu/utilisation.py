"""How busy a pod keeps its GPUs, written down in one line.

A script is a list of levels, each but the last with a duration in seconds:

    95              always 95 %
    60-90           somewhere between, changing every 15 s
    95@600,0        95 % for ten minutes, then idle
    0@30,80-95@60,0
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from typing import Final

FULL: Final = 100
SAMPLE_SECONDS: Final = 15
"""How long a level between two bounds stays the same; the usual interval between scrapes."""
_STEP: Final = re.compile(r"(\d{1,3})(?:-(\d{1,3}))?(?:@(\d+))?")


@dataclass(frozen=True, slots=True)
class Step:
    """A level, and how long it lasts.

    Attributes:
        low: per cent.
        high: per cent; the same as low for a constant level.
        seconds: duration; infinite for the last step.
    """

    low: int
    high: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Script:
    """What one pod does over time."""

    steps: tuple[Step, ...]

    def level(self, age: float, seed: str) -> int:
        """Return the utilisation in per cent.

        The same question has the same answer, so that two scrapes, and a test, agree.

        Args:
            age: seconds since the pod started.
            seed: tells devices of the same pod apart.
        """
        begin = 0.0
        for step in self.steps:
            if age < begin + step.seconds:
                break
            begin += step.seconds
        window = f"{seed}/{math.floor(age / SAMPLE_SECONDS)}"
        return step.low + zlib.crc32(window.encode()) % (step.high - step.low + 1)


def parse(text: str) -> Script:
    """Read a script.

    Raises:
        ValueError: it is not one; the message shows where.
    """
    parts = [each.strip() for each in text.split(",")]
    steps = []
    for number, part in enumerate(parts, 1):
        found = _STEP.fullmatch(part)
        if found is None:
            raise ValueError(f"utilisation {text!r}: {part!r} is not LEVEL[-LEVEL][@SECONDS]")
        low = int(found[1])
        high = int(found[2] or low)
        if not low <= high <= FULL:
            raise ValueError(f"utilisation {text!r}: {part!r} is not within 0 and {FULL}")
        if (found[3] is None) != (number == len(parts)):
            raise ValueError(f"utilisation {text!r}: every step but the last has a duration")
        steps.append(Step(low, high, float(found[3]) if found[3] else math.inf))
    return Script(tuple(steps))

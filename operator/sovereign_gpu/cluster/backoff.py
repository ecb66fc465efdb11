"""How long to pause between tries; one word for all who retry."""

from __future__ import annotations

import random
from typing import NamedTuple


class Backoff(NamedTuple):
    """Seconds between tries; the pause doubles up to `most`."""

    first: float
    most: float

    def next(self, delay: float) -> float:
        """Return the pause that follows `delay`."""
        return min(delay * 2, self.most)


def jittered(seconds: float) -> float:
    """Return half to all of the seconds, so that many do not try in step."""
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 – not for secrets

"""GPU-seconds: what is held, summed up over time by looks of a second."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

_TICK = 1.0
"""Seconds between looks at who holds what; starts and ends are each seen late by half of it."""


@dataclass(slots=True)
class GpuClock:
    """Integrates charged GPUs over time: (tenant, model) -> GPU-seconds of bound pods."""

    seconds: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    _held: dict[tuple[str, str], int] = field(default_factory=dict)
    _at: float | None = None

    def is_due(self, now: float) -> bool:
        """Whether the last tick is long enough ago."""
        return self._at is None or now - self._at >= _TICK

    def tick(self, now: float, held: dict[tuple[str, str], int]) -> None:
        """Charge the time since the last tick at what was held then; remember what is held now.

        Args:
            now: monotonic seconds.
            held: GPUs of bound pods per (tenant, model).
        """
        if self._at is not None:
            for key, gpus in self._held.items():
                self.seconds[key] += gpus * (now - self._at)
        self._at, self._held = now, held

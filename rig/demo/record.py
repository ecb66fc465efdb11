"""What happened when, for whoever reads it afterwards. Times are seconds since the epoch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Act:
    """A part of the story."""

    title: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Finding:
    """An expectation and what became of it.

    Attributes:
        act: title of the act in which it was looked at.
        what: sentence that is true when it holds.
        found: what was found.
        at: when that was.
    """

    act: str
    what: str
    found: str
    holds: bool
    at: float

    @property
    def said(self) -> str:
        """The sentence and what was found."""
        return f"{self.what}: {self.found}" if self.found else self.what


@dataclass(frozen=True, slots=True)
class Span:
    """Something that went on for a while besides the acts.

    Attributes:
        lane: spans of one lane stand in one row.
    """

    lane: str
    text: str
    began: float
    ended: float


@dataclass(slots=True)
class Record:
    """Everything worth telling of one run."""

    began: float = field(default_factory=time.time)
    acts: list[Act] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """Expectations that did not hold, with what was found."""
        return [each.said for each in self.findings if not each.holds]

    @property
    def held(self) -> int:
        """How many expectations held."""
        return sum(each.holds for each in self.findings)

    def span(self, lane: str, text: str, began: float) -> None:
        """Note something that began some time ago and ends now."""
        self.spans.append(Span(lane, text, began, time.time()))

"""Whether a pool meets what a policy asks of it, predicate by predicate; pure.

A pool makes claims about itself, each on one topic (`support`, `roles[CloudOperator]`). A policy
has one need for each topic it cares about. Every claim on the topic has to stand the test, so that
a second company in a role cannot hide behind the first; no claim at all fails it. The answer is
never one word for the whole pool, but one verdict for each need, with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from enum import IntEnum, StrEnum
from typing import NamedTuple

NOTICE_DAYS = 30
"""Days ahead on which an attribute that runs out is warned of."""
_MOST_LISTED = 12


class Trust(IntEnum):
    """How far a claim can be trusted; more is better."""

    DECLARED = 1
    OBSERVED = 2
    VERIFIED = 3


class Standing(StrEnum):
    """Whether a claim counts on the day in question."""

    VALID = "Valid"
    EXPIRING = "Expiring"
    EXPIRED = "Expired"
    NOT_YET_VALID = "NotYetValid"


class Finding(StrEnum):
    """Why a need is met or not; the same word in status, metrics and messages."""

    HOLDS = "Holds"
    EXPIRING = "Expiring"
    NOT_ALLOWED = "NotAllowed"
    NOT_DECLARED = "NotDeclared"
    TRUST_TOO_LOW = "TrustTooLow"
    EXPIRED = "Expired"
    NOT_YET_VALID = "NotYetValid"


class Fact(NamedTuple):
    """One thing that a claim says: `country` is `DE`."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a pool says of itself on one topic."""

    topic: str
    subject: str
    """Who or what it is about, for people."""
    facts: tuple[Fact, ...]
    trust: Trust = Trust.DECLARED
    since: date | None = None
    """First day on which it counts."""
    until: date | None = None
    """Last day on which it counts."""
    standing: Standing = Standing.VALID


@dataclass(frozen=True, slots=True)
class Criterion:
    """What a fact may say."""

    fact: str
    allowed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Need:
    """What a policy asks for on one topic."""

    topic: str
    tests: tuple[Criterion, ...] = ()
    trust: Trust = Trust.DECLARED


class Verdict(NamedTuple):
    """Whether one need is met."""

    topic: str
    finding: Finding
    message: str

    @property
    def holds(self) -> bool:
        """Whether it is met today."""
        return self.finding in (Finding.HOLDS, Finding.EXPIRING)


def dated(claims: Iterable[Claim], today: date) -> tuple[Claim, ...]:
    """Return the claims with the standing that each has on a day (UTC)."""
    return tuple(replace(claim, standing=_standing(claim, today)) for claim in claims)


def _standing(claim: Claim, today: date) -> Standing:
    if claim.since is not None and today < claim.since:
        return Standing.NOT_YET_VALID
    if claim.until is None:
        return Standing.VALID
    left = (claim.until - today).days
    if left < 0:
        return Standing.EXPIRED
    return Standing.EXPIRING if left < NOTICE_DAYS else Standing.VALID


def verdict(need: Need, claims: Iterable[Claim]) -> Verdict:
    """Return whether a need is met by the claims of a pool, and why."""
    concerned = [claim for claim in claims if claim.topic == need.topic]
    if not concerned:
        return Verdict(need.topic, Finding.NOT_DECLARED, "the pool says nothing of it")
    warning = None
    for claim in concerned:
        found = _of_one(need, claim)
        if not found.holds:
            return found
        if found.finding is Finding.EXPIRING:
            warning = found
    return warning or found


def _of_one(need: Need, claim: Claim) -> Verdict:
    at = f"{claim.subject}: " if claim.subject else ""
    if claim.standing is Standing.EXPIRED:
        return Verdict(need.topic, Finding.EXPIRED, f"{at}counted until {claim.until}")
    if claim.standing is Standing.NOT_YET_VALID:
        return Verdict(need.topic, Finding.NOT_YET_VALID, f"{at}counts from {claim.since}")
    if claim.trust < need.trust:
        words = f"found {_word(claim.trust)}, allowed: {_word(need.trust)}"
        return Verdict(need.topic, Finding.TRUST_TOO_LOW, f"{at}{words} or better")
    said = dict(claim.facts)
    for test in need.tests:
        values = said.get(test.fact, ())
        wrong = [value for value in values if value not in test.allowed]
        if wrong or not values:
            found = ", ".join(wrong) or "nothing"
            words = f"{test.fact} found {found}, allowed: {listed(test.allowed)}"
            return Verdict(need.topic, Finding.NOT_ALLOWED, f"{at}{words}")
    if claim.standing is Standing.EXPIRING:
        return Verdict(need.topic, Finding.EXPIRING, f"{at}counts until {claim.until}")
    return Verdict(need.topic, Finding.HOLDS, f"{at}{_facts(claim)}")


def _word(trust: Trust) -> str:
    return trust.name.capitalize()


def _facts(claim: Claim) -> str:
    return ", ".join(f"{fact.name} {' '.join(fact.values)}" for fact in claim.facts)


def listed(allowed: frozenset[str]) -> str:
    """Return the words that are allowed, shortened."""
    words = sorted(allowed)
    more = len(words) - _MOST_LISTED
    return ", ".join(words) if more <= 0 else f"{', '.join(words[:_MOST_LISTED])} and {more} more"

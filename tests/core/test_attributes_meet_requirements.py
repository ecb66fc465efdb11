"""What pools say of themselves against what policies ask: one answer for each, with its reason."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_gpu.core import residency
from sovereign_gpu.core.model import Policy, Pool
from sovereign_gpu.core.sovereignty import (
    NOTICE_DAYS,
    Claim,
    Criterion,
    Fact,
    Finding,
    Need,
    Trust,
    dated,
    verdict,
)
from tests.core.build import munich, policy, tenant

TODAY = date(2026, 11, 28)
EU = frozenset({"DE", "FR", "NL"})


def says(topic: str, *values: str, subject: str = "", **more: object) -> Claim:
    return Claim(topic, subject, (Fact("country", values),), **more)  # type: ignore[arg-type]


def asks(topic: str, trust: Trust = Trust.DECLARED) -> Need:
    return Need(topic, (Criterion("country", EU),), trust)


@pytest.mark.parametrize(
    ("claims", "finding", "message"),
    [
        ((), Finding.NOT_DECLARED, "says nothing"),
        ((says("backup", "DE"),), Finding.NOT_DECLARED, "says nothing"),
        ((says("support", "DE", "FR"),), Finding.HOLDS, "country DE FR"),
        ((says("support", "DE", "IN"),), Finding.NOT_ALLOWED, "found IN, allowed: DE, FR, NL"),
        ((says("support"),), Finding.NOT_ALLOWED, "found nothing"),
        # A second company cannot hide behind the first.
        (
            (says("support", "DE"), says("support", "US", subject="Far Inc.")),
            Finding.NOT_ALLOWED,
            "Far Inc.: country found US",
        ),
    ],
)
def test_a_need_is_met_by_every_claim_on_its_topic(
    claims: tuple[Claim, ...], finding: Finding, message: str
) -> None:
    found = verdict(asks("support"), claims)
    assert (found.topic, found.finding) == ("support", finding)
    assert message in found.message


@pytest.mark.parametrize(
    ("has", "wants", "holds"),
    [(has, wants, has >= wants) for has in Trust for wants in Trust],
)
def test_trust_counts_from_what_is_asked_upwards(has: Trust, wants: Trust, holds: bool) -> None:  # noqa: FBT001
    found = verdict(asks("support", wants), [says("support", "DE", trust=has)])
    assert found.holds == holds
    if not holds:
        assert found.finding is Finding.TRUST_TOO_LOW
        assert f"found {has.name.capitalize()}, allowed: {wants.name.capitalize()}" in found.message


@pytest.mark.parametrize(
    ("since", "until", "finding"),
    [
        (None, None, Finding.HOLDS),
        (None, TODAY + timedelta(days=NOTICE_DAYS), Finding.HOLDS),
        (None, TODAY + timedelta(days=NOTICE_DAYS - 1), Finding.EXPIRING),
        (None, TODAY, Finding.EXPIRING),
        (None, TODAY - timedelta(days=1), Finding.EXPIRED),
        (TODAY, None, Finding.HOLDS),
        (TODAY + timedelta(days=1), None, Finding.NOT_YET_VALID),
        (TODAY + timedelta(days=1), TODAY + timedelta(days=2), Finding.NOT_YET_VALID),
    ],
)
def test_a_claim_counts_from_its_first_day_to_its_last(
    since: date | None, until: date | None, finding: Finding
) -> None:
    (claim,) = dated([says("support", "DE", since=since, until=until)], TODAY)
    found = verdict(asks("support"), [claim])
    assert found.finding is finding
    assert found.holds == (finding in {Finding.HOLDS, Finding.EXPIRING})
    if finding in {Finding.EXPIRING, Finding.EXPIRED}:
        assert str(until) in found.message


def test_of_several_that_hold_the_one_that_runs_out_is_told() -> None:
    claims = dated([says("support", "DE", until=TODAY, subject="A"), says("support", "FR")], TODAY)
    assert verdict(asks("support"), claims).finding is Finding.EXPIRING
    assert verdict(asks("support"), claims[::-1]).finding is Finding.EXPIRING


def test_a_long_list_of_what_is_allowed_is_shortened() -> None:
    many = frozenset(f"{a}{b}" for a in "ABCDEFGHIJ" for b in "AB")
    found = verdict(Need("support", (Criterion("country", many),)), [says("support", "ZZ")])
    assert found.message.endswith("and 8 more")


def test_a_policy_answers_for_country_and_each_need() -> None:
    asked = Policy("eu", EU, needs=(asks("support"), asks("backup")))
    pool = Pool("ohio", "US", "us-1", claims=(says("support", "DE"),))
    found = [(each.topic, each.holds) for each in residency.verdicts(asked, pool)]
    assert found == [("country", False), ("support", True), ("backup", False)]
    assert not residency.admits(asked, pool)


def test_an_objection_names_the_first_policy_and_its_reason() -> None:
    lax, strict = policy("lax", "DE"), policy("strict", "DE", needs=(asks("keys"),))
    policies = {"lax": lax, "strict": strict}
    who = tenant(policies=("gone", "lax", "strict"))
    name, found = residency.objection(who, munich(), policies)
    assert (name, found.topic) == ("strict", "keys")
    with pytest.raises(LookupError):
        residency.objection(tenant(policies=("lax",)), munich(), policies)


claims = st.lists(
    st.builds(
        says,
        st.sampled_from(["support", "backup"]),
        st.sampled_from(["DE", "US"]),
        trust=st.sampled_from(list(Trust)),
        until=st.none() | st.dates(date(2026, 1, 1), date(2027, 12, 31)),
    ),
    max_size=4,
)


@given(claims, st.sampled_from(["support", "backup"]), st.sampled_from(list(Trust)))
def test_asking_for_more_never_admits_more(some: list[Claim], topic: str, trust: Trust) -> None:
    known = dated(some, TODAY)
    strict = verdict(asks(topic, trust), known)
    if strict.holds:
        assert verdict(asks(topic), known).holds
        assert verdict(Need(topic), known).holds
        assert all("US" not in dict(c.facts)["country"] for c in known if c.topic == topic)

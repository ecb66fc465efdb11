"""From what a pool's manifest says of itself, and a policy asks for, to the core's records."""

from __future__ import annotations

from collections.abc import Iterator

from sovereign_gpu.api.countrylist import Countries
from sovereign_gpu.api.requirements import CountriesTest, KeysTest, Require, RoleTest
from sovereign_gpu.api.sovereignty import Attribute, Company, Sovereignty
from sovereign_gpu.core.sovereignty import Claim, Criterion, Fact, Need, Trust

_TRUST = {"Declared": Trust.DECLARED, "Observed": Trust.OBSERVED, "Verified": Trust.VERIFIED}


def claims(of: Sovereignty) -> tuple[Claim, ...]:
    """Return everything that a pool says of itself; a company once for each of its roles."""
    return tuple(_claims(of))


def needs(of: Require) -> tuple[Need, ...]:
    """Return everything that a policy asks for."""
    return tuple(_needs(of))


def _claims(of: Sovereignty) -> Iterator[Claim]:
    for company in of.companies:
        for role in company.roles:
            yield _claim(f"roles[{role}]", company, _seats(company), company.legal_name)
    for each in of.certifications:
        said = {"version": each.version, "type": each.type}
        facts = tuple(Fact(name, (value,)) for name, value in said.items() if value)
        claim = _claim(f"certifications[{each.scheme}]", each, facts, each.scheme)
        yield Claim(
            claim.topic, claim.subject, facts, claim.trust, each.valid_from, each.valid_until
        )
    if of.support:
        yield _claim("support", of.support, _countries(*of.support.countries))
    if of.keys:
        holder = Fact("holder", (of.keys.holder,))
        yield _claim("keys", of.keys, (holder, *_countries(of.keys.country)))
    for endpoint in of.endpoints:
        topic = f"endpoints[{endpoint.purpose}]"
        yield _claim(topic, endpoint, _countries(*endpoint.countries), ", ".join(endpoint.hosts))
    if of.control_plane:
        yield _claim("controlPlane", of.control_plane, _countries(of.control_plane.country))
    if of.backup:
        yield _claim("backup", of.backup, _countries(*of.backup.countries))


def _claim(topic: str, attribute: Attribute, facts: tuple[Fact, ...], subject: str = "") -> Claim:
    return Claim(topic, subject[:128], facts, _TRUST[attribute.trust], until=attribute.valid_until)


def _seats(company: Company) -> tuple[Fact, ...]:
    parent = company.ultimate_parent.country if company.ultimate_parent else company.country
    return Fact("country", (company.country,)), Fact("parentCountry", (parent,))


def _countries(*codes: str) -> tuple[Fact, ...]:
    return (Fact("country", codes),)


def _needs(of: Require) -> Iterator[Need]:
    for role in of.roles:
        yield Need(f"roles[{role.role}]", _seat_tests(role), _TRUST[role.trust])
    for each in of.certifications:
        words = {"version": each.versions, "type": each.types}
        tests = tuple(
            Criterion(name, frozenset(allowed)) for name, allowed in words.items() if allowed
        )
        yield Need(f"certifications[{each.scheme}]", tests, _TRUST[each.trust])
    if of.keys:
        yield Need("keys", _key_tests(of.keys), _TRUST[of.keys.trust])
    for endpoint in of.endpoints:
        tests = (_country(endpoint.countries),)
        yield Need(f"endpoints[{endpoint.purpose}]", tests, _TRUST[endpoint.trust])
    for topic, test in _places(of):
        yield Need(topic, (_country(test.countries),), _TRUST[test.trust])


def _places(of: Require) -> Iterator[tuple[str, CountriesTest]]:
    for topic, test in (
        ("support", of.support),
        ("controlPlane", of.control_plane),
        ("backup", of.backup),
    ):
        if test:
            yield topic, test


def _seat_tests(role: RoleTest) -> tuple[Criterion, ...]:
    seat = _country(role.countries)
    if role.parent_countries is None:
        return (seat,)
    return seat, _country(role.parent_countries, "parentCountry")


def _key_tests(keys: KeysTest) -> tuple[Criterion, ...]:
    held = (Criterion("holder", frozenset(keys.holders)),) if keys.holders else ()
    return (*held, _country(keys.countries)) if keys.countries else held


def _country(countries: Countries, fact: str = "country") -> Criterion:
    return Criterion(fact, countries.resolved())

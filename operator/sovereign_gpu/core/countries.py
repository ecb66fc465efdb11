"""Which countries a policy allows: ISO 3166-1 codes and dated sets of them.

A country is only ever an ISO 3166-1 alpha-2 code. Nothing here reads region names: that
`eu-de-muc` lies in Germany is said by the pool, never guessed from the text.

The sets are data with a date. Membership changes by treaty, so a change is a new entry with
a new date and a new test, not an edit that nobody notices. Adequacy is a set of its own and in
no other one: "data may be sent there" is not "data stays here".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Final

_ISO: Final = """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO
BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ
DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP
GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG
KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML
MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE
PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL
SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM
US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
"""
ISO_COUNTRIES: Final = frozenset(_ISO.split())
"""The officially assigned codes. XK (Kosovo) is user-assigned, so it is not one of them."""

HINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "EL": "Greece is GR in ISO 3166-1; EL is used in EU texts only",
        "UK": "the United Kingdom is GB in ISO 3166-1; UK is used in EU texts only",
        "EU": "the European Union is a set of countries, not a country",
        "XK": "XK is user-assigned, not an ISO 3166-1 code",
    }
)
"""Codes that people write in good faith, and what to write instead."""

_UNION: Final = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
_EU27: Final = frozenset(_UNION.split())


@dataclass(frozen=True, slots=True)
class CountrySet:
    """A named set of countries as it stands since a day.

    Only the codes of the member states are in it. Territories with a code of their own are
    left out even where Union law applies (GP, MQ, GF, RE, YT, MF, AX): a policy that wants
    them says so with `include`, so that nobody is surprised by a data centre overseas.
    """

    name: str
    since: date
    """First day on which exactly these countries were members."""
    codes: frozenset[str]
    basis: str
    """What the membership rests on, for the reader of a report."""

    @property
    def version(self) -> str:
        """Name and day, which together never change their meaning."""
        return f"{self.name}@{self.since.isoformat()}"


_ADEQUATE: Final = frozenset(
    ["AD", "AR", "CA", "CH", "FO", "GB", "GG", "IL", "IM", "JE", "JP", "KR", "NZ", "UY"]
)

_ALL: Final = (
    CountrySet(
        name="EU",
        since=date(2020, 2, 1),
        codes=_EU27,
        basis="member states of the European Union after the withdrawal of GB",
    ),
    CountrySet(
        name="EEA",
        since=date(2020, 2, 1),
        codes=_EU27 | {"IS", "LI", "NO"},
        basis="parties to the EEA Agreement; Svalbard (SJ) is outside of it",
    ),
    CountrySet(
        name="EEA_CH",
        since=date(2020, 2, 1),
        codes=_EU27 | {"IS", "LI", "NO", "CH"},
        basis="parties to the EEA Agreement, and Switzerland",
    ),
    CountrySet(
        name="ADEQUATE",
        since=date(2021, 12, 17),
        codes=_ADEQUATE,
        basis="decisions under Article 45 GDPR up to that on KR; CA for commercial organisations",
    ),
    CountrySet(
        name="ADEQUATE",
        since=date(2026, 1, 26),
        codes=_ADEQUATE | {"BR"},
        basis="decisions under Article 45 GDPR up to that on BR, Decision (EU) 2026/179",
    ),
)
"""Every set as it ever stood here, each name's versions in the order of their days.

Adequacy holds for the importers that a decision names. US is in no version: its framework covers
certified companies only, which a country code cannot say. BR is not in the EEA's yet.
"""

VERSIONS: Final[Mapping[str, CountrySet]] = MappingProxyType({each.version: each for each in _ALL})
"""Sets by name and day, such as `EU@2020-02-01`: what a policy names to stay with a version."""
SETS: Final[Mapping[str, CountrySet]] = MappingProxyType({each.name: each for each in _ALL})
"""The sets by name alone: the newest version that this release knows."""
SET_NAMES: Final = (*SETS, *VERSIONS)
"""What a policy may write."""


class UnknownCountryError(ValueError):
    """A code that is not ISO 3166-1 alpha-2, or a set that does not exist."""

    def __init__(self, found: str, allowed: str) -> None:
        """Keep both halves of the message apart, so that callers may phrase it their way."""
        super().__init__(f"found {found!r}, allowed: {allowed}")
        self.found = found
        self.allowed = allowed


def hint(code: str) -> str | None:
    """Say what to write instead of a code that is often mistaken for an ISO code.

    Args:
        code: what was found, in any case.

    Returns:
        One sentence without a full stop, or nothing when there is no better guess.
    """
    upper = code.upper()
    if known := HINTS.get(upper):
        return known
    return f"write {upper}" if code != upper and upper in ISO_COUNTRIES else None


def country_set(name: str) -> CountrySet:
    """Return a set by its name, then the newest version, or by name and day.

    Raises:
        UnknownCountryError: there is none.
    """
    found = SETS.get(name) or VERSIONS.get(name)
    if found is None:
        raise UnknownCountryError(name, "one of the sets " + ", ".join(SET_NAMES))
    return found


def resolve(
    sets: Iterable[str], include: Iterable[str] = (), exclude: Iterable[str] = ()
) -> frozenset[str]:
    """Turn the three lists of a policy into the countries it allows.

    `exclude` wins over everything, so that adding a set or a country can never bring back
    what somebody has ruled out.

    Args:
        sets: names of country sets, with a day or without.
        include: codes allowed besides the sets.
        exclude: codes never allowed.

    Returns:
        The allowed codes; empty when everything is excluded, which allows nothing.

    Raises:
        UnknownCountryError: a set or code does not exist. A code in `exclude` that does not
            exist is an error as well: a typo there would allow what should be forbidden.
    """
    allowed: set[str] = set()
    for name in sets:
        allowed |= country_set(name).codes
    allowed.update(_checked(include))
    return frozenset(allowed.difference(_checked(exclude)))


def _checked(codes: Iterable[str]) -> list[str]:
    checked = list(codes)
    for code in checked:
        if code not in ISO_COUNTRIES:
            better = hint(code)
            allowed = "an ISO 3166-1 alpha-2 country code such as DE"
            raise UnknownCountryError(code, f"{allowed} ({better})" if better else allowed)
    return checked

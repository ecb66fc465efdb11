"""Countries are ISO codes, sets are dated, and nobody is allowed by accident."""

from __future__ import annotations

from datetime import date
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_gpu.api.countrylist import Countries, SetName
from sovereign_gpu.core.countries import (
    HINTS,
    ISO_COUNTRIES,
    SET_NAMES,
    SETS,
    VERSIONS,
    UnknownCountryError,
    country_set,
    hint,
    resolve,
)

EU = SETS["EU"].codes
codes = st.frozensets(st.sampled_from(sorted(ISO_COUNTRIES)))
sets = st.frozensets(st.sampled_from(sorted(SETS)))


def test_iso_has_249_officially_assigned_codes() -> None:
    assert len(ISO_COUNTRIES) == 249


def test_the_union_has_27_members() -> None:
    assert len(EU) == 27


def test_the_eea_adds_three() -> None:
    assert SETS["EEA"].codes - EU == {"IS", "LI", "NO"}


def test_switzerland_is_not_in_the_eea() -> None:
    assert "CH" not in SETS["EEA"].codes
    assert SETS["EEA_CH"].codes - SETS["EEA"].codes == {"CH"}


@pytest.mark.parametrize("name", VERSIONS)
def test_a_set_holds_iso_codes_and_says_since_when_and_why(name: str) -> None:
    countries = VERSIONS[name]
    assert countries.version == name
    assert countries.codes <= ISO_COUNTRIES
    assert countries.since >= date(2020, 2, 1)  # GB left the day before
    assert countries.basis


@pytest.mark.parametrize(
    "code",
    [
        *("GB", "CH", "US", "TR", "UA"),  # never or no longer members
        *("IM", "JE", "GG", "GI", "VA", "SM", "MC", "AD"),  # near, or once reached by EU law
        *("GL", "FO", "NC", "PF", "AW", "CW", "SX", "BQ", "PM", "BL", "WF"),  # overseas
        *("GP", "MQ", "GF", "RE", "YT", "MF", "AX"),  # EU territory with a code of its own
        *("JP", "KR", "CA", "IL", "NZ", "UY", "BR", "AR"),  # adequate is not inside
    ],
)
def test_the_union_is_its_member_states_and_nothing_else(code: str) -> None:
    assert code in ISO_COUNTRIES
    assert code not in EU


def test_svalbard_is_norwegian_but_outside_the_eea() -> None:
    assert "SJ" not in SETS["EEA"].codes


def test_adequacy_is_in_no_other_set_and_no_other_set_in_it() -> None:
    adequate = SETS["ADEQUATE"].codes
    assert not adequate & SETS["EEA"].codes
    assert SETS["EEA_CH"].codes & adequate == {"CH"}
    assert "US" not in adequate


def test_a_name_alone_means_the_newest_version_and_with_a_day_always_the_same() -> None:
    older, newer = country_set("ADEQUATE@2021-12-17"), country_set("ADEQUATE@2026-01-26")
    assert country_set("ADEQUATE") is newer
    assert newer.codes - older.codes == {"BR"}
    for name, found in SETS.items():
        days = [each.since for each in VERSIONS.values() if each.name == name]
        assert days == sorted(days)
        assert found.since == days[-1]


def test_every_name_that_a_policy_may_write_is_a_set() -> None:
    assert set(get_args(SetName)) == set(SET_NAMES)
    for name in SET_NAMES:
        assert Countries(sets=(name,)).resolved() == country_set(name).codes


@pytest.mark.parametrize(
    ("wrong", "right"), [("EL", "GR"), ("UK", "GB"), ("el", "GR"), ("uk", "GB"), ("de", "DE")]
)
def test_a_mistaken_code_is_answered_with_the_right_one(wrong: str, right: str) -> None:
    assert right in (hint(wrong) or "")


@pytest.mark.parametrize("code", ["DE", "ZZ", "", "Germany", "DEU"])
def test_there_is_no_hint_without_a_better_guess(code: str) -> None:
    assert hint(code) is None


def test_no_hint_is_about_a_code_that_is_valid() -> None:
    assert not set(HINTS) & ISO_COUNTRIES


def test_an_outermost_region_can_be_included() -> None:
    assert resolve(["EU"], ["RE"]) == EU | {"RE"}


def test_everything_excluded_allows_nothing() -> None:
    assert resolve(["EU"], ["CH"], [*EU, "CH"]) == frozenset()


def test_nothing_named_allows_nothing() -> None:
    assert resolve([]) == frozenset()


@pytest.mark.parametrize(
    ("sets", "include", "exclude", "says"),
    [
        (["EL"], [], [], r"found 'EL', allowed: one of the sets EU, EEA, EEA_CH, ADEQUATE, EU@"),
        ([], ["EL"], [], r"found 'EL'.*\(Greece is GR"),
        (["EU"], [], ["UK"], r"found 'UK'.*\(the United Kingdom is GB"),
        ([], ["de"], [], r"found 'de'.*\(write DE\)"),
        ([], ["ZZ"], [], r"found 'ZZ', allowed: an ISO 3166-1 alpha-2 country code such as DE$"),
    ],
)
def test_an_unknown_word_is_an_error_wherever_it_stands(
    sets: list[str], include: list[str], exclude: list[str], says: str
) -> None:
    with pytest.raises(UnknownCountryError, match=says) as error:
        resolve(sets, include, exclude)
    assert error.value.found in says
    assert error.value.allowed


@given(sets, codes, codes)
def test_exclude_wins(names: frozenset[str], include: frozenset[str], out: frozenset[str]) -> None:
    assert not resolve(names, include, out) & out


@given(sets, codes, codes)
def test_nothing_is_allowed_that_was_not_named(
    names: frozenset[str], include: frozenset[str], out: frozenset[str]
) -> None:
    named = include.union(*(SETS[name].codes for name in names))
    assert resolve(names, include, out) == named - out

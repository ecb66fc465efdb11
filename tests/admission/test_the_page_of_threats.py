"""The page of threats names what is there, and all of it."""

from __future__ import annotations

from tests.admission import bypasses


def test_every_rule_and_test_that_it_names_exists() -> None:
    assert bypasses.missing() == []


def test_every_rule_that_denies_stands_on_it() -> None:
    assert bypasses.untold() == set()


def test_it_is_what_the_tests_say() -> None:
    assert bypasses.PAGE.read_text(encoding="utf-8") == bypasses.page()

"""Quantities against decimal arithmetic, and the forms that Kubernetes takes or refuses."""

from __future__ import annotations

from decimal import ROUND_CEILING, Context, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_gpu.core.quantity import MOST, parse

_CONTEXT = Context(prec=200)
_POWERS = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}


def rounded_up(number: str, factor: Decimal, unit: int) -> int:
    exact = _CONTEXT.multiply(_CONTEXT.multiply(Decimal(number), factor), Decimal(unit))
    return min(MOST, int(exact.to_integral_value(ROUND_CEILING)))


@given(
    st.from_regex(r"(0|[1-9][0-9]{0,9})(\.[0-9]{0,12})?", fullmatch=True),
    st.sampled_from(sorted(_POWERS)),
    st.sampled_from((1, 1000)),
)
def test_a_quantity_is_what_decimal_arithmetic_says_rounded_up(
    number: str, suffix: str, unit: int
) -> None:
    assert parse(number + suffix, unit) == rounded_up(number, _POWERS[suffix], unit)


@given(
    st.from_regex(r"[0-9]{1,6}(\.[0-9]{1,6})?", fullmatch=True),
    st.integers(-12, 12),
    st.sampled_from("eE"),
)
def test_exponents_are_powers_of_ten(number: str, exponent: int, letter: str) -> None:
    assert parse(f"{number}{letter}{exponent}") == rounded_up(number, Decimal(10) ** exponent, 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("8", 8),
        ("+8", 8),
        ("-8", -8),
        (".5", 1),
        ("5.", 5),
        ("1E", 10**18),
        ("1E3", 1000),
        ("1e3", 1000),
        ("0.1n", 1),
        ("2Ti", 2 * 2**40),
        ("1.5Gi", 3 * 2**29),
        (8, 8),
    ],
)
def test_known_forms(text: str | int, value: int) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(("text", "unit", "value"), [("100m", 1000, 100), ("1.5", 1000, 1500)])
def test_cpu_is_read_in_thousandths(text: str, unit: int, value: int) -> None:
    assert parse(text, unit) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e99999999999999999999", MOST),
        ("9" * 400, MOST),
        ("16Ei", MOST),
        ("-1e999999999", -MOST),
        ("1e-999999999", 1),
        ("0e999999999", 0),
    ],
)
def test_numbers_that_nothing_holds_are_capped_at_once(text: str, value: int) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    "text",
    ["", " ", "one", "1 Gi", "1gi", "1K", "1e", "1e3Gi", "--1", "1.2.3", "0x8", "1_000", "٣", "."],
)
def test_what_is_no_quantity_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="not a Kubernetes quantity"):
        parse(text)

"""Kubernetes quantities as exact integers.

Grammar: k8s.io/apimachinery/pkg/api/resource, `Quantity`: a decimal number with a binary
(Ki … Ei) or decimal (n, u, m, k … E) suffix or an exponent. Fractions round up, as there.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([KMGTPE]i|[numkMGTPE]))?")
_SCALE = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    **{letter: Fraction(1000 ** (i + 1)) for i, letter in enumerate("kMGTPE")},
    **{letter + "i": Fraction(1024 ** (i + 1)) for i, letter in enumerate("KMGTPE")},
}


@lru_cache(maxsize=4096)
def parse(text: str | int, unit: int = 1) -> int:
    """Return the quantity in units of 1/`unit` (1000 for millicores), rounded up.

    Raises:
        ValueError: the text is not a quantity.
    """
    match = _FORM.fullmatch(str(text))
    if match is None:
        raise ValueError(f"not a Kubernetes quantity: {text!r}")
    number, exponent, suffix = match.groups()
    value = Fraction(number) * (Fraction(10) ** int(exponent[1:]) if exponent else 1)
    scaled = value * _SCALE[suffix or ""] * unit
    return -((-scaled.numerator) // scaled.denominator)

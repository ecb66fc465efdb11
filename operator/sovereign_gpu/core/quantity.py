"""Kubernetes quantities as exact integers.

Grammar: k8s.io/apimachinery/pkg/api/resource, `Quantity`: a decimal number with a binary
(Ki … Ei) or decimal (n, u, m, k … E) suffix or an exponent. Fractions round up and what is beyond
the range of 64 bits is capped, as there.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

_FORM = re.compile(
    r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([eE][+-]?[0-9]+)|([KMGTPE]i|[numkMGTPE]))?"
)
MOST = 2**63 - 1
"""Larger numbers count as this one."""
_FAR = 4000
"""Beyond this power of ten every number is 0 or `MOST`; computing it would take for ever."""
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
    power = max(-_FAR, min(_FAR, int(exponent[1:]))) if exponent else 0
    value = Fraction(number) * Fraction(10) ** power * _SCALE[suffix or ""] * unit
    return max(-MOST, min(MOST, -((-value.numerator) // value.denominator)))

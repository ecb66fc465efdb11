"""Dividing whole GPUs: fair, exact, and the same every time."""

from __future__ import annotations

from collections.abc import Mapping


def divide(amount: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Divide a whole number in proportion to weights, by the method of largest remainders.

    Args:
        amount: what is to be divided; 0 or more.
        weights: by name; of equal remainders the first name in the alphabet gets more.

    Returns:
        Parts that add up to the amount; all 0 if no weight is above 0.
    """
    total = sum(weights.values())
    if not total:
        return dict.fromkeys(weights, 0)
    parts = {name: amount * weight // total for name, weight in weights.items()}
    remainders = sorted(weights, key=lambda name: (-(amount * weights[name] % total), name))
    for name in remainders[: amount - sum(parts.values())]:
        parts[name] += 1
    return parts

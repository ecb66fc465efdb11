"""With the operator dead, the API server itself refuses every way round."""

from __future__ import annotations

import pytest

from tests.admission import (
    attacks_around,
    attacks_change,
    attacks_create,
    attacks_devices,
    attacks_leave,
    attacks_place,
    attacks_warned,
)
from tests.admission.attacks import ATTACKS, Attack
from tests.admission.world import World

assert attacks_around
assert attacks_change
assert attacks_create
assert attacks_devices
assert attacks_leave
assert attacks_place
assert attacks_warned

DIRECT = [each for each in ATTACKS if not each.unpatched and not each.warns]
WARNED = [each for each in ATTACKS if each.warns]
UNPATCHED = [each for each in ATTACKS if each.unpatched]
"""Not a refusal but an error: a rule that met a pod it was not written for."""
ERROR = "resulted in error"


def name(each: Attack) -> str:
    return each.name


@pytest.mark.parametrize("each", DIRECT, ids=name)
def test_is_refused_with_rule_finding_and_remedy(world: World, each: Attack) -> None:
    answer = each.act(world)
    assert answer.status == 403, answer.message or answer.body
    assert f"denied request: {each.rule}: found " in answer.message
    assert "; allowed: " in answer.message


@pytest.mark.parametrize("each", WARNED, ids=name)
def test_is_only_warned_about(world: World, each: Attack) -> None:
    answer = each.act(world)
    assert answer.ok or each.connects, answer.message
    assert any(f"{each.rule}: found " in text for text in answer.warnings)

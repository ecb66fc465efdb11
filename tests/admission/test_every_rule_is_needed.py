"""Take out one rule at a time: an attack must succeed, or the rule was never tested.

Policies are independent of each other, so each round takes one rule out of every policy. All
rounds run once; the tests only read what they found, so that a rule which nothing needs is
named by its own red test.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from sovereign_gpu.admission.catalogue import CATALOGUE
from sovereign_gpu.admission.manifests import manifests
from tests.admission import (
    attacks_around,
    attacks_change,
    attacks_create,
    attacks_devices,
    attacks_leave,
    attacks_place,
    attacks_warned,
    policies,
)
from tests.admission.attacks import ATTACKS, Attack
from tests.admission.effects import EFFECTS
from tests.admission.variants import without_mutation, without_validation
from tests.admission.world import SETTINGS, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sovereign_gpu.admission.model import Policy

assert attacks_around
assert attacks_change
assert attacks_create
assert attacks_devices
assert attacks_leave
assert attacks_place
assert attacks_warned

RULES = [rule.name for policy in CATALOGUE for rule in policy.validations]
PARTS = [part.name for policy in CATALOGUE for part in policy.mutations]

FORBIDDEN = 403
Through = dict[str, list[str]]
"""Rule or part to what stood in the way although it was gone; empty is as it should be."""


def test_every_rule_and_part_has_a_name_of_its_own() -> None:
    assert [name for name, count in Counter([*RULES]).items() if count > 1] == []
    assert [name for name, count in Counter([*PARTS]).items() if count > 1] == []


def test_every_rule_has_an_attack_and_every_part_an_effect() -> None:
    assert {each.rule for each in ATTACKS if not each.also} == set(RULES)
    assert set(EFFECTS) == set(PARTS)


def _rounds() -> Iterator[tuple[list[str], list[Policy]]]:
    longest = max(len(policy.validations) for policy in CATALOGUE)
    for turn in range(longest):
        removed, variant = [], []
        for policy in CATALOGUE:
            if turn < len(policy.validations):
                name = policy.validations[turn].name
                removed.append(name)
                variant.append(without_validation(policy, name))
            else:
                variant.append(policy)
        yield removed, variant


def _unpatched(variant: list[Policy], part: str) -> list[Policy]:
    return [without_mutation(policy, part) if policy.mutations else policy for policy in variant]


def _obstacle(world: World, each: Attack) -> str:
    """What stops the attack, other than the second rule it is known to meet."""
    answer = each.act(world)
    if each.warns:
        return "".join(text for text in answer.warnings if each.rule in text)
    if each.connects:
        return answer.message if answer.status == FORBIDDEN else ""
    if each.also and f"denied request: {each.also}: found " in answer.message:
        return ""
    return "" if answer.ok else answer.message


@pytest.fixture(scope="session")
def through(world: World) -> Through:
    """What still stops the attacks of a rule once the rule is gone."""
    found: Through = {}
    for removed, variant in _rounds():
        attacks = [each for each in ATTACKS if each.rule in removed]
        parts = {each.unpatched for each in attacks if each.unpatched}
        assert len(parts) <= 1
        for part in parts:
            variant = _unpatched(variant, part)  # noqa: PLW2901 - of this round
        policies.put(world.admin, manifests(SETTINGS, variant))
        for each in attacks:
            stopped = found.setdefault(each.rule, [])
            if obstacle := _obstacle(world, each):
                stopped.append(f"{each.name}: {obstacle}")
    policies.put(world.admin, manifests(SETTINGS))
    return found


@pytest.fixture(scope="session")
def lost(world: World) -> dict[str, bool]:
    """Whether the effect of a part is lost once the part is gone."""
    found = {}
    for part in PARTS:
        policies.put(world.admin, manifests(SETTINGS, _unpatched(list(CATALOGUE), part)))
        found[part] = not EFFECTS[part](world)
    policies.put(world.admin, manifests(SETTINGS))
    return found


@pytest.mark.parametrize("rule", RULES)
def test_without_it_its_attacks_succeed(through: Through, rule: str) -> None:
    assert through[rule] == []


@pytest.mark.parametrize("part", PARTS)
def test_without_it_its_effect_is_lost(lost: dict[str, bool], part: str) -> None:
    assert lost[part]


@pytest.mark.parametrize("part", PARTS)
def test_with_it_its_effect_is_there(world: World, part: str) -> None:
    assert EFFECTS[part](world)


@pytest.mark.parametrize(
    "each", [each for each in ATTACKS if each.unpatched], ids=lambda each: each.name
)
def test_what_a_missing_patch_would_write_is_demanded(world: World, each: Attack) -> None:
    variant = _unpatched(list(CATALOGUE), each.unpatched)
    policies.put(world.admin, manifests(SETTINGS, variant))
    try:
        answer = each.act(world)
    finally:
        policies.put(world.admin, manifests(SETTINGS))
    assert answer.status == 403
    assert f"denied request: {each.rule}: found " in answer.message

"""Leave one door unwatched at a time, a resource with an operation: an attack must get through it.

Otherwise nobody would notice if a policy stopped looking there. As with the rules, all rounds run
once, each with one door less in every policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sovereign_gpu.admission.catalogue import CATALOGUE
from sovereign_gpu.admission.manifests import manifests
from tests.admission import policies
from tests.admission.attacks import ATTACKS, Attack
from tests.admission.effects import DOORS
from tests.admission.test_every_rule_is_needed import _obstacle
from tests.admission.variants import doors, without_door
from tests.admission.world import SETTINGS, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sovereign_gpu.admission.model import Policy

Door = tuple[str, str, str]
"""Policy, resource, operation."""
WATCHED: list[Door] = [
    (policy.name, resource, operation)
    for policy in CATALOGUE
    for resource, operation in doors(policy)
]


def _rounds() -> Iterator[tuple[list[Door], list[Policy]]]:
    for turn in range(max(len(doors(policy)) for policy in CATALOGUE)):
        left, variant = [], []
        for policy in CATALOGUE:
            watched = doors(policy)
            if turn < len(watched):
                left.append((policy.name, *watched[turn]))
                variant.append(without_door(policy, *watched[turn]))
            else:
                variant.append(policy)
        yield left, variant


@pytest.fixture(scope="session")
def open_doors(world: World) -> set[Door]:
    """Doors through which something got when they were not watched."""
    rules = {policy.name: {rule.name for rule in policy.validations} for policy in CATALOGUE}
    found: set[Door] = set()
    for left, variant in _rounds():
        policies.put(world.admin, manifests(SETTINGS, variant))
        for door in left:
            concerned = [each for each in ATTACKS if each.rule in rules[door[0]]]
            if any(_passes(world, each) for each in concerned) or (
                door in DOORS and not DOORS[door](world)
            ):
                found.add(door)
    policies.put(world.admin, manifests(SETTINGS))
    return found


def _passes(world: World, each: Attack) -> bool:
    return not each.unpatched and not _obstacle(world, each)


@pytest.mark.parametrize("door", WATCHED, ids="-".join)
def test_an_attack_gets_through_a_door_that_nobody_watches(
    open_doors: set[Door], door: Door
) -> None:
    assert door in open_doors

"""What happens under a seed: faults and changes, each at its time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.faults.line import WEATHERS
from tests.faults.world import TENANT_OF, TENANTS

_LENGTH = 45.0
"""Seconds in which things happen."""
_NODES = ("munich-0", "munich-1", "munich-2", "paris-0", "paris-1", "texas-0")


class Action(NamedTuple):
    """Something that happens at a time, seconds after the start."""

    at: float
    name: str
    args: tuple[Any, ...] = ()


def actions(seed: int) -> list[Action]:
    """Return what happens under a seed, in order of time."""
    chance = random.Random(seed)  # noqa: S311 – not for secrets
    found = [Action(0.0, "create", _pods(chance)) for _ in range(3)]
    kinds: list[tuple[int, str, Callable[[], tuple[Any, ...]]]] = [
        (6, "create", lambda: _pods(chance)),
        (3, "finish", lambda: (chance.choice((0.3, 1.0)),)),
        (1, "delete", lambda: (chance.choice((0.1, 0.5)),)),
        (2, "quota", lambda: (chance.choice(tuple(TENANTS)), chance.choice((0, 2, 4, 8)))),
        (2, "usual_quota", lambda: (chance.choice(tuple(TENANTS)),)),
        (1, "delete_quota", lambda: (chance.choice(tuple(TENANTS)),)),
        (2, "break_node", lambda: (chance.choice(_NODES), _how(chance))),
        (1, "mend_nodes", tuple),
        (1, "foreign", lambda: (chance.choice(_NODES), chance.choice((1, 4)))),
        (1, "delete_namespace", lambda: (chance.choice(tuple(TENANT_OF)),)),
        (1, "make_namespaces", tuple),
        (4, "weather", lambda: (chance.randrange(2), _weather(chance), chance.uniform(1, 12))),
        (2, "lag", lambda: (chance.randrange(2), chance.choice((0.5, 3.0, 20.0)))),
        (1, "cut", lambda: (chance.randrange(2),)),
        (1, "end", lambda: (chance.randrange(2),)),
        (1, "expire", lambda: (chance.randrange(2),)),
        (1, "repeat", lambda: (chance.randrange(2), chance.choice((1, 5)))),
        (1, "silence", lambda: (chance.randrange(2), chance.uniform(5, 100))),
        (1, "blind", lambda: (chance.randrange(2), chance.uniform(1, 20))),
        (3, "kill", lambda: (chance.randrange(2),)),
        (2, "terminate", lambda: (chance.randrange(2),)),
        (1, "fence_lag", lambda: (chance.choice((0.5, 5.0, 1000.0)),)),
        (1, "delete_lease", tuple),
        (1, "clock", lambda: (chance.choice((-3600.0, -5.0, 30.0, 86400.0)),)),
    ]
    # Each seed leaves out some kinds and favours others, so that rare ones also meet each other.
    weights = [weight * chance.choice((0, 1, 1, 6)) for weight, _, _ in kinds]
    weights[0] = 6
    for _ in range(chance.randrange(8, 40)):
        _, name, args = chance.choices(kinds, weights)[0]
        found.append(Action(round(chance.uniform(0, _LENGTH), 3), name, args()))
    return sorted(found, key=lambda action: action.at)


def _pods(chance: random.Random) -> tuple[Any, ...]:
    gpus = chance.choice((1, 1, 1, 2, 4, 8))
    more = {"owned": chance.random() < 0.5, "priority": chance.choice((0, 0, 100))}
    return chance.choice(tuple(TENANT_OF)), chance.randrange(1, 6), gpus, more


def _how(chance: random.Random) -> str:
    return chance.choice(("gone", "down", "cordoned", "half"))


def _weather(chance: random.Random) -> str:
    return chance.choice([name for name in WEATHERS if name != "fine"])

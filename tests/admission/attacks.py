"""The attacks, each with the rule that has to stop it.

An attack is written so that only its rule stands in the way: the mutation check takes the rule
out and expects it to succeed. `unpatched` names parts of the mutating policy that are taken out
for the attack, as if somebody had deleted them: some rules only check what those parts write.
`connects` is for what opens connections: no kubelet answers here.
`also` names a second rule that stands in the way of an attack, where defence is deep on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from rig.client import Response
    from tests.admission.world import World


@dataclass(frozen=True)
class Attack:
    name: str
    rule: str
    act: Callable[[World], Response]
    unpatched: str = ""
    warns: bool = False
    also: str = ""
    connects: bool = False
    """Success is a connection, which nothing here answers: only a refusal is one."""


ATTACKS: list[Attack] = []


def attack(rule: str, **more: Any) -> Callable[..., Any]:
    """Register a function as an attack that a rule has to stop."""

    def register(act: Callable[[World], Response]) -> Callable[[World], Response]:
        ATTACKS.append(Attack(act.__name__, rule, act, **more))
        return act

    return register

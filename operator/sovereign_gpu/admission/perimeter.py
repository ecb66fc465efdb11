"""Twins of rules: one that denies for policies in force, one that warns for those that only warn.

What a namespace is told by policies of either kind stands in annotations of its own
(`core.perimeter`), so both twins are the same expression over another annotation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sovereign_gpu import names
from sovereign_gpu.admission import cel
from sovereign_gpu.admission.model import Action, Scope, Validation, Variable

if TYPE_CHECKING:
    from sovereign_gpu.admission.model import Policy


@dataclass(frozen=True, slots=True)
class Twin:
    """Which of the two: the annotation to read, and how the rule and its policy are called."""

    suffix: str

    def annotation(self, name: str) -> str:
        """Return the annotation with what policies of this kind say."""
        return names.warn(name) if self.suffix else name

    def lists(self, variable: str, name: str) -> Variable:
        """Return the variable that holds the lists of an annotation."""
        return Variable(variable, cel.lists(self.annotation(name)))

    def rule(self, rule: Validation) -> Validation:
        """Return the rule under its name here."""
        return replace(rule, name=rule.name + self.suffix)

    def policy(self, policy: Policy) -> Policy:
        """Return the policy under its name here, with what it does."""
        if not self.suffix:
            return policy
        purpose = f"Policies with enforcement Warn: {policy.purpose}"
        return replace(
            policy,
            name=policy.name + self.suffix,
            purpose=purpose,
            scope=Scope.WARNED,
            action=Action.WARN,
        )


DENY: Final = Twin("")
WARN: Final = Twin("-warning")

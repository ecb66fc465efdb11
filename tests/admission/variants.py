"""The catalogue with one rule missing."""

from __future__ import annotations

import dataclasses

from sovereign_gpu.admission.model import Policy


def without_validation(policy: Policy, name: str) -> Policy:
    """The policy without one validation; without the last one it lets everything pass."""
    kept = tuple(rule for rule in policy.validations if rule.name != name)
    if not kept:
        kept = (dataclasses.replace(policy.validations[0], name="nothing", expression="true"),)
    return dataclasses.replace(policy, validations=kept)


def without_mutation(policy: Policy, name: str) -> Policy:
    """The policy without one part of its patch."""
    kept = tuple(part for part in policy.mutations if part.name != name)
    return dataclasses.replace(policy, mutations=kept)

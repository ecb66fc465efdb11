"""The catalogue with one rule missing."""

from __future__ import annotations

import dataclasses

from sovereign_gpu.admission.model import Match, Policy


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


def doors(policy: Policy) -> list[tuple[str, str]]:
    """The doors that a policy watches: every resource with every operation."""
    return [
        (resource, operation)
        for match in policy.match
        for resource in match.resources
        for operation in match.operations
        if not _impossible(resource, operation)
    ]


def without_door(policy: Policy, resource: str, operation: str) -> Policy:
    """The policy with one door less to watch."""
    matches = []
    for match in policy.match:
        if resource not in match.resources or operation not in match.operations:
            matches.append(match)
            continue
        others = tuple(each for each in match.resources if each != resource)
        rest = tuple(each for each in match.operations if each != operation)
        if others:
            matches.append(dataclasses.replace(match, resources=others))
        if rest:
            matches.append(dataclasses.replace(match, resources=(resource,), operations=rest))
    if not matches:  # a policy has to watch something
        matches = [Match("nothing.example.com", ("nothings",), ("CREATE",))]
    return dataclasses.replace(policy, match=tuple(matches))


def _impossible(resource: str, operation: str) -> bool:
    """Whether the API has no such request: parts of an object are changed and never created."""
    part = resource.partition("/")[2]
    return operation == "CREATE" and part in {"status", "finalize", "ephemeralcontainers"}

"""Policies as objects of the API."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from string import Template
from typing import TYPE_CHECKING, Any, Final

from sovereign_gpu import names
from sovereign_gpu.admission.catalogue import CATALOGUE
from sovereign_gpu.admission.cel import CONSTANTS
from sovereign_gpu.admission.model import Action, Policy, Scope, Validation, Variable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sovereign_gpu.admission.settings import Settings

API_VERSION: Final = "admissionregistration.k8s.io/v1"
_VERDICT: Final = "verdict"
"""Begin of names of variables: the message of the first rule that fails, empty if none does."""
_LONGEST: Final = 2000
"""Characters of what was found that a message holds."""
_USES: Final = re.compile(r"\bvariables\.(\w+)")


def manifests(settings: Settings, catalogue: Iterable[Policy] = CATALOGUE) -> list[dict[str, Any]]:
    """All policies and their bindings as plain manifests, policies first."""
    literals = settings.literals()
    exempt = list(settings.exempt_namespaces)
    policies = list(catalogue)
    return [policy_manifest(policy, literals) for policy in policies] + [
        binding_manifest(policy, exempt, settings.namespace) for policy in policies
    ]


def policy_manifest(policy: Policy, literals: Mapping[str, str]) -> dict[str, Any]:
    """One ValidatingAdmissionPolicy or MutatingAdmissionPolicy."""
    spec: dict[str, Any] = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [match.group],
                    "apiVersions": list(match.versions),
                    "operations": list(match.operations),
                    "resources": list(match.resources),
                }
                for match in policy.match
            ],
        },
    }
    if policy.reads_own_namespace:
        spec["paramKind"] = {"apiVersion": "v1", "kind": "Namespace"}
    fill = {**CONSTANTS, **literals}
    if policy.one_verdict:
        policy = _inlined(policy)
    if policy.concerns:
        condition = {"name": "concerns", "expression": _fill(policy.concerns, fill)}
        spec["matchConditions"] = [condition]
    variables = [
        {"name": variable.name, "expression": _fill(variable.expression, fill)}
        for variable in used_variables(policy)
    ]
    if variables:
        spec["variables"] = variables
    if policy.mutating:
        # Our own patch alone would make the API server call the policy a second time. What a
        # later webhook adds to a pod is judged by the validations, which refuse it.
        spec["reinvocationPolicy"] = "Never"
        spec["mutations"] = [_mutation(policy, fill)]
    else:
        if policy.one_verdict:
            verdicts = list(_verdicts(policy, fill))
            spec["variables"] = variables + [variable for variable, _ in verdicts]
            spec["validations"] = [validation for _, validation in verdicts]
        else:
            spec["validations"] = [_validation(rule, fill) for rule in policy.validations]
        if policy.audit:
            spec["auditAnnotations"] = [
                {"key": note.key, "valueExpression": _fill(note.value, fill)}
                for note in policy.audit
            ]
    return {
        "apiVersion": API_VERSION,
        "kind": _kind(policy),
        "metadata": {"name": policy.name},
        "spec": spec,
    }


def binding_manifest(policy: Policy, exempt: list[str] | str, namespace: str) -> dict[str, Any]:
    """The binding of a policy, under the policy's own name.

    Args:
        policy: The policy to bind.
        exempt: Names of the exempt namespaces, or a placeholder for them.
        namespace: The operator's, or a placeholder for it.
    """
    spec: dict[str, Any] = {"policyName": policy.name}
    if policy.reads_own_namespace:
        spec["paramRef"] = {"name": namespace, "parameterNotFoundAction": "Deny"}
    if not policy.mutating:
        deny = policy.action is Action.DENY
        spec["validationActions"] = ["Deny"] if deny else ["Warn", "Audit"]
    if policy.scope is not Scope.EVERYWHERE:
        # The API server itself writes this label, so nobody can choose to be exempt.
        expressions: list[dict[str, Any]] = [
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": exempt}
        ]
        if policy.scope is not Scope.NOT_EXEMPT:
            expressions.append({"key": names.TENANT_LABEL, "operator": "Exists"})
        if policy.scope is Scope.RESTRICTED:
            restricted = [names.CONTENTS_RESTRICTED]
            expressions.append(
                {"key": names.CONTENTS_LABEL, "operator": "In", "values": restricted}
            )
        if policy.scope is Scope.WARNED:
            # Each policy that is evaluated costs the API server: elsewhere these are not.
            warned = [names.ENFORCEMENT_WARN]
            expressions.append({"key": names.ENFORCEMENT_LABEL, "operator": "In", "values": warned})
        spec["matchResources"] = {"namespaceSelector": {"matchExpressions": expressions}}
    return {
        "apiVersion": API_VERSION,
        "kind": _kind(policy) + "Binding",
        "metadata": {"name": policy.name},
        "spec": spec,
    }


def used_variables(policy: Policy) -> list[Variable]:
    """The variables that the rules of a policy reach, in the order in which they are declared."""
    known = {variable.name: variable for variable in policy.variables}
    texts = [
        *(mutation.operations for mutation in policy.mutations),
        *(note.value for note in policy.audit),
    ]
    for rule in policy.validations:
        texts += [rule.expression, rule.unless, rule.found, rule.choices]
    reached: set[str] = set()
    while texts:
        for name in _USES.findall(texts.pop()):
            if name not in reached:
                reached.add(name)
                texts.append(known[name].expression)
    return _ordered([variable for variable in policy.variables if variable.name in reached])


def _inlined(policy: Policy) -> Policy:
    """Put variables that a request which passes needs once where they are needed.

    The API server sets up a program with its own accounting for every variable. Messages, which
    only a refusal needs, go on using the variables.
    """
    known = {variable.name: variable.expression for variable in policy.variables}
    rules = {rule.name: rule.expression for rule in policy.validations}
    questions = [rule.unless for rule in policy.validations]
    while True:
        texts = [*rules.values(), *known.values(), *questions]
        uses = Counter(name for text in texts for name in _USES.findall(text))
        once = next((n for n in known if uses[n] == 1 and _owner(n, rules)), None)
        if once is None:
            break
        owner = _owner(once, rules)
        before, after = re.split(rf"\bvariables\.{once}\b", rules[owner])
        rules[owner] = f"{before}({known[once].strip()}){after}"
        del known[once]
    return replace(
        policy,
        validations=tuple(replace(r, expression=rules[r.name]) for r in policy.validations),
    )


def _owner(variable: str, rules: Mapping[str, str]) -> str:
    return next((name for name, text in rules.items() if variable in _USES.findall(text)), "")


def _ordered(variables: list[Variable]) -> list[Variable]:
    """Sort so that a variable stands behind those it uses, as the API demands."""
    waiting = list(variables)
    names_left = {variable.name for variable in waiting}
    done: list[Variable] = []
    while waiting:
        ready = next(v for v in waiting if not names_left & set(_USES.findall(v.expression)))
        done.append(ready)
        waiting.remove(ready)
        names_left.discard(ready.name)
    return done


def _kind(policy: Policy) -> str:
    return ("Mutating" if policy.mutating else "Validating") + "AdmissionPolicy"


def _fill(text: str, values: Mapping[str, str]) -> str:
    return Template(text).substitute(values).strip()


def _mutation(policy: Policy, fill: Mapping[str, str]) -> dict[str, Any]:
    parts = (f"({_fill(part.operations, fill)})" for part in policy.mutations)
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": "\n+ ".join(parts)}}


def _verdicts(
    policy: Policy, fill: Mapping[str, str]
) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Yield a variable and its validation for the rules with the same exception.

    Messages may not ask the authorizer, and the variable is the message; so exceptions are not
    part of it.
    """
    groups: dict[str, list[Validation]] = {}
    for rule in policy.validations:
        groups.setdefault(rule.unless, []).append(rule)
    for number, (unless, rules) in enumerate(groups.items()):
        name = _VERDICT + (str(number) if number else "")
        passes = f'variables.{name} == ""' + (f" || {_fill(unless, fill)}" if unless else "")
        validation = {
            "expression": passes,
            "messageExpression": f"variables.{name}",
            "message": f"refused by {policy.name}",
            "reason": "Forbidden",
        }
        yield {"name": name, "expression": _verdict(rules, fill)}, validation


def _verdict(rules: Iterable[Validation], fill: Mapping[str, str]) -> str:
    parts = (f"!({_fill(rule.expression, fill)}) ? {_message(rule, fill)}" for rule in rules)
    return "\n: ".join(parts) + '\n: ""'


def _message(rule: Validation, fill: Mapping[str, str]) -> str:
    allowed = json.dumps(f"; allowed: {rule.allowed}")
    message = f'"{rule.name}: found " + {_shortened(rule.found)} + {allowed}'
    if rule.choices:
        message += f" + ({rule.choices})"
    return _fill(message, fill)


def _shortened(found: str) -> str:
    # The API server drops messages beyond 5 KiB, and with them the name of the rule.
    if found.startswith('"') and "+" not in found:
        return found
    return f'[{found}].map(f, f.size() > {_LONGEST} ? f.substring(0, {_LONGEST}) + " …" : f)[0]'


def _validation(rule: Validation, fill: Mapping[str, str]) -> dict[str, str]:
    passes = f"({rule.expression})\n|| {rule.unless}" if rule.unless else rule.expression
    return {
        "expression": _fill(passes, fill),
        "messageExpression": _message(rule, fill),
        # Said when the text above grows beyond what the API server accepts.
        "message": f"{rule.name}: allowed: {rule.allowed}".strip(),
        "reason": "Forbidden",
    }

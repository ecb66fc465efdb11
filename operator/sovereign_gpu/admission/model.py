"""The words in which the admission policies are written down.

A policy of the catalogue is data: what it matches, the variables its expressions share, and
named rules. It knows nothing of YAML or Helm; `manifests` turns it into objects and `render`
into chart templates. Expressions are CEL with `$NAME` placeholders: constants of the product
(see `cel.CONSTANTS`) and settings of the installation (see `settings.Settings`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Scope(Enum):
    """The namespaces a policy binds to; never chosen by a label that others may write."""

    EVERYWHERE = "every namespace, also the exempt ones"
    NOT_EXEMPT = "every namespace but the exempt ones"
    GOVERNED = "namespaces with a tenant, but never the exempt ones"
    RESTRICTED = "governed namespaces whose policies restrict images or volumes"
    WARNED = "governed namespaces with policies that only warn"


class Action(Enum):
    """What a failed validation does."""

    DENY = "Deny"
    WARN = "Warn"


@dataclass(frozen=True, slots=True)
class Match:
    """Requests that a policy looks at: one resource rule of the API."""

    group: str
    resources: tuple[str, ...]
    operations: tuple[str, ...]
    versions: tuple[str, ...] = ("v1",)


@dataclass(frozen=True, slots=True)
class Variable:
    """A CEL expression that rules share as `variables.<name>`; evaluated when first used."""

    name: str
    expression: str


@dataclass(frozen=True, slots=True)
class Validation:
    """One rule. The message is `<name>: found <found>; allowed: <allowed><choices>`.

    Attributes:
        name: Unique in the catalogue; every denial begins with it.
        expression: CEL, true when the request may pass.
        found: CEL string. The API server evaluates it for every request that matches, also for
            those that pass, so it must be cheap and must not use the authorizer.
        allowed: Plain text.
        choices: CEL string appended to `allowed`, or empty.
        unless: CEL, true for requesters who may do it all the same, or empty. Here alone the
            authorizer may be asked; it is, when the expression is false.
    """

    name: str
    expression: str
    found: str
    allowed: str
    choices: str = ""
    unless: str = ""


@dataclass(frozen=True, slots=True)
class Mutation:
    """A named part of the patch of a policy: CEL that yields a list of JSONPatch operations.

    All parts of a policy are evaluated in one pass over the object as it arrived, because each
    mutation of the API costs one more conversion. So parts must not build on each other.
    """

    name: str
    operations: str


@dataclass(frozen=True, slots=True)
class AuditAnnotation:
    """A value published in the audit event of every matching request."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Policy:
    """A validating policy (validations) or a mutating one (mutations), with its binding.

    Attributes:
        concerns: CEL on `object`, `oldObject` and `request`, false only for requests that no rule
            would refuse. The API server converts the objects once for it, and three times for the
            rules: worth it where nearly all requests are of no concern.
        one_verdict: The rules become one expression that ends at the first that fails, and those
            with the same `unless` another. The API server makes up the message of every validation
            for requests that pass as well; so only what is refused is put into words. Together
            they have to stay below what one expression may cost.
        reads_own_namespace: Rules read the operator's namespace as `params`; without it all that
            concerns the policy is refused. The API server follows it with a watch, so it may be
            some moments old. Namespaces, because the API server follows those for itself: what it
            follows for policies alone it stops following for good once no binding needs it, and
            then judges by the last it saw (kubernetes/kubernetes#130887).
    """

    name: str
    purpose: str
    match: tuple[Match, ...]
    scope: Scope
    variables: tuple[Variable, ...] = ()
    validations: tuple[Validation, ...] = ()
    mutations: tuple[Mutation, ...] = ()
    audit: tuple[AuditAnnotation, ...] = ()
    action: Action = Action.DENY
    concerns: str = ""
    one_verdict: bool = False
    reads_own_namespace: bool = False

    @property
    def mutating(self) -> bool:
        """Whether the policy writes; otherwise it only judges."""
        return bool(self.mutations)

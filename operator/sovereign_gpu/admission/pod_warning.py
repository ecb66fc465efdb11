"""What policies with `enforcement: Warn` tell whoever creates a pod.

The answer at binding goes to kube-scheduler and the audit log; the person who could act on it
reads the answer to the create. Nothing is added to the pod.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sovereign_gpu.admission import cel
from sovereign_gpu.admission.model import Action, Match, Policy, Scope, Validation, Variable
from sovereign_gpu.admission.pod_create import HOST, HOST_VARIABLES, TRUSTED

_HOST: Final = tuple(
    # The rule itself lets such a pod pass because nothing contains it yet: so ask the other way.
    replace(
        rule,
        name=f"{rule.name}-warning",
        expression=rule.expression.replace("!variables.contained", "variables.contained"),
    )
    for rule in HOST
)

POLICY: Final = Policy(
    name="sovereign-gpu-pod-warning",
    purpose="Policies with enforcement Warn: pods that they would confine, as a warning.",
    match=(Match("", ("pods",), ("CREATE",)),),
    scope=Scope.WARNED,
    variables=(
        cel.GOVERNED,
        cel.POLICIES,
        cel.CONTAINED,
        cel.KUBELET,
        TRUSTED,
        *cel.META,
        *cel.pod_variables("object.spec"),
        *HOST_VARIABLES,
        Variable(
            "missing",
            'namespaceObject.metadata.?annotations[?$WARN_RESIDENCY].orValue("").split(",")'
            '.filter(p, p != "" &&'
            ' object.spec.?nodeSelector[?$NODE_RESIDENCY + p].orValue("") != $ALLOWED)',
        ),
    ),
    validations=(
        Validation(
            "residency-warning",
            "variables.missing.size() == 0",
            '"a pod free of " + variables.missing.join(", ") + " (enforcement Warn)"',
            "with Deny it is confined to regions ",
            'namespaceObject.metadata.?annotations[?$WARN_REGIONS].orValue("")',
        ),
        *_HOST,
    ),
    action=Action.WARN,
)

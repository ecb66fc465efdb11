"""Where the operator may evict: with its credentials stolen, the cluster's own pods stay.

Everybody else evicts as RBAC says; drains and autoscalers live from that.
"""

from __future__ import annotations

from typing import Final

from sovereign_gpu.admission import cel
from sovereign_gpu.admission.model import Match, Policy, Scope, Validation

POLICY: Final = Policy(
    name="sovereign-gpu-pod-eviction",
    purpose="Evictions by the operator: pods of tenants, never those of the cluster.",
    match=(Match("", ("pods/eviction",), ("CREATE",)),),
    scope=Scope.EVERYWHERE,
    variables=(cel.GOVERNED, cel.EXEMPT, cel.OPERATOR),
    validations=(
        Validation(
            "operator-eviction",
            "!variables.operator || (variables.governed && !variables.exempt)",
            '"an eviction by the operator in namespace " + namespaceObject.metadata.name',
            "the operator evicts in namespaces of tenants only",
        ),
    ),
)

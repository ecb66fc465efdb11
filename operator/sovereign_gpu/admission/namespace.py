"""The tenant of a namespace, and the places it may use.

Labels of a namespace change through four doors: create, update, status and finalize.
"""

from __future__ import annotations

from typing import Final

from sovereign_gpu.admission import cel
from sovereign_gpu.admission.model import Match, Policy, Scope, Validation, Variable

_LABELS: Final = ("variables.labels", "variables.oldLabels")
_ANNOTATIONS: Final = ("variables.annotations", "variables.oldAnnotations")
_OURS: Final = "k.startsWith($OURS)"
_ADMIN: Final = 'k == "resource.kubernetes.io/admin-access"'
_OTHERS: Final = "!k.startsWith($OURS)"

POLICY: Final = Policy(
    name="sovereign-gpu-namespace",
    purpose="Namespaces: tenant label and residency annotations only by who assigns tenants.",
    match=(
        Match(
            "",
            ("namespaces", "namespaces/status", "namespaces/finalize"),
            ("CREATE", "UPDATE"),
        ),
    ),
    scope=Scope.EVERYWHERE,
    variables=(
        *cel.META,
        *cel.OLD_META,
        cel.OPERATOR,
        cel.MAY_ASSIGN,
        Variable(
            "moved",
            'oldObject == null || request.?subResource.orValue("") != "" ? ["namespace"] :\n'
            '(object.?spec == oldObject.?spec ? [] : ["spec"])\n'
            "+ (object.metadata.?ownerReferences == oldObject.metadata.?ownerReferences"
            ' ? [] : ["ownerReferences"])\n'
            "+ (object.metadata.?finalizers == oldObject.metadata.?finalizers"
            ' ? [] : ["finalizers"])\n'
            f"+ {cel.changed_keys(*_LABELS, _OTHERS)}\n"
            f"+ {cel.changed_keys(*_ANNOTATIONS, _OTHERS)}",
        ),
    ),
    validations=(
        Validation(
            "namespace-tenant",
            f"!{cel.changed(*_LABELS, _OURS)} && !{cel.changed(*_ANNOTATIONS, _OURS)}",
            f"({cel.changed_keys(*_LABELS, _OURS)} + {cel.changed_keys(*_ANNOTATIONS, _OURS)})"
            '.join(", ") + " changed by " + request.userInfo.username',
            "a TenantQuota names the namespace; only holders of update on tenantquotas/assign "
            "write under sovereign-gpu.io/",
            unless="variables.mayAssign",
        ),
        Validation(
            "namespace-exempt",
            "!(object.metadata.name in $exemptNamespaces)"
            ' || variables.labels[?$TENANT].orValue("") == ""'
            " || variables.labels[?$TENANT] == variables.oldLabels[?$TENANT]",
            '"a tenant for the exempt namespace " + object.metadata.name',
            "tenants in namespaces that the chart does not exempt",
        ),
        Validation(
            "namespace-admin-access",
            f"object.metadata.name in $exemptNamespaces || !{cel.changed(*_LABELS, _ADMIN)}",
            '"the label resource.kubernetes.io/admin-access changed by "'
            " + request.userInfo.username",
            "administrative access to devices in exempt namespaces only",
            unless="variables.mayAssign",
        ),
        Validation(
            "operator-namespace",
            "!variables.operator || variables.moved.size() == 0",
            'variables.operator ? variables.moved.join(", ") + " changed by the operator" : ""',
            "the operator writes labels and annotations under sovereign-gpu.io/ only",
        ),
    ),
)

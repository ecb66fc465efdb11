"""ResourceClaims: nothing that cannot be counted yet, no GPUs without a tenant, no adminAccess.

Their specs never change, so only new ones are judged.
The pod that uses a claim is refused as well (`pod_create`); here the author of the claim reads it.
kube-scheduler itself makes claims for extended resources that a driver serves.
"""

from __future__ import annotations

from typing import Final

from sovereign_gpu.admission import cel
from sovereign_gpu.admission.model import Match, Policy, Scope, Validation, Variable

_ADMIN: Final = "{0}.filter(r, r.?exactly.?adminAccess.orValue(false)).map(r, r.name)"
_CLAIM: Final = "object.spec.?devices.?requests.orValue([])"
_TEMPLATE: Final = "object.spec.?spec.?devices.?requests.orValue([])"

_GOVERNED: Final = "!variables.governed || request.userInfo.username in $schedulerUsers"
_FOUND: Final = '"a request for devices that cannot be counted"'
_REMEDY: Final = "GPUs as nvidia.com/gpu in limits of pods; ResourceClaims cannot be counted yet"
_ADMIN_FOUND: Final = '"adminAccess in request " + variables.admin.join(", ")'
_ADMIN_REMEDY: Final = "adminAccess in exempt namespaces only"

_NO_GPU: Final = f"variables.governed || {cel.GPU_CLASSES}.size() == 0"
_GPU_FOUND: Final = (
    f'"a request for GPUs of class " + {cel.GPU_CLASSES}.join(", ") + " in namespace "'
    ' + namespaceObject.metadata.name + ", which belongs to no tenant"'
)
_GPU_REMEDY: Final = "GPUs only in namespaces that a TenantQuota names"


def _classes(requests: str) -> Variable:
    """Return the names of all DeviceClasses that a claim asks for."""
    return Variable(
        "classes",
        f'{requests}.map(r, [r.?exactly.?deviceClassName.orValue("")]'
        ' + r.?firstAvailable.orValue([]).map(f, f.?deviceClassName.orValue("")))'
        '.map(l, l.join(",")).join(",").split(",")',
    )


CLAIMS: Final = Policy(
    name="sovereign-gpu-resource-claim",
    purpose="ResourceClaims: none in tenants' namespaces, no adminAccess outside exempt ones.",
    match=(Match("resource.k8s.io", ("resourceclaims",), ("CREATE",)),),
    scope=Scope.NOT_EXEMPT,
    variables=(cel.GOVERNED, Variable("admin", _ADMIN.format(_CLAIM)), _classes(_CLAIM)),
    validations=(
        Validation("claim-tenant", _GOVERNED, _FOUND, _REMEDY),
        Validation("claim-gpu-needs-tenant", _NO_GPU, _GPU_FOUND, _GPU_REMEDY),
        Validation(
            "claim-admin-access", "variables.admin.size() == 0", _ADMIN_FOUND, _ADMIN_REMEDY
        ),
    ),
)

TEMPLATES: Final = Policy(
    name="sovereign-gpu-resource-claim-template",
    purpose="ResourceClaimTemplates: as ResourceClaims.",
    match=(Match("resource.k8s.io", ("resourceclaimtemplates",), ("CREATE",)),),
    scope=Scope.NOT_EXEMPT,
    variables=(cel.GOVERNED, Variable("admin", _ADMIN.format(_TEMPLATE)), _classes(_TEMPLATE)),
    validations=(
        Validation("claim-template-tenant", _GOVERNED, _FOUND, _REMEDY),
        Validation("claim-template-gpu-needs-tenant", _NO_GPU, _GPU_FOUND, _GPU_REMEDY),
        Validation(
            "claim-template-admin-access",
            "variables.admin.size() == 0",
            _ADMIN_FOUND,
            _ADMIN_REMEDY,
        ),
    ),
)

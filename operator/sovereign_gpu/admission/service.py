"""Services and endpoints of tenants as ways out: aliases, balancers, addresses outside.

What exists may be changed, as long as it opens no way that it did not open before: a policy that
narrows stops nothing that runs.
"""

from __future__ import annotations

from typing import Final

from sovereign_gpu import names
from sovereign_gpu.admission import cel
from sovereign_gpu.admission.model import Match, Policy, Scope, Validation, Variable
from sovereign_gpu.admission.perimeter import DENY, WARN, Twin


def _openings(twin: Twin) -> Variable:
    told = cel.annotation(twin.annotation(names.SERVICES))
    # Missing: nobody restricts it. Empty: nothing is open.
    return Variable(
        "open",
        f'{told}.hasValue() ? {told}.value().split(",") : '
        '["Endpoints", "ExternalIPs", "ExternalName", "LoadBalancer"]',
    )


_OPEN: Final = 'variables.open.filter(w, w != "").size() == 0 ? "none" : variables.open.join(", ")'
_ALLOWED: Final = "Services that open no way out but (spec.services.allow of the policies): "


def _typed(kind: str) -> str:
    is_now = f'object.spec.?type.orValue("") == "{kind}"'
    was = f'(oldObject != null && oldObject.spec.?type.orValue("") == "{kind}")'
    return f'"{kind}" in variables.open || !({is_now}) || {was}'


def _services(twin: Twin) -> Policy:
    return twin.policy(
        Policy(
            name="sovereign-gpu-service",
            purpose="Services of tenants open only the ways out that the policies allow.",
            match=(Match("", ("services",), ("CREATE", "UPDATE")),),
            scope=Scope.GOVERNED,
            variables=(
                _openings(twin),
                Variable(
                    "externalIPs",
                    "object.spec.?externalIPs.orValue([]).filter(ip, oldObject == null"
                    " || !(ip in oldObject.spec.?externalIPs.orValue([])))",
                ),
            ),
            validations=tuple(
                map(
                    twin.rule,
                    (
                        Validation(
                            "service-external-name",
                            _typed("ExternalName") + " && object.spec.?externalName"
                            " == oldObject.spec.?externalName",
                            '"type ExternalName for " + object.spec.?externalName.orValue("")',
                            _ALLOWED,
                            _OPEN,
                        ),
                        Validation(
                            "service-load-balancer",
                            _typed("LoadBalancer"),
                            '"type LoadBalancer"',
                            _ALLOWED,
                            _OPEN,
                        ),
                        Validation(
                            "service-external-ips",
                            '"ExternalIPs" in variables.open || variables.externalIPs.size() == 0',
                            '"externalIPs " + variables.externalIPs.join(", ")',
                            _ALLOWED,
                            _OPEN,
                        ),
                    ),
                )
            ),
        )
    )


# Of what exists, owners and finalizers may be changed, or the garbage collector could end nothing.
_SAME: Final = (
    "oldObject != null && object.metadata.?labels == oldObject.metadata.?labels"
    " && dyn(object).?subsets == dyn(oldObject).?subsets"
    " && dyn(object).?endpoints == dyn(oldObject).?endpoints"
    " && dyn(object).?ports == dyn(oldObject).?ports"
)


def _endpoints(twin: Twin) -> Policy:
    return twin.policy(
        Policy(
            name="sovereign-gpu-endpoints",
            purpose="Endpoints of tenants' Services are written by the cluster's own controllers.",
            match=(
                Match("", ("endpoints",), ("CREATE", "UPDATE")),
                Match("discovery.k8s.io", ("endpointslices",), ("CREATE", "UPDATE")),
            ),
            scope=Scope.GOVERNED,
            variables=(_openings(twin),),
            validations=(
                twin.rule(
                    Validation(
                        "service-endpoints",
                        'request.userInfo.username in $endpointUsers || "Endpoints"'
                        f" in variables.open || ({_SAME})",
                        '"endpoints written by " + request.userInfo.username',
                        _ALLOWED,
                        _OPEN,
                    )
                ),
            ),
        )
    )


SERVICES: Final = _services(DENY)
SERVICES_WARNING: Final = _services(WARN)
ENDPOINTS: Final = _endpoints(DENY)
ENDPOINTS_WARNING: Final = _endpoints(WARN)

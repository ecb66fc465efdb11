"""NetworkPolicies where packets may not go anywhere: ours stays, and nobody widens it.

NetworkPolicies add up: one that allows more than ours undoes it. So those of others may allow
what is allowed anyway: pods of the same tenant, and the networks and namespaces of the policies.
"""

from __future__ import annotations

import json
from typing import Final

from sovereign_gpu import names
from sovereign_gpu.admission import cel
from sovereign_gpu.admission.model import Match, Policy, Scope, Validation, Variable

_NETWORKS: Final = cel.annotation(names.NETWORKS)
_NAMESPACE_CONTROLLER: Final = (
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:namespace-controller",
)
_OURS: Final = "object.metadata.name == $EGRESS_POLICY"


def _peer_allowed(peer: str) -> str:
    return f"""(has({peer}.ipBlock)
    ? variables.networks.exists(n, cidr(n).containsCIDR({peer}.ipBlock.cidr))
    : !has({peer}.namespaceSelector) ? true
    : {peer}.namespaceSelector.?matchExpressions.orValue([]).size() == 0
      && {peer}.namespaceSelector.?matchLabels.orValue({{}}).size() > 0
      && {peer}.namespaceSelector.matchLabels.all(k,
        k == $TENANT ? {peer}.namespaceSelector.matchLabels[k] == variables.tenant
        : k == "kubernetes.io/metadata.name"
          && {peer}.namespaceSelector.matchLabels[k] in variables.reachable))"""


POLICY: Final = Policy(
    name="sovereign-gpu-network-policy",
    purpose="NetworkPolicies: the one that confines packets stays, and nothing widens it.",
    match=(Match("networking.k8s.io", ("networkpolicies",), ("CREATE", "UPDATE", "DELETE")),),
    scope=Scope.EVERYWHERE,
    variables=(
        cel.GOVERNED,
        cel.EXEMPT,
        cel.OPERATOR,
        cel.MAY_ASSIGN,
        Variable("tenant", 'namespaceObject.metadata.?labels[?$TENANT].orValue("")'),
        Variable("confined", f"variables.governed && !variables.exempt && {_NETWORKS}.hasValue()"),
        Variable("networks", f'{_NETWORKS}.orValue("").split(",").filter(n, n != "")'),
        Variable(
            "reachable",
            f'{cel.annotation(names.REACHABLE)}.orValue("").split(",").filter(n, n != "")',
        ),
        Variable(
            "ours",
            "object == null ? oldObject.metadata.name == $EGRESS_POLICY : " + _OURS,
        ),
        Variable(
            # When a namespace goes, so does all that is in it; its pods go first.
            "leaving",
            "object == null && has(namespaceObject.metadata.deletionTimestamp)"
            f" && request.userInfo.username in {json.dumps(_NAMESPACE_CONTROLLER)}",
        ),
        Variable(
            "wide",
            # What is there already may be changed otherwise, or nobody could end it.
            "object == null || !variables.confined || variables.ours"
            " || (oldObject != null && object.spec == oldObject.spec)"
            ' || !("Egress" in object.spec.?policyTypes.orValue(["Egress"])) ? [] :\n'
            "object.spec.?egress.orValue([]).filter(r, r.?to.orValue([]).size() == 0\n"
            f"  || !r.to.all(p, {_peer_allowed('p')}))",
        ),
    ),
    validations=(
        Validation(
            "egress-policy",
            "!variables.ours || !variables.confined || variables.leaving",
            '"the NetworkPolicy sovereign-gpu-egress changed by " + request.userInfo.username',
            "only the operator writes it, as spec.egress of the policies says",
            unless="variables.mayAssign",
        ),
        Validation(
            "egress-widened",
            "variables.wide.size() == 0",
            '"a rule that lets packets go further"',
            "egress to pods of the same tenant (podSelector alone, or namespaceSelector with "
            "sovereign-gpu.io/tenant), and to ",
            "(variables.networks + variables.reachable).size() == 0 ? "
            '"nothing else" : (variables.networks + variables.reachable).join(", ")',
        ),
        Validation(
            "operator-network-policy",
            "!variables.operator || (variables.ours && variables.governed && !variables.exempt"
            " && (object == null || (!has(object.metadata.finalizers)"
            " && !has(object.metadata.ownerReferences))))",
            '"a NetworkPolicy written by the operator in namespace "'
            " + namespaceObject.metadata.name",
            "the operator writes sovereign-gpu-egress in namespaces of tenants only, without "
            "finalizers and owners",
        ),
    ),
)

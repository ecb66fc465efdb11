"""What the API server adds to pods and DaemonSets of governed namespaces.

JSONPatch with plain map literals only: a list that holds a typed literal makes the API server
panic on the request, and ApplyConfiguration refuses nodeSelector and tolerations, which are
atomic. Everything added here is demanded by a validation or harmless when absent.
"""

from __future__ import annotations

from typing import Final

from sovereign_gpu.admission import cel
from sovereign_gpu.admission.model import Match, Mutation, Policy, Scope, Variable


def _selectors(spec: str, path: str, skip: str) -> str:
    return f"""
{skip} || variables.policies.size() == 0 ? [] :
  (has({spec}.nodeSelector) ? [] :
    [JSONPatch{{op: "add", path: "{path}/nodeSelector", value: {{}}}}])
  + variables.policies.map(p, JSONPatch{{
      op: "add",
      path: "{path}/nodeSelector/" + jsonpatch.escapeKey($NODE_RESIDENCY + p),
      value: $ALLOWED
    }})"""


def _toleration(spec: str, path: str, key: str, skip: str) -> str:
    toleration = f'{{"key": {key}, "operator": "Exists", "effect": "NoSchedule"}}'
    return f"""
{skip} || {spec}.?tolerations.orValue([]).exists(t,
    t.?key.orValue("") == {key} && t.?operator.orValue("") == "Exists"
    && t.?effect.orValue("") in ["", "NoSchedule"]) ? [] :
  has({spec}.tolerations)
    ? [JSONPatch{{op: "add", path: "{path}/tolerations/-", value: {toleration}}}]
    : [JSONPatch{{op: "add", path: "{path}/tolerations", value: [{toleration}]}}]"""


_GATE: Final = """
!variables.queued || object.spec.?schedulingGates.orValue([]).exists(g, g.name == $GATE) ? [] :
  has(object.spec.schedulingGates)
    ? [JSONPatch{op: "add", path: "/spec/schedulingGates/-", value: {"name": $GATE}}]
    : [JSONPatch{op: "add", path: "/spec/schedulingGates", value: [{"name": $GATE}]}]"""

_REQUESTED_BY: Final = """
!variables.queued ? [] :
  (has(object.metadata.annotations) ? [] :
    [JSONPatch{op: "add", path: "/metadata/annotations", value: {}}])
  + [JSONPatch{
      op: "add",
      path: "/metadata/annotations/" + jsonpatch.escapeKey($REQUESTED_BY),
      value: request.userInfo.username
    }]"""

PODS: Final = Policy(
    name="sovereign-gpu-pod-patch",
    purpose="Pods of governed namespaces: gate, requester, residency selectors, toleration.",
    match=(Match("", ("pods",), ("CREATE",)),),
    scope=Scope.GOVERNED,
    variables=(
        *cel.pod_variables("object.spec"),
        cel.POLICIES,
        cel.KUBELET,
        # A gate beside a nodeName would be refused by Kubernetes in words that do not help;
        # without it, our own rule about nodeName speaks.
        Variable(
            "queued",
            'variables.gpu && !variables.kubelet && object.spec.?nodeName.orValue("") == ""',
        ),
    ),
    mutations=(
        Mutation("gate", _GATE),
        Mutation("requested-by", _REQUESTED_BY),
        Mutation("residency-selector", _selectors("object.spec", "/spec", "variables.kubelet")),
        Mutation(
            "gpu-toleration",
            _toleration("object.spec", "/spec", "$gpuTaint", "!variables.queued"),
        ),
        Mutation(
            "companion-toleration",
            _toleration(
                "object.spec",
                "/spec",
                "$COMPANION_TAINT",
                "variables.kubelet || variables.gpu",
            ),
        ),
    ),
)

_TEMPLATE: Final = "object.spec.template.spec"

DAEMONSETS: Final = Policy(
    name="sovereign-gpu-daemonset-patch",
    # The controller makes one pod per node that the template admits. Were only the pods
    # confined, it would make pods for forbidden nodes for ever.
    purpose="DaemonSet templates of governed namespaces: residency selectors, toleration.",
    match=(Match("apps", ("daemonsets",), ("CREATE", "UPDATE")),),
    scope=Scope.GOVERNED,
    variables=(cel.POLICIES,),
    mutations=(
        Mutation(
            "daemonset-residency-selector",
            _selectors(_TEMPLATE, "/spec/template/spec", "false"),
        ),
        Mutation(
            "daemonset-companion-toleration",
            _toleration(_TEMPLATE, "/spec/template/spec", "$COMPANION_TAINT", "false"),
        ),
    ),
)

"""Labels and taints of nodes that decide where tenants' pods run.

A kubelet may write most labels of its node, region and zone included, through `nodes` and
`nodes/status`. NodeRestriction keeps kubelets off `*.node-restriction.kubernetes.io`; these
rules keep everybody else off, and freeze region and zone once a node is in a pool. A node that
joins without labels is not refused: it gets no residency label, so nothing governed runs there.

The operator records which machine was enrolled and can never take that back, so that neither it
nor whoever stole its credentials can let another machine pass for it.
"""

from __future__ import annotations

from typing import Final

from sovereign_gpu.admission import cel
from sovereign_gpu.admission.model import Match, Policy, Scope, Validation, Variable

_LABELS: Final = ("variables.labels", "variables.oldLabels")
_ANNOTATIONS: Final = ("variables.annotations", "variables.oldAnnotations")
_RESIDENCY: Final = "k.startsWith($NODE_RESIDENCY)"
_MACHINE: Final = "k == $MACHINE"
_POOL: Final = "k.contains($NODE_DOMAIN) && !k.startsWith($NODE_RESIDENCY) && k != $MACHINE"
_PLACE: Final = "k == $REGION || k == $ZONE"
_OTHERS: Final = (
    "!k.startsWith($NODE_RESIDENCY) && (k != $MACHINE || $MACHINE in variables.oldLabels)"
)

_GUARDS: Final = (
    "spec.?taints.orValue([]).filter(t, t.key in [$gpuTaint, $COMPANION_TAINT]"
    ' && t.effect == "NoSchedule").map(t, t.key)'
)

_BY: Final = '.join(", ") + " changed by " + request.userInfo.username'

POLICY: Final = Policy(
    name="sovereign-gpu-node",
    purpose="Nodes: pool and residency labels, place and taint of pool nodes.",
    match=(Match("", ("nodes", "nodes/status"), ("CREATE", "UPDATE")),),
    scope=Scope.EVERYWHERE,
    # A node's status is large and written every few minutes, its labels and taints seldom are.
    concerns="oldObject == null || request.userInfo.username == $operatorUser"
    " || object.metadata.?labels != oldObject.metadata.?labels"
    " || object.spec.?taints != oldObject.spec.?taints",
    variables=(
        *cel.META,
        *cel.OLD_META,
        cel.OPERATOR,
        cel.MAY_ENROL,
        cel.MAY_RELEASE,
        Variable(
            "enrolled",
            # What the machine was outlasts its time in the pool.
            "variables.oldLabels.exists(k, k.contains($NODE_DOMAIN) && k != $MACHINE)",
        ),
        Variable(
            "enrolling",
            "$POOL in variables.labels && variables.oldLabels[?$POOL] != variables.labels[?$POOL]",
        ),
        # NoExecute alone keeps nobody off: pods without a tenant may tolerate all such taints, as
        # those that stay on broken nodes do.
        Variable("guards", f"object.{_GUARDS}"),
        Variable("oldGuards", f"oldObject == null ? [] : oldObject.{_GUARDS}"),
        Variable(
            "moved",
            'oldObject == null || request.?subResource.orValue("") != "" ? ["node"] :\n'
            '(object.spec == oldObject.spec ? [] : ["spec"])\n'
            "+ (object.metadata.?ownerReferences == oldObject.metadata.?ownerReferences"
            ' ? [] : ["ownerReferences"])\n'
            "+ (object.metadata.?finalizers == oldObject.metadata.?finalizers"
            ' ? [] : ["finalizers"])\n'
            f"+ {cel.changed_keys(*_LABELS, _OTHERS)}\n"
            f"+ {cel.changed_keys(*_ANNOTATIONS, 'true')}",
        ),
    ),
    validations=(
        Validation(
            "node-pool-label",
            f"!{cel.changed(*_LABELS, _POOL)}",
            cel.changed_keys(*_LABELS, _POOL) + _BY,
            "only holders of update on gpupools/enrol put nodes into pools",
            unless="variables.mayEnrol",
        ),
        Validation(
            "node-residency-label",
            f"!{cel.changed(*_LABELS, _RESIDENCY)}",
            cel.changed_keys(*_LABELS, _RESIDENCY) + _BY,
            "only the operator writes residency labels",
            unless="variables.mayRelease || variables.mayEnrol",
        ),
        Validation(
            "node-machine-label",
            f"!{cel.changed(*_LABELS, _MACHINE)}"
            " || (variables.operator && !($MACHINE in variables.oldLabels))",
            cel.changed_keys(*_LABELS, _MACHINE) + _BY,
            "the operator records a machine once; only holders of update on gpupools/enrol remove "
            "it, to take in another one",
            unless="variables.mayEnrol",
        ),
        Validation(
            "node-location",
            f"!variables.enrolled || !{cel.changed(*_LABELS, _PLACE)}",
            cel.changed_keys(*_LABELS, _PLACE) + _BY,
            "region and zone of a pool node are frozen; take it out of the pool first, or hold "
            "update on gpupools/enrol",
            unless="variables.mayEnrol",
        ),
        Validation(
            "node-taint",
            "!variables.enrolled || variables.oldGuards.all(k, k in variables.guards)",
            '"the taint that keeps other pods off removed by " + request.userInfo.username',
            "pool nodes keep it; take the node out of the pool first, or hold update on "
            "gpupools/enrol",
            unless="variables.mayEnrol",
        ),
        Validation(
            "node-guarded",
            "!variables.enrolling || variables.guards.size() > 0",
            '"a node without a taint that keeps other pods off"',
            "in pools, nodes that carry NoSchedule for the taint "
            "sovereign-gpu.io/companion (without GPUs) or ",
            "$gpuTaint",
        ),
        Validation(
            "operator-node",
            "!variables.operator || variables.moved.size() == 0",
            'variables.operator ? variables.moved.join(", ") + " changed by the operator" : ""',
            "the operator writes labels under "
            "residency.sovereign-gpu.node-restriction.kubernetes.io/, and "
            "sovereign-gpu.node-restriction.kubernetes.io/machine where there is none",
        ),
    ),
)

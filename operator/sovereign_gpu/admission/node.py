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
        Variable(
            "guarded",
            "object.spec.?taints.orValue([]).exists(t,"
            ' t.key in [$gpuTaint, $COMPANION_TAINT] && t.effect in ["NoSchedule", "NoExecute"])',
        ),
        Variable(
            "wasGuarded",
            "oldObject != null && oldObject.spec.?taints.orValue([]).exists(t,"
            ' t.key in [$gpuTaint, $COMPANION_TAINT] && t.effect in ["NoSchedule", "NoExecute"])',
        ),
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
            f"!{cel.changed(*_LABELS, _POOL)} || variables.mayEnrol",
            cel.changed_keys(*_LABELS, _POOL) + _BY,
            "only holders of update on gpupools/enrol put nodes into pools",
        ),
        Validation(
            "node-residency-label",
            f"!{cel.changed(*_LABELS, _RESIDENCY)} || variables.mayRelease || variables.mayEnrol",
            cel.changed_keys(*_LABELS, _RESIDENCY) + _BY,
            "only the operator writes residency labels",
        ),
        Validation(
            "node-machine-label",
            f"!{cel.changed(*_LABELS, _MACHINE)}"
            " || (variables.operator && !($MACHINE in variables.oldLabels))"
            " || variables.mayEnrol",
            cel.changed_keys(*_LABELS, _MACHINE) + _BY,
            "the operator records a machine once; only holders of update on gpupools/enrol remove "
            "it, to take in another one",
        ),
        Validation(
            "node-location",
            f"!variables.enrolled || !{cel.changed(*_LABELS, _PLACE)} || variables.mayEnrol",
            cel.changed_keys(*_LABELS, _PLACE) + _BY,
            "region and zone of a pool node are frozen; take it out of the pool first, or hold "
            "update on gpupools/enrol",
        ),
        Validation(
            "node-taint",
            "!variables.enrolled || !variables.wasGuarded || variables.guarded"
            " || variables.mayEnrol",
            '"the taint that keeps other pods off removed by " + request.userInfo.username',
            "pool nodes keep it; take the node out of the pool first, or hold update on "
            "gpupools/enrol",
        ),
        Validation(
            "node-guarded",
            "!variables.enrolling || variables.guarded",
            '"a node without a taint that keeps other pods off"',
            "in pools, nodes that carry NoSchedule or NoExecute for the taint "
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

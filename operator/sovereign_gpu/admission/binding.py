"""Who may bind a pod, and where to.

A binding shows neither the pod nor the node. It does show region and zone of the node, which
the API server fills in for targets of kind Node and overwrites when forged, except where the
node does not exist or has only one of the two. So: binders by list, kind Node, region present
and allowed. Finer properties of a node hold through the residency selector of the pod.

That ungoverned pods stay off pool nodes cannot be seen here. It follows from the taints of
pool nodes (`node`), from the tolerations nobody else may bring (`pod_create`, `pod_update`),
and from the list of binders, which is why it counts in ungoverned namespaces as well.
"""

from __future__ import annotations

from typing import Final

from sovereign_gpu.admission import cel
from sovereign_gpu.admission.model import (
    Action,
    AuditAnnotation,
    Match,
    Policy,
    Scope,
    Validation,
    Variable,
)
from sovereign_gpu.admission.pod_create import HANDS_OUT

_REGION: Final = Variable("region", 'object.metadata.?labels[?$REGION].orValue("")')


_WHERE: Final = '"node " + object.target.?name.orValue("") + " in region " + variables.region'

PODS_BINDING: Final = Policy(
    name="sovereign-gpu-binding",
    purpose="Binding: known binders, real nodes, allowed regions.",
    match=(Match("", ("pods/binding",), ("CREATE",)),),
    scope=Scope.NOT_EXEMPT,
    one_verdict=True,
    variables=(
        cel.GOVERNED,
        cel.MAY_BIND,
        *cel.META,
        Variable(
            "ownMetadata",
            "(variables.labels.map(k, k) + variables.annotations.map(k, k))"
            f".filter(k, k.startsWith($OURS) || {HANDS_OUT})",
        ),
        _REGION,
        cel.regions("$REGIONS"),
    ),
    validations=(
        Validation(
            "binder",
            "request.userInfo.username in $schedulerUsers",
            '"a binding by " + request.userInfo.username',
            "holders of update on gpupools/bind and ",
            '$schedulerUsers.join(", ")',
            unless="variables.mayBind",
        ),
        Validation(
            # With any other kind the region below is neither filled in nor overwritten.
            "binding-target",
            'object.target.?kind.orValue("") == "Node"',
            '"target kind \'" + object.target.?kind.orValue("") + "\'"',
            "Node",
        ),
        Validation(
            # All labels and annotations of a binding are copied to the pod.
            "binding-metadata",
            "variables.ownMetadata.size() == 0",
            'variables.ownMetadata.join(", ") + " on a binding"',
            "no labels or annotations under sovereign-gpu.io/, and none that hand out devices",
        ),
        Validation(
            "binding-region-unknown",
            '!variables.governed || "*" in variables.regions || variables.region != ""',
            '"node " + object.target.?name.orValue("") + " without a region label"',
            "nodes labelled topology.kubernetes.io/region",
        ),
        Validation(
            "binding-region",
            '!variables.governed || "*" in variables.regions || variables.region == ""'
            " || variables.region in variables.regions",
            _WHERE,
            "regions ",
            'variables.regions.size() == 0 ? "none" : variables.regions.join(", ")',
        ),
    ),
    audit=(
        AuditAnnotation(
            "place",
            'variables.governed ? namespaceObject.metadata.labels[$TENANT] + " "'
            ' + variables.region + " " + object.target.?name.orValue("") : ""',
        ),
    ),
)

LEGACY: Final = Policy(
    name="sovereign-gpu-legacy-binding",
    purpose="The old way to bind copies forged region labels; nothing of today uses it.",
    match=(Match("", ("bindings",), ("CREATE",)),),
    scope=Scope.EVERYWHERE,
    validations=(
        Validation(
            "legacy-binding",
            "false",
            '"the legacy resource bindings"',
            "pods/binding",
        ),
    ),
)

WARNING: Final = Policy(
    name="sovereign-gpu-binding-warning",
    purpose="Policies with enforcement Warn: bindings they would refuse, in the audit log.",
    match=(Match("", ("pods/binding",), ("CREATE",)),),
    scope=Scope.WARNED,
    variables=(
        _REGION,
        cel.regions("$WARN_REGIONS"),
        Variable(
            "warned",
            'namespaceObject.metadata.?annotations[?$WARN_RESIDENCY].orValue("")',
        ),
    ),
    validations=(
        Validation(
            "binding-region-warning",
            'variables.warned == "" || variables.region in variables.regions',
            _WHERE + ' + ", which would be refused by " + variables.warned',
            "regions ",
            'variables.regions.size() == 0 ? "none" : variables.regions.join(", ")',
        ),
    ),
    action=Action.WARN,
)

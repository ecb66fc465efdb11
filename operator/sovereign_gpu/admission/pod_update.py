"""What may be changed of a pod that exists, and by whom.

Gate, our metadata, place labels and tolerations change only by holders of `gpupools/release`.
Whoever lifts the gate, and the operator in whatever it does, changes nothing else: with stolen
credentials of the operator one can release pods, but not swap an image. That part holds in
exempt namespaces too, or those credentials would own kube-system.

`pods/resize` and `pods/ephemeralcontainers` keep metadata, gates and tolerations as they were,
so only the new ephemeral containers themselves are judged. `pods/status` does write labels and
annotations; kubelets hold that right.
"""

from __future__ import annotations

import json
from typing import Final

from sovereign_gpu.admission import cel
from sovereign_gpu.admission.model import Match, Policy, Scope, Validation, Variable
from sovereign_gpu.admission.pod_create import DEVICE_ENV, HANDS_OUT, privileged

_OURS: Final = "k.startsWith($OURS)"
_OTHERS: Final = "!k.startsWith($OURS)"
_PLACE: Final = "k == $REGION || k == $ZONE"
_LABELS: Final = ("variables.labels", "variables.oldLabels")
_ANNOTATIONS: Final = ("variables.annotations", "variables.oldAnnotations")


def _owner_moved(extra: str) -> str:
    return (
        "(object.metadata.?ownerReferences == oldObject.metadata.?ownerReferences"
        ' ? [] : ["ownerReferences"])\n'
        "+ (object.metadata.?finalizers == oldObject.metadata.?finalizers"
        f' ? [] : ["finalizers"])\n+ {extra}'
    )


_OTHER_KEYS: Final = (
    f"{cel.changed_keys(*_LABELS, _OTHERS)}\n+ {cel.changed_keys(*_ANNOTATIONS, _OTHERS)}"
)

_METADATA_RULE: Final = f"(!{cel.changed(*_LABELS, _OURS)} && !{cel.changed(*_ANNOTATIONS, _OURS)})"
# What was found is said without the keys: a release changes its metadata every time, and the API
# server makes up the words for those that pass as well.
_BY: Final = 'changed by " + request.userInfo.username'
_METADATA_FOUND: Final = f'"labels or annotations under sovereign-gpu.io/ {_BY}'
_PLACE_RULE: Final = f"!{cel.changed(*_LABELS, _PLACE)}"
_BY_RIGHT: Final = "variables.mayRelease"
_PLACE_FOUND: Final = f'"labels of region or zone {_BY}'

_DEVICE_RULE: Final = (
    f"variables.exempt || !variables.contained || !{cel.changed(*_ANNOTATIONS, HANDS_OUT)}"
)
_DEVICE_FOUND: Final = f'"an annotation that hands out devices {_BY}'
_DEVICE_REMEDY: Final = "the annotations of the container runtime that the pod was created with"

_VARIABLES: Final = (
    cel.GOVERNED,
    cel.EXEMPT,
    cel.OPERATOR,
    cel.MAY_RELEASE,
    *cel.META,
    *cel.OLD_META,
)

_CHANGE_VARIABLES: Final = (
    cel.POLICIES,
    cel.CONTAINED,
    Variable(
        "released",
        "oldObject.spec.?schedulingGates.orValue([]).exists(g, g.name == $GATE)"
        " && !object.spec.?schedulingGates.orValue([]).exists(g, g.name == $GATE)",
    ),
    Variable("bound_to_release", "variables.released || variables.operator"),
    Variable(
        "addedTolerations",
        """object.spec.?tolerations == oldObject.spec.?tolerations ? [] :
object.spec.?tolerations.orValue([]).filter(t,
  !(t in oldObject.spec.?tolerations.orValue([])) && (variables.governed
    || (t.?key.orValue("") == "" ? t.?effect.orValue("") in ["", "NoSchedule"]
        : t.key == $gpuTaint || t.key.startsWith($OURS)))
).map(t, t.?key.orValue("") == "" ? "every taint" : t.key)""",
    ),
    Variable(
        "movedSpec",
        cel.moved_fields("spec", ("affinity", "schedulingGates"))
        + "\n+ (object.spec.?schedulingGates.orValue([]).filter(g, g.name != $GATE)"
        " == oldObject.spec.?schedulingGates.orValue([]).filter(g, g.name != $GATE)"
        ' ? [] : ["other gates"])',
    ),
    Variable("movedMetadata", _owner_moved(_OTHER_KEYS)),
)

CHANGES: Final = Policy(
    name="sovereign-gpu-pod-update",
    purpose="Changes of pods: the gate and what is ours only with the right, and nothing beside.",
    match=(Match("", ("pods",), ("UPDATE",)),),
    # The operator's identity is held to its task in exempt namespaces as well.
    scope=Scope.EVERYWHERE,
    one_verdict=True,
    variables=_VARIABLES + _CHANGE_VARIABLES,
    validations=(
        Validation(
            "release",
            "variables.exempt || !variables.released",
            '"the gate sovereign-gpu.io/quota removed by " + request.userInfo.username',
            "only holders of update on gpupools/release lift it, when quota is free",
            unless=_BY_RIGHT,
        ),
        Validation(
            "pod-metadata-update",
            f"variables.exempt || {_METADATA_RULE}",
            _METADATA_FOUND,
            "only holders of update on gpupools/release write under sovereign-gpu.io/",
            unless=_BY_RIGHT,
        ),
        Validation(
            "pod-location-update",
            f"variables.exempt || !variables.governed || {_PLACE_RULE}",
            _PLACE_FOUND,
            "region and zone of a pod are written when it is bound",
            unless=_BY_RIGHT,
        ),
        Validation(
            "toleration-update",
            "variables.exempt || variables.addedTolerations.size() == 0",
            '"a toleration added for " + variables.addedTolerations.join(", ")',
            "the tolerations that the pod was created with",
            unless=_BY_RIGHT,
        ),
        Validation(
            "device-annotation-update",
            _DEVICE_RULE,
            _DEVICE_FOUND,
            _DEVICE_REMEDY,
        ),
        Validation(
            "release-spec",
            "!variables.bound_to_release || variables.movedSpec.size() == 0",
            f'"fields of spec beside gate and affinity {_BY}',
            "a release, and the operator at any time, change gate, affinity and our metadata only",
        ),
        Validation(
            "release-metadata",
            "!variables.bound_to_release || variables.movedMetadata.size() == 0",
            f'"labels, annotations, owners or finalizers that are not ours {_BY}',
            "a release, and the operator at any time, write metadata under sovereign-gpu.io/ only",
        ),
    ),
)


def _others(which: str) -> str:
    # A waiting pod says why in PodScheduled, whose reason is SchedulingGated while a gate is
    # there; kube-scheduler takes the condition over afterwards.
    return (
        f"{which}.status.?conditions.orValue([]).filter(c,"
        ' c.type != "PodScheduled" || c.?reason.orValue("") != "SchedulingGated")'
    )


STATUS: Final = Policy(
    name="sovereign-gpu-pod-status",
    purpose="Status writes carry labels and annotations: ours stay; the operator writes its own.",
    match=(Match("", ("pods/status",), ("UPDATE",)),),
    scope=Scope.EVERYWHERE,
    # Kubelets write every pod's status several times, and never its labels.
    concerns="request.userInfo.username == $operatorUser"
    " || object.metadata.?labels != oldObject.metadata.?labels"
    " || object.metadata.?annotations != oldObject.metadata.?annotations",
    variables=(
        *_VARIABLES,
        cel.POLICIES,
        cel.CONTAINED,
        Variable(
            "movedStatus",
            cel.moved_fields("status", ("conditions",))
            + f"\n+ ({_others('object')} == {_others('oldObject')}"
            ' ? [] : ["other conditions"])\n+ '
            + f"{cel.changed_keys(*_LABELS, 'true')}\n+ {cel.changed_keys(*_ANNOTATIONS, 'true')}",
        ),
    ),
    validations=(
        Validation(
            "pod-metadata-status",
            f"variables.exempt || {_METADATA_RULE}",
            _METADATA_FOUND,
            "only holders of update on gpupools/release write under sovereign-gpu.io/",
            unless=_BY_RIGHT,
        ),
        Validation(
            "pod-location-status",
            f"variables.exempt || !variables.governed || {_PLACE_RULE}",
            _PLACE_FOUND,
            "region and zone of a pod are written when it is bound",
            unless=_BY_RIGHT,
        ),
        Validation("device-annotation-status", _DEVICE_RULE, _DEVICE_FOUND, _DEVICE_REMEDY),
        Validation(
            "operator-status",
            "!variables.operator || (variables.movedStatus.size() == 0"
            " && oldObject.spec.?schedulingGates.orValue([]).exists(g, g.name == $GATE))",
            '"more than the reason why a gated pod waits"',
            "the operator says why a gated pod waits, and nothing else",
        ),
    ),
)

EPHEMERAL: Final = Policy(
    name="sovereign-gpu-pod-ephemeral",
    purpose="Ephemeral containers of tenants' pods: no devices, no privileges.",
    match=(Match("", ("pods/ephemeralcontainers",), ("UPDATE",)),),
    scope=Scope.GOVERNED,
    variables=(
        cel.GOVERNED,
        cel.POLICIES,
        cel.CONTAINED,
        Variable(
            # Those that exist cannot be changed any more, and need not be judged again.
            "ephemeral",
            "dyn(object.spec.?ephemeralContainers.orValue([]).filter(c,"
            " !(c in oldObject.spec.?ephemeralContainers.orValue([]))))",
        ),
        Variable("ephemeralPrivileged", privileged("variables.ephemeral")),
        Variable(
            "ephemeralEnv",
            "variables.ephemeral.filter(c, c.?env.orValue([]).exists(e,"
            f" e.name in {json.dumps(DEVICE_ENV)})).map(c, c.name)",
        ),
    ),
    validations=(
        Validation(
            "ephemeral-privileged",
            "!variables.contained || variables.ephemeralPrivileged.size() == 0",
            '"privileged, or a capability that amounts to it, in ephemeral container "'
            ' + variables.ephemeralPrivileged.join(", ")',
            "unprivileged ephemeral containers",
        ),
        Validation(
            "ephemeral-device-env",
            "!variables.contained || variables.ephemeralEnv.size() == 0",
            '"a variable that hands out GPUs in ephemeral container "'
            ' + variables.ephemeralEnv.join(", ")',
            "no NVIDIA_VISIBLE_DEVICES and kin",
        ),
    ),
)

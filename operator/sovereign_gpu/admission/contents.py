"""What a pod brings with it: images, and volumes that stand in the pod itself.

Judged only in namespaces whose policies restrict them, because every policy that looks at a pod
costs the API server. Images may be changed later, so changes are judged too, but only those that
change a container.
"""

from __future__ import annotations

import json
from typing import Final

from sovereign_gpu import names
from sovereign_gpu.admission import cel
from sovereign_gpu.admission.cel import words
from sovereign_gpu.admission.model import Match, Policy, Scope, Validation, Variable
from sovereign_gpu.admission.perimeter import DENY, WARN, Twin

LOCAL_VOLUMES: Final = (
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "hostPath",
    "image",
    "name",
    "persistentVolumeClaim",
    "projected",
    "secret",
)
"""Fields of a volume that name no server on the network; drivers and classes are judged apart."""

# Docker Hub is meant where the first part is no host: in lower case, without a dot or a colon, and
# not the word localhost.
_CANONICAL: Final = (
    'r.contains("/") && r.split("/")[0].matches("[.:A-Z]|^localhost$$") ? r'
    ' : r.contains("/") ? "docker.io/" + r : "docker.io/library/" + r'
)

_IMAGES: Final = Variable(
    "images",
    "((dyn(object.spec.containers) + dyn(object.spec.?initContainers.orValue([]))"
    " + dyn(object.spec.?ephemeralContainers.orValue([])))"
    '.map(c, c.?image.orValue("")).filter(i, i != "")'
    " + object.spec.?volumes.orValue([]).filter(v, has(v.image))"
    f'.map(v, v.image.?reference.orValue(""))).map(r, {_CANONICAL})',
)

_CHANGED: Final = (
    "oldObject == null || object.spec.containers != oldObject.spec.containers"
    " || object.spec.?initContainers != oldObject.spec.?initContainers"
    " || object.spec.?ephemeralContainers != oldObject.spec.?ephemeralContainers"
)


def _outside(variable: str, values: str) -> str:
    """CEL: the values that not every list holds."""
    return f"{values}.filter(x, !variables.{variable}.all(l, x in l))"


def _policy(twin: Twin) -> Policy:
    return twin.policy(
        Policy(
            name="sovereign-gpu-pod-contents",
            purpose="Images and volumes of pods come from where the policies allow.",
            match=(Match("", ("pods", "pods/ephemeralcontainers"), ("CREATE", "UPDATE")),),
            scope=Scope.RESTRICTED,
            concerns=_CHANGED,
            variables=(
                cel.KUBELET,
                twin.lists("registries", names.REGISTRIES),
                twin.lists("classes", names.STORAGE_CLASSES),
                twin.lists("drivers", names.VOLUME_DRIVERS),
                _IMAGES,
                Variable(
                    "foreignImages",
                    "variables.images.filter(i, !variables.registries.all(l,"
                    " l.exists(p, i.startsWith(p))))",
                ),
                Variable("volumes", "oldObject != null ? [] : object.spec.?volumes.orValue([])"),
                Variable(
                    "foreignClasses",
                    _outside(
                        "classes",
                        "variables.volumes.filter(v, has(v.ephemeral)).map(v,"
                        " v.ephemeral.?volumeClaimTemplate.?metadata.?annotations"
                        f"[?{cel.BETA_CLASS}]"
                        ".or(v.ephemeral.?volumeClaimTemplate.?spec.?storageClassName)"
                        '.orValue("no class"))',
                    ),
                ),
                Variable(
                    "foreignDrivers",
                    _outside(
                        "drivers",
                        "variables.volumes.filter(v, has(v.csi)).map(v, v.csi.driver)",
                    )
                    + " + (variables.drivers.size() == 0 ? [] : variables.volumes.filter(v,"
                    f" dyn(v).exists(k, !(k in {json.dumps(LOCAL_VOLUMES)})))"
                    '.map(v, "a server on the network as volume " + v.name))',
                ),
            ),
            validations=tuple(map(twin.rule, _RULES)),
        )
    )


# A static pod runs whether or not the API shows it; a refusal would only hide it.
_MIRROR: Final = "variables.kubelet || "

_RULES: Final = (
    Validation(
        "image-registry",
        _MIRROR + "variables.foreignImages.size() == 0",
        '"image " + variables.foreignImages.join(", ")',
        "images whose names begin with one of: ",
        words("variables.registries"),
    ),
    Validation(
        "volume-class",
        _MIRROR + "variables.foreignClasses.size() == 0",
        '"an ephemeral volume of class " + variables.foreignClasses.join(", ")',
        "ephemeral volumes of the classes ",
        words("variables.classes"),
    ),
    Validation(
        "volume-driver",
        _MIRROR + "variables.foreignDrivers.size() == 0",
        '"a volume of " + variables.foreignDrivers.join(", ")',
        "volumes in the pod itself by the CSI drivers ",
        words("variables.drivers"),
    ),
)

POLICY: Final = _policy(DENY)
WARNING: Final = _policy(WARN)

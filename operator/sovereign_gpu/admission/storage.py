"""Where volumes of tenants lie: claims, and snapshots of them."""

from __future__ import annotations

from typing import Final

from sovereign_gpu import names
from sovereign_gpu.admission import cel
from sovereign_gpu.admission.cel import words
from sovereign_gpu.admission.model import Match, Policy, Scope, Validation
from sovereign_gpu.admission.perimeter import DENY, WARN, Twin

_CLASS: Final = (
    # Kubernetes reads the annotation first, and lets nobody change it later.
    f"object.metadata.?annotations[?{cel.BETA_CLASS}]"
    '.orValue(object.spec.?storageClassName.orValue(""))'
)
_ATTRIBUTES: Final = 'object.spec.?volumeAttributesClassName.orValue("")'
_SNAPSHOT: Final = (
    'object.spec.?volumeSnapshotClassName.or(object.spec.?volumeGroupSnapshotClassName).orValue("")'
)


def _allowed(variable: str, value: str) -> str:
    return f"variables.{variable}.all(l, {value} in l)"


def _unchanged(path: str) -> str:
    # Claims that exist may be changed otherwise, or nobody could set the finalizer that ends them.
    return f"oldObject != null && object.spec.?{path} == oldObject.spec.?{path}"


def _claims(twin: Twin) -> Policy:
    return twin.policy(
        Policy(
            name="sovereign-gpu-volume-claim",
            purpose="Claims of volumes name classes that the policies allow.",
            match=(Match("", ("persistentvolumeclaims",), ("CREATE", "UPDATE")),),
            scope=Scope.GOVERNED,
            variables=(
                twin.lists("classes", names.STORAGE_CLASSES),
                twin.lists("attributesClasses", names.ATTRIBUTES_CLASSES),
            ),
            validations=tuple(
                map(
                    twin.rule,
                    (
                        Validation(
                            "claim-class",
                            f"({_unchanged('storageClassName')}) || {_allowed('classes', _CLASS)}",
                            f'{_CLASS} == "" ? "no storage class" : "storage class " + {_CLASS}',
                            "storage classes ",
                            words("variables.classes"),
                        ),
                        Validation(
                            "claim-attributes",
                            f"({_unchanged('volumeAttributesClassName')}) || {_ATTRIBUTES} == "
                            f'"" || {_allowed("attributesClasses", _ATTRIBUTES)}',
                            f'"volume attributes class " + {_ATTRIBUTES}',
                            "no volumeAttributesClassName, or one of ",
                            words("variables.attributesClasses"),
                        ),
                    ),
                )
            ),
        )
    )


def _snapshots(twin: Twin) -> Policy:
    return twin.policy(
        Policy(
            name="sovereign-gpu-volume-snapshot",
            purpose="Snapshots of volumes name classes that the policies allow.",
            match=(
                Match("snapshot.storage.k8s.io", ("volumesnapshots",), ("CREATE", "UPDATE")),
                Match(
                    "groupsnapshot.storage.k8s.io",
                    ("volumegroupsnapshots",),
                    ("CREATE", "UPDATE"),
                    versions=("*",),
                ),
            ),
            scope=Scope.GOVERNED,
            variables=(twin.lists("snapshotClasses", names.SNAPSHOT_CLASSES),),
            validations=(
                twin.rule(
                    Validation(
                        "snapshot-class",
                        f"({_unchanged('volumeSnapshotClassName')}"
                        f" && {_unchanged('volumeGroupSnapshotClassName')})"
                        f" || {_allowed('snapshotClasses', _SNAPSHOT)}",
                        f'{_SNAPSHOT} == "" ? "no class" : "snapshot class " + {_SNAPSHOT}',
                        "snapshot classes ",
                        words("variables.snapshotClasses"),
                    )
                ),
            ),
        )
    )


CLAIMS: Final = _claims(DENY)
CLAIMS_WARNING: Final = _claims(WARN)
SNAPSHOTS: Final = _snapshots(DENY)
SNAPSHOTS_WARNING: Final = _snapshots(WARN)

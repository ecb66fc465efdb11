"""CEL fragments that several policies share.

Two traps shape them. A missing key is an evaluation error, which under `failurePolicy: Fail`
is a denial nobody can read: hence `.?field` and `orValue` everywhere. And element types of
`containers` and `initContainers` differ for the type checker: hence `dyn()`.
"""

from __future__ import annotations

import json
from typing import Final

from sovereign_gpu import names
from sovereign_gpu.admission.model import Variable

CLASS_RESOURCE: Final = '"deviceclass.resource.kubernetes.io/"'
"""Beginning of a resource of containers for which kube-scheduler makes a claim of a DeviceClass."""

BETA_CLASS: Final = '"volume.beta.kubernetes.io/storage-class"'
"""Annotation of claims of volumes that Kubernetes prefers to the field."""

NODE_LABEL_DOMAIN: Final = "sovereign-gpu.node-restriction.kubernetes.io/"
"""Contained in every node label of ours: of pool, machine and residency."""

_STRINGS: Final = {
    "GATE": names.GATE,
    "OURS": names.POD_METADATA_PREFIX,
    "REQUESTED_BY": names.REQUESTED_BY,
    "RELEASED_BY": names.RELEASED_BY,
    "LEADER": names.LEADER,
    "TENANT": names.TENANT_LABEL,
    "RESIDENCY": names.RESIDENCY,
    "REGIONS": names.REGIONS,
    "ENFORCEMENT": names.ENFORCEMENT_LABEL,
    "WARN": names.ENFORCEMENT_WARN,
    "WARN_RESIDENCY": names.WARN_RESIDENCY,
    "WARN_REGIONS": names.WARN_REGIONS,
    "EGRESS_POLICY": names.EGRESS_POLICY,
    "POOL": names.NODE_POOL_LABEL,
    "MACHINE": names.NODE_MACHINE_LABEL,
    "NODE_RESIDENCY": names.NODE_RESIDENCY_PREFIX,
    "NODE_DOMAIN": NODE_LABEL_DOMAIN,
    "ALLOWED": names.NODE_ALLOWED,
    "REGION": names.REGION_LABEL,
    "ZONE": names.ZONE_LABEL,
    "COMPANION_TAINT": names.COMPANION_TAINT,
    "GPU": names.GPU_RESOURCE,
    "GPU_DOMAIN": "nvidia.com/",
    "MIG": "nvidia.com/mig-",
}

CONSTANTS: Final = {name: json.dumps(value) for name, value in _STRINGS.items()}
"""What `$NAME` stands for in the expressions of the catalogue, as CEL string literals."""


def right(resource: str, subresource: str) -> str:
    """Ask the authorizer whether the requester holds a right of ours.

    A check costs a third of what one expression may spend, so rules put it last, behind the
    question whether anything protected is touched at all.
    """
    return (
        f'authorizer.group("{names.GROUP}").resource("{resource}")'
        f'.subresource("{subresource}").check("update").allowed()'
    )


def changed(new: str, old: str, predicate: str) -> str:
    """CEL: whether two string maps differ in a key `k` for which the predicate holds."""
    return (
        f"({new} != {old} &&"  # the usual answer, without a walk over the keys
        f" ({new}.exists(k, ({predicate}) && (!(k in {old}) || {old}[k] != {new}[k]))"
        f" || {old}.exists(k, ({predicate}) && !(k in {new}))))"
    )


def changed_keys(new: str, old: str, predicate: str) -> str:
    """CEL: the keys `k` that `changed` is about, as a list."""
    return (
        f"({new} == {old} ? [] :"
        f" {new}.filter(k, ({predicate}) && (!(k in {old}) || {old}[k] != {new}[k]))"
        f" + {old}.filter(k, ({predicate}) && !(k in {new})))"
    )


def moved_fields(base: str, free: tuple[str, ...]) -> str:
    """CEL: names of the fields under `object.<base>` that differ from the old object.

    At run time an object is a map, so fields that a later version of the API brings are held
    against the requester as well.

    Args:
        base: `spec` or `status`.
        free: fields that may differ.
    """
    held = f"!(k in {json.dumps(free)})"
    return changed_keys(f"dyn(object.{base})", f"dyn(oldObject.{base})", held)


GOVERNED: Final = Variable(
    "governed", 'namespaceObject.metadata.?labels[?$TENANT].orValue("") != ""'
)
POLICIES: Final = Variable(
    "policies",
    'namespaceObject.metadata.?annotations[?$RESIDENCY].orValue("").split(",").filter(p, p != "")',
)
CONTAINED: Final = Variable(
    # Where all policies only warn, what they would refuse is warned of and let through.
    "contained",
    "variables.governed && (variables.policies.size() > 0"
    ' || namespaceObject.metadata.?labels[?$ENFORCEMENT].orValue("") != $WARN)',
)
KUBELET: Final = Variable(
    # Name and group together are what NodeRestriction holds to its own node.
    "kubelet",
    'request.userInfo.username.startsWith("system:node:")'
    ' && "system:nodes" in request.userInfo.?groups.orValue([])',
)
OPERATOR: Final = Variable("operator", "request.userInfo.username == $operatorUser")
EXEMPT: Final = Variable("exempt", "namespaceObject.metadata.name in $exemptNamespaces")
MAY_RELEASE: Final = Variable("mayRelease", right(*names.RIGHT_RELEASE))
MAY_ENROL: Final = Variable("mayEnrol", right(*names.RIGHT_ENROL))
MAY_BIND: Final = Variable("mayBind", right(*names.RIGHT_BIND))
MAY_ASSIGN: Final = Variable("mayAssign", right(*names.RIGHT_ASSIGN))


def regions(annotation: str) -> Variable:
    """The regions that an annotation of the namespace lists."""
    return Variable(
        "regions",
        f"namespaceObject.metadata.?annotations[?{annotation}]"
        '.orValue("").split(",").filter(r, r != "")',
    )


def annotation(name: str) -> str:
    """CEL: an annotation of the namespace as an optional string."""
    return f"namespaceObject.metadata.?annotations[?{json.dumps(name)}]"


def lists(name: str) -> str:
    """CEL: an annotation of `core.perimeter` as a list of lists of words; none if it is missing."""
    return (
        f'{annotation(name)}.hasValue() ? {annotation(name)}.value().split(";")'
        '.map(l, l.split(",").filter(w, w != "")) : []'
    )


def words(variable: str) -> str:
    """CEL: what a variable made with `lists` allows, for a message."""
    return f'{variable}.map(l, l.size() == 0 ? "none" : l.join(", ")).join("; and of ")'


BY_CLASS: Final = Variable(
    # The other names of a DeviceClass are known to its claim only, which is judged as well.
    "byClass",
    f"variables.resources.exists(r, r.startsWith({CLASS_RESOURCE})"
    ' && (r.contains("nvidia.com")'
    f" || r.substring({CLASS_RESOURCE}.size()) in $gpuDeviceClasses))",
)


def pod_variables(spec: str) -> tuple[Variable, ...]:
    """What a pod asks for; `spec` is the path of a pod spec, of a pod or of a template."""
    return (
        Variable(
            "containers",
            f"dyn({spec}.containers) + dyn({spec}.?initContainers.orValue([]))",
        ),
        # Joining and splitting flattens the lists; resource names hold no comma.
        Variable(
            "resources",
            "(variables.containers.map(c,\n"
            "  (c.?resources.?requests.orValue({}).map(k, k)\n"
            '   + c.?resources.?limits.orValue({}).map(k, k)).join(","))\n'
            f' + [{spec}.?resources.?requests.orValue({{}}).map(k, k).join(","),\n'
            f'    {spec}.?resources.?limits.orValue({{}}).map(k, k).join(",")]\n'
            ').join(",").split(",").filter(r, r != "")',
        ),
        Variable("claims", f"size({spec}.?resourceClaims.orValue([])) > 0"),
        # Limits alone: the API server refuses requests of such resources without them.
        Variable(
            "gpu",
            "variables.claims || variables.containers.exists(c,"
            " c.?resources.?limits.orValue({}).exists(k, k.startsWith($GPU_DOMAIN)))"
            f" || {spec}.?resources.?limits.orValue({{}}).exists(k, k.startsWith($GPU_DOMAIN))",
        ),
    )


GPU_CLASSES: Final = (
    'variables.classes.filter(c, c.contains("nvidia.com") || c in $gpuDeviceClasses)'
)
"""CEL: of `variables.classes`, the DeviceClasses that hand out GPUs."""

META: Final = (
    Variable("labels", "object.metadata.?labels.orValue({})"),
    Variable("annotations", "object.metadata.?annotations.orValue({})"),
)
OLD_META: Final = (
    Variable("oldLabels", "oldObject == null ? {} : oldObject.metadata.?labels.orValue({})"),
    Variable(
        "oldAnnotations", "oldObject == null ? {} : oldObject.metadata.?annotations.orValue({})"
    ),
)

"""What a new pod may be.

Three readers: pods without a tenant (no GPU, no way onto nodes of a pool, otherwise free),
pods of governed namespaces (everything here), and those that are let through: mirror pods,
which a kubelet runs whether or not the API shows them, and pods made by exempt service
accounts outside governed namespaces. A mirror pod is known by its creator and never by its
annotation, which anybody may write.
"""

from __future__ import annotations

import json
from typing import Final

from sovereign_gpu.admission import cel
from sovereign_gpu.admission.model import Match, Policy, Scope, Validation, Variable

DEVICE_ENV: Final = (
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_MIG_CONFIG_DEVICES",
    "NVIDIA_MIG_MONITOR_DEVICES",
    "NVIDIA_IMEX_CHANNELS",
    "NVIDIA_GDS",
    "NVIDIA_MOFED",
    "NVIDIA_GDRCOPY",
    "NVIDIA_NVSWITCH",
    "DOCKER_RESOURCE_GPU",
)
"""Variables by which the NVIDIA container runtime hands out devices nobody asked for."""

DEVICE_ANNOTATIONS: Final = (
    "cdi-devices.",  # of NVIDIA's container toolkit as a plugin of the runtime
    "cdi.k8s.io/",
    "cdi.nri.io",
    "devices.crio.io",
    "devices.gke.io",
    "devices.noderesource.dev",
    "devices.nri.io",
    "io.katacontainers.config.",
    "io.kubernetes.cri-o.Devices",
    "io.kubernetes.cri-o.umask",
    "mounts.noderesource.dev",
    "mounts.nri.io",
    "platform-runtime-path.crio.io",
    "run.oci.",
)
"""Beginnings of annotations by which container runtimes hand out devices or mounts."""

HANDS_OUT: Final = f"{json.dumps(DEVICE_ANNOTATIONS)}.exists(p, k.startsWith(p))"
"""CEL: whether the key `k` of an annotation is one of them."""

RUNTIME_CAPABILITIES: Final = (
    "ALL",
    "SYS_ADMIN",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_PTRACE",
    "BPF",
    "DAC_READ_SEARCH",
)
"""Capabilities that amount to privileged: they reach devices or files of the host."""

_TOLERATIONS: Final = Variable(
    "tolerations",
    """object.spec.?tolerations.orValue([]).filter(t,
  t.?key.orValue("") == ""
    ? variables.governed || t.?effect.orValue("") in ["", "NoSchedule"]
    : t.key == $gpuTaint ? !(variables.governed && variables.gpu)
    : t.key.startsWith($OURS)
      && !(variables.governed && !variables.gpu && t.key == $COMPANION_TAINT)
).map(t, t.?key.orValue("") == "" ? "a toleration of every taint" : "a toleration of " + t.key)""",
)

_SELECTORS: Final = Variable(
    "foreignSelectors",
    """object.spec.?nodeSelector.orValue({}).map(k, k).filter(k, k.contains($NODE_DOMAIN)
  && !(variables.governed && (k == $POOL || (
    k.startsWith($NODE_RESIDENCY) && object.spec.nodeSelector[k] == $ALLOWED
    && k.substring($NODE_RESIDENCY.size()) in variables.policies + variables.warned))))""",
)

_WARNED: Final = Variable(
    # So that manifests can be made ready before a policy is switched to Deny.
    "warned",
    'namespaceObject.metadata.?annotations[?$WARN_RESIDENCY].orValue("").split(",")',
)

_AFFINITY: Final = Variable(
    "foreignAffinity",
    """object.spec.?affinity.?nodeAffinity.?requiredDuringSchedulingIgnoredDuringExecution
.?nodeSelectorTerms.orValue([]).map(t, t.?matchExpressions.orValue([]).filter(e,
  e.key.contains($NODE_DOMAIN) && !(variables.governed && e.key == $POOL)
).map(e, e.key).join(",")).filter(keys, keys != "")""",
)

_METADATA: Final = Variable(
    "ownMetadata",
    """(variables.labels.map(k, k) + variables.annotations.map(k, k)).filter(k,
  k.startsWith($OURS) && !(k == $REQUESTED_BY && variables.governed && variables.gpu))""",
)

_DEVICE_ENV: Final = Variable(
    "deviceEnv",
    "variables.containers.map(c, c.?env.orValue([]).filter(e,"
    f' e.name in {json.dumps(DEVICE_ENV)}).map(e, c.name + "/" + e.name).join(" "))'
    '.filter(s, s != "")',
)

_DEVICE_ANNOTATIONS: Final = Variable(
    "deviceAnnotations",
    f"variables.annotations.map(k, k).filter(k, {HANDS_OUT})",
)

_HOST_PATHS: Final = Variable(
    "foreignHostPaths",
    """object.spec.?volumes.orValue([]).filter(v, has(v.hostPath) && !$hostPaths.exists(p,
  v.hostPath.path == p || v.hostPath.path.startsWith(p + "/"))).map(v, v.hostPath.path)""",
)


def privileged(containers: str) -> str:
    """CEL: the containers of a list that reach the host's devices, each as a text."""
    return f"""{containers}.filter(c, c.?securityContext.?privileged.orValue(false)
  || c.?securityContext.?windowsOptions.?hostProcess.orValue(false)
  || c.?securityContext.?capabilities.?add.orValue([]).exists(a,
    a.upperAscii().replace("CAP_", "") in {json.dumps(RUNTIME_CAPABILITIES)})).map(c, c.name)"""


_ANYWHERE: Final = (
    Validation(
        "gpu-needs-tenant",
        "variables.trusted || variables.governed || !(variables.gpu || variables.byClass)",
        '"a request for GPUs (nvidia.com/*, resourceClaims, DeviceClasses) in namespace "'
        ' + namespaceObject.metadata.name + ", which belongs to no tenant"',
        "GPUs only in namespaces that a TenantQuota names",
    ),
    # First, and apart from the next: what a node's name brings with it would be refused as well.
    Validation(
        "node-name",
        'variables.trusted || !variables.governed || object.spec.?nodeName.orValue("") == ""',
        '"nodeName " + object.spec.?nodeName.orValue("")',
        "leave nodeName empty and let kube-scheduler choose",
    ),
    Validation(
        "node-name-without-tenant",
        'variables.trusted || variables.governed || object.spec.?nodeName.orValue("") == ""',
        '"nodeName " + object.spec.?nodeName.orValue("")',
        "leave nodeName empty and let kube-scheduler choose, or hold update on gpupools/bind",
        unless="variables.mayBind",
    ),
    Validation(
        "toleration",
        "variables.trusted || variables.tolerations.size() == 0",
        'variables.tolerations.join(", ")',
        "tolerations that name a taint other than those of pool nodes; pods of tenants are "
        "given what they need",
    ),
    Validation(
        "selector",
        "variables.trusted || variables.foreignSelectors.size() == 0",
        '"nodeSelector " + variables.foreignSelectors.join(", ")',
        "the pool label, and as residency labels those of the namespace's own policies with "
        "value allowed: ",
        'variables.policies.join(", ")',
    ),
    Validation(
        "affinity",
        "variables.trusted || variables.foreignAffinity.size() == 0",
        '"required node affinity on " + variables.foreignAffinity.join(", ")',
        "required node affinity on other labels; the residency selector is added by itself",
    ),
    Validation(
        "pod-metadata",
        # Nobody is trusted here: whoever charges a tenant for a pod does it with these.
        "variables.ownMetadata.size() == 0",
        'variables.ownMetadata.join(", ")',
        "no labels or annotations under sovereign-gpu.io/ on new pods",
    ),
)

_TENANT: Final = "variables.trusted || !variables.governed || "

_COUNTING: Final = (
    Validation(
        "claims-uncounted",
        _TENANT + "!variables.claims",
        '"resourceClaims"',
        "GPUs as nvidia.com/gpu in limits; ResourceClaims cannot be counted yet",
    ),
    Validation(
        "mig-uncounted",
        _TENANT + "!variables.resources.exists(r, r.startsWith($MIG))",
        'variables.resources.filter(r, r.startsWith($MIG)).join(", ")',
        "whole GPUs as nvidia.com/gpu; MIG slices cannot be counted yet",
    ),
    Validation(
        "known-resources",
        _TENANT + "variables.unknown.size() == 0",
        'variables.unknown.join(", ")',
        "hugepages-* and ",
        '$knownResources.join(", ")',
    ),
    Validation(
        "gpu-count",
        _TENANT + "variables.zero.size() == 0",
        '"no positive number of nvidia.com/gpu in " + variables.zero.join(", ")',
        "at least 1, or no nvidia.com/gpu at all",
    ),
    Validation(
        "gate",
        _TENANT + "!variables.gpu || variables.gated",
        '"a pod with GPUs and without the scheduling gate"',
        "the gate sovereign-gpu.io/quota, which sovereign-gpu-pod-patch adds",
    ),
    Validation(
        "gate-without-gpu",
        "variables.trusted || variables.gpu || !variables.gated",
        '"the gate sovereign-gpu.io/quota on a pod that asks for no GPU"',
        "no such gate: nobody would release the pod",
    ),
    Validation(
        "requested-by",
        _TENANT + "!variables.gpu"
        ' || variables.annotations[?$REQUESTED_BY].orValue("") == request.userInfo.username',
        'variables.annotations[?$REQUESTED_BY].orValue("nothing") + " as requester"',
        "the user of the request, ",
        "request.userInfo.username",
    ),
)

_PLACE: Final = (
    Validation(
        "residency-selector",
        _TENANT + "variables.policies.all(p,"
        ' object.spec.?nodeSelector[?$NODE_RESIDENCY + p].orValue("") == $ALLOWED)',
        '"a pod without the node selector of every residency policy"',
        "value allowed of the label residency.sovereign-gpu.node-restriction.kubernetes.io/ for ",
        'variables.policies.join(", ")',
    ),
    Validation(
        # It runs whatever we say; but in a tenant's namespace abroad it would be handed the traffic
        # of the tenant's Services. The API server itself fills in the region of the named node.
        "static-pod-region",
        '!variables.governed || !variables.kubelet || "*" in variables.regions'
        ' || variables.labels[?$REGION].orValue("") in variables.regions',
        '"a static pod on a node in region " + variables.labels[?$REGION].orValue("unknown")',
        "static pods in tenants' namespaces on nodes in regions ",
        'variables.regions.size() == 0 ? "none" : variables.regions.join(", ")',
    ),
    Validation(
        "location-labels",
        _TENANT + "!($REGION in variables.labels) && !($ZONE in variables.labels)",
        '"topology.kubernetes.io labels on a new pod"',
        "none: the API server writes them when the pod is bound",
    ),
    Validation(
        "priority",
        _TENANT + "object.spec.?priority.orValue(0) <= 0"
        ' || object.spec.?preemptionPolicy.orValue("") == "Never"',
        '"priority " + string(object.spec.?priority.orValue(0)) + " with preemption"',
        "priority above 0 only with preemptionPolicy Never, such as the classes "
        "sovereign-gpu-high, sovereign-gpu-normal",
    ),
)

# Where all policies only warn, `pod_warning` says what these would refuse.
_CONTAINED: Final = "variables.trusted || !variables.contained || "

HOST: Final = (
    Validation(
        "device-env",
        _CONTAINED + "variables.deviceEnv.size() == 0",
        'variables.deviceEnv.join(" ")',
        "GPUs through nvidia.com/gpu in limits only",
    ),
    Validation(
        "device-annotation",
        _CONTAINED + "variables.deviceAnnotations.size() == 0",
        '"annotation " + variables.deviceAnnotations.join(", ")',
        "GPUs through nvidia.com/gpu in limits only",
    ),
    Validation(
        "runtime-class",
        _CONTAINED + "variables.gpu"
        ' || !object.spec.?runtimeClassName.orValue("").startsWith("nvidia")',
        '"runtime class " + object.spec.?runtimeClassName.orValue("") + " without a GPU"',
        "runtime classes of NVIDIA for pods that ask for nvidia.com/gpu only",
    ),
    Validation(
        "host-path",
        _CONTAINED + "variables.foreignHostPaths.size() == 0",
        '"hostPath " + variables.foreignHostPaths.join(", ")',
        "hostPath volumes only below: ",
        '$hostPaths.size() == 0 ? "none" : $hostPaths.join(", ")',
    ),
    Validation(
        "privileged",
        _CONTAINED + "variables.privileged.size() == 0",
        '"privileged, or a capability that amounts to it, in container "'
        ' + variables.privileged.join(", ")',
        "unprivileged containers without " + ", ".join(RUNTIME_CAPABILITIES),
    ),
    Validation(
        "host-namespaces",
        _CONTAINED + "variables.hostNamespaces.size() == 0",
        'variables.hostNamespaces.join(", ")',
        "the pod's own network, process and IPC namespaces",
    ),
)

HOST_VARIABLES: Final = (
    Variable(
        "hostNamespaces",
        '(object.spec.?hostNetwork.orValue(false) ? ["hostNetwork"] : [])'
        ' + (object.spec.?hostPID.orValue(false) ? ["hostPID"] : [])'
        ' + (object.spec.?hostIPC.orValue(false) ? ["hostIPC"] : [])'
        " + (object.spec.?securityContext.?windowsOptions.?hostProcess.orValue(false)"
        ' ? ["hostProcess"] : [])',
    ),
    Variable("privileged", privileged("variables.containers")),
    _DEVICE_ENV,
    _DEVICE_ANNOTATIONS,
    _HOST_PATHS,
)
"""What `HOST` reads of a pod, besides `cel.META` and `cel.pod_variables`."""

TRUSTED: Final = Variable(
    "trusted",
    "variables.kubelet || (!variables.governed && request.userInfo.username in $exemptUsers)",
)

POLICY: Final = Policy(
    name="sovereign-gpu-pod-create",
    purpose="New pods: GPUs only counted, and nothing that reaches a node or a device around us.",
    match=(Match("", ("pods",), ("CREATE",)),),
    scope=Scope.NOT_EXEMPT,
    one_verdict=True,
    variables=(
        cel.GOVERNED,
        cel.POLICIES,
        cel.KUBELET,
        cel.MAY_BIND,
        *cel.META,
        *cel.pod_variables("object.spec"),
        cel.CONTAINED,
        TRUSTED,
        cel.regions("$REGIONS"),
        cel.BY_CLASS,
        Variable("gated", "object.spec.?schedulingGates.orValue([]).exists(g, g.name == $GATE)"),
        Variable(
            "unknown",
            'variables.resources.filter(r, !(r in $knownResources) && !r.startsWith("hugepages-"))',
        ),
        Variable(
            "zero",
            "variables.containers.filter(c, [c.?resources.?requests[?$GPU],"
            " c.?resources.?limits[?$GPU]].exists(q, q.hasValue()"
            ' && !quantity(string(q.value())).isGreaterThan(quantity("0")))).map(c, c.name)',
        ),
        _TOLERATIONS,
        _WARNED,
        _SELECTORS,
        _AFFINITY,
        _METADATA,
        *HOST_VARIABLES,
    ),
    validations=_ANYWHERE + _COUNTING + _PLACE + HOST,
)

"""Random requests of people who may not: plain data, so that a hit can be shrunk and kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from sovereign_gpu import names
from tests.admission.world import (
    AWAY,
    EXEMPT,
    FREE,
    GOVERNED,
    HOME,
    RESIDENCY_LABEL,
    STRICT,
    WARNED,
)

WHO = (
    "tenant",
    "kubelet",
    "kubelet_abroad",
    "pretender",
    "binder",
    "editor",
    "imager",
    "careless",
    "operator",
)
SPACES = (GOVERNED, STRICT, WARNED, FREE, EXEMPT)
NODES = ("home", "away", "bare", "companion", "nobody")
PODS = ("gated", "running", "unbound", "made-0", "made-1", "made-2")
OURS = (
    names.POOL_LABEL,
    names.REQUESTED_BY,
    names.DECISION,
    names.RELEASED_BY,
    names.TENANT_LABEL,
    names.REGIONS,
    names.RESIDENCY,
    names.REGISTRIES,
    names.ENFORCEMENT_LABEL,
    names.REGION_LABEL,
    names.ZONE_LABEL,
    names.NODE_POOL_LABEL,
    names.NODE_MACHINE_LABEL,
    RESIDENCY_LABEL,
    "nvidia.com/gpu.product",
    "app",
)


@dataclass(frozen=True)
class Op:
    """One request."""

    who: str
    kind: str
    space: str = ""
    name: str = ""
    part: str = ""
    """Subresource."""
    body: Any = None


values = st.sampled_from(
    ["allowed", "munich", HOME, AWAY, "*", "", f"{HOME},{AWAY}", "acme", "bolt", "Warn", None]
)
marks = st.dictionaries(st.sampled_from(OURS), values, min_size=1, max_size=3)
set_marks = st.dictionaries(st.sampled_from(OURS), values.filter(bool), max_size=2)
tolerations = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "key": st.sampled_from(["", names.GPU_TAINT, names.COMPANION_TAINT, "a/b"]),
            "operator": st.just("Exists"),
            "effect": st.sampled_from(["", "NoSchedule", "NoExecute"]),
        },
    ),
    max_size=2,
)
requirement = st.fixed_dictionaries(
    {
        "key": st.sampled_from([RESIDENCY_LABEL, names.REGION_LABEL, names.NODE_POOL_LABEL, "x"]),
        "operator": st.sampled_from(["Exists", "DoesNotExist"]),
    }
)
field = st.builds(
    lambda node: {"key": "metadata.name", "operator": "In", "values": [f"@{node}"]},
    st.sampled_from(NODES),
)
terms = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "matchExpressions": st.lists(requirement, min_size=1, max_size=2),
            "matchFields": st.lists(field, min_size=1, max_size=1),
        },
    ).filter(bool),
    min_size=1,
    max_size=2,
)
affinity = terms.map(
    lambda found: {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": found}
        }
    }
)
limits = st.dictionaries(
    st.sampled_from(
        [
            "cpu",
            names.GPU_RESOURCE,
            "nvidia.com/gpu.shared",
            "nvidia.com/mig-1g.23gb",
            "deviceclass.resource.kubernetes.io/gpu",
            "example.com/gpu",
        ]
    ),
    st.sampled_from(["0", "1", "2"]),
    max_size=2,
)
container = st.fixed_dictionaries(
    {
        "name": st.just("main"),
        "image": st.sampled_from(["registry.invalid/app:1", "evil.example/app:1", "nginx"]),
    },
    optional={
        "resources": limits.map(lambda found: {"limits": found}),
        "env": st.sampled_from(
            [
                [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}],
                [{"name": "nvidia_visible_devices", "value": "all"}],
            ]
        ),
        "securityContext": st.sampled_from(
            [{"privileged": True}, {"capabilities": {"add": ["SYS_ADMIN"]}}, {"runAsUser": 1}]
        ),
    },
)
volume = st.sampled_from(
    [
        {"name": "v", "hostPath": {"path": "/dev"}},
        {"name": "v", "emptyDir": {}},
        {"name": "v", "nfs": {"server": "198.51.100.7", "path": "/"}},
        {"name": "v", "image": {"reference": "evil.example/model:1"}},
        {"name": "v", "csi": {"driver": "s3.example.com"}},
    ]
)
spec = st.fixed_dictionaries(
    {"containers": container.map(lambda one: [one])},
    optional={
        "initContainers": container.map(lambda one: [{**one, "name": "init"}]),
        "nodeName": st.sampled_from([f"@{node}" for node in NODES]),
        "nodeSelector": st.dictionaries(
            st.sampled_from([RESIDENCY_LABEL, names.NODE_POOL_LABEL, names.REGION_LABEL, "x"]),
            st.sampled_from(["allowed", "munich", AWAY, "no"]),
            max_size=2,
        ),
        "affinity": affinity,
        "tolerations": tolerations,
        "schedulingGates": st.sampled_from([[{"name": names.GATE}], [{"name": "example.com/x"}]]),
        "priorityClassName": st.sampled_from(["preempting", "sovereign-gpu-high"]),
        "schedulerName": st.sampled_from(["nobody", "default-scheduler"]),
        "hostNetwork": st.booleans(),
        "hostPID": st.booleans(),
        "runtimeClassName": st.just("nvidia"),
        "volumes": volume.map(lambda one: [one]),
        "resourceClaims": st.just([{"name": "gpu", "resourceClaimName": "any"}]),
        "restartPolicy": st.just("Never"),
    },
)
metadata = st.fixed_dictionaries({}, optional={"labels": set_marks, "annotations": set_marks})
who = st.sampled_from(WHO)
space = st.sampled_from(SPACES)
creates = st.builds(
    lambda w, s, n, m, p: Op(w, "create-pod", s, n, body={"metadata": m, "spec": p}),
    who,
    space,
    st.sampled_from(PODS[3:]),
    metadata,
    spec,
)
workloads = st.builds(
    lambda w, s, k, p: Op(w, k, s, "work", body=p),
    who,
    space,
    st.sampled_from(["Deployment", "Job", "DaemonSet"]),
    spec,
)
json_patches = st.lists(
    st.sampled_from(
        [
            {"op": "remove", "path": "/spec/schedulingGates"},
            {"op": "remove", "path": "/spec/schedulingGates/0"},
            {"op": "replace", "path": "/spec/schedulingGates", "value": [{"name": "a.b/c"}]},
            {"op": "replace", "path": "/spec/containers/0/image", "value": "evil.example/x:1"},
            {"op": "add", "path": "/spec/tolerations/-", "value": {"operator": "Exists"}},
            {"op": "add", "path": "/spec/nodeSelector/x", "value": "y"},
            {"op": "remove", "path": "/spec/nodeSelector"},
            {"op": "add", "path": "/spec/nodeName", "value": "@away"},
            {"op": "add", "path": "/metadata/finalizers", "value": ["a.b/c"]},
            {"op": "remove", "path": "/metadata/labels"},
            {"op": "remove", "path": "/metadata/annotations"},
            {"op": "replace", "path": "/status/phase", "value": "Succeeded"},
        ]
    ),
    min_size=1,
    max_size=3,
)
mark_patches = st.fixed_dictionaries({}, optional={"labels": marks, "annotations": marks}).map(
    lambda found: {"metadata": found}
)
patches = st.builds(
    lambda w, s, n, p, b: Op(w, "patch-pod", s, n, p, b),
    who,
    space,
    st.sampled_from(PODS),
    st.sampled_from(["", "", "", "status", "resize", "ephemeralcontainers"]),
    st.one_of(json_patches, mark_patches),
)
binds = st.builds(
    lambda w, s, n, k, node, labels: Op(
        w, "bind", s, n, body={"kind": k, "node": node, "labels": labels}
    ),
    who,
    space,
    st.sampled_from(PODS),
    st.sampled_from(["Node", "", "node"]),
    st.sampled_from(NODES),
    set_marks,
)
old_binds = binds.map(lambda op: Op(op.who, "old-bind", op.space, op.name, body=op.body))
taints = st.sampled_from([None, [], [{"key": names.COMPANION_TAINT, "effect": "NoSchedule"}]])
nodes = st.builds(
    lambda w, n, p, m, t: Op(w, "patch-node", name=n, part=p, body=(m, t)),
    who.filter(lambda name: name != "operator"),
    st.sampled_from(NODES),
    st.sampled_from(["", "status"]),
    marks,
    st.one_of(st.just(...), taints),
)
new_nodes = st.builds(
    lambda w, m: Op(w, "create-node", name="made", body=m),
    who.filter(lambda name: name != "operator"),
    set_marks,
)
spaces = st.builds(
    lambda w, s, p, m: Op(w, "patch-space", s, part=p, body=m),
    who.filter(lambda name: name != "operator"),
    space,
    st.sampled_from(["", "status", "finalize"]),
    mark_patches,
)
evictions = st.builds(lambda w, s, n: Op(w, "evict", s, n), who, space, st.sampled_from(PODS[3:]))
ways_out = st.builds(
    lambda w, s, b: Op(w, "way-out", s, body=b),
    who,
    st.sampled_from([GOVERNED, STRICT]),
    st.sampled_from(
        [
            ("services", {"type": "ExternalName", "externalName": "x.example.com"}),
            ("services", {"type": "LoadBalancer", "ports": [{"port": 1}]}),
            ("services", {"externalIPs": ["198.51.100.7"], "ports": [{"port": 1}]}),
            ("networkpolicies", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}),
            (
                "persistentvolumeclaims",
                {
                    "storageClassName": "us-cheap",
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            ),
        ]
    ),
)
ops = st.one_of(
    creates,
    creates,
    patches,
    patches,
    binds,
    old_binds,
    workloads,
    nodes,
    new_nodes,
    spaces,
    evictions,
    ways_out,
)

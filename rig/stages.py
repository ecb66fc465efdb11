"""What KWOK plays on nodes and pods: stages of our own, steered by annotations on the pod.

Its built-in stages finish every Job at once and give no way to be slow or to fail, so queues
never form. Here a pod runs until it is told otherwise:

- `rig.sovereign-gpu.io/start-seconds`: time between binding and running
- `rig.sovereign-gpu.io/run-seconds`: time until it ends; without it, it runs for ever
- `rig.sovereign-gpu.io/exit-code`: how it ends; other than 0 is a failure
- `rig.sovereign-gpu.io/stop-seconds`: time it stays Terminating
- `rig.sovereign-gpu.io/not-ready` on a node: its kubelet reports NotReady while it is there

All delays are computed as points in time: KWOK starts a relative delay anew at every write to
the object, so that a pod whose labels are patched now and then would never end.
"""

from __future__ import annotations

from typing import Any, Final

PREFIX: Final = "rig.sovereign-gpu.io/"
START_SECONDS: Final = f"{PREFIX}start-seconds"
RUN_SECONDS: Final = f"{PREFIX}run-seconds"
EXIT_CODE: Final = f"{PREFIX}exit-code"
STOP_SECONDS: Final = f"{PREFIX}stop-seconds"
NOT_READY: Final = f"{PREFIX}not-ready"
FAKE_NODE: Final = "kwok.x-k8s.io/node"

HEARTBEAT_SECONDS = 600
PARALLELISM = 32

Condition = tuple[str, str, list[str]]
"""Expression, operator and values of a selector."""

_READY = '.status.conditions.[] | select( .type == "Ready" ) | .status'
_PHASE = ".status.phase"
_DELETED = ".metadata.deletionTimestamp"


def _annotation(name: str) -> str:
    return f'.metadata.annotations["{name}"]'


def _at(base: str, name: str) -> str:
    """Return the jq expression of a point in time: `base` (epoch) plus an annotation's seconds."""
    return f"({base}) + (({_annotation(name)} // 0) | tonumber) | todate"


def configuration(lease_seconds: int) -> list[dict[str, Any]]:
    """Return the documents of KWOK's configuration file.

    Args:
        lease_seconds: validity of the nodes' leases; they are renewed at a quarter of it.
    """
    options = {
        "manageAllNodes": False,
        "manageNodesWithAnnotationSelector": f"{FAKE_NODE}=fake",
        "cidr": "10.128.0.0/10",
        "nodeIP": "127.0.0.1",
        "nodeLeaseDurationSeconds": lease_seconds,
        "nodeLeaseParallelism": PARALLELISM,
        "nodePlayStageParallelism": PARALLELISM,
        "podPlayStageParallelism": PARALLELISM,
        "podsOnNodeSyncParallelism": PARALLELISM,
    }
    kwok = {
        "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
        "kind": "KwokConfiguration",
        "options": options,
    }
    return [kwok, *_node_stages(), *_pod_stages()]


def _stage(
    kind: str,
    name: str,
    selector: list[Condition],
    then: dict[str, Any],
    delay: dict[str, Any] | None = None,
) -> dict[str, Any]:
    expressions = [
        {"key": key, "operator": operator, **({"values": values} if values else {})}
        for key, operator, values in selector
    ]
    spec: dict[str, Any] = {
        "resourceRef": {"apiGroup": "v1", "kind": kind},
        "selector": {"matchExpressions": expressions},
        "next": then,
    }
    if delay is not None:
        spec["delay"] = delay
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": spec,
    }


# --- nodes ----------------------------------------------------------------------------------
_HEALTHY = """\
{{ $now := Now }}
phase: Running
conditions:
- {type: Ready, status: "True", reason: KubeletReady, message: kubelet is posting ready status,
   lastHeartbeatTime: {{ Quote $now }}, lastTransitionTime: {{ Quote (or SINCE $now) }}}
- {type: MemoryPressure, status: "False", reason: KubeletHasSufficientMemory,
   lastHeartbeatTime: {{ Quote $now }}, lastTransitionTime: {{ Quote (or SINCE $now) }}}
- {type: DiskPressure, status: "False", reason: KubeletHasNoDiskPressure,
   lastHeartbeatTime: {{ Quote $now }}, lastTransitionTime: {{ Quote (or SINCE $now) }}}
- {type: PIDPressure, status: "False", reason: KubeletHasSufficientPID,
   lastHeartbeatTime: {{ Quote $now }}, lastTransitionTime: {{ Quote (or SINCE $now) }}}
- {type: NetworkUnavailable, status: "False", reason: RouteCreated,
   lastHeartbeatTime: {{ Quote $now }}, lastTransitionTime: {{ Quote (or SINCE $now) }}}
"""
_UNHEALTHY = """\
{{ $now := Now }}
conditions:
- {type: Ready, status: "False", reason: KubeletNotReady, message: asked for by the rig,
   lastHeartbeatTime: {{ Quote $now }}, lastTransitionTime: {{ Quote $now }}}
"""


def _node_stages() -> list[dict[str, Any]]:
    wanted: Condition = (_annotation(NOT_READY), "DoesNotExist", [])
    unwanted: Condition = (_annotation(NOT_READY), "Exists", [])
    become_ready = _HEALTHY.replace("SINCE", "")
    # A heartbeat keeps the time since when the node is ready.
    stay_ready = _HEALTHY.replace("SINCE", "(index .status.conditions 0).lastTransitionTime")
    beat = {
        "durationMilliseconds": HEARTBEAT_SECONDS * 1000,
        "jitterDurationMilliseconds": HEARTBEAT_SECONDS * 1100,
    }
    return [
        _stage(
            "Node",
            "node-ready",
            [(_READY, "NotIn", ["True"]), wanted],
            {"statusTemplate": become_ready},
        ),
        _stage(
            "Node",
            "node-heartbeat",
            [(_READY, "In", ["True"]), wanted],
            {"statusTemplate": stay_ready},
            beat,
        ),
        _stage(
            "Node",
            "node-not-ready",
            [(_READY, "NotIn", ["False"]), unwanted],
            {"statusTemplate": _UNHEALTHY},
        ),
    ]


# --- pods -----------------------------------------------------------------------------------
_RUNNING = """\
{{ $now := Now }}
phase: Running
startTime: {{ Quote $now }}
conditions:
- {type: PodReadyToStartContainers, status: "True", lastTransitionTime: {{ Quote $now }}}
- {type: Initialized, status: "True", lastTransitionTime: {{ Quote $now }}}
- {type: ContainersReady, status: "True", lastTransitionTime: {{ Quote $now }}}
- {type: Ready, status: "True", lastTransitionTime: {{ Quote $now }}}
{{ range .spec.readinessGates }}
- {type: {{ Quote .conditionType }}, status: "True", lastTransitionTime: {{ Quote $now }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ Quote .name }}
  image: {{ Quote .image }}
  imageID: ""
  ready: true
  started: true
  restartCount: 0
  state: {running: {startedAt: {{ Quote $now }}}}
{{ end }}
{{ with .spec.initContainers }}
initContainerStatuses:
{{ range . }}
- name: {{ Quote .name }}
  image: {{ Quote .image }}
  imageID: ""
  ready: true
  restartCount: 0
  {{ if eq (or .restartPolicy "") "Always" }}
  started: true
  state: {running: {startedAt: {{ Quote $now }}}}
  {{ else }}
  state:
    terminated: {exitCode: 0, reason: Completed,
      startedAt: {{ Quote $now }}, finishedAt: {{ Quote $now }}}
  {{ end }}
{{ end }}
{{ end }}
hostIP: 127.0.0.1
hostIPs: [{ip: 127.0.0.1}]
{{ $shared := or .spec.hostNetwork false }}
{{ with .metadata }}
{{ with PodIPsWith $.spec.nodeName $shared .uid .name .namespace }}
podIP: {{ index . 0 | Quote }}
{{ end }}
{{ end }}
"""
_ENDED = """\
{{ $now := Now }}
{{ $since := or .status.startTime $now }}
phase: PHASE
conditions:
- {type: ContainersReady, status: "False", reason: REASON, lastTransitionTime: {{ Quote $now }}}
- {type: Ready, status: "False", reason: REASON, lastTransitionTime: {{ Quote $now }}}
containerStatuses:
{{ range .spec.containers }}
- name: {{ Quote .name }}
  image: {{ Quote .image }}
  imageID: ""
  ready: false
  started: false
  restartCount: 0
  state:
    terminated: {exitCode: CODE, reason: WORD,
      startedAt: {{ Quote $since }}, finishedAt: {{ Quote $now }}}
{{ end }}
"""


def _ended(phase: str, reason: str, word: str, code: str) -> str:
    text = _ENDED.replace("PHASE", phase).replace("REASON", reason)
    return text.replace("WORD", word).replace("CODE", code)


def _pod_stages() -> list[dict[str, Any]]:
    present: Condition = (_DELETED, "DoesNotExist", [])
    running = (_PHASE, "In", ["Running"])
    ends = {"durationFrom": {"expressionFrom": _at(".status.startTime | fromdate", RUN_SECONDS)}}
    bound = (
        '([.status.conditions[]? | select(.type == "PodScheduled") | .lastTransitionTime][0]'
        " // .metadata.creationTimestamp) | fromdate"
    )
    # The API server writes when the grace period will be over, not when it began.
    deleted = f"({_DELETED} | fromdate) - (.metadata.deletionGracePeriodSeconds // 0)"
    code = '{{ index $.metadata.annotations "' + EXIT_CODE + '" }}'
    return [
        _stage(
            "Pod",
            "pod-running",
            [present, (_PHASE, "In", ["Pending"])],
            {"statusTemplate": _RUNNING},
            {"durationFrom": {"expressionFrom": _at(bound, START_SECONDS)}},
        ),
        _stage(
            "Pod",
            "pod-succeeded",
            [
                present,
                running,
                (_annotation(RUN_SECONDS), "Exists", []),
                (f'{_annotation(EXIT_CODE)} // "0"', "In", ["0"]),
            ],
            {"statusTemplate": _ended("Succeeded", "PodCompleted", "Completed", "0")},
            ends,
        ),
        _stage(
            "Pod",
            "pod-failed",
            [present, running, (f'{_annotation(EXIT_CODE)} // "0"', "NotIn", ["0"])],
            {"statusTemplate": _ended("Failed", "PodFailed", "Error", code)},
            ends,
        ),
        _stage(
            "Pod",
            "pod-gone",
            [(_DELETED, "Exists", [])],
            {"delete": True},
            {"durationFrom": {"expressionFrom": _at(deleted, STOP_SECONDS)}},
        ),
    ]

"""The few fields of Kubernetes objects that the operator reads, as pydantic decodes them.

Slim TypedDicts: what is not named here is skipped by the decoder without ever becoming a Python
object, which is what makes 20,000 pods affordable. `decode` turns them into the core's records.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict


class OwnerReference(TypedDict, total=False):
    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: bool


class ObjectMeta(TypedDict, total=False):
    name: str
    namespace: str
    uid: str
    resourceVersion: str
    creationTimestamp: str
    deletionTimestamp: str
    labels: dict[str, str]
    annotations: dict[str, str]
    ownerReferences: list[OwnerReference]


class ContainerResources(TypedDict, total=False):
    requests: dict[str, str]


class Port(TypedDict, total=False):
    hostPort: int


class Container(TypedDict, total=False):
    resources: ContainerResources
    restartPolicy: str
    ports: list[Port]


class Gate(TypedDict):
    name: str


class Expression(TypedDict, total=False):
    key: str
    operator: str
    values: list[str]


class Term(TypedDict, total=False):
    matchExpressions: list[Expression]
    matchFields: list[Expression]


class NodeSelector(TypedDict, total=False):
    nodeSelectorTerms: list[Term]


class NodeAffinity(TypedDict, total=False):
    requiredDuringSchedulingIgnoredDuringExecution: NodeSelector
    preferredDuringSchedulingIgnoredDuringExecution: list[Any]


class Affinity(TypedDict, total=False):
    nodeAffinity: NodeAffinity
    podAffinity: dict[str, Any]
    podAntiAffinity: dict[str, Any]


class TolerationWire(TypedDict, total=False):
    key: str
    operator: str
    value: str
    effect: str


class Volume(TypedDict, total=False):
    persistentVolumeClaim: dict[str, Any]
    ephemeral: dict[str, Any]


class PodSpec(TypedDict, total=False):
    nodeName: str
    schedulingGates: list[Gate]
    containers: list[Container]
    initContainers: list[Container]
    resources: ContainerResources
    overhead: dict[str, str]
    nodeSelector: dict[str, str]
    affinity: Affinity
    tolerations: list[TolerationWire]
    topologySpreadConstraints: list[Any]
    volumes: list[Volume]
    priority: int


class Condition(TypedDict, total=False):
    type: str
    status: str
    reason: str
    message: str
    lastTransitionTime: str | None


class PodStatus(TypedDict, total=False):
    phase: str
    conditions: list[Condition]


class PodWire(TypedDict, total=False):
    metadata: ObjectMeta
    spec: PodSpec
    status: PodStatus


class TaintWire(TypedDict, total=False):
    key: str
    value: str
    effect: str


class NodeSpec(TypedDict, total=False):
    taints: list[TaintWire]
    unschedulable: bool
    providerID: str


class NodeInfo(TypedDict, total=False):
    systemUUID: str


class NodeStatus(TypedDict, total=False):
    nodeInfo: NodeInfo
    capacity: dict[str, str]
    allocatable: dict[str, str]
    conditions: list[Condition]


class NodeWire(TypedDict, total=False):
    metadata: ObjectMeta
    spec: NodeSpec
    status: NodeStatus


class NamespaceWire(TypedDict, total=False):
    metadata: ObjectMeta


# `continue` is a keyword, so this one cannot be written as a class.
ListMeta = TypedDict("ListMeta", {"resourceVersion": str, "continue": str}, total=False)


class PodList(TypedDict):
    metadata: ListMeta
    items: list[PodWire]


class PodEvent(TypedDict):
    type: str
    object: PodWire


class NodeList(TypedDict):
    metadata: ListMeta
    items: list[NodeWire]


class NodeEvent(TypedDict):
    type: str
    object: NodeWire


class NamespaceList(TypedDict):
    metadata: ListMeta
    items: list[NamespaceWire]


class NamespaceEvent(TypedDict):
    type: str
    object: NamespaceWire


POD = TypeAdapter(PodWire)
POD_LIST = TypeAdapter(PodList)
POD_EVENT = TypeAdapter(PodEvent)
NODE_LIST = TypeAdapter(NodeList)
NODE_EVENT = TypeAdapter(NodeEvent)
NAMESPACE_LIST = TypeAdapter(NamespaceList)
NAMESPACE_EVENT = TypeAdapter(NamespaceEvent)

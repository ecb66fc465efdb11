"""The kinds that the operator watches itself, and how each is read."""

from __future__ import annotations

from sovereign_gpu.cluster import decode, wire
from sovereign_gpu.cluster.reading import Kind
from sovereign_gpu.core.model import Namespace, Node, Pod

PODS: Kind[Pod] = Kind(
    path="/api/v1/pods",
    lists=wire.POD_LIST,
    events=wire.POD_EVENT,
    decode=decode.pod,
    # A pod made anew under the same name is another pod.
    key=lambda source: str(source["metadata"]["uid"]),
    # Finished pods hold nothing: the server reports them as deleted the moment they finish.
    field_selector="status.phase!=Succeeded,status.phase!=Failed",
)
NODES: Kind[Node] = Kind(
    path="/api/v1/nodes",
    lists=wire.NODE_LIST,
    events=wire.NODE_EVENT,
    decode=decode.node,
    key=lambda source: str(source["metadata"]["name"]),
)
NAMESPACES: Kind[Namespace] = Kind(
    path="/api/v1/namespaces",
    lists=wire.NAMESPACE_LIST,
    events=wire.NAMESPACE_EVENT,
    decode=decode.namespace,
    key=lambda source: str(source["metadata"]["name"]),
)

"""What has to go when the product leaves a cluster, and what has to stay; pure.

Gates go or stay as the user says, and what the operator wrote on namespaces goes. A residency label
of a node goes as soon as nobody needs it, and no sooner, because the selectors that the admission
policies put into pods cannot be taken out again:

- a pod that is not bound yet finds no node without it;
- the DaemonSet controller deletes running pods from nodes that the template no longer matches, and
  other templates go on making pods;
- a kubelet that restarts fails running pods whose selector its node no longer matches
  (https://github.com/kubernetes/kubernetes/issues/124586), so a bound pod keeps it on its node.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sovereign_gpu import names
from sovereign_gpu.cluster import patches

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_FINISHED = frozenset({"Complete", "Failed"})
_NAMED = 10
"""Most templates that one sentence names."""
_TEMPLATE = ("template", "spec")
TEMPLATES: dict[str, tuple[str, tuple[str, ...]]] = {
    "DaemonSet": ("/apis/apps/v1/daemonsets", _TEMPLATE),
    "Deployment": ("/apis/apps/v1/deployments", _TEMPLATE),
    "StatefulSet": ("/apis/apps/v1/statefulsets", _TEMPLATE),
    "Job": ("/apis/batch/v1/jobs", _TEMPLATE),
    "CronJob": ("/apis/batch/v1/cronjobs", ("jobTemplate", "spec", *_TEMPLATE)),
}
"""Kind -> path of its list, and the way from spec to the spec of its pods."""

Object = Mapping[str, Any]


class Gated(NamedTuple):
    """A pod that our gate holds."""

    namespace: str
    name: str
    uid: str
    gate: int
    """Place of ours among its gates."""

    @property
    def path(self) -> str:
        """Where it is."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"


def gated(pod: Object) -> Gated | None:
    """Return the pod if our gate holds it."""
    gates = [gate["name"] for gate in pod["spec"].get("schedulingGates") or ()]
    if names.GATE not in gates:
        return None
    meta = pod["metadata"]
    return Gated(meta["namespace"], meta["name"], meta["uid"], gates.index(names.GATE))


def namespace(body: Object) -> patches.Json | None:
    """Return the merge patch that removes what the operator wrote; None if there is nothing."""
    meta = body["metadata"]
    labels = _present(meta.get("labels"), names.NAMESPACE_LABELS)
    annotations = _present(meta.get("annotations"), names.NAMESPACE_ANNOTATIONS)
    if not labels and not annotations:
        return None
    return patches.metadata(labels=dict.fromkeys(labels), annotations=dict.fromkeys(annotations))


def _present(entries: Mapping[str, str] | None, keys: tuple[str, ...]) -> list[str]:
    return [key for key in keys if key in (entries or {})]


def selected(spec: Object) -> set[str]:
    """Return the residency labels without which the pod of this spec fits no node."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ()
    keys = {rule["key"] for term in terms for rule in term.get("matchExpressions") or ()}
    keys.update(spec.get("nodeSelector") or ())
    return {key for key in keys if key.startswith(names.NODE_RESIDENCY_PREFIX)}


@dataclass(slots=True)
class Needs:
    """Who needs which residency label, and on which node."""

    waiting: Counter[str] = field(default_factory=Counter)
    """Label -> pods that are not bound yet."""
    running: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Node -> label -> pods that are bound there."""
    templates: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Label -> who makes pods with it, as Kind namespace/name."""

    def pod(self, body: Object) -> None:
        """Take in a pod that has not finished."""
        keys, node = selected(body["spec"]), body["spec"].get("nodeName")
        (self.running[node] if node else self.waiting).update(keys)

    def maker(self, kind: str, body: Object) -> None:
        """Take in somebody who makes pods."""
        conditions = body.get("status", {}).get("conditions") or ()
        if kind == "Job" and any(
            each["type"] in _FINISHED and each["status"] == "True" for each in conditions
        ):
            return
        spec = body["spec"]
        for part in TEMPLATES[kind][1]:
            spec = spec[part]
        meta = body["metadata"]
        for key in selected(spec):
            self.templates[key].append(f"{kind} {meta['namespace']}/{meta['name']}")

    def on(self, node: str, key: str) -> bool:
        """Whether somebody needs the label on the node."""
        return key in self.waiting or key in self.templates or key in self.running.get(node, ())


class Node(NamedTuple):
    """What has to be done about the labels of a node."""

    name: str
    gone: tuple[str, ...]
    """Labels that go."""
    kept: tuple[str, ...]
    """Labels that somebody needs."""


def node(body: Object, needs: Needs) -> Node:
    """Return which of the operator's labels leave a node."""
    name, labels = body["metadata"]["name"], body["metadata"].get("labels") or {}
    ours = sorted(key for key in labels if key.startswith(names.NODE_RESIDENCY_PREFIX))
    kept = tuple(key for key in ours if needs.on(name, key))
    machine = _present(labels, (names.NODE_MACHINE_LABEL,))
    return Node(name, (*(key for key in ours if key not in kept), *machine), kept)


def reasons(kept: Mapping[str, list[str]], needs: Needs) -> list[str]:
    """Return a sentence per residency label that stays: where, and who needs it.

    Args:
        kept: label -> nodes on which it stays.
        needs: who needs which.
    """
    said = []
    for key, nodes in sorted(kept.items()):
        bound = sum(needs.running[name][key] for name in nodes if name in needs.running)
        causes = [f"{needs.waiting[key]} pods that are not bound yet"] if needs.waiting[key] else []
        causes += [f"{bound} pods that are bound there"] if bound else []
        makers = sorted(needs.templates.get(key, ()))
        causes += makers[:_NAMED]
        causes += [f"{len(makers) - _NAMED} more templates"] if len(makers) > _NAMED else []
        said.append(f"{key} on {len(nodes)} nodes, selected by {', '.join(causes)}")
    return said

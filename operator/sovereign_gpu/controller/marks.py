"""Keeps the operator's marks right: labels of nodes, tenant and regions of namespaces.

The admission policies decide by these marks alone, also while the operator is down.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sovereign_gpu import names
from sovereign_gpu.cluster import patches
from sovereign_gpu.cluster.errors import ApiError, UncertainError
from sovereign_gpu.cluster.session import MERGE_PATCH
from sovereign_gpu.cluster.writer import Lane, Write, Writer
from sovereign_gpu.core import health, residency
from sovereign_gpu.core.engine import Engine

log = logging.getLogger(__name__)


class Clashes(NamedTuple):
    """What tenants have to be told about namespaces that more than one of them claims."""

    lost: dict[str, str]
    """Tenant -> sentence about namespaces that another one holds."""
    kept: dict[str, str]
    """Tenant -> sentence about namespaces that it holds and others claim."""


@dataclass(slots=True)
class Marks:
    """Compares what is with what should be, one object at a time."""

    engine: Engine
    writer: Writer
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    """(kind, name) of marks that were not accepted, with the answer; they are tried again."""
    moved: Counter[str] = field(default_factory=Counter)
    """Marks that somebody else changed and that were put right again, by kind."""
    on_moved: Callable[[str, str], None] | None = None
    """Told kind and name of each."""
    _right: dict[tuple[str, str], frozenset[tuple[str, str]]] = field(default_factory=dict)
    """Marks that were seen to be right, by kind and name."""
    _given: dict[str, str] = field(default_factory=dict)
    """Namespace -> tenant that was decided and that the watch does not show yet."""

    def node(self, name: str) -> None:
        """Correct the residency labels of one node, and record which machine it is."""
        node = self.engine.nodes.get(name)
        if node is None:
            self.refused.pop(("Node", name), None)
            return
        pool = self.engine.pools.get(self.engine.pool_of_node.get(name, ""))
        if pool is not None and pool.name in self.engine.clashes:
            pool = None
        wanted = residency.class_labels(node, pool, self.engine.policies.values())
        present = {
            key: value
            for key, value in node.labels.items()
            if key.startswith(names.NODE_RESIDENCY_PREFIX)
        }
        changes: dict[str, str | None] = dict.fromkeys(present.keys() - wanted.keys())
        changes.update(wanted.items() - present.items())
        if pool is not None and names.NODE_MACHINE_LABEL not in node.labels:
            # Once: afterwards only an administrator says that another machine may take the name.
            machine = health.identity(node)
            changes.update({names.NODE_MACHINE_LABEL: machine} if machine else {})
        self._watch("Node", name, present, wanted)
        if changes:
            self._write("Node", name, f"/api/v1/nodes/{name}", patches.metadata(labels=changes))

    def namespaces(self) -> None:
        """Correct every namespace that a tenant names."""
        for name, claimants in self._claims().items():
            self._namespace(name, claimants)

    def namespace(self, name: str) -> None:
        """Correct one namespace."""
        claimants = [t for t, spec in self.engine.tenants.items() if name in spec.namespaces]
        self._namespace(name, claimants)

    def clashes(self) -> Clashes:
        """Return who has to be told what about namespaces that are not theirs alone."""
        lost, kept = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
        for name, claimants in sorted(self._claims().items()):
            holder = self._holder(name, claimants)
            others = sorted(set(claimants) - {holder})
            for tenant in others if holder else ():
                lost[tenant].append(
                    f"{name} belongs to tenant {holder} and stays there until its label "
                    f"{names.TENANT_LABEL} is cleared by a holder of {'/'.join(names.RIGHT_ASSIGN)}"
                )
            if others and holder in claimants:
                kept[holder].append(f"{name} stays here and is also claimed by {', '.join(others)}")
        return Clashes(_sentences(lost), _sentences(kept))

    def orphaned(self) -> dict[str, list[str]]:
        """Return the namespaces that belong to a tenant which does not name them, by tenant."""
        found = defaultdict[str, list[str]](list)
        for name, namespace in sorted(self.engine.namespaces.items()):
            spec = self.engine.tenants.get(namespace.tenant)
            if namespace.tenant and (spec is None or name not in spec.namespaces):
                found[namespace.tenant].append(name)
        return dict(found)

    def _claims(self) -> dict[str, list[str]]:
        claims = defaultdict[str, list[str]](list)
        for tenant, spec in self.engine.tenants.items():
            for name in spec.namespaces:
                claims[name].append(tenant)
        return claims

    def _holder(self, name: str, claimants: list[str]) -> str:
        namespace = self.engine.namespaces.get(name)
        if namespace is None or namespace.deleting:
            self._given.pop(name, None)
            return ""
        if namespace.tenant:
            self._given.pop(name, None)
            return namespace.tenant
        # Until the watch shows our own patch, a second claimant must not overwrite the first.
        if self._given.get(name) not in claimants:
            self._given[name] = min(claimants)
        return self._given[name]

    def _namespace(self, name: str, claimants: list[str]) -> None:
        tenant = self._holder(name, claimants) if claimants else ""
        namespace = self.engine.namespaces.get(name)
        if namespace is None or tenant not in claimants:
            self.refused.pop(("Namespace", name), None)
            return
        in_force = [p for p in self.engine.pools.values() if p.name not in self.engine.clashes]
        wanted = residency.namespace_metadata(
            self.engine.tenants[tenant], self.engine.policies, in_force
        )
        self._watch("Namespace", name, dict(namespace.marks), wanted)
        if dict(namespace.marks) == wanted:
            return
        body = patches.metadata(
            labels={key: wanted.get(key) for key in names.NAMESPACE_LABELS},
            annotations={key: wanted.get(key) for key in names.NAMESPACE_ANNOTATIONS},
        )
        self._write("Namespace", name, f"/api/v1/namespaces/{name}", body)

    def _watch(
        self, kind: str, name: str, present: Mapping[str, str], wanted: Mapping[str, str]
    ) -> None:
        """Notice that marks which were right, and still would be, were changed by somebody."""
        right = frozenset(wanted.items())
        if present == wanted:
            self._right[kind, name] = right
        elif self._right.pop((kind, name), None) == right:
            self.moved[kind] += 1
            log.error("%s %s: somebody changed our marks; putting them right", kind, name)
            if self.on_moved is not None:
                self.on_moved(kind, name)

    def everything(self, nodes: Iterable[str]) -> None:
        """Compare all objects; after a change of configuration, and periodically."""
        for name in nodes:
            self.node(name)
        self.namespaces()

    def retry(self) -> None:
        """Compare those objects again whose marks were not accepted."""
        for kind, name in tuple(self.refused):
            if kind == "Node":
                self.node(name)
            else:
                self.namespace(name)

    def _write(self, kind: str, name: str, path: str, body: patches.Json) -> None:
        def answered(error: ApiError | UncertainError | None) -> None:
            if error is None:
                self.refused.pop((kind, name), None)
            else:
                self.refused[kind, name] = str(error)
                log.warning("marking %s %s: %s", kind, name, error)

        self.writer.submit(
            Write(Lane.STATE, f"{kind}/{name}", "PATCH", path, body, MERGE_PATCH, answered)
        )


def _sentences(parts: dict[str, list[str]]) -> dict[str, str]:
    return {tenant: "spec.namespaces: " + "; ".join(texts) for tenant, texts in parts.items()}

"""Keeps the operator's marks right: residency labels of nodes, tenant and regions of namespaces.

The admission policies decide by these marks alone, also while the operator is down.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from sovereign_gpu import names
from sovereign_gpu.cluster import patches
from sovereign_gpu.cluster.errors import ApiError, UncertainError
from sovereign_gpu.cluster.session import MERGE_PATCH
from sovereign_gpu.cluster.writer import Lane, Write, Writer
from sovereign_gpu.core import residency
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Namespace

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Marks:
    """Compares what is with what should be, one object at a time."""

    engine: Engine
    writer: Writer
    failed: set[tuple[str, str]] = field(default_factory=set)
    """(kind, name) of marks that were refused; tried again with the next periodic look."""
    clashing: dict[str, str] = field(default_factory=dict)
    """Tenant -> sentence about namespaces that another tenant holds."""

    def node(self, name: str) -> None:
        """Correct the residency labels of one node."""
        node = self.engine.nodes.get(name)
        if node is None:
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
        if present != wanted:
            changes: dict[str, str | None] = dict.fromkeys(present.keys() - wanted.keys())
            changes.update(wanted)
            self._write("Node", name, f"/api/v1/nodes/{name}", patches.metadata(labels=changes))

    def namespaces(self) -> None:
        """Correct every namespace that a tenant names."""
        self.clashing.clear()
        for tenant in sorted(self.engine.tenants):
            for name in self.engine.tenants[tenant].namespaces:
                self._namespace(tenant, name)

    def namespace(self, name: str) -> None:
        """Correct one namespace."""
        for tenant, spec in sorted(self.engine.tenants.items()):
            if name in spec.namespaces:
                self._namespace(tenant, name)

    def _namespace(self, tenant: str, name: str) -> None:
        namespace = self.engine.namespaces.get(name)
        if namespace is None or namespace.deleting:
            return
        if namespace.tenant not in ("", tenant):
            self.clashing[tenant] = (
                f"spec.namespaces: {name} belongs to tenant {namespace.tenant} and stays there "
                f"until its label {names.TENANT_LABEL} is cleared by a holder of "
                f"{'/'.join(names.RIGHT_ASSIGN)}"
            )
            return
        in_force = [p for p in self.engine.pools.values() if p.name not in self.engine.clashes]
        wanted = residency.namespace_metadata(
            self.engine.tenants[tenant], self.engine.policies, in_force
        )
        if _present(namespace) == wanted:
            return
        body = patches.metadata(
            labels={key: wanted.get(key) for key in names.NAMESPACE_LABELS},
            annotations={key: wanted.get(key) for key in names.NAMESPACE_ANNOTATIONS},
        )
        self._write("Namespace", name, f"/api/v1/namespaces/{name}", body)

    def everything(self, nodes: Iterable[str]) -> None:
        """Compare all objects; after a change of configuration, and periodically."""
        self.failed.clear()
        for name in nodes:
            self.node(name)
        self.namespaces()

    def _write(self, kind: str, name: str, path: str, body: patches.Json) -> None:
        def answered(error: ApiError | UncertainError | None) -> None:
            if error is not None:
                self.failed.add((kind, name))
                log.warning("marking %s %s: %s", kind, name, error)

        self.writer.submit(
            Write(Lane.STATE, f"{kind}/{name}", "PATCH", path, body, MERGE_PATCH, answered)
        )


def _present(namespace: Namespace) -> dict[str, str]:
    values = {
        names.TENANT_LABEL: namespace.tenant,
        names.ENFORCEMENT_LABEL: namespace.enforcement,
        names.RESIDENCY: namespace.residency,
        names.REGIONS: namespace.regions,
        names.WARN_RESIDENCY: namespace.warn_residency,
        names.WARN_REGIONS: namespace.warn_regions,
    }
    return {key: value for key, value in values.items() if value is not None}

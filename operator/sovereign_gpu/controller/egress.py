"""Writes the NetworkPolicy that confines packets of a tenant, and puts it back when it is gone.

NetworkPolicies add up, so one that allows little is enough to close the rest. What others may
still add is bounded by the admission policies.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from sovereign_gpu import names
from sovereign_gpu.cluster.errors import NOT_FOUND, ApiError, UncertainError
from sovereign_gpu.cluster.observed import Observed, canonical
from sovereign_gpu.cluster.patches import APPLY_PATCH
from sovereign_gpu.cluster.store import Store
from sovereign_gpu.cluster.writer import Lane, Write, Writer
from sovereign_gpu.core import residency
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.perimeter import Egress

log = logging.getLogger(__name__)

FIELD_MANAGER = "sovereign-gpu-egress"
_NAME_LABEL = "kubernetes.io/metadata.name"
_DNS = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {_NAME_LABEL: "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}


def spec(tenant: str, egress: Egress) -> dict[str, Any]:
    """Return the spec of a tenant's NetworkPolicy."""
    peers = [{"namespaceSelector": {"matchLabels": {names.TENANT_LABEL: tenant}}}]
    peers += [
        {"namespaceSelector": {"matchLabels": {_NAME_LABEL: name}}} for name in egress.namespaces
    ]
    blocks = [{"ipBlock": {"cidr": network}} for network in egress.networks]
    return {
        "podSelector": {},
        "policyTypes": ["Egress"],
        "egress": [{"to": [*peers, *blocks]}, _DNS],
    }


@dataclass(slots=True)
class EgressPolicies:
    """Compares what is with what should be, one namespace at a time."""

    engine: Engine
    writer: Writer
    store: Store[Observed]
    refused: dict[str, str] = field(default_factory=dict)
    """Namespace -> answer to a write that was not accepted; it is tried again."""

    def look(self) -> None:
        """Correct every namespace of a tenant."""
        for name, namespace in self.engine.namespaces.items():
            tenant = self.engine.tenants.get(namespace.tenant)
            if namespace.deleting or tenant is None or name not in tenant.namespaces:
                continue
            if residency.missing(tenant, self.engine.policies):
                continue  # which may be a gap: running pods keep the ways that they have
            self._correct(name, tenant.name, residency.egress(tenant, self.engine.policies))

    def _correct(self, namespace: str, tenant: str, egress: Egress | None) -> None:
        found = self.store.get(namespace)
        if egress is None:
            if found is not None:
                self._write(namespace, "DELETE", None)
            return
        wanted = spec(tenant, egress)
        if found is None or found.spec != canonical(wanted):
            self._write(
                namespace,
                "PATCH",
                {
                    "apiVersion": "networking.k8s.io/v1",
                    "kind": "NetworkPolicy",
                    "metadata": {"name": names.EGRESS_POLICY, "namespace": namespace},
                    "spec": wanted,
                },
            )

    def _write(self, namespace: str, method: str, body: dict[str, Any] | None) -> None:
        def answered(error: ApiError | UncertainError | None) -> None:
            gone = isinstance(error, ApiError) and error.status == NOT_FOUND
            if error is None or (gone and method == "DELETE"):
                self.refused.pop(namespace, None)
            else:
                self.refused[namespace] = str(error)
                log.warning("NetworkPolicy of namespace %s: %s", namespace, error)

        path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
        query = f"?fieldManager={FIELD_MANAGER}&force=true" if body else ""
        self.writer.submit(
            Write(
                Lane.STATE,
                f"NetworkPolicy/{namespace}",
                method,
                f"{path}/{names.EGRESS_POLICY}{query}",
                body,
                APPLY_PATCH,
                answered,
            )
        )

"""Which right shows what.

| right in the cluster | shows |
|---|---|
| list pods in a namespace | its pods, and the totals of its tenant |
| list tenantquotas | the totals of every tenant, by name |
| both, everywhere | every pod |
| list nodes | nodes by name |

Without them others appear in sums alone.
"""

from __future__ import annotations

from sovereign_gpu import names
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.views import Sight
from sovereign_gpu.readapi.reviews import Identity, Reviews


class ForbiddenError(Exception):
    """Somebody asks for more than they may see; the message says which right is missing."""


class Access:
    """What one person may see."""

    def __init__(self, reviews: Reviews, engine: Engine, who: Identity) -> None:
        self._reviews = reviews
        self._engine = engine
        self._who = who

    async def pods(self, namespace: str) -> Sight:
        """Return the sight of somebody who asks for pods of a namespace; empty: of all.

        Raises:
            ForbiddenError: they may not list them.
            ClusterError: the API server could not be asked.
        """
        await self._must_list_pods(namespace)
        if namespace:
            return Sight(frozenset({namespace}), self._tenant_of(namespace))
        if not await self._sees_tenants():
            raise self._refusal("tenantquotas.sovereign-gpu.io", "in the whole cluster")
        return Sight()

    async def tenants(self, namespace: str) -> Sight:
        """Return the sight of somebody who asks for tenants: all, or that of the namespace.

        Raises:
            ForbiddenError: they may see neither.
            ClusterError: the API server could not be asked.
        """
        if await self._sees_tenants():
            return Sight()
        await self._must_list_pods(namespace)
        return Sight(frozenset({namespace}), self._tenant_of(namespace))

    async def pools(self, namespace: str) -> frozenset[str] | None:
        """Return the pools that somebody may see: those of the namespace's tenant; None: all.

        Raises:
            ForbiddenError: they may see none.
            ClusterError: the API server could not be asked.
        """
        if await self.node_names() or await self._sees_tenants():
            return None
        await self._must_list_pods(namespace)
        tenant = self._engine.tenants.get(self._engine.tenant_of(namespace))
        return frozenset(share.pool for share in tenant.shares) if tenant else frozenset()

    async def node_names(self) -> bool:
        """Return whether they may see nodes by name."""
        return await self._reviews.may(self._who, "list", "nodes")

    async def must_see_nodes(self) -> None:
        """Do nothing.

        Raises:
            ForbiddenError: they may not see nodes by name.
            ClusterError: the API server could not be asked.
        """
        if not await self.node_names():
            raise self._refusal("nodes", "in the cluster")

    async def _sees_tenants(self) -> bool:
        return await self._reviews.may(self._who, "list", "tenantquotas", group=names.GROUP)

    async def _must_list_pods(self, namespace: str) -> None:
        if not await self._reviews.may(self._who, "list", "pods", namespace=namespace):
            where = f"in namespace {namespace}" if namespace else "in all namespaces"
            raise self._refusal("pods", where)

    def _refusal(self, resource: str, where: str) -> ForbiddenError:
        return ForbiddenError(f"{self._who.user} may not list {resource} {where}")

    def _tenant_of(self, namespace: str) -> frozenset[str]:
        return frozenset({self._engine.tenant_of(namespace)} - {""})

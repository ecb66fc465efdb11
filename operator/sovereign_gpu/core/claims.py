"""Nodes that are left to drain for pods that wait within their tenant's guarantee.

Without them a pod of eight GPUs could wait for ever beside smaller ones that take every device as
it becomes free. A claimed node takes no pod of a borrower, and none of a later pod; when its
present pods have ended, it is free for the one that waits, so a guarantee is served within the
longest running time of a pod.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sovereign_gpu.core.queue import Line


@dataclass(frozen=True, slots=True)
class Claim:
    """What one line of waiting pods claims in one pool."""

    line: Line
    key: tuple[int, float, str]
    """The line's place when it claimed; whoever is before it may go ahead."""
    nodes: int
    """A set of nodes (`feasibility`), one per pod."""


@dataclass(slots=True)
class Claims:
    """At most one claim per tenant and pool, and at most one per node."""

    of: dict[str, dict[str, Claim]] = field(default_factory=dict)
    """By pool, then tenant."""
    nodes: dict[str, int] = field(default_factory=dict)
    """All claimed nodes of each pool."""

    def get(self, tenant: str, pool: str) -> Claim | None:
        """Return the tenant's claim in the pool."""
        return self.of.get(pool, {}).get(tenant)

    def put(self, tenant: str, pool: str, claim: Claim | None) -> bool:
        """Replace the tenant's claim in the pool; returns whether a node became unclaimed."""
        claims = self.of.setdefault(pool, {})
        before = claims.pop(tenant, None)
        if claim is not None:
            claims[tenant] = claim
        had, has = (each.nodes if each is not None else 0 for each in (before, claim))
        self.nodes[pool] = self.nodes.get(pool, 0) & ~had | has
        if not claims:
            del self.of[pool], self.nodes[pool]
        return bool(had & ~has)

    def clear(self) -> None:
        """Give up all claims."""
        self.of.clear()
        self.nodes.clear()

    def pools_of(self, tenant: str) -> tuple[str, ...]:
        """Return the pools in which the tenant claims nodes."""
        return tuple(pool for pool, claims in self.of.items() if tenant in claims)

    def forget_node(self, pool: str, bit: int) -> None:
        """Take a node that leaves the pool out of the claim that has it."""
        if self.nodes.get(pool, 0) & bit:
            for tenant, claim in tuple(self.of[pool].items()):
                if claim.nodes & bit:
                    rest = claim.nodes & ~bit
                    kept = Claim(claim.line, claim.key, rest) if rest else None
                    self.put(tenant, pool, kept)

    def barred(self, tenant: str, pool: str, line: Line, *, borrows: bool) -> int:
        """Return the set of nodes that the line may not use, because others claim them."""
        nodes = 0
        place = line.key()
        for name, claim in self.of.get(pool, {}).items():
            if claim.line is line or place is None:
                continue
            # Priorities compare within a tenant only; between tenants the older one goes first.
            later = place > claim.key if name == tenant else place[1] > claim.key[1]
            if borrows or later:
                nodes |= claim.nodes
        return nodes

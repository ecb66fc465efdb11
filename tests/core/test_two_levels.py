"""With all tenants asking for ever, each has its guarantee and its weighted part of the rest.

The property that the product promises to a platform team: whatever the pool looks like when
everybody begins to ask – here one tenant borrows all of it – one job length later each tenant
holds its guarantee, and what is guaranteed to nobody is divided by weight.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from random import Random

import pytest

from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.fairshare import History
from sovereign_gpu.core.model import Namespace, Pod, Share, Tenant
from tests.core.build import munich, node, plan, pod, policy

NODES, ON_A_NODE = 12, 8
GPUS = NODES * ON_A_NODE
LENGTH = 1000.0
"""Longest running time of a pod, in seconds."""
BACKLOG = 2 * GPUS
"""GPUs that every tenant asks for beyond what it has, at all times."""


@dataclass
class Life:
    """An engine in virtual time; pods end when their time is over and new ones are asked for."""

    rng: Random
    tenants: tuple[Tenant, ...]
    sizes: tuple[int, ...]
    engine: Engine = field(default_factory=Engine)
    now: float = 0.0
    ends: list[tuple[float, str]] = field(default_factory=list)
    lasts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine.configure([munich()], self.tenants, [policy()])
        for each in self.tenants:
            self.engine.put_namespace(Namespace(each.namespaces[0], each.name))
        for number in range(NODES):
            self.engine.put_node(node(f"n{number:02}", ON_A_NODE))

    def ask(self, tenant: Tenant) -> None:
        """Top the tenant's queue up."""
        queue = self.engine.queues.get(tenant.name)
        waiting = sum(line.gpus for line in queue.lines.values()) if queue else 0
        while waiting < BACKLOG:
            new = pod(self.rng.choice(self.sizes), tenant.namespaces[0], created=self.now)
            self.lasts[new.uid] = self.rng.uniform(0.1, 1.0) * LENGTH
            self.engine.put_pod(new)
            waiting += new.demand.gpus

    def start(self) -> None:
        """Let everything start that may, and be bound where it was planned."""
        for release in plan(self.engine):
            bound = Pod(
                uid=release.pod.uid,
                namespace=release.pod.namespace,
                name=release.pod.name,
                created=release.pod.created,
                demand=release.pod.demand,
                constraints=release.pod.constraints,
                pool=release.pool,
                node=release.node,
            )
            heapq.heappush(self.ends, (self.now + self.lasts[bound.uid], bound.uid))
            self.engine.put_pod(bound)

    def run(self, until: float, asking: tuple[Tenant, ...]) -> None:
        """Go on until then, with these tenants asking for ever."""
        while True:
            for tenant in asking:
                self.ask(tenant)
            self.start()
            if not self.ends or self.ends[0][0] > until:
                break
            self.now, uid = heapq.heappop(self.ends)
            self.engine.advance(self.now)
            self.engine.remove_pod(uid)
        self.now = until
        self.engine.advance(self.now)

    def holds(self, tenant: Tenant) -> int:
        """Return the GPUs that a tenant holds."""
        return self.engine.ledger.counted(tenant.name, "munich")


def tenants(rng: Random) -> tuple[Tenant, ...]:
    """Four tenants with guarantees of whole nodes that leave a third of the pool to nobody."""
    guarantees = rng.choice(((0, 16, 16, 32), (8, 8, 24, 24), (16, 16, 16, 16), (0, 0, 8, 56)))
    return tuple(
        Tenant(
            name=f"tenant-{number}",
            namespaces=(f"tenant-{number}",),
            policies=("eu",),
            shares=(Share("munich", guaranteed, borrowing_limit=GPUS),),
            weight=rng.choice((1, 2, 3, 5)),
        )
        for number, guaranteed in enumerate(guarantees)
    )


def begun(seed: int, sizes: tuple[int, ...]) -> Life:
    """One tenant has borrowed everything; then all begin to ask."""
    rng = Random(seed)  # noqa: S311 – repeatable on purpose
    made = tenants(rng)
    engine = Engine(history=History(half_life=1e15))  # as good as no memory
    life = Life(rng, made, sizes, engine)
    life.run(3 * LENGTH, made[:1])
    assert life.holds(made[0]) > 0.8 * GPUS
    life.run(life.now + LENGTH, made)
    return life


@pytest.mark.parametrize("seed", range(12))
def test_one_job_length_brings_the_guarantee_and_the_weighted_part_of_the_rest(seed: int) -> None:
    life = begun(seed, sizes=(1,))
    rest = GPUS - sum(each.shares[0].guaranteed for each in life.tenants)
    weights = sum(each.weight for each in life.tenants)
    for each in life.tenants:
        surplus = life.holds(each) - each.shares[0].guaranteed
        assert abs(surplus - rest * each.weight / weights) <= 1, each
    assert sum(map(life.holds, life.tenants)) == GPUS


@pytest.mark.parametrize("seed", range(12))
def test_pods_of_whole_nodes_reach_their_guarantee_as_soon(seed: int) -> None:
    life = begun(seed, sizes=(1, 2, 4, 8))
    for each in life.tenants:
        # A pod that is larger than what is left of the guarantee cannot use it.
        assert life.holds(each) > each.shares[0].guaranteed - ON_A_NODE, each


def test_history_lets_the_newcomer_go_first_and_fades() -> None:
    rng = Random(7)  # noqa: S311 – repeatable on purpose
    old, new = (
        Tenant(name, (name,), ("eu",), (Share("munich", 0, borrowing_limit=GPUS),))
        for name in ("a-old", "b-new")
    )
    life = Life(rng, (old, new), (1,), Engine(history=History(half_life=2 * LENGTH)))
    life.run(20 * LENGTH, (old,))  # borrows everything for ten half-lives
    share = []
    for _ in range(12):
        life.run(life.now + LENGTH, (old, new))
        share.append(life.holds(new) / GPUS)
    assert share[0] > 0.7
    assert all(later <= before for before, later in itertools.pairwise(share[3:]))
    assert abs(share[-1] - 0.5) < 0.05

"""Checks that the engine's books agree with themselves and with what the engine was shown."""

from __future__ import annotations

from collections import Counter, defaultdict

from sovereign_gpu import names
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.placement import ask
from tests.core import reference
from tests.core.oracle import Shown, check


def audit(engine: Engine, shown: Shown) -> None:
    """Check charges, totals, queues, pools and floors, all computed anew."""
    _pools(engine, shown)
    _charges(engine, shown)
    _totals(engine)
    _lending(engine)
    _claims(engine)
    _queues(engine, shown)
    _floors(engine)
    _faults(engine)


def _pools(engine: Engine, shown: Shown) -> None:
    check(engine.nodes == shown.nodes, "nodes differ")
    check(engine.pods == shown.pods, "pods differ")
    asked = Counter(ask(p.demand, p.constraints) for p in shown.pods.values() if p.demand.gpus)
    check(engine.mix.asks == asked, "mix", engine.mix.asks, "instead of", asked)
    check(set(engine.clashes) == reference.out_of_force(shown.pools.values()), "clashes")
    for node in shown.nodes.values():
        claims = reference.claims(node, shown.pools.values())
        home = engine.pool_of_node.get(node.name, "")
        check(home in claims if claims else not home, node.name, "is in", home, "not", claims)
    check(engine.pool_of_node.keys() <= shown.nodes.keys(), "a pool keeps nodes that are gone")


def _charges(engine: Engine, shown: Shown) -> None:
    wanted = {uid: tuple(account) for uid, account in shown.accounts().items()}
    charged = {
        uid: (c.tenant, c.pool, c.node, c.demand, c.bound)
        for uid, c in engine.ledger.charges.items()
    }
    check(charged == wanted, "charged", charged, "instead of", wanted)
    check(engine.assumed.keys() == shown.decided.keys(), "assumed", engine.assumed)


def _totals(engine: Engine) -> None:
    ledger = engine.ledger
    used: Counter[tuple[str, str]] = Counter()
    reserved: Counter[tuple[str, str]] = Counter()
    loads: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    by_node = defaultdict(set)
    for uid, charge in ledger.charges.items():
        (used if charge.bound else reserved)[charge.tenant, charge.pool] += charge.demand.gpus
        by_node[charge.node].add(uid)
        if charge.node:
            load = loads[charge.node]
            for part in range(3):
                load[part] += charge.demand[part]
            load[3] += charge.demand.gpus * charge.bound
    booked = {key: (usage.used, usage.reserved) for key, usage in ledger.usage.items()}
    check(booked == {key: (used[key], reserved[key]) for key in +used | +reserved}, "usage")
    per_pool: Counter[str] = Counter()
    for (_, pool), gpus in reserved.items():
        per_pool[pool] += gpus
    check(ledger.reserved_in == +per_pool, "reserved", ledger.reserved_in)
    carried = {n: [x.gpus, x.cpu, x.memory, x.bound_gpus] for n, x in ledger.loads.items()}
    check(carried == {node: load for node, load in loads.items() if any(load)}, "loads")
    check(ledger.by_node == by_node, "by node")


def _queues(engine: Engine, shown: Shown) -> None:
    places = Counter(dict.fromkeys(engine.stopped, 1))
    for tenant, queue in engine.queues.items():
        check(len(queue) > 0, "an empty queue stays:", tenant)
        check(sum(len(s.lines) for s in queue.sizes.values()) == len(queue.lines), "sizes")
        for shape, line in queue.lines.items():
            check(line.members, "an empty line stays:", shape)
            for uid, pod in line.members.items():
                places[uid] += 1
                check(pod == shown.pods[uid], "an old state waits:", pod)
                check(queue.line_of(uid) is line, "stands elsewhere:", pod)
                check(shown.tenant_of(pod) == tenant, "waits for another tenant:", pod)
                check(engine.tenants.get(tenant), "waits for no tenant:", pod)
    gated = {
        uid
        for uid, pod in shown.pods.items()
        if names.GATE in pod.gates and not pod.deleting and uid not in shown.decided
    }
    check(set(places) == gated, "waiting", set(places), "instead of", gated)
    check(all(count == 1 for count in places.values()), "stands in two lines:", places)


def _floors(engine: Engine) -> None:
    check(engine.floors.keys() == engine.pools.keys(), "floors", engine.floors.keys())
    for name, floor in engine.floors.items():
        pool = engine.pools[name]
        mine = [engine.nodes[n] for n, home in engine.pool_of_node.items() if home == name]
        check(
            engine.census.largest(name) == max((n.capacity.gpus for n in mine), default=0),
            "largest node of",
            name,
        )
        spare = 0
        usable = [n for n in mine if reference.usable(n, pool) and name not in engine.clashes]
        check(floor.seats.keys() == {n.name for n in usable}, "seats of", name)
        for node in usable:
            load = engine.ledger.loads.get(node.name)
            gpus, bound = (load.gpus, load.bound_gpus) if load else (0, 0)
            seat = floor.seats[node.name]
            check(seat.free.gpus == max(0, node.allocatable.gpus - gpus), "free on", node.name)
            spare += max(0, node.allocatable.gpus - bound)
        check(floor.spare == spare, "spare of", name)


def _faults(engine: Engine) -> None:
    lost: Counter[str] = Counter()
    for name, home in engine.pool_of_node.items():
        node, pool = engine.nodes[name], engine.pools[home]
        wanted = reference.faults(node, pool)
        found = {str(fault.kind) for fault in engine.faults.of.get(name, ())}
        check(found == wanted, "faults of", name, found, "instead of", wanted)
        room = 0 if wanted - {"DevicesUnhealthy"} else node.allocatable.gpus
        lost[home] += max(0, node.capacity.gpus - room)
    check(engine.faults.of.keys() <= engine.pool_of_node.keys(), "faults of nodes in no pool")
    check(+engine.faults.lost == +lost, "lost", engine.faults.lost, "instead of", lost)


def _lending(engine: Engine) -> None:
    borrowed: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    shares = {(t.name, s.pool): s for t in engine.tenants.values() for s in t.shares}
    for key in {*shares, *engine.ledger.usage}:
        if key[0]:
            counted, share = engine.ledger.counted(*key), shares.get(key)
            borrowed[key[1]] += max(0, counted - (share.guaranteed if share else 0))
            if share is not None and share.lending_limit is not None:
                kept[key[1]] += max(0, share.guaranteed - share.lending_limit - counted)
    check(engine.lending.borrowed == +borrowed, "borrowed", engine.lending.borrowed)
    check(engine.lending.kept == +kept, "kept", engine.lending.kept)


def _claims(engine: Engine) -> None:
    for pool, claims in engine.claims.of.items():
        mine = sum(engine.feasible.bits[n] for n, p in engine.pool_of_node.items() if p == pool)
        together = 0
        for tenant, claim in claims.items():
            check(claim.nodes, "an empty claim stays:", tenant)
            check(not claim.nodes & together, "two claim one node of", pool)
            check(claim.nodes & ~mine == 0, "claims a node of another pool:", tenant)
            together |= claim.nodes
            check(tenant in engine.queues, "claims for nobody:", tenant)
            if tenant not in engine.due:
                gpus = claim.line.shape.demand.gpus * claim.nodes.bit_count()
                counted = engine.ledger.counted(tenant, pool)
                guaranteed = engine.lending.shares[tenant, pool].guaranteed
                check(claim.nodes.bit_count() <= len(claim.line.members), "claims too many")
                check(counted + gpus <= guaranteed, "claims beyond the guarantee:", tenant)
        check(together == engine.claims.nodes[pool], "claimed nodes of", pool)
    check(engine.claims.nodes.keys() == engine.claims.of.keys(), "claimed pools")


def nothing_is_left(engine: Engine) -> None:
    """Check that an engine whose cluster is empty remembers nothing."""
    ledger = engine.ledger
    left = {
        "pods": engine.pods,
        "nodes": engine.nodes,
        "namespaces": engine.namespaces,
        "charges": ledger.charges,
        "usage": ledger.usage,
        "loads": ledger.loads,
        "reserved": ledger.reserved_in,
        "by node": ledger.by_node,
        "queues": engine.queues,
        "stopped": engine.stopped,
        "assumed": engine.assumed,
        "borrowed": engine.lending.borrowed,
        "kept": engine.lending.kept,
        "parts": engine.lending._parts,  # noqa: SLF001
        "claims": engine.claims.of,
        "capacity": engine.capacity.of,
        "pools of nodes": engine.pool_of_node,
        "floors": engine.floors,
        "barred": engine.barred,
        "blocked": engine.blocked,
        "due": engine.due,
        "queue of": engine._queue_of,  # noqa: SLF001 – leaks hide in private places
        "pods in": engine._pods_in,  # noqa: SLF001
        "faults": engine.faults.of,
        "lost": engine.faults.lost,
        "fault shares": engine.faults._share,  # noqa: SLF001
        "mix": engine.mix.asks,
        "census": engine.census._of,  # noqa: SLF001
        "sizes": engine.census._sizes,  # noqa: SLF001
        "bits": engine.feasible.bits,
        "labels": engine.feasible._labels,  # noqa: SLF001
        "taints": engine.feasible._tainted,  # noqa: SLF001
        "answers": engine.feasible._answers,  # noqa: SLF001
    }
    for name, content in left.items():
        check(not content, name, "are left:", content)

"""A cluster that changes at random under a real `Drift`, and an oracle that judges its evictions.

The oracle knows the rules from their description and shares no code with the product but the
records. Pods are told to the operator late; answers to its writes come late, wrong, or never.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random

from sovereign_gpu import names
from sovereign_gpu.cluster.errors import ApiError, UncertainError, UnwantedError
from sovereign_gpu.cluster.writer import Lane, Write
from sovereign_gpu.controller.drift import Drift
from sovereign_gpu.controller.events import Events
from sovereign_gpu.controller.evictions import Evictions
from sovereign_gpu.core.drift import Judge
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import (
    Constraints,
    Namespace,
    Node,
    Owner,
    Pod,
    Policy,
    Pool,
    Resources,
    Tenant,
)

COUNTRIES = {"munich": "DE", "paris": "FR", "ohio": "US"}
TENANTS = ("acme", "bolt", "crow")
GRACES = (0, 1, 30, 300)
ROOM = Resources(8, 64_000, 1 << 40)
EPOCH = 1_800_000_000.0
Flight = tuple[Write, float]
"""A write that was sent and not answered, and when it was sent."""


@dataclass
class World:
    """What the API server holds, the operator, and the oracle's notes."""

    rng: Random
    now: float = 1000.0
    pools: dict[str, Pool] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    tenants: dict[str, tuple[str, ...]] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    untold: set[str] = field(default_factory=set)
    """Pods whose newest state the operator has not seen."""
    flights: list[Flight] = field(default_factory=list)
    guarded: set[str] = field(default_factory=set)
    """Pods behind a disruption budget that allows nothing."""
    kind: bool = False
    """Every write is accepted and everything is told at once."""
    notices: dict[str, dict[str, float]] = field(default_factory=dict)
    """Pod -> policy -> when the notice that names it was sent, as long as the pod carries it."""
    asked: dict[str, float] = field(default_factory=dict)
    """Evictions under way or accepted: when they were asked for."""
    evicted: list[str] = field(default_factory=list)
    engine: Engine = field(init=False)
    drift: Drift = field(init=False)

    def __post_init__(self) -> None:
        rng = self.rng
        self.pools = {
            name: Pool(name, country, f"{name}-1", labelled=True)
            for name, country in COUNTRIES.items()
        }
        for number in range(rng.randint(2, 4)):
            self.policies[f"p{number}"] = self.policy(f"p{number}", 1)
        for name in TENANTS:
            self.tenants[name] = self._choice_of_policies()
        for number in range(rng.randint(3, 12)):
            self.nodes[f"n{number}"] = self.node(f"n{number}", rng.choice(["munich", "paris"]))
        for _ in range(rng.choice([3, 20, 60, 150, 260])):
            self.add_pod()
        self.start()

    # --- things -------------------------------------------------------------------------------
    def policy(self, name: str, generation: int) -> Policy:
        countries = frozenset(c for c in COUNTRIES.values() if self.rng.random() < 0.75)
        return Policy(
            name,
            countries,
            enforced=self.rng.random() < 0.9,
            evicts=self.rng.random() < 0.75,
            grace=self.rng.choice(GRACES),
            confirmed=generation if self.rng.random() < 0.4 else 0,
            generation=generation,
        )

    def node(self, name: str, pool: str) -> Node:
        labels = {names.NODE_POOL_LABEL: pool, names.REGION_LABEL: f"{pool}-1"}
        return Node(name, labels, (), ROOM, ROOM, ready=True, unschedulable=False)

    def _choice_of_policies(self) -> tuple[str, ...]:
        count = self.rng.randint(1, len(self.policies))
        return tuple(sorted(self.rng.sample(sorted(self.policies), count)))

    def add_pod(self) -> None:
        name = self.rng.choice(sorted(self.nodes))
        uid = f"pod-{len(self.pods)}-{self.rng.getrandbits(40)}"
        owner = Owner("v1", "Node", name, "n") if self.rng.random() < 0.02 else None
        self.pods[uid] = Pod(
            uid,
            f"{self.rng.choice(TENANTS)}-space",
            uid,
            0.0,
            Resources(1, 1, 1),
            Constraints(),
            node=name,
            pool=self.nodes[name].labels.get(names.NODE_POOL_LABEL, ""),
            owner=owner,
        )
        self.untold.add(uid)

    # --- the operator -------------------------------------------------------------------------
    def start(self) -> None:
        """Start an operator that knows nothing but what the API server holds."""
        for flight in self.flights:
            if self.rng.random() < 0.5:
                self.land(flight)
            elif is_eviction(flight[0]):
                self.asked.pop(uid_of(flight[0]), None)
        self.flights.clear()
        self.engine = Engine()
        events = Events(self, "holder")  # type: ignore[arg-type]
        evictions = Evictions(self.engine, self, events, clock=lambda: self.now)  # type: ignore[arg-type]
        self.drift = Drift(Judge(self.engine), evictions, clock=lambda: self.now)
        for name in TENANTS:
            self.engine.put_namespace(Namespace(f"{name}-space", name))
        self.configure()
        for name in self.nodes:
            self.tell_node(name)
        self.untold = set(self.pods)
        self.tell_pods(everything=True)

    def configure(self) -> None:
        tenants = [Tenant(n, (f"{n}-space",), p, ()) for n, p in self.tenants.items()]
        self.engine.configure(self.pools.values(), tenants, self.policies.values())
        self.drift.judge.everything()

    def tell_node(self, name: str) -> None:
        known = self.nodes.get(name)
        if known is None:
            self.engine.remove_node(name)
        else:
            self.engine.put_node(known)
        self.drift.judge.node(name)

    def tell_pods(self, *, everything: bool = False) -> None:
        for uid in sorted(self.untold):
            if everything or self.rng.random() < 0.7:
                self.untold.discard(uid)
                if uid in self.pods:
                    self.engine.put_pod(self.pods[uid])
                else:
                    self.engine.remove_pod(uid)
                self.drift.judge.pod(uid)

    def look(self) -> None:
        self.drift.look(EPOCH + self.now)

    # --- the writer and the API server --------------------------------------------------------
    def queued(self, _: Lane) -> int:
        return len(self.flights)

    def submit(self, write: Write) -> None:
        if write.path.endswith("/events"):
            write.done(None)
            return
        if is_eviction(write):
            self.judge(uid_of(write))
            self.asked[uid_of(write)] = self.now
        else:
            self.flights = [each for each in self.flights if each[0].key != write.key]
        self.flights.append((write, self.now))

    def answer(self) -> None:
        """Answer some of the writes, truly or not."""
        flights, self.flights = self.flights, []
        for flight in flights:
            write, _ = flight
            if not write.wanted():
                self.undone(write, UnwantedError())
                continue
            fate = 0.0 if self.kind else self.rng.random()
            if is_eviction(write) and fate < 0.75:
                self.check_guilt(uid_of(write))
            if fate < 0.6:
                write.done(self.land(flight))
            elif fate < 0.7:
                self.undone(write, ApiError(self.rng.choice([403, 409, 422]), "scripted"))
            elif fate < 0.75:
                self.land(flight)
                write.done(UncertainError("landed, and nobody knows"))
            elif fate < 0.8:
                write.done(UncertainError("never arrived"))
            else:
                self.flights.append(flight)

    def undone(self, write: Write, error: ApiError) -> None:
        if is_eviction(write):
            self.asked.pop(uid_of(write), None)
        write.done(error)

    def land(self, flight: Flight) -> ApiError | None:
        """Let a write take effect; return what the API server would say."""
        write, sent_at = flight
        uid = uid_of(write)
        pod = self.pods.get(uid)
        if pod is None:
            return ApiError(404, "not found")
        self.untold.add(uid)
        if not is_eviction(write):
            text = write.body["metadata"]["annotations"][names.DRIFT_NOTICE]
            self.pods[uid] = replace(pod, notice=text or "")
            self.note(uid, text, sent_at)
            return None
        if uid in self.guarded:
            self.asked.pop(uid, None)
            blocked = ApiError(429, "would violate the pod's disruption budget")
            blocked.budget = True
            return blocked
        del self.pods[uid]
        self.notices.pop(uid, None)
        self.evicted.append(uid)
        return None

    # --- the oracle ---------------------------------------------------------------------------
    def note(self, uid: str, text: str | None, sent_at: float) -> None:
        before = self.notices.pop(uid, {})
        if text:
            named = json.loads(text)["policies"]
            self.notices[uid] = {policy: before.get(policy, sent_at) for policy in named}

    def running(self) -> list[Pod]:
        return [pod for pod in self.engine.pods.values() if pod.node]

    def broken(self, pod: Pod) -> set[str]:
        """Policies that do not allow where the pod is, by what the operator was told."""
        node = self.nodes.get(pod.node)
        if node is None:
            return set()
        pool = self.pools.get(node.labels.get(names.NODE_POOL_LABEL, ""))
        here = pool is not None and node.labels.get(names.REGION_LABEL) == pool.region
        country = pool.country if pool is not None and here else None
        held = self.tenants.get(pod.namespace.removesuffix("-space"), ())
        return {
            name
            for name in held
            if name in self.policies and country not in self.policies[name].countries
        }

    def guilty(self) -> set[str]:
        """Pods that must go sooner or later."""
        free = self.free()
        return {pod.uid for pod in self.pods.values() if self.guilty_by(pod, free)}

    def guilty_by(self, pod: Pod, free: set[str]) -> set[str]:
        """Of the policies that need no confirmation, those that want the pod gone."""
        node = self.nodes.get(pod.node)
        static = pod.owner is not None and pod.owner.kind == "Node"
        if node is None or static or pod.deleting:
            return set()
        label = node.labels.get(names.NODE_POOL_LABEL)
        if label is not None and label not in self.pools:
            return set()
        if pod.pool and pod.pool not in self.pools:
            return set()
        return self.broken(pod) & free

    def free(self) -> set[str]:
        """Policies that evict and that few pods offend, or that are confirmed."""
        running = self.running()
        affected = Counter(name for pod in running for name in self.broken(pod))
        return {
            name
            for name, policy in self.policies.items()
            if policy.evicts
            and policy.enforced
            and (affected[name] * 100 <= 5 * len(running) or policy.confirmed == policy.generation)
        }

    def check_guilt(self, uid: str) -> set[str]:
        """Complain if nobody may evict the pod; return the policies that may."""
        by = self.guilty_by(self.engine.pods[uid], self.free())
        assert by, f"{uid} is innocent"
        return by

    def judge(self, uid: str) -> None:
        """Complain about an eviction that should not have been asked for."""
        by = self.check_guilt(uid)
        noticed = self.notices.get(uid, {})
        over = {p for p in by if p in noticed and self.now >= noticed[p] + self.policies[p].grace}
        assert over or uid not in self.pods, f"{uid} before its time: {by} {noticed} {self.now}"
        minute = [at for at in self.asked.values() if self.now - at < 60.0]
        limit = max(10, len(self.running()) // 100)
        assert len(minute) < limit, f"{len(minute)} in a minute"


def is_eviction(write: Write) -> bool:
    """Whether a write evicts."""
    return write.path.endswith("/eviction")


def uid_of(write: Write) -> str:
    """Return the pod that a write is about; names are uids here."""
    path = write.path.removesuffix("/eviction")
    return path.rpartition("/")[2]

"""Drives an engine through a random life, as informers, writer and API server would.

One `Drive` owns a world, an engine and the judge. Between the world and the engine lie the ways
in which news and answers go wrong: late, twice, in another order, overtaken, lost until the next
relist; patches that landed without an answer, or late, or never; restarts at any moment. Every
choice comes from one seeded generator, so a failure is repeated by its seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from random import Random
from typing import NamedTuple

from sovereign_gpu import names
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Pod, Release
from tests.core import books, oracle
from tests.core.oracle import Shown, check
from tests.core.world import World


class Read(NamedTuple):
    """What the API server showed of a pod when it was read; it may be old when it arrives."""

    uid: str
    state: Pod | None
    refusal: str


@dataclass(slots=True)
class Drive:
    """One life of a cluster."""

    seed: int
    rng: Random = field(init=False)
    world: World = field(init=False)
    engine: Engine = field(init=False)
    shown: Shown = field(init=False)
    flights: dict[str, Release] = field(default_factory=dict)
    """Patches that were sent and not answered."""
    reads: list[Read] = field(default_factory=list)
    """Pods that were read again after a refusal, the answer still on its way."""
    stored: set[str] = field(default_factory=set)
    """Pods in the informer's store: only of these can it notice that they are gone."""
    counts: Counter[str] = field(default_factory=Counter)
    """Steps by what they did, and decisions."""

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)  # noqa: S311 – repeatable on purpose
        self.world = World(self.rng)
        self.start()

    def run(self, steps: int) -> None:
        """Take steps; every one is followed by the checks that cost little."""
        drawn = self.rng.choices(_STEPS, cum_weights=_WEIGHTS, k=steps)
        for number, step in enumerate(drawn):
            self.counts[step.__name__] += 1
            try:
                step(self)
                if number % 16 == 0:
                    books.audit(self.engine, self.shown)
            except Exception as error:
                error.add_note(f"seed {self.seed}, step {number}: {step.__name__}")
                raise

    # --- the operator's process ---------------------------------------------------------------
    def start(self) -> None:
        """Start an operator: patches of the last one land or not, then everything is listed."""
        for release in self.flights.values():
            if self.rng.random() < 0.5:
                self.world.land(release)
        self.flights.clear()
        self.reads.clear()
        self.stored.clear()
        self.engine, self.shown = Engine(claims=oracle.NotedClaims()), Shown()
        self.world.history.clear()
        for uids in self.world.changed.values():
            uids.clear()
        news: list[Callable[[], None]] = [partial(self._show_pod, uid) for uid in self.world.pods]
        news += [partial(self._show_node, name) for name in self.world.nodes]
        news += [partial(self._show_namespace, name) for name in self.world.namespaces]
        news += [self._show_configuration] * self.rng.randrange(3)
        self.rng.shuffle(news)
        for tell in (*news, self._show_configuration):
            tell()

    def _show_pod(self, uid: str) -> None:
        pod = self.world.pods.get(uid)
        if pod is None:
            if uid in self.stored:
                self.stored.discard(uid)
                self.engine.remove_pod(uid)
                self.shown.remove(uid)
        else:
            self.stored.add(uid)
            self.engine.put_pod(pod)
            self.shown.put(pod)

    def _show_node(self, name: str) -> None:
        node = self.world.nodes.get(name)
        if node is None:
            self.engine.remove_node(name)
            self.shown.nodes.pop(name, None)
        else:
            self.engine.put_node(node)
            self.shown.nodes[name] = node
        self.shown.home = dict(self.engine.pool_of_node)

    def _show_namespace(self, name: str) -> None:
        namespace = self.world.namespaces.get(name)
        known = self.shown.namespaces.pop(name, None)
        if namespace is None:
            self.engine.remove_namespace(name)
        else:
            self.engine.put_namespace(namespace)
            self.shown.namespaces[name] = namespace
        if (known.tenant if known else "") != (namespace.tenant if namespace else ""):
            gone = {u for u in self.shown.refused if self.shown.pods[u].namespace == name}
            self.shown.refused -= gone

    def _show_configuration(self) -> None:
        world, shown = self.world, self.shown
        world.configuration_changed = False
        self.engine.configure(world.pools.values(), world.tenants.values(), world.policies.values())
        shown.pools, shown.tenants = dict(world.pools), dict(world.tenants)
        shown.policies = dict(world.policies)
        shown.home = dict(self.engine.pool_of_node)
        shown.refused.clear()

    # --- steps: the world ------------------------------------------------------------------
    def create(self) -> None:
        self.world.create_pod()

    def end(self) -> None:
        self.world.end_pod()

    def touch(self) -> None:
        self.world.touch_pod()

    def schedule(self) -> None:
        self.world.schedule()

    def change_node(self) -> None:
        self.world.change_node()

    def change_namespace(self) -> None:
        self.world.change_namespace()

    def write_configuration(self) -> None:
        self.world.configure()

    # --- steps: the watch --------------------------------------------------------------------
    def deliver(self) -> None:
        """Deliver a few pieces of news, in any order over kinds and objects."""
        for _ in range(self.rng.randrange(1, 4)):
            kind = self.world.pick(("pod", "pod", "pod", "node", "namespace", "configuration"))
            self._deliver(kind)

    def _deliver(self, kind: str) -> None:
        if kind == "configuration":
            if self.world.configuration_changed:
                self._show_configuration()
            return
        changed = self.world.changed[kind]
        if changed:
            key = self.world.pick(sorted(changed))
            changed.discard(key)
            self._show(kind, key)

    def _show(self, kind: str, key: str) -> None:
        shows: dict[str, Callable[[str], None]] = {
            "pod": self._show_pod,
            "node": self._show_node,
            "namespace": self._show_namespace,
        }
        shows[kind](key)

    def deliver_twice(self) -> None:
        """Deliver an object again that did not change since."""
        kind, objects = self.world.pick(
            (
                ("pod", tuple(self.shown.pods)),
                ("node", tuple(self.shown.nodes)),
                ("namespace", tuple(self.shown.namespaces)),
            )
        )
        if objects:
            self._show(kind, self.world.pick(objects))

    def deliver_stale(self) -> None:
        """Deliver an older state of a pod after a newer one: a read had overtaken the watch."""
        history = self.world.history
        if history:
            uid = self.world.pick(tuple(history))
            state = self.world.pick(history[uid])
            self.stored.add(uid)
            self.engine.put_pod(state)
            self.shown.put(state)

    def lose(self) -> None:
        """Lose some news: a watch broke; the next relist repairs it."""
        changed = self.world.changed[self.world.pick(("pod", "node", "namespace"))]
        if changed:
            changed.discard(self.world.pick(sorted(changed)))

    def relist(self) -> None:
        """List everything: what was missed arrives, what is gone is noticed."""
        world, shown = self.world, self.shown
        news = [("pod", key) for key in {*world.pods, *self.stored}]
        news += [("node", key) for key in {**world.nodes, **shown.nodes}]
        news += [("namespace", key) for key in {**world.namespaces, **shown.namespaces}]
        self.rng.shuffle(news)
        for kind, key in news:
            world.changed[kind].discard(key)
            self._show(kind, key)

    # --- steps: decisions and answers ---------------------------------------------------------
    def plan(self) -> None:
        self._plan(self.world.pick((0, 1, 2, 3, 64)))

    def _plan(self, limit: int) -> int:
        claimed = oracle.claimed(self.engine)
        releases = self.engine.plan(limit)
        check(len(releases) <= limit, "more than asked for")
        alive = self.world.pods
        self.counts["decisions"] += oracle.judge_plan(
            self.shown, alive, releases, self.engine, claimed
        )
        for release in releases:
            self.flights[release.pod.uid] = release
        if len(releases) < limit and not self.engine.due:
            oracle.judge_rest(self.shown, self.engine)
        return len(releases)

    def answer(self) -> None:
        """Let the API server act on one patch, and the answer arrive or not."""
        if self.flights:
            release = self.flights[self.world.pick(tuple(self.flights))]
            outcome = self.rng.random()
            if outcome < 0.5:
                self._settle(release)
            elif outcome < 0.65:
                self.world.land(release)  # and the answer is lost
            elif outcome < 0.8:
                self._look_again(release, "not allowed now")
            # else neither patch nor answer arrived: it will be sent again

    def _settle(self, release: Release) -> None:
        if self.world.land(release):
            del self.flights[release.pod.uid]
        else:
            self._look_again(release, "the gate is not there")

    def _look_again(self, release: Release, refusal: str) -> None:
        # As the releaser does: read the pod, because an earlier try may have landed.
        uid = release.pod.uid
        del self.flights[uid]
        self.reads.append(Read(uid, self.world.pods.get(uid), refusal))
        if self.world.some(0.6):
            self.read_arrives()

    def read_arrives(self) -> None:
        """Let the answer to a read arrive; what was delivered meanwhile is newer."""
        if not self.reads:
            return
        uid, state, refusal = self.reads.pop(int(self.rng.random() * len(self.reads)))
        if state is None:
            self.engine.remove_pod(uid)
            self.shown.remove(uid)
        elif names.GATE in state.gates:
            self.engine.take_back(uid, refusal)
            if self.shown.decided.pop(uid, None) and not self.shown.pods[uid].deleting:
                self.shown.refused.add(uid)
        elif uid in self.shown.decided:  # else the watch was faster, and what was read is old
            self.engine.put_pod(state)
            self.shown.put(state)

    def retry(self) -> None:
        """Let a refused pod try again after its pause."""
        if self.shown.refused:
            self._retry(self.world.pick(sorted(self.shown.refused)))

    def _retry(self, uid: str) -> None:
        self.shown.refused.discard(uid)
        self.engine.place(self.engine.pods[uid])

    def settle(self) -> None:
        """Let everything arrive and be answered until nothing moves; then the books are true."""
        self.relist()
        self._deliver("configuration")
        while True:
            for release in tuple(self.flights.values()):
                self._settle(release)
            while self.reads:
                self.read_arrives()
            for uid in tuple(self.shown.refused):
                self._retry(uid)
            for uid in tuple(self.world.changed["pod"]):
                self.world.changed["pod"].discard(uid)
                self._show_pod(uid)
            released = self._plan(64)
            if not (released or self.engine.due or self.flights or self.reads):
                break
        check(self.shown.pods == self.world.pods, "the judge was shown something else")
        check(not self.shown.decided, "decisions are open")
        check(not self.engine.due, "somebody is due after the last plan")
        books.audit(self.engine, self.shown)
        self.world.history.clear()

    def restart(self) -> None:
        self.start()

    def finish(self) -> None:
        """End everything, and check that nothing is left."""
        world = self.world
        self.settle()
        for objects in (world.pods, world.nodes, world.namespaces):
            objects.clear()
        for definitions in (world.pools, world.tenants, world.policies):
            definitions.clear()
        self.relist()
        self._show_configuration()
        while self.engine.due:
            self._plan(64)
        books.nothing_is_left(self.engine)


_MIX: dict[Callable[[Drive], None], int] = {
    Drive.create: 20,
    Drive.end: 10,
    Drive.touch: 4,
    Drive.schedule: 12,
    Drive.change_node: 5,
    Drive.change_namespace: 1,
    Drive.write_configuration: 1,
    Drive.deliver: 36,
    Drive.deliver_twice: 2,
    Drive.deliver_stale: 4,
    Drive.lose: 1,
    Drive.relist: 1,
    Drive.plan: 20,
    Drive.answer: 16,
    Drive.retry: 3,
    Drive.read_arrives: 3,
    Drive.settle: 1,
    Drive.restart: 1,
}
_STEPS = tuple(_MIX)
_WEIGHTS = tuple(accumulate(_MIX.values()))

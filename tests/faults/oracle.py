"""Judges every release by what the API server holds, without the operator's books.

Twice: when it is decided, against the quota and the nodes that the process knew then; and when it
takes effect, whoever sent it and however late. What the process may not have known (a quota
lowered a moment ago) is not held against it; what was released before always is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sovereign_gpu import names
from sovereign_gpu.cluster.kinds import PODS
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Release
from tests.faults.server import FINISHED, Json, Server

ALLOWED = {
    "alpha": {"munich", "paris"},
    "beta": {"munich", "paris"},
    "gamma": {"munich"},
}
"""Pools that the policies of each tenant allow; `world` writes the same as resources."""


class Violation(AssertionError):  # noqa: N818 – a test has found what it looked for
    """Something happened that must never happen."""


@dataclass(frozen=True, slots=True)
class Decided:
    """One release that a process decided."""

    tenant: str
    pool: str
    gpus: int
    allowance: int
    """GPUs that the process knew the tenant may have in the pool."""


@dataclass(slots=True)
class Oracle:
    """See the module."""

    server: Server
    tenant_of: dict[str, str]
    """Namespace -> tenant, as the resources say when nobody has changed them."""
    decided: dict[str, dict[str, Decided]] = field(default_factory=dict)
    """By process and pod: what it decided and was not refused."""
    released: dict[str, Decided] = field(default_factory=dict)
    """By pod: what has taken effect."""
    releases: int = 0

    def planned(self, process: str, engine: Engine, releases: list[Release]) -> None:
        """Judge what a process has decided this moment.

        Raises:
            Violation: it gives away what it knew is not there.
        """
        mine = self.decided.setdefault(process, {})
        for release in releases:
            uid, tenant = release.pod.uid, release.tenant
            allowance = {s.pool: s.allowance for s in engine.tenants[tenant].shares}[release.pool]
            mine[uid] = Decided(tenant, release.pool, release.pod.demand.gpus, allowance)
        for release in releases:
            tenant, pool = release.tenant, release.pool
            self._must(pool in ALLOWED[tenant], f"{tenant} was given {pool}")
            counted = sum(
                d.gpus for d in self._counted(mine) if (d.tenant, d.pool) == (tenant, pool)
            )
            allowance = mine[release.pod.uid].allowance
            self._must(
                counted <= allowance, f"{tenant} has {counted} of {allowance} in {pool}: {process}"
            )
            free = self._free(engine, pool, mine)
            self._must(free >= 0, f"{pool} has {free} GPUs left: {process}")

    def refused(self, process: str, uid: str) -> None:
        """Note that a process takes a decision back."""
        self.decided.get(process, {}).pop(uid, None)

    def took_effect(self, pod: Json) -> None:
        """Judge a release that the API server accepted.

        Raises:
            Violation: with it a tenant has more than any process knew that it may have.
        """
        uid, process = pod["metadata"]["uid"], _signed(pod).rpartition("_")[0]
        decision = self.decided.get(process, {}).get(uid)
        self._must(decision is not None, f"{uid} was released and {process} had not decided it")
        if decision is None:
            return
        self._must(uid not in self.released, f"{uid} was released twice")
        self.released[uid] = decision
        self.releases += 1
        where = decision.tenant, decision.pool
        same = [d for d in self._truth().values() if (d.tenant, d.pool) == where]
        most, counted = max(d.allowance for d in same), sum(d.gpus for d in same)
        self._must(counted <= most, f"{where} holds {counted} of {most} GPUs: {process}")

    def _must(self, holds: bool, sentence: str) -> None:  # noqa: FBT001
        if not holds:
            raise Violation(f"at {self.server.clock():.2f}: {sentence}")

    def _truth(self) -> dict[str, Decided]:
        """Return the released pods that are there and not finished."""
        pods = self.server.objects[PODS.path]
        return {u: d for u, d in self.released.items() if u in pods and not _finished(pods[u])}

    def _counted(self, mine: dict[str, Decided]) -> list[Decided]:
        """Return what has taken effect, and what this process has under way."""
        pods, truth = self.server.objects[PODS.path], self._truth()
        on_the_way = [
            decision
            for uid, decision in mine.items()
            if uid not in self.released and uid in pods and not _finished(pods[uid])
        ]
        return [*truth.values(), *on_the_way]

    def _free(self, engine: Engine, pool: str, mine: dict[str, Decided]) -> int:
        """Return the GPUs of the usable nodes, as the process knows them, less what is taken."""
        pods = self.server.objects[PODS.path]
        bound = {uid: pod["spec"].get("nodeName", "") for uid, pod in pods.items()}
        truth = self._truth()
        held: dict[str, int] = {}
        for uid, decision in truth.items():
            held[bound[uid]] = held.get(bound[uid], 0) + decision.gpus
        for uid, pod in engine.pods.items():
            if pod.node and uid not in truth and uid not in self.released and uid in pods:
                held[pod.node] = held.get(pod.node, 0) + pod.demand.gpus
        free = 0
        for node in engine.nodes.values():
            if node.labels.get(names.NODE_POOL_LABEL) == pool and usable(node):
                free += max(0, node.allocatable.gpus - held.get(node.name, 0))
        waiting = [d for u, d in truth.items() if not bound[u] and d.pool == pool]
        waiting += [
            decision
            for uid, decision in mine.items()
            if uid not in self.released and uid in pods and decision.pool == pool
        ]
        return free - sum(decision.gpus for decision in waiting)

    # --- when all is quiet ------------------------------------------------------------------------
    def recount(self) -> dict[tuple[str, str], int]:
        """Return what every tenant holds in every pool, by the objects alone."""
        sums: dict[tuple[str, str], int] = {}
        for pod in self.server.objects[PODS.path].values():
            if _finished(pod) or names.GATE in gates(pod):
                continue
            tenant = self.tenant_of.get(pod["metadata"]["namespace"], "")
            pool = pod["metadata"].get("labels", {}).get(names.POOL_LABEL, "")
            if tenant and pool:
                sums[tenant, pool] = sums.get((tenant, pool), 0) + gpus(pod)
        return sums


def usable(node: Any) -> bool:
    """Whether new pods may start on a node, as the operator knows it."""
    return bool(node.ready and not node.unschedulable)


def gpus(pod: Json) -> int:
    """Return the GPUs that a pod asks for."""
    requests = pod["spec"]["containers"][0]["resources"]["requests"]
    return int(requests[names.GPU_RESOURCE])


def gates(pod: Json) -> list[str]:
    """Return the names of a pod's scheduling gates."""
    return [gate["name"] for gate in pod["spec"].get("schedulingGates", ())]


def _finished(pod: Json) -> bool:
    return pod["status"]["phase"] in FINISHED


def _signed(pod: Json) -> str:
    return str(pod["metadata"]["annotations"][names.RELEASED_BY].rpartition("/")[0])


@dataclass(slots=True)
class JudgedEngine(Engine):
    """The operator's engine, whose decisions are shown to the oracle."""

    oracle: Oracle = field(kw_only=True)
    process: str = field(kw_only=True)
    on_violation: Any = field(kw_only=True)

    def plan(self, limit: int) -> list[Release]:
        """Decide, and be judged."""
        releases = Engine.plan(self, limit)
        try:
            self.oracle.planned(self.process, self, releases)
        except Violation as found:
            self.on_violation(found)
        return releases

    def take_back(self, uid: str, refusal: str) -> None:
        """Undo a decision."""
        self.oracle.refused(self.process, uid)
        Engine.take_back(self, uid, refusal)

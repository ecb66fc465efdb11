"""Jobs of a trace through the engine of the product, in virtual time.

The engine is told what it would see in a cluster: a gated pod when a job is submitted, the pod on
its node once it was released, nothing of it when it has ended. It chooses pods and nodes alone.

It releases single pods. A job larger than a node, a gang, has one pod per node and is handed over
here. The gangs that stay within their tenant's guarantee are tried first, then those of the tenant
that holds least of its guarantee, then the oldest. A gang is tried when as many nodes are wholly
free as it has pods and its tenant may hold that many GPUs more: its pods enter the engine
together, and leave it again unless all are released by one plan. So that gangs do not starve behind
small jobs that fill every gap, the first gang that has waited an hour keeps nodes, one gang at a
time: nodes that become wholly free are tainted, and only its pods tolerate that, until there are
enough of them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from bench.fifo import GPUS_PER_NODE
from bench.traces import Job
from sovereign_gpu import names
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import (
    Constraints,
    Namespace,
    Node,
    Owner,
    Pod,
    Policy,
    Pool,
    Release,
    Resources,
    Share,
    Taint,
    Tenant,
    Toleration,
)

POOL, POLICY, COUNTRY, REGION = "philly", "eu-only", "DE", "eu-de"
PATIENCE = 3600
"""Seconds after which nodes are kept for a gang."""
_AHEAD = 64
"""Releases per call of plan, as in the controller."""
_KEPT = Taint("kept-for-a-gang", "", "NoSchedule")
_TOLERANT = Constraints(tolerations=(Toleration(_KEPT.key, "Exists"),))
_PER_GPU = Resources(1, 1000, 1)
"""CPU and memory come with the GPUs, since the trace says nothing of them."""
_NODE_SIZE = Resources(*(GPUS_PER_NODE * each for each in _PER_GPU))
_OWNER = Owner("batch/v1", "Job", "job", "job")


def cluster(partitions: Mapping[str, int], *, borrowing: bool) -> Engine:
    """Return an engine whose tenants have their partitions as guarantees.

    Args:
        partitions: nodes of each tenant; the pool has as many as all together.
        borrowing: whether a tenant may use all that others do not; nothing is kept from lending.
    """
    total = sum(partitions.values())
    tenants = []
    for tenant, nodes in partitions.items():
        limit = GPUS_PER_NODE * (total - nodes) if borrowing else 0
        share = Share(POOL, GPUS_PER_NODE * nodes, limit)
        tenants.append(Tenant(tenant, (tenant,), (POLICY,), (share,)))
    engine = Engine()
    engine.configure([Pool(POOL, COUNTRY, REGION)], tenants, [Policy(POLICY, frozenset({COUNTRY}))])
    for tenant in partitions:
        engine.put_namespace(Namespace(tenant, tenant))
    labels = {names.NODE_POOL_LABEL: POOL, names.REGION_LABEL: REGION, names.ZONE_LABEL: REGION}
    for number in range(total):
        name = f"node-{number:03d}"
        engine.put_node(Node(name, labels, (), _NODE_SIZE, _NODE_SIZE, True, False))  # noqa: FBT003
    return engine


@dataclass(slots=True)
class Replay:
    """One life of the cluster; `run` it once."""

    engine: Engine
    patience: int = PATIENCE
    starts: dict[int, int] = field(default_factory=dict)
    """When each job started, by its number."""
    releases: int = 0
    _now: int = 0
    _jobs: dict[str, Job] = field(default_factory=dict)
    """Of the waiting pods of single-pod jobs, by uid."""
    _gangs: list[Job] = field(default_factory=list)
    _ends: list[tuple[int, int, tuple[str, ...]]] = field(default_factory=list)
    _busy: dict[str, set[str]] = field(default_factory=dict)
    """Pods on each node that has any."""
    _node_of: dict[str, str] = field(default_factory=dict)
    _kept: set[str] = field(default_factory=set)
    _keeper: Job | None = None

    def run(self, jobs: Iterable[Job]) -> None:
        """Run all jobs to their ends.

        Args:
            jobs: in the order of their submission.

        Raises:
            ValueError: jobs are left that the engine never releases.
        """
        waiting = list(jobs)[::-1]
        while waiting or self._ends:
            moments = [waiting[-1].submitted] if waiting else []
            moments += [self._ends[0][0]] if self._ends else []
            self._now = min(moments)
            self.engine.advance(self._now)
            while self._ends and self._ends[0][0] <= self._now:
                self._end(heapq.heappop(self._ends)[2])
            while waiting and waiting[-1].submitted <= self._now:
                self._submit(waiting.pop())
            self._keep()
            self._plan()
            self._try_gangs()
        if self._jobs or self._gangs:
            raise ValueError(f"{len(self._jobs) + len(self._gangs)} jobs never started")

    def _submit(self, job: Job) -> None:
        if job.gpus > GPUS_PER_NODE:
            self._gangs.append(job)
            return
        (pod,) = _pods(job)
        self._jobs[pod.uid] = job
        self.engine.put_pod(pod)

    def _end(self, uids: tuple[str, ...]) -> None:
        for uid in uids:
            node = self._node_of.pop(uid)
            self._busy[node].remove(uid)
            if not self._busy[node]:
                del self._busy[node]
            self.engine.remove_pod(uid)

    def _plan(self, gang: tuple[str, ...] = ()) -> list[Release]:
        """Start what the engine releases; the pods of a gang are only returned."""
        held_up = []
        while self.engine.due:
            for release in self.engine.plan(_AHEAD):
                uid = release.pod.uid
                if uid in gang:
                    held_up.append(release)
                else:
                    self._bind(release)
                    self._start(self._jobs.pop(uid), (uid,))
        return held_up

    def _bind(self, release: Release) -> None:
        node, pod = release.node, release.pod
        self.releases += 1
        self._node_of[pod.uid] = node
        self._busy.setdefault(node, set()).add(pod.uid)
        shown = replace(pod, gates=(), pool=release.pool, planned_node=node, node=node)
        self.engine.put_pod(shown)

    def _start(self, job: Job, uids: tuple[str, ...]) -> None:
        self.starts[job.number] = self._now
        heapq.heappush(self._ends, (self._now + job.seconds, job.number, uids))

    # --- gangs --------------------------------------------------------------------------
    def _turns(self) -> list[Job]:
        return sorted(self._gangs, key=self._turn)

    def _turn(self, job: Job) -> tuple[bool, float, int]:
        held, guaranteed = self._held(job), self._share(job).guaranteed
        return held + job.gpus > guaranteed, held / guaranteed, job.number

    def _held(self, job: Job) -> int:
        return self.engine.ledger.counted(job.tenant, POOL)

    def _share(self, job: Job) -> Share:
        (share,) = self.engine.tenants[job.tenant].shares
        return share

    def _free(self) -> set[str]:
        return self.engine.nodes.keys() - self._busy.keys()

    def _keep(self) -> None:
        """Keep nodes for the first gang in turn that has waited long enough."""
        aged = (job for job in self._turns() if self._now - job.submitted >= self.patience)
        self._keeper = next(aged, None)
        free = sorted(self._free(), key=lambda name: (name not in self._kept, name))
        kept = set(free[: _nodes(self._keeper)]) if self._keeper else set()
        for name in sorted(kept ^ self._kept):
            taints = (_KEPT,) if name in kept else ()
            self.engine.put_node(replace(self.engine.nodes[name], taints=taints))
        self._kept = kept

    def _try_gangs(self) -> None:
        for job in self._turns():
            mine = job is self._keeper
            free = self._free() - (set() if mine else self._kept)
            if (
                len(free) >= _nodes(job)
                and self._held(job) + job.gpus <= self._share(job).allowance
                and self._try_gang(job, tolerant=mine)
            ):
                self._gangs.remove(job)
                self._keep()
                self._plan()

    def _try_gang(self, job: Job, *, tolerant: bool) -> bool:
        pods = _pods(job, _TOLERANT if tolerant else Constraints())
        for pod in pods:
            self.engine.put_pod(pod)
        uids = tuple(pod.uid for pod in pods)
        mine = self._plan(uids)
        if len(mine) < len(pods):
            for uid in uids:
                self.engine.remove_pod(uid)
            self._plan()
            return False
        for release in mine:
            self._bind(release)
        self._start(job, uids)
        return True


def _nodes(job: Job) -> int:
    return math.ceil(job.gpus / GPUS_PER_NODE)


def _pods(job: Job, constraints: Constraints = Constraints()) -> list[Pod]:  # noqa: B008 - frozen
    whole, rest = divmod(job.gpus, GPUS_PER_NODE)
    return [
        Pod(
            # The engine breaks ties of age by uid: jobs of one second keep their order.
            uid=f"{job.number:06d}-{part}",
            namespace=job.tenant,
            name=f"job-{job.number}-{part}",
            created=float(job.submitted),
            demand=Resources(*(gpus * each for each in _PER_GPU)),
            constraints=constraints,
            gates=(names.GATE,),
            owner=_OWNER,
        )
        for part, gpus in enumerate([GPUS_PER_NODE] * whole + [rest] * bool(rest))
    ]

"""What happened, recounted from the API server and its audit log.

Nothing here reads what the operator says of itself. A GPU is charged from the moment the request
that lifted a pod's gate came in, until the moment the kubelet's report of the pod's end came in:
the operator can only know of an end after that, so a release in between would show.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rig import users
from rig.demo.pods import ENDED
from rig.demo.trail import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rig.demo.pods import Pod
    from rig.demo.trail import PodKey, Step

RELEASE, NOTICE = "patch pods", "patch pods/status"
BIND, CREATE, DELETE = "create pods/binding", "create pods", "delete pods"
EVICT = "create pods/eviction"


@dataclass(slots=True)
class Facts:
    """The answers, each counted once."""

    peak: dict[str, int] = field(default_factory=dict)
    """Most GPUs that a tenant held at once."""
    together: int = 0
    """Most GPUs that all tenants held at once."""
    decisions: dict[str, int] = field(default_factory=dict)
    """Releases of each tenant."""
    bound: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Pods of a tenant bound in each region, by the target of the binding."""
    shown: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """The same from the pods, which say on which node they are."""
    unreleased: list[PodKey] = field(default_factory=list)
    """GPU pods that were bound without a release by the operator."""
    vanished: list[PodKey] = field(default_factory=list)
    """Released pods that are not there any more, so that nobody could count them."""
    admitted: int = 0
    """Pods that were bound and not evicted afterwards."""
    told: int = 0
    """Admitted pods that were told in between why they wait."""
    idle_writes: int = 0
    """Writes on admitted pods that neither released them nor told them a new reason."""
    evicted: list[PodKey] = field(default_factory=list)
    """Pods that the operator evicted."""
    writes: Counter[int] = field(default_factory=Counter)
    """Admitted pods by the number of writes that the operator spent on each."""
    operator_writes: Counter[str] = field(default_factory=Counter)
    delays: list[float] = field(default_factory=list)
    """Seconds from create to bound of GPU pods that did not have to wait for room, sorted."""


@dataclass(slots=True)
class Index:
    """Steps by pod."""

    released: dict[PodKey, float] = field(default_factory=dict)
    bound: dict[PodKey, Step] = field(default_factory=dict)
    created: dict[PodKey, float] = field(default_factory=dict)
    ended: dict[PodKey, float] = field(default_factory=dict)
    """First report of a kubelet that the pod had come to its end; a busy KWOK repeats itself."""
    evicted: dict[PodKey, Step] = field(default_factory=dict)
    """First eviction by the operator that was accepted."""
    writes: Counter[PodKey] = field(default_factory=Counter)
    reasons: dict[PodKey, list[str]] = field(default_factory=lambda: defaultdict(list))
    """What it was told while it waited, one word after the other."""


def count(
    steps: Iterable[Step],
    pods: Iterable[Pod],
    tenant_of: Mapping[str, str],
    regions: Mapping[str, str],
    until: float,
) -> Facts:
    """Count everything.

    Args:
        steps: the audit log.
        pods: all pods of the tenants as they are now, and evicted ones as they were last seen.
        tenant_of: tenant of each namespace.
        regions: region of each node.
        until: end of the time in which the operator ran without a break, for the delays.
    """
    facts = Facts()
    steps, there = list(steps), {each.key: each for each in pods}
    index = indexed(steps)
    facts.operator_writes = Counter(each.what for each in steps if each.user == OPERATOR)
    facts.vanished = [each for each in index.released if each not in there]
    facts.evicted = list(index.evicted)
    gpu_pods = {key: pod for key, pod in there.items() if pod.gpus}
    for key, step in index.bound.items():
        if key[0] in tenant_of:
            facts.bound[tenant_of[key[0]]][regions.get(target(step), "")] += 1
    for key, pod in there.items():
        if pod.node:
            facts.shown[tenant_of[key[0]]][regions.get(pod.node, "")] += 1
    facts.unreleased = [
        key for key, pod in gpu_pods.items() if pod.node and key not in index.released
    ]
    _replay(facts, index, gpu_pods, tenant_of)
    _count_writes(facts, index, gpu_pods, until)
    return facts


def indexed(steps: Iterable[Step]) -> Index:
    """Sort steps by pod."""
    index = Index()
    for step in steps:
        if step.user == OPERATOR:
            _note_write(index, step)
        if is_release(step):
            index.released.setdefault(step.pod, step.received)
        elif step.what == BIND:
            index.bound[step.pod] = step
        elif step.what == CREATE:
            index.created[step.pod] = step.received
        elif reports_an_end(step):
            index.ended.setdefault(step.pod, step.received)
    return index


def _note_write(index: Index, step: Step) -> None:
    if step.what in {RELEASE, NOTICE}:
        index.writes[step.pod] += 1
    if step.what == NOTICE:
        index.reasons[step.pod].append(_word(step.body))
    if step.what == EVICT:
        index.evicted.setdefault(step.pod, step)


def _word(body: Any) -> str:
    """Return the reason that a write into a pod's status tells."""
    conditions = (body or {}).get("status", {}).get("conditions", [])
    return next((str(each.get("message", "")).partition(":")[0] for each in conditions), "")


def is_release(step: Step) -> bool:
    """Whether the operator lifts a pod's gate in it."""
    if step.user != OPERATOR or step.what != RELEASE or not isinstance(step.body, list):
        return False
    return any(
        each.get("op") == "remove" and each.get("path", "").startswith("/spec/schedulingGates")
        for each in step.body
    )


def reports_an_end(step: Step) -> bool:
    """Whether a kubelet says in it that a pod has come to its end, or that it is no more."""
    if step.user == users.KWOK and step.what == DELETE:
        return True
    if step.what != NOTICE or step.user != users.KWOK:
        return False
    return (step.body or {}).get("status", {}).get("phase") in ENDED


def deleted(steps: Iterable[Step]) -> set[PodKey]:
    """Return the pods of which a kubelet said that they are no more."""
    return {each.pod for each in steps if each.what == DELETE and each.user == users.KWOK}


def target(step: Step) -> str:
    """Return the node that a binding names."""
    return str((step.body or {}).get("target", {}).get("name", ""))


def _replay(
    facts: Facts, index: Index, pods: Mapping[PodKey, Pod], tenant_of: Mapping[str, str]
) -> None:
    held: Counter[str] = Counter()
    for _, gpus, tenant in changes(index, pods, tenant_of):
        held[tenant] += gpus
        facts.peak[tenant] = max(facts.peak.get(tenant, 0), held[tenant])
        facts.together = max(facts.together, held.total())
    decided = (key for key in index.released if key in pods)
    facts.decisions = dict(Counter(tenant_of[key[0]] for key in decided))


def changes(
    index: Index, pods: Mapping[PodKey, Pod], tenant_of: Mapping[str, str]
) -> list[tuple[float, int, str]]:
    """Return when GPUs were charged (more than 0) and came free (less), and whose, in order."""
    found: list[tuple[float, int, str]] = []
    for key, moment in index.released.items():
        pod = pods.get(key)
        if pod is None:
            continue
        tenant = tenant_of[key[0]]
        found.append((moment, pod.gpus, tenant))
        if key in index.ended:
            found.append((index.ended[key], -pod.gpus, tenant))
    return sorted(found)


def _count_writes(facts: Facts, index: Index, pods: Mapping[PodKey, Pod], until: float) -> None:
    for key, pod in pods.items():
        if key not in index.bound or key in index.evicted:
            continue
        facts.admitted += 1
        facts.writes[index.writes[key]] += 1
        reasons = index.reasons.get(key, [])
        new = sum(word != before for word, before in zip(reasons, [None, *reasons], strict=False))
        facts.idle_writes += index.writes[key] - 1 - new
        if reasons:
            facts.told += 1
        elif index.bound[key].answered < until:
            created = index.created.get(key, pod.created)
            facts.delays.append(index.bound[key].answered - created)
    facts.delays.sort()


def quantile(values: list[float], share: float) -> float:
    """Return the value below which a share of sorted values lies; 0 of none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def during(steps: Iterable[Step], began: float, ended: float, what: str) -> list[Step]:
    """Return the steps of a kind that came in during a time."""
    return [each for each in steps if each.what == what and began <= each.received < ended]


def handover(steps: Iterable[Step], ended: set[PodKey]) -> float:
    """Return the seconds from the last report of an end to the last binding."""
    steps = list(steps)
    ends = [each.received for each in steps if reports_an_end(each) and each.pod in ended]
    bindings = [each.answered for each in steps if each.what == BIND]
    return max(bindings) - max(ends)

"""Curves of a run, recounted from the audit log: who held how many GPUs when, who waited, how fast.

Nothing is sampled while the story goes on: every release and every end stands in the log with its
time, so the curves are exact and cost the cluster nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rig.demo import facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rig.demo.pods import Pod
    from rig.demo.trail import Step

Curve = list[tuple[float, int]]
"""Times, in seconds since the epoch, with the value from then on."""


@dataclass(slots=True)
class Samples:
    """What the charts show."""

    held: dict[str, Curve] = field(default_factory=dict)
    """GPUs charged to each tenant."""
    waiting: Curve = field(default_factory=list)
    """GPU pods at the gate."""
    releases: dict[int, int] = field(default_factory=dict)
    """Releases by the second in which they came in."""


def take(steps: Iterable[Step], pods: Iterable[Pod], tenant_of: Mapping[str, str]) -> Samples:
    """Return the curves.

    Args:
        steps: the audit log.
        pods: all pods of the tenants, also those that are gone.
        tenant_of: tenant of each namespace.
    """
    index = facts.indexed(steps)
    gpu_pods = {each.key: each for each in pods if each.gpus}
    deltas: dict[str, Curve] = defaultdict(list)
    for at, gpus, tenant in facts.changes(index, gpu_pods, tenant_of):
        deltas[tenant].append((at, gpus))
    came = [(index.created.get(key, pod.created), 1) for key, pod in gpu_pods.items()]
    left = [(at, -1) for key, at in index.released.items() if key in gpu_pods]
    seconds = Counter(int(at) for key, at in index.released.items() if key in gpu_pods)
    return Samples(
        held={tenant: _summed(found) for tenant, found in deltas.items()},
        waiting=_summed(came + left),
        releases=dict(sorted(seconds.items())),
    )


def _summed(deltas: Curve) -> Curve:
    """Return the curve that changes add up to, one point for each time."""
    found: dict[float, int] = {}
    total = 0
    for at, change in sorted(deltas):
        total += change
        found[at] = total
    return list(found.items())

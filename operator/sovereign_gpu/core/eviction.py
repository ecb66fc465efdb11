"""What to do about pods in violation: announce, withdraw, evict; never many at once; pure.

Rules: only an enforced policy whose onDrift.action is Evict evicts. A pod is evicted when it is
in violation now and its notice has run for the grace of the strictest of those policies. A policy
that more than 5 % of the governed running pods offend evicts none of them until an administrator
confirmed it for the policy's generation: so many at once are rather a mistake in a policy, a pool
or a label than so many guilty pods. Over all policies, evictions per minute are bounded.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from sovereign_gpu.core.drift import Judge, Offence
from sovereign_gpu.core.model import Pod, Policy
from sovereign_gpu.core.notice import Notice, parse

WINDOW = 60.0
"""Seconds over which the brake counts."""
_AT_LEAST, _ONE_IN = 10, 100
"""Evictions per window: so many, or one in so many governed running pods if that is more."""
_SKEW = 1.0
"""Seconds by which a rounded time may lie ahead of the clock."""
_MANY = 20
"""More than one in so many governed running pods: nobody is evicted without confirmation."""
SHARE = f"{100 // _MANY} %"
"""The same in words."""


class Announce(NamedTuple):
    """Write the notice on the pod and tell its owner."""

    pod: Pod
    notice: Notice


class Withdraw(NamedTuple):
    """Take the notice off the pod: it is innocent again, or nobody evicts for it any more."""

    pod: Pod


class Evict(NamedTuple):
    """Its time is over."""

    pod: Pod
    policies: tuple[str, ...]
    """Those that want it gone."""
    notice: Notice


@dataclass(slots=True)
class Brake:
    """Bounds evictions per window over all policies."""

    started: float
    """When this process began to decide. What its predecessor evicted in the window before is
    not known, so the first window passes without evictions."""
    used: list[float] = field(default_factory=list)

    def room(self, now: float, running: int) -> int:
        """Return how many pods may be evicted now.

        Args:
            now: seconds on a clock that never jumps, as for `started`.
            running: governed running pods.
        """
        self.used = [at for at in self.used if now - at < WINDOW]
        if now - self.started < WINDOW:
            return 0
        return max(0, max(_AT_LEAST, running // _ONE_IN) - len(self.used))

    def take(self, now: float) -> None:
        """Count an eviction that is asked for."""
        self.used.append(now)

    def give_back(self, at: float) -> None:
        """Forget an eviction asked for at that time: the answer was that nothing happened."""
        if at in self.used:
            self.used.remove(at)


@dataclass(slots=True)
class Decision:
    """What to do now, and what the status has to say about it."""

    announce: list[Announce] = field(default_factory=list)
    withdraw: list[Withdraw] = field(default_factory=list)
    evict: list[Evict] = field(default_factory=list)
    awaiting: frozenset[str] = frozenset()
    """Evicting policies that offend too many pods and are not confirmed."""
    announced: Counter[str] = field(default_factory=Counter)
    """Pods under notice, by policy that announced it."""
    held: Counter[str] = field(default_factory=Counter)
    """Pods whose time is over and that the brake holds back, by policy."""


def evicts(policy: Policy) -> bool:
    """Whether the policy may end a pod at all."""
    return policy.evicts and policy.enforced


def confirmed(policy: Policy) -> bool:
    """Whether an administrator confirmed evictions of many pods for the policy as it is now."""
    return policy.confirmed > 0 and policy.confirmed == policy.generation


def _awaiting(judge: Judge) -> frozenset[str]:
    """Return the evicting policies that too many pods offend and that nobody confirmed."""
    policies = judge.state.policies
    return frozenset(
        name
        for name, pods in judge.affected().items()
        if evicts(policies[name])
        and pods * _MANY > len(judge.running)
        and not confirmed(policies[name])
    )


def decide(judge: Judge, now: float, room: int, busy: Callable[[str], bool]) -> Decision:
    """Judge what changed and return what to do about every pod.

    Args:
        judge: verdicts on all running pods.
        now: seconds since the epoch.
        room: evictions that the brake allows now.
        busy: whether an eviction of this uid was asked for and must not be asked for again yet.
    """
    judge.look()
    decision = Decision(awaiting=_awaiting(judge))
    due: list[Evict] = []
    for uid in sorted(judge.noticed.union(judge.offences)):
        pod = judge.state.pods.get(uid)
        if pod is not None and not pod.deleting:
            _consider(judge, pod, now, decision, due)
    due.sort(key=lambda each: (each.notice.evict_after, each.pod.uid))
    for each in due:
        if busy(each.pod.uid):
            continue
        if len(decision.evict) < room:
            decision.evict.append(each)
        else:
            decision.held.update(each.policies)
    return decision


def still_due(judge: Judge, due: Evict) -> bool:
    """Whether a pod that was due is guilty, and under the same notice, to this day."""
    pod = judge.state.pods.get(due.pod.uid)
    if pod is None or pod.notice != due.pod.notice or due.pod.uid not in judge.offences:
        return False
    waiting = _awaiting(judge)
    wanted = _evicting(judge, pod, judge.offences[pod.uid])
    return any(name in due.policies and name not in waiting for name in wanted)


def _consider(judge: Judge, pod: Pod, now: float, decision: Decision, due: list[Evict]) -> None:
    offence = judge.offences.get(pod.uid)
    wanted = _evicting(judge, pod, offence)
    if offence is None or not wanted:
        if pod.notice:
            decision.withdraw.append(Withdraw(pod))
        return
    written = parse(pod.notice)
    free = tuple(name for name in wanted if name not in decision.awaiting)
    if free:
        notice = _notice(judge, _Case(pod, offence, wanted, free), now)
        if notice != written:
            decision.announce.append(Announce(pod, notice))
        elif now >= notice.evict_after:
            due.append(Evict(pod, free, notice))
    # else neither announced nor innocent: what was announced stays until it is confirmed.
    if written is not None:
        decision.announced.update(policy for policy, _ in written.policies)


class _Case(NamedTuple):
    """A guilty pod, the policies that want it gone, and those of them that need no confirmation."""

    pod: Pod
    offence: Offence
    wanted: tuple[str, ...]
    free: tuple[str, ...]


def _notice(judge: Judge, case: _Case, now: float) -> Notice:
    """Return what the pod should say: each policy counts from when it was announced itself."""
    pod, offence, wanted, free = case
    written = parse(pod.notice)
    since: dict[str, int] = {}
    if written is not None and written.node == pod.node:
        since = {
            policy: at for policy, at in written.policies if policy in wanted and at <= now + _SKEW
        }
    cause = written.cause if written is not None and since else f"{offence.cause}: {offence.text}"
    for policy in free:
        since.setdefault(policy, math.ceil(now))
    policies = judge.state.policies
    evict_after = min(since[policy] + policies[policy].grace for policy in free)
    return Notice(tuple(sorted(since.items())), pod.node, cause, evict_after)


def _evicting(judge: Judge, pod: Pod, offence: Offence | None) -> tuple[str, ...]:
    """Return the policies that want the pod gone."""
    if offence is None or not offence.certain:
        return ()
    if pod.static:
        return ()  # its kubelet would start it again; only its mirror would go
    state = judge.state
    if pod.pool and pod.pool not in state.pools:
        return ()  # its pool was deleted, perhaps to come again under this or another name
    return tuple(name for name in offence.policies if evicts(state.policies[name]))

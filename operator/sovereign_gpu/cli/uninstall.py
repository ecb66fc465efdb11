"""`sovereign-gpu uninstall`: takes the operator's marks off other people's objects.

It runs before `helm uninstall`, with the rights of whoever types it, and may be run again at any
time, also when the chart is gone: each run does what is left to do. Which marks have to stay, and
how long, is decided in `leaving`.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO, TypeVar

from sovereign_gpu.cli import leaving
from sovereign_gpu.cli.changing import Outcome, Server, outcome
from sovereign_gpu.cli.question import Exit, FailedError
from sovereign_gpu.cluster.kinds import NAMESPACES, NODES, PODS
from sovereign_gpu.cluster.patches import JSON_PATCH, MERGE_PATCH, lift, metadata

_NAME = "sovereign-gpu"
_DEPLOYMENTS = "/apis/apps/v1/deployments"
_LEASES = "/apis/coordination.k8s.io/v1/leases"
_OURS = {"labelSelector": f"app.kubernetes.io/name={_NAME}"}
_LEASE = {"fieldSelector": f"metadata.name={_NAME}"}
_GLANCE = 0.5
"""Seconds between looks at a lease."""
_LEASE_SECONDS = 15
_NEWS = 2.0
"""Seconds between lines of progress."""
_PASSES = 3
"""Most times that gates are looked for: pods may be made while others are released."""
_REREADS = 3
_OK = 200
_STALE = frozenset({409, 422})
"""A test of the patch failed, or a policy refused: the pod as it is now tells which."""

T = TypeVar("T")


def deployments(server: Server) -> list[str]:
    """Return a sentence for each Deployment that asks for an operator to run.

    Raises:
        FailedError: they cannot be read.
    """
    found = []
    for body in server.items(_DEPLOYMENTS, _OURS):
        meta, replicas = body["metadata"], body["spec"].get("replicas", 1)
        if replicas:
            found.append(
                f"Deployment {meta['namespace']}/{meta['name']} asks for {replicas} replicas; run: "
                f"kubectl scale deployment {meta['name']} --namespace {meta['namespace']} "
                "--replicas=0"
            )
    return found


def holders(server: Server, say: Callable[[str], None]) -> list[str]:
    """Return a sentence for each lease that an operator renews.

    A lease with a holder is watched for as long as it holds: neither clock need be right for that.

    Raises:
        FailedError: they cannot be read.
    """
    return [
        f"lease {meta['namespace']}/{meta['name']} is held by {holder}, which runs or is ending: "
        "end it, then run this again"
        for meta, holder in _held(server, say)
    ]


def _held(server: Server, say: Callable[[str], None]) -> Iterator[tuple[dict[str, Any], str]]:
    for body in server.items(_LEASES, _LEASE):
        meta, spec = body["metadata"], body["spec"]
        if not spec.get("holderIdentity"):
            continue
        seconds = spec.get("leaseDurationSeconds") or _LEASE_SECONDS
        say(
            f"lease {meta['namespace']}/{meta['name']} names {spec['holderIdentity']} as its "
            f"holder: looking for up to {seconds} s whether it is renewed"
        )
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            now = _lease(server, meta)
            if not now.get("holderIdentity"):
                break
            if now.get("renewTime") != spec.get("renewTime"):
                yield meta, now["holderIdentity"]
                break
            time.sleep(_GLANCE)


def _lease(server: Server, meta: dict[str, Any]) -> dict[str, Any]:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{meta['namespace']}/leases/{meta['name']}"
    found: dict[str, Any] = server.get(path).document().get("spec") or {}
    return found


def run(options: Namespace, server: Server, err: TextIO) -> tuple[dict[str, Any], Exit]:
    """Do, or with --dry-run show, what is left to do; returns what was done.

    Raises:
        FailedError: an operator runs, or that cannot be found out.
    """

    def say(line: str) -> None:
        err.write(f"{line}\n")
        err.flush()

    in_the_way = deployments(server) or holders(server, say)
    if in_the_way and not options.dry_run:
        raise FailedError("; ".join(in_the_way))
    for sentence in in_the_way:
        say(f"without --dry-run this would be refused: {sentence}")
    parting = Parting(server, say, dry_run=options.dry_run)
    parting.run(release=options.release)
    if not options.dry_run:
        with parting.noting("operator"):
            for sentence in deployments(server):  # GitOps puts back what was scaled down
                parting.failed["operator"] = f"{sentence}, then run this again"
    undone = bool(parting.failed or in_the_way)
    return parting.document(), Exit.FAILURE if undone else Exit.OK


@dataclass(slots=True)
class Parting:
    """One run, and what came of it."""

    server: Server
    say: Callable[[str], None]
    dry_run: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    """Object -> why it was not changed."""
    changes: list[str] = field(default_factory=list)
    """Sentences about what was, or would be, changed."""
    gated: int = 0
    """Pods that stay gated."""
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    stays: list[str] = field(default_factory=list)

    def run(self, *, release: bool) -> None:
        """Take everything off that may go."""
        if release:
            self._release()
        with self.noting("namespaces"):
            self._namespaces()
        if release and not self.dry_run:
            # Until its namespace lost the label, a new pod was given the gate.
            self._release()
        with self.noting("pods"):
            self.gated = sum(1 for _ in self._gated())
        if self.dry_run and release:
            self.gated = len([name for name in self.failed if name.startswith("pod ")])
        with self.noting("nodes"):
            self._nodes()

    def document(self) -> dict[str, Any]:
        """Return what was done."""
        return {
            "dryRun": self.dry_run,
            "released": self.counts["pods"],
            "gated": self.gated,
            "namespaces": self.counts["namespaces"],
            "nodes": self.counts["nodes"],
            "stays": self.stays,
            **({"changes": self.changes} if self.dry_run else {}),
            "failed": [{"object": name, "message": why} for name, why in self.failed.items()],
        }

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Note what cannot be done and go on."""
        try:
            yield
        except FailedError as error:
            self.failed[what] = str(error)

    def _gated(self) -> Iterator[leaving.Gated]:
        for body in self.server.items(PODS.path, PODS.query()):
            pod = leaving.gated(body)
            if pod is not None:
                yield pod

    def _release(self) -> None:
        with self.noting("pods"):
            for _ in range(1 if self.dry_run else _PASSES):
                pods = [pod for pod in self._gated() if _of_pod(pod) not in self.failed]
                if not pods:
                    return
                self._each("pods", pods, self._lift, _of_pod, lambda _: "gate removed")

    def _lift(self, pod: leaving.Gated) -> Outcome:
        for _ in range(_REREADS):
            answer = self.server.patch(pod.path, lift(pod.uid, pod.gate), JSON_PATCH)
            if answer.status not in _STALE:
                break
            # Other gates may have gone meanwhile, or ours, or the pod is another one.
            fresh = self.server.get(pod.path)
            now = leaving.gated(fresh.document()) if fresh.status == _OK else None
            if now is None:
                return Outcome(changed=False)
            if now == pod:
                break
            pod = now
        return outcome(answer)

    def _namespaces(self) -> None:
        bodies = {
            body["metadata"]["name"]: patch
            for body in self.server.items(NAMESPACES.path)
            if (patch := leaving.namespace(body)) is not None
        }

        def clear(name: str) -> Outcome:
            path = f"{NAMESPACES.path}/{name}"
            return outcome(self.server.patch(path, bodies[name], MERGE_PATCH))

        def said(name: str) -> str:
            keys = [key for part in bodies[name]["metadata"].values() for key in part]
            return f"{', '.join(keys)} removed"

        self._each("namespaces", list(bodies), clear, lambda name: f"namespace {name}", said)

    def _nodes(self) -> None:
        needs = leaving.Needs()
        for body in self.server.items(PODS.path, PODS.query()):
            needs.pod(body)
        for kind, (path, _) in leaving.TEMPLATES.items():
            for body in self.server.items(path):
                needs.maker(kind, body)
        nodes = [leaving.node(body, needs) for body in self.server.items(NODES.path)]
        self._each(
            "nodes",
            [node for node in nodes if node.gone],
            self._clear_node,
            lambda node: f"node {node.name}",
            lambda node: f"{', '.join(node.gone)} removed",
        )
        kept = defaultdict[str, list[str]](list)
        for node in nodes:
            for key in node.kept:
                kept[key].append(node.name)
        self.stays = leaving.reasons(kept, needs)

    def _clear_node(self, node: leaving.Node) -> Outcome:
        body = metadata(labels=dict.fromkeys(node.gone))
        return outcome(self.server.patch(f"{NODES.path}/{node.name}", body, MERGE_PATCH))

    def _each(
        self,
        kind: str,
        things: Sequence[T],
        change: Callable[[T], Outcome],
        name: Callable[[T], str],
        said: Callable[[T], str],
    ) -> None:
        told = time.monotonic()

        def progress(done: int, of: int) -> None:
            nonlocal told
            if done == of or time.monotonic() - told >= _NEWS:
                told = time.monotonic()
                self.say(f"{kind}: {done} of {of}")

        for thing, came in self.server.each(things, change, progress):
            if came.problem:
                self.failed[name(thing)] = came.problem
            elif came.changed:
                self.counts[kind] += 1
                self.changes.append(f"{name(thing)}: {said(thing)}")


def _of_pod(pod: leaving.Gated) -> str:
    return f"pod {pod.namespace}/{pod.name}"


def lines(document: dict[str, Any], *, release: bool) -> list[str]:
    """Return what was done, for people."""
    would = "would be " if document["dryRun"] else ""
    found = [*sorted(document.get("changes", ()))]
    found += [
        f"{document['released']} pods {would}released",
        f"{document['namespaces']} namespaces {would}cleared of labels and annotations",
        f"{document['nodes']} nodes {would}cleared of labels",
    ]
    if document["gated"]:
        how = "" if release else f"; `{_NAME} uninstall --release` frees them"
        found.append(f"{document['gated']} pods stay gated{how}, also after helm uninstall")
    found += [f"stays: {sentence}" for sentence in document["stays"]]
    if document["stays"]:
        found.append("labels that stay hold nobody up; run this again, also after helm uninstall")
    found += [f"failed: {each['object']}: {each['message']}" for each in document["failed"]]
    return found

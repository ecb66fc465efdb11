"""`sovereign-gpu report`: what policies with enforcement Warn would refuse of what is there today.

Nothing is judged here. Each object is handed to the API server as if it were made anew, as a dry
run, and the policies in force answer with the warnings that its author would get. Where running
pods stand is compared with the regions that the namespace is told. Nothing is changed.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sovereign_gpu import names
from sovereign_gpu.cli.changing import Server
from sovereign_gpu.cli.connection import Answer
from sovereign_gpu.cli.question import Exit, FailedError

_FINISHED = frozenset({"Succeeded", "Failed"})
_FORBIDDEN = 403
_RULE = re.compile(r"([a-z][a-z0-9-]+): found (.*?); allowed: (.*)", re.DOTALL)
_TOKEN_VOLUME = "kube-api-access-"  # noqa: S105 - a name
_KINDS = {
    "Pod": "/api/v1/{}/pods",
    "PersistentVolumeClaim": "/api/v1/{}/persistentvolumeclaims",
    "Service": "/api/v1/{}/services",
}
_OURS = "sovereign-gpu-"

Object = dict[str, Any]


class Finding(NamedTuple):
    """One thing that would be refused."""

    namespace: str
    kind: str
    name: str
    rule: str
    found: str
    allowed: str
    effect: str
    """Warned: with Deny it would be refused. Refused: it would be today."""


@dataclass(slots=True)
class Report:
    """Looks at the namespaces in which policies only warn."""

    server: Server

    def namespaces(self, only: str) -> list[Object]:
        """Return them, or the one that is named.

        Raises:
            FailedError: they cannot be read, or the one that is named has no such policy.
        """
        query = {"labelSelector": f"{names.ENFORCEMENT_LABEL}={names.ENFORCEMENT_WARN}"}
        found = [
            body
            for body in self.server.items("/api/v1/namespaces", query)
            if not only or body["metadata"]["name"] == only
        ]
        if only and not found:
            raise FailedError(
                f"namespace {only}: no policy with enforcement Warn holds there; a TenantQuota has "
                "to name the namespace and such a policy"
            )
        return found

    def of(self, namespace: Object) -> Iterator[Finding]:
        """Yield what would be refused of one namespace."""
        name = namespace["metadata"]["name"]
        notes = namespace["metadata"].get("annotations") or {}
        regions = set(notes.get(names.WARN_REGIONS, "").split(",")) - {""}
        for kind, pattern in _KINDS.items():
            path = pattern.format(f"namespaces/{name}")
            for body in self.server.items(path):
                if body.get("status", {}).get("phase") in _FINISHED and kind == "Pod":
                    continue
                if kind == "Pod":
                    yield from _place(body, regions)
                yield from self._judged(kind, path, body)

    def _judged(self, kind: str, path: str, body: Object) -> Iterator[Finding]:
        answer = self.server.create(path, anew(kind, body))
        meta = body["metadata"]
        for rule, found, allowed, effect in _told(answer):
            yield Finding(meta["namespace"], kind, meta["name"], rule, found, allowed, effect)


def anew(kind: str, body: Object) -> Object:
    """Return the object as its author would create it once more."""
    meta = body["metadata"]
    labels = {k: v for k, v in (meta.get("labels") or {}).items() if not _theirs(k)}
    notes = {k: v for k, v in (meta.get("annotations") or {}).items() if not _theirs(k)}
    spec = dict(body["spec"])
    for key in _GIVEN[kind]:
        spec.pop(key, None)
    if kind == "Pod":
        _without_token(spec)
        labels = {
            k: v for k, v in labels.items() if k not in (names.REGION_LABEL, names.ZONE_LABEL)
        }
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {
            "generateName": f"{meta['name'][:40]}-",
            "namespace": meta["namespace"],
            "labels": labels,
            "annotations": notes,
        },
        "spec": spec,
    }


_GIVEN = {
    "Pod": ("nodeName", "schedulingGates", "ephemeralContainers", "tolerations", "affinity"),
    "PersistentVolumeClaim": ("volumeName",),
    "Service": ("clusterIP", "clusterIPs", "healthCheckNodePort"),
}
"""What the cluster filled in, and what would be refused for its own sake."""


def _theirs(key: str) -> bool:
    return key.startswith((names.POD_METADATA_PREFIX, "pv.kubernetes.io/"))


def _without_token(spec: Object) -> None:
    volumes = [v for v in spec.get("volumes") or () if not v["name"].startswith(_TOKEN_VOLUME)]
    spec["volumes"] = volumes
    for part in ("containers", "initContainers"):
        spec[part] = [
            {
                **each,
                "volumeMounts": [
                    mount
                    for mount in each.get("volumeMounts") or ()
                    if not mount["name"].startswith(_TOKEN_VOLUME)
                ],
            }
            for each in spec.get(part) or ()
        ]


def _told(answer: Answer) -> Iterator[tuple[str, str, str, str]]:
    for text in answer.warnings:
        if _OURS in text and (found := _RULE.search(text)):
            yield found[1], found[2], found[3], "Warned"
    if answer.status == _FORBIDDEN and (found := _RULE.search(answer.message)):
        yield found[1], found[2], found[3], "Refused"


def _place(pod: Mapping[str, Any], regions: set[str]) -> Iterator[Finding]:
    node = pod["spec"].get("nodeName")
    region = (pod["metadata"].get("labels") or {}).get(names.REGION_LABEL, "")
    if node and region not in regions:
        yield Finding(
            pod["metadata"]["namespace"],
            "Pod",
            pod["metadata"]["name"],
            "binding-region",
            f"node {node} in region {region or 'unknown'}",
            f"regions {', '.join(sorted(regions)) or 'none'}",
            "Warned",
        )


def run(options: Namespace, server: Server) -> tuple[dict[str, Any], Exit]:
    """Return what was found, and an exit code that says whether anything was.

    Raises:
        FailedError: the cluster cannot be read.
    """
    report = Report(server)
    spaces = report.namespaces("" if options.all_namespaces else options.namespace)
    findings = [finding._asdict() for space in spaces for finding in report.of(space)]
    document = {
        "namespaces": [space["metadata"]["name"] for space in spaces],
        "findings": findings,
    }
    return document, Exit.STUCK if findings else Exit.OK


def lines(document: Mapping[str, Any], *, headers: bool) -> list[str]:
    """Return the report as a table."""
    spaces, findings = document["namespaces"], document["findings"]
    if not findings:
        return [f"nothing would be refused in {', '.join(spaces) or 'any namespace'}"]
    columns = ("namespace", "kind", "name", "rule", "effect", "found")
    rows = [tuple(str(finding[key]) for key in columns) for finding in findings]
    if headers:
        rows.insert(0, tuple(key.upper() for key in columns))
    widths = [max(len(row[n]) for row in rows) for n in range(len(columns) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]

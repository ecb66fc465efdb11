"""The files of examples/industrial-ai-cloud, as they are or enlarged until they no longer fit."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rig import stages
from sovereign_gpu import names

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "industrial-ai-cloud"
PLATFORM = EXAMPLE / "platform"
TENANTS = EXAMPLE / "tenants"
HOME_POOL, AWAY_POOL = "munich-b200", "virginia-b200"
POLICY = "eu-only"
GPUS_PER_NODE = 8
OVERBOOKING = 1.03
"""GPUs asked for, as a multiple of what a tenant may have."""
MORE_PODS = {"alpenmotoren": 12, "kleinwerk": 4}
"""Of its Job; 1 for others. In a small hall somebody has to wait as well, whatever comes free."""
SMALLEST = {"guaranteed": 16, "borrowingLimit": 8, "lendingLimit": 16}
"""GPUs below which no figure of a quota shrinks."""
REPLICAS = {"alpenmotoren": 240, "rheinstahl": 60, "isar-robotics": 200, "kleinwerk": 12}
BARE_PODS = 10

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tenant:
    """A company of the example.

    Attributes:
        name: of its TenantQuota.
        namespaces: that belong to it.
        guaranteed: GPUs in the pool at home.
        borrowing_limit: GPUs beyond those that it may hold while others leave theirs unused.
        lending_limit: GPUs of the guarantee that others may hold; None: all that is unused.
    """

    name: str
    namespaces: tuple[str, ...]
    guaranteed: int
    borrowing_limit: int = 0
    lending_limit: int | None = None

    @property
    def user(self) -> str:
        """The identity that acts for it."""
        return f"tenant-{self.name}"

    @property
    def allowance(self) -> int:
        """GPUs that it may never exceed."""
        return self.guaranteed + self.borrowing_limit

    @property
    def kept(self) -> int:
        """GPUs of the guarantee that are never lent."""
        return 0 if self.lending_limit is None else self.guaranteed - self.lending_limit


def load(directory: Path) -> list[Manifest]:
    """Return the documents of all files of a directory, in the order of their names."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(directory.glob("*.yaml")))
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def platform(scale: float) -> list[Manifest]:
    """Return what the platform admin applies, with quotas shrunk by `scale`."""
    documents = load(PLATFORM)
    for document in documents:
        if document["kind"] == "TenantQuota":
            for pool in document["spec"]["pools"]:
                for figure in SMALLEST.keys() & pool.keys():
                    least = min(pool[figure], SMALLEST[figure])
                    pool[figure] = max(least, round(pool[figure] * scale))
    return documents


def tenants(documents: list[Manifest]) -> list[Tenant]:
    """Return the tenants that the documents describe."""
    return [_tenant(each) for each in documents if each["kind"] == "TenantQuota"]


def _tenant(quota: Manifest) -> Tenant:
    share = next(pool for pool in quota["spec"]["pools"] if pool["name"] == HOME_POOL)
    return Tenant(
        quota["metadata"]["name"],
        tuple(quota["spec"]["namespaces"]),
        share["guaranteed"],
        share.get("borrowingLimit", 0),
        share.get("lendingLimit"),
    )


def workload(tenant: Tenant, scale: float) -> list[Manifest]:
    """Return the tenant's own manifests, enlarged to more than it may have."""
    made: list[Manifest] = []
    jobs: list[Manifest] = []
    asked = 0
    for document in load(TENANTS / tenant.name):
        match document["kind"]:
            case "Job":
                jobs.append(document)
                continue
            case "Deployment":
                copies = [_replicas(document, tenant, scale)]
            case _:
                copies = _several(document)
        made += copies
        asked += sum(gpus_of(each) for each in copies if _fits(each))
    for job in jobs:
        more = MORE_PODS.get(tenant.name, 1) * gpus_of_pod(job["spec"]["template"]["spec"])
        made.append(_job(job, math.ceil(tenant.allowance * OVERBOOKING) + more - asked))
    return made


def late_job(tenant: Tenant, pods: int) -> Manifest:
    """Return a smaller Job beside the tenant's first one."""
    job = next(each for each in load(TENANTS / tenant.name) if each["kind"] == "Job")
    job["metadata"]["name"] += "-late"
    return _job(job, pods * gpus_of_pod(job["spec"]["template"]["spec"]))


def gpus_of_pod(spec: Manifest) -> int:
    """Return the GPUs that a pod of the example asks for; it has one container."""
    limits = (each.get("resources", {}).get("limits", {}) for each in spec["containers"])
    return sum(int(each.get(names.GPU_RESOURCE, 0)) for each in limits)


def gpus_of(document: Manifest) -> int:
    """Return the GPUs that all pods of a workload ask for together."""
    spec = document["spec"]
    if document["kind"] == "Pod":
        return gpus_of_pod(spec)
    pods = spec.get("replicas", spec.get("parallelism", 1))
    return int(pods) * gpus_of_pod(spec["template"]["spec"])


def pods_of(document: Manifest) -> int:
    """Return how many pods a workload makes."""
    spec = document["spec"]
    return 1 if document["kind"] == "Pod" else int(spec.get("replicas", spec.get("parallelism")))


def _fits(document: Manifest) -> bool:
    return document["kind"] != "Pod" or gpus_of(document) <= GPUS_PER_NODE


def _replicas(document: Manifest, tenant: Tenant, scale: float) -> Manifest:
    template = document["spec"]["template"]["spec"]
    least = document["spec"]["replicas"]
    if gpus_of_pod(template):
        document["spec"]["replicas"] = max(least, round(REPLICAS[tenant.name] * scale))
    return document


def _several(document: Manifest) -> list[Manifest]:
    if not _fits(document):
        return [document]
    made = []
    for number in range(BARE_PODS if gpus_of(document) == 1 else 2):
        made.append(copy.deepcopy(document))
        made[-1]["metadata"]["name"] += f"-{number}"
    return made


def _job(document: Manifest, gpus: int) -> Manifest:
    template = document["spec"]["template"]
    pods = math.ceil(gpus / gpus_of_pod(template["spec"]))
    document["spec"] |= {"completions": pods, "parallelism": pods}
    # The demo decides when they end, so that it can say what has to happen then.
    template["metadata"]["annotations"].pop(stages.RUN_SECONDS)
    return document

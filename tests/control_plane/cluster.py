"""A cluster with the product on it, and what one test has of it for itself.

The operator runs for the whole session, so a test uses names, a region and nodes that no other
test uses, and everything that it made is gone afterwards.
"""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from rig.client import NOT_FOUND, Client, Response, wait_for
from rig.users import grant_tenant
from sovereign_gpu import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rig.control_plane import Rig
    from rig.product import OperatorProcess

API = f"/apis/{names.GROUP}/{names.VERSION}"
POOLS, QUOTAS, POLICIES = f"{API}/gpupools", f"{API}/tenantquotas", f"{API}/dataresidencypolicies"
GPUS_PER_NODE = 8
NOWHERE = "nowhere"
RUN_SECONDS = "rig.sovereign-gpu.io/run-seconds"
_numbers = itertools.count(1)


@dataclass
class Cluster:
    """The control plane, its administrator, the operator and nodes that are in no pool."""

    rig: Rig
    admin: Client
    operator: OperatorProcess
    spare: deque[str]
    fenced: set[str] = field(default_factory=set)
    """Namespaces in which a test had releases of a replaced leader refused."""

    def series(self, name: str, **labels: str) -> list[float]:
        """Return the samples of a metric whose labels include the given ones."""
        return [
            value
            for found, value in samples(self.operator, name)
            if labels.items() <= found.items()
        ]

    def site(self) -> Site:
        """Return names, region and nodes for one test."""
        return Site(self, next(_numbers))


def samples(operator: OperatorProcess, name: str) -> list[tuple[dict[str, str], float]]:
    """Return all samples of one metric of an operator."""
    return [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(operator.metrics())
        for sample in family.samples
        if sample.name == names_of_metrics(name)
    ]


def names_of_metrics(name: str) -> str:
    """Return the full name of a metric of the product."""
    return f"sovereign_gpu_{name}"


@dataclass
class Tenant:
    """A tenant with one namespace and its user."""

    name: str
    namespace: str
    client: Client

    @property
    def pods(self) -> str:
        """Path of its pods."""
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def pod(self, name: str) -> str:
        """Path of one of its pods."""
        return f"{self.pods}/{name}"


@dataclass
class Site:
    """Part of the cluster that one test has for itself."""

    cluster: Cluster
    number: int
    nodes: list[str] = field(default_factory=list)
    _made: list[str] = field(default_factory=list)
    _namespaces: list[str] = field(default_factory=list)

    @property
    def admin(self) -> Client:
        """The platform administrator."""
        return self.cluster.admin

    @property
    def region(self) -> str:
        """A region of this test alone."""
        return f"eu-de-{self.number}"

    def name(self, word: str) -> str:
        """Return a name that no other test uses."""
        return f"{word}-{self.number}"

    # --- places and people ------------------------------------------------------------------
    def pool(
        self,
        word: str = "pool",
        *,
        nodes: int = 1,
        country: str = "DE",
        region: str = "",
        spec: Mapping[str, Any] | None = None,
    ) -> str:
        """Make a pool with enrolled nodes and wait until the operator has counted them."""
        name, region = self.name(word), region or self.region
        location = {"country": country, "region": region}
        self.put("GpuPool", name, {"location": location, **(spec or {})})
        for node in self.take(nodes):
            self.enrol(node, name, region)
        # The metrics show the books as they are; the status follows some seconds behind.
        wait_for(
            lambda: (
                max(self.cluster.series("pool_capacity_gpus", pool=name), default=-1)
                >= GPUS_PER_NODE * nodes
            ),
            30.0,
            f"pool {name} to be counted",
        )
        return name

    def take(self, count: int) -> list[str]:
        """Return nodes that are in no pool and carry no pods; they go back afterwards."""
        taken = [self.cluster.spare.popleft() for _ in range(count)]
        self.nodes += taken
        return taken

    def enrol(self, node: str, pool: str | None, region: str | None) -> None:
        """Write pool and region of a node, as an administrator does."""
        labels = {names.NODE_POOL_LABEL: pool, names.REGION_LABEL: region}
        self.admin.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": labels}}).must()

    def policy(
        self, word: str = "policy", *, countries: Any = None, enforcement: str = "Deny"
    ) -> str:
        """Make a residency policy; the EU unless said otherwise."""
        name = self.name(word)
        spec = {"countries": countries or {"sets": ["EU"]}, "enforcement": enforcement}
        self.put("DataResidencyPolicy", name, spec)
        return name

    def tenant(
        self,
        word: str,
        shares: Mapping[str, int] | Iterable[Mapping[str, Any]],
        policies: Iterable[str],
        *,
        wait: bool = True,
    ) -> Tenant:
        """Make a tenant with one namespace and wait until the operator has marked that."""
        name = self.name(word)
        tenant = Tenant(name, self.namespace(word), self.cluster.rig.client(f"tenant-{name}"))
        grant_tenant(self.admin, f"tenant-{name}", [tenant.namespace])
        self.quota(name, [tenant.namespace], shares, policies)
        if wait:
            self.governed(tenant)
        return tenant

    def quota(
        self,
        name: str,
        namespaces: Iterable[str],
        shares: Mapping[str, int] | Iterable[Mapping[str, Any]],
        policies: Iterable[str],
    ) -> None:
        """Write a TenantQuota; of a mapping, values are guarantees."""
        pools = (
            [{"name": pool, "guaranteed": gpus} for pool, gpus in shares.items()]
            if isinstance(shares, Mapping)
            else list(shares)
        )
        spec = {
            "namespaces": list(namespaces),
            "residencyPolicies": list(policies),
            "pools": pools,
        }
        self.put("TenantQuota", name, spec)

    def governed(self, tenant: Tenant) -> None:
        """Wait until GPU pods of the tenant are let in."""
        probe = pod("probe", gpus=1)
        wait_for(
            lambda: tenant.client.create(tenant.pods, probe, dryRun="All").ok,
            30.0,
            f"namespace {tenant.namespace} to be governed",
        )

    def namespace(self, word: str) -> str:
        """Make a namespace that pods can be created in at once."""
        name = self.name(word)
        self.admin.create("/api/v1/namespaces", {"metadata": {"name": name}}).must()
        self.adopt(name)
        self.admin.wait(f"/api/v1/namespaces/{name}/serviceaccounts/default", lambda _: True)
        return name

    def adopt(self, namespace: str) -> None:
        """Delete a namespace and what is in it after the test."""
        self._namespaces.append(namespace)

    def put(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        """Write a custom resource as its owner does; it is deleted after the test."""
        body = {
            "apiVersion": f"{names.GROUP}/{names.VERSION}",
            "kind": kind,
            "metadata": {"name": name},
            "spec": dict(spec),
        }
        self.admin.apply(body).must()
        self.undo(self.admin.object_path(body))

    def undo(self, path: str) -> None:
        """Delete an object after the test."""
        if path not in self._made:
            self._made.append(path)

    def expect_fencing(self) -> None:
        """Say that releases in the namespaces of this test were refused on purpose."""
        self.cluster.fenced.update(self._namespaces)

    # --- watching ---------------------------------------------------------------------------
    def pool_status(self, name: str, predicate: Callable[[Any], Any]) -> Any:
        """Wait for the status of a pool."""
        return self._status(f"{POOLS}/{name}", predicate)

    def tenant_status(self, name: str, predicate: Callable[[Any], Any]) -> Any:
        """Wait for the status of a tenant."""
        return self._status(f"{QUOTAS}/{name}", predicate)

    def policy_status(self, name: str, predicate: Callable[[Any], Any]) -> Any:
        """Wait for the status of a policy."""
        return self._status(f"{POLICIES}/{name}", predicate)

    def _status(self, path: str, predicate: Callable[[Any], Any]) -> Any:
        body = self.admin.wait(
            path,
            lambda found: (
                found["status"]["observedGeneration"] == found["metadata"]["generation"]
                and predicate(found["status"])
            ),
        )
        return body["status"]

    def submit(self, tenant: Tenant, *pods: dict[str, Any]) -> list[str]:
        """Create pods as the tenant; return their names."""
        for body in pods:
            tenant.client.create(tenant.pods, body).must()
        return [body["metadata"]["name"] for body in pods]

    def bound(self, tenant: Tenant, name: str, seconds: float = 30.0) -> Any:
        """Wait until a pod is bound and return it."""
        return self.admin.wait(tenant.pod(name), lambda found: found["spec"]["nodeName"], seconds)

    def told(self, tenant: Tenant, name: str, reason: str, seconds: float = 30.0) -> str:
        """Wait until a waiting pod names the reason and return the sentence."""
        found = self.admin.wait(
            tenant.pod(name),
            lambda body: scheduled(body).get("message", "").startswith(f"{reason}: "),
            seconds,
        )
        assert is_gated(found)
        return str(scheduled(found)["message"].partition(": ")[2])

    def end(self, tenant: Tenant, name: str) -> None:
        """Let a running pod finish now."""
        # Its kubelet would answer an end before the start with a start.
        self.admin.wait(tenant.pod(name), lambda found: found["status"]["phase"] == "Running")
        status = {"status": {"phase": "Succeeded"}}
        self.admin.patch(f"{tenant.pod(name)}/status", status).must()

    # --- cleaning up ------------------------------------------------------------------------
    def clear(self) -> None:
        """Delete what the test made and give its nodes back."""
        for path in self._made:
            self.admin.delete(path)
        for namespace in self._namespaces:
            for group in ("apis/apps/v1", "apis/batch/v1"):
                for kind in ("deployments", "replicasets", "daemonsets", "jobs"):
                    self.drop(f"/{group}/namespaces/{namespace}/{kind}")
            self.drop(f"/api/v1/namespaces/{namespace}/pods")
            self.admin.delete(f"/api/v1/namespaces/{namespace}")
        for node in self.nodes:
            path = f"/api/v1/nodes/{node}"
            if self.admin.patch(path, {"spec": {"unschedulable": None}}).status != NOT_FOUND:
                self.enrol(node, None, NOWHERE)
                self.cluster.spare.append(node)

    def drop(self, path: str) -> None:
        """Delete a collection at once and wait until it is empty."""
        query = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
        if self.admin.delete(path, **query).status == NOT_FOUND:
            return
        self.admin.wait(path, lambda found: not found["items"])


# --- pods -------------------------------------------------------------------------------------
def pod(
    name: str,
    *,
    gpus: int = 1,
    annotations: Mapping[str, str] | None = None,
    owner: Mapping[str, Any] | None = None,
    cpu: str = "1",
    **spec: Any,
) -> dict[str, Any]:
    """Return a pod that runs until it is told to end."""
    metadata: dict[str, Any] = {"name": name, "annotations": dict(annotations or {})}
    if owner is not None:
        metadata["ownerReferences"] = [dict(owner)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"restartPolicy": "Never", "containers": [container(gpus, cpu)], **spec},
    }


def container(gpus: int, cpu: str = "1") -> dict[str, Any]:
    """Return a container that asks for GPUs, if any."""
    resources: dict[str, Any] = {"requests": {"cpu": cpu, "memory": "1Gi"}}
    if gpus:
        resources["limits"] = {names.GPU_RESOURCE: str(gpus)}
    return {"name": "main", "image": "example.com/train:1", "resources": resources}


def is_gated(body: Any) -> bool:
    """Whether our gate is on the pod."""
    return {"name": names.GATE} in body["spec"].get("schedulingGates", [])


def scheduled(body: Any) -> dict[str, Any]:
    """Return the PodScheduled condition of a pod."""
    return conditions(body["status"]).get("PodScheduled", {})


def conditions(status: Any) -> dict[str, dict[str, Any]]:
    """Return the conditions of a status by type."""
    return {each["type"]: each for each in status.get("conditions", [])}


def required_terms(body: Any) -> list[dict[str, Any]]:
    """Return the required node affinity terms of a pod."""
    affinity = body["spec"].get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    return list(required.get("nodeSelectorTerms", []))


def preferred_terms(body: Any) -> list[dict[str, Any]]:
    """Return the preferred node affinity terms of a pod."""
    affinity = body["spec"].get("affinity", {}).get("nodeAffinity", {})
    return list(affinity.get("preferredDuringSchedulingIgnoredDuringExecution", []))


def decision(body: Any) -> dict[str, Any]:
    """Return the decision that the operator wrote on a released pod."""
    found: dict[str, Any] = json.loads(body["metadata"]["annotations"][names.DECISION])
    return found


def refused(answer: Response) -> bool:
    """Whether the API server said no for good."""
    return answer.status in {403, 422}

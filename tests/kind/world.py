"""What the scenarios do: tenants, their pods, and waiting for what becomes of these."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rig.client import NOT_FOUND, Client, wait_for
from rig.errors import RigError
from rig.kind.access import bearer, token, write_kubeconfig
from rig.kind.images import PYTHON as IMAGE
from rig.kind.paths import TREE
from rig.kind.story import POLICY, POOL
from sovereign_gpu import names

if TYPE_CHECKING:
    from rig.kind.cluster import Cluster

API = f"/apis/{names.GROUP}/{names.VERSION}"
PEOPLE = "people"
"""Namespace of the service accounts that stand for people; no tenant owns it."""
# First process of a container: its end is the end of the container, with success.
UNTIL_TOLD = "import signal as s; s.pthread_sigmask(0, {15}); s.sigwait({15})"
INTERPRETER = "python3"
SECONDS = 60.0
_numbers = itertools.count(1)


def pod_spec(gpus: int = 0, code: str = UNTIL_TOLD, **more: Any) -> dict[str, Any]:
    """Return the spec of a pod that runs until it is told to end."""
    command = [INTERPRETER, "-c", code]
    container: dict[str, Any] = {"name": "main", "image": IMAGE, "command": command}
    if gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": gpus}}
    return {"containers": [container], "restartPolicy": "Never", **more}


def pod(name: str, gpus: int = 0, **more: Any) -> dict[str, Any]:
    """Return a pod; see `pod_spec`."""
    return {"metadata": {"name": name}, "spec": pod_spec(gpus, **more)}


def job(name: str, gpus: int) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": {"spec": pod_spec(gpus)}, "backoffLimit": 0},
    }


def deployment(name: str, gpus: int, replicas: int = 1) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod_spec(gpus, restartPolicy="Always")}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": template,
        },
    }


def is_gated(found: dict[str, Any]) -> bool:
    gates = found["spec"].get("schedulingGates", ())
    return any(each["name"] == names.GATE for each in gates)


def condition(found: dict[str, Any], kind: str = "PodScheduled") -> dict[str, Any]:
    rows = found["status"].get("conditions", ())
    return next((each for each in rows if each["type"] == kind), {})


@dataclass
class Tenant:
    """A tenant with one namespace; its user has the stock `admin` role there and nothing else."""

    name: str
    namespace: str
    client: Client
    kubeconfig: Path
    cluster: Cluster

    @property
    def pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def pod(self, name: str) -> str:
        return f"{self.pods}/{name}"

    def submit(self, *bodies: dict[str, Any]) -> list[str]:
        """Create objects as the tenant; returns their names."""
        for body in bodies:
            kind = {"apiVersion": "v1", "kind": "Pod", **body}
            kind["metadata"] = {**body["metadata"], "namespace": self.namespace}
            self.client.create(self.client.collection_path(kind), kind).must()
        return [body["metadata"]["name"] for body in bodies]

    def running(self, name: str, seconds: float = SECONDS) -> dict[str, Any]:
        """Wait until a kubelet runs the pod, and return that."""
        found: dict[str, Any] = self.client.wait(
            self.pod(name), lambda body: body["status"]["phase"] == "Running", seconds
        )
        return found

    def told(self, name: str, reason: str) -> str:
        """Wait until a gated pod says why it waits; returns the message."""
        found = self.client.wait(
            self.pod(name),
            lambda body: condition(body).get("message", "").startswith(reason),
            SECONDS,
        )
        assert is_gated(found)
        return str(condition(found)["message"])

    def of(self, owner: str, count: int = 1) -> list[str]:
        """Wait until a controller has made this many pods; returns their names, oldest first."""
        made: list[str] = []

        def there() -> bool:
            found = self.client.get(self.pods).must()["items"]
            mine = [each for each in found if each["metadata"]["name"].startswith(f"{owner}-")]
            mine.sort(key=lambda each: each["metadata"]["creationTimestamp"])
            made[:] = [each["metadata"]["name"] for each in mine]
            return len(made) >= count

        wait_for(there, SECONDS, f"{count} pods of {owner}")
        return made

    def end(self, name: str) -> None:
        """Let a running pod end with success, and wait until its kubelet says so."""
        # The end of the container can be the end of the command, too.
        with contextlib.suppress(RigError):
            self.run(name, "import os; os.kill(1, 15)")
        self.client.wait(
            self.pod(name), lambda body: body["status"]["phase"] == "Succeeded", SECONDS
        )

    def run(self, name: str, code: str) -> str:
        """Run Python code in a running pod; returns what it printed."""
        where = (f"--namespace={self.namespace}", name)
        return self.cluster.kubectl("exec", *where, "--", INTERPRETER, "-c", code)

    def reachable(self, name: str, seconds: float = SECONDS) -> None:
        """Wait until commands can be run in a pod: its kubelet has to know it first."""

        def answers() -> bool:
            with contextlib.suppress(RigError):
                return self.run(name, "print(1)").strip() == "1"
            return False

        wait_for(answers, seconds, f"pod {name} to be reachable", 1.0)

    def status(self, predicate: Any) -> dict[str, Any]:
        """Wait until the status of the TenantQuota is as wanted, as its tenant would not see it."""
        body: dict[str, Any] = self.cluster_admin.wait(
            f"{API}/tenantquotas/{self.name}", lambda found: predicate(found["status"]), SECONDS
        )
        found: dict[str, Any] = body["status"]
        return found

    cluster_admin: Client = field(kw_only=True)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the product's command with the tenant's token."""
        environment = os.environ | {
            "KUBECONFIG": str(self.kubeconfig),
            "PYTHONPATH": str(TREE / "operator"),
        }
        return subprocess.run(  # noqa: S603 - the product's own command
            [sys.executable, "-m", "sovereign_gpu", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=SECONDS,
        )


@dataclass
class World:
    """The cluster with the product on it, and what one test has made."""

    cluster: Cluster
    admin: Client
    directory: Path
    eu: list[str]
    abroad: str
    companion: str
    _made: list[str] = field(default_factory=list)
    _namespaces: list[str] = field(default_factory=list)

    def namespace(self, word: str) -> str:
        """Make a namespace that pods can be created in at once."""
        name = f"{word}-{next(_numbers)}-{os.getpid()}"
        self.admin.create("/api/v1/namespaces", {"metadata": {"name": name}}).must()
        self._namespaces.append(name)
        self.admin.wait(f"/api/v1/namespaces/{name}/serviceaccounts/default", lambda _: True)
        return name

    def tenant(self, word: str, guaranteed: int, **limits: int) -> Tenant:
        """Make a tenant in the pool and wait until its namespace is governed."""
        namespace = self.namespace(word)
        secret = token(self.admin, PEOPLE, namespace)
        self._grant(namespace)
        kubeconfig = self.directory / f"{namespace}.kubeconfig"
        write_kubeconfig(kubeconfig, self.cluster.kubeconfig, secret)
        spec = {
            "namespaces": [namespace],
            "residencyPolicies": [POLICY],
            "pools": [{"name": POOL, "guaranteed": guaranteed, **limits}],
        }
        body = {"apiVersion": f"{names.GROUP}/{names.VERSION}", "kind": "TenantQuota", "spec": spec}
        self.admin.apply({**body, "metadata": {"name": namespace}}).must()
        self._made.append(namespace)
        client = bearer(self.cluster.kubeconfig, secret)
        tenant = Tenant(
            namespace, namespace, client, kubeconfig, self.cluster, cluster_admin=self.admin
        )
        self.admin.wait(
            f"/api/v1/namespaces/{namespace}",
            lambda found: found["metadata"]["labels"][names.TENANT_LABEL] == namespace,
            SECONDS,
        )
        # The label reaches the policies, and the right the authorizer, a moment after they are
        # written.
        wait_for(lambda: self._governs(tenant), SECONDS, f"{namespace} to be governed")
        return tenant

    def clear(self) -> None:
        """Delete what was made, and wait until no pod of it is left; the rest goes by itself."""
        for name in self._made:
            self.admin.delete(f"{API}/tenantquotas/{name}")
        for name in self._namespaces:
            self.admin.delete(f"/api/v1/namespaces/{name}")
        for name in self._namespaces:
            pods = f"/api/v1/namespaces/{name}/pods"
            self.admin.wait(pods, lambda found: not found["items"], 2 * SECONDS)
        self._made.clear()
        self._namespaces.clear()

    def pool(self, predicate: Any, seconds: float = SECONDS) -> dict[str, Any]:
        """Wait until the status of the pool is as wanted, and return that."""
        path = f"{API}/gpupools/{POOL}"
        body = self.admin.wait(path, lambda found: predicate(found["status"]), seconds)
        found: dict[str, Any] = body["status"]
        return found

    def on(self, node: str) -> set[str]:
        """Return the namespaces whose pods are bound to a node."""
        query = {"fieldSelector": f"spec.nodeName={node}"}
        found = self.admin.items("/api/v1/pods", **query)
        return {each["metadata"]["namespace"] for each in found}

    def _grant(self, namespace: str) -> None:
        group = "rbac.authorization.k8s.io"
        binding = {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "people", "namespace": namespace},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "admin"},
            "subjects": [{"kind": "ServiceAccount", "name": namespace, "namespace": PEOPLE}],
        }
        self.admin.apply(binding).must()

    def _governs(self, tenant: Tenant) -> bool:
        answer = tenant.client.create(tenant.pods, pod("probe", gpus=1), dryRun="All")
        return answer.ok and is_gated(answer.body)


def refusal(answer: Any) -> str:
    """Return the message of a request that must have been refused."""
    if answer.ok or answer.status == NOT_FOUND:
        raise RigError(f"{answer.request} was answered with {answer.status}")
    return str(answer.message)

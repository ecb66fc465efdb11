"""The cluster of the scenarios: fake GPUs on the workers, the product installed from its chart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from rig import product
from rig.catalogue import COMPANION_TAINT
from rig.client import wait_for
from rig.fake_gpu.names import ENABLED_LABEL, GPU_RESOURCE
from rig.kind import images
from rig.kind.access import administrator
from rig.kind.paths import TREE
from sovereign_gpu import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from rig.client import Client
    from rig.kind.cluster import Cluster

POOL = "munich-b200"
POLICY = "eu-only"
REGION = "eu-de-muc"
EXEMPT = ("kube-system", "kube-public", "kube-node-lease", "gpu-operator", "fake-gpu")
GPUS_PER_NODE = 8
GPU_SECONDS = 120.0


def prepare(cluster: Cluster, say: Callable[[str], None]) -> Client:
    """Bring images, fake GPUs, the chart, a pool and a policy onto a running cluster.

    All of it can be repeated. Returns the administrator's client.

    Raises:
        RigError: a step failed, or something was not ready in time.
    """
    built = images.build(cluster.running(), say)
    for each in built.values():
        cluster.load(each.archive)
    admin = administrator(cluster.kubeconfig)
    say("installing the fake NVIDIA stack")
    _fake_gpus(cluster, admin, built[images.FAKE_GPU].name)
    say("installing the chart")
    install(cluster, admin, built[images.OPERATOR].name)
    _pool(cluster, admin)
    return admin


def install(cluster: Cluster, admin: Client, image: str) -> None:
    """Install or upgrade the chart under the strictest pod security, and wait for its policies.

    Args:
        cluster: the cluster.
        admin: its administrator.
        image: of the operator, with tag.
    """
    repository, _, tag = image.partition(":")
    admin.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": product.NAMESPACE,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        }
    ).must()
    cluster.helm(
        *("upgrade", "--install", product.NAME, product.CHART, "--wait", "--timeout", "3m"),
        *("--namespace", product.NAMESPACE),
        *("--set", f"admission.exemptNamespaces={{{','.join(EXEMPT)}}}"),
        # As a string: a tag of digits alone would become a number.
        *("--set", f"image.repository={repository}", "--set-string", f"image.tag={tag}"),
    )
    product.wait_refusing(admin)


def workers(cluster: Cluster) -> list[str]:
    """Return the names of the workers: two in the EU, then one outside."""
    nodes = cluster.get("nodes", "--selector=!node-role.kubernetes.io/control-plane")
    home = f"{REGION}-"
    zones = {
        each["metadata"]["name"]: each["metadata"]["labels"][names.ZONE_LABEL] for each in nodes
    }
    return sorted(zones, key=lambda name: (not zones[name].startswith(home), zones[name]))


def control_plane(cluster: Cluster) -> str:
    """Return the name of the control plane's node."""
    nodes = cluster.get("nodes", "--selector=node-role.kubernetes.io/control-plane")
    return str(nodes[0]["metadata"]["name"])


def _fake_gpus(cluster: Cluster, admin: Client, image: str) -> None:
    chosen = workers(cluster)
    for name in chosen:
        labels = {"metadata": {"labels": {ENABLED_LABEL: "true"}}}
        admin.patch(f"/api/v1/nodes/{name}", labels).must()
    rendered = cluster.kubectl("kustomize", TREE / "rig" / "fake_gpu" / "deploy")
    documents = list(yaml.safe_load_all(rendered))
    for each in documents:
        if each["kind"] == "DaemonSet":
            for container in each["spec"]["template"]["spec"]["containers"]:
                container["image"] = image
    cluster.kubectl("apply", "--filename=-", text=yaml.safe_dump_all(documents))

    def offered() -> bool:
        nodes = (admin.get(f"/api/v1/nodes/{name}").must() for name in chosen)
        wanted = str(GPUS_PER_NODE)
        return all(each["status"]["allocatable"].get(GPU_RESOURCE) == wanted for each in nodes)

    wait_for(offered, GPU_SECONDS, "every worker to offer its GPUs", 1.0)


def _pool(cluster: Cluster, admin: Client) -> None:
    """Enrol the workers in the EU, and the control plane as their companion without GPUs."""
    companion = control_plane(cluster)
    # Pods of tenants without GPUs need a place in the EU, too, and three workers are few.
    admin.patch(f"/api/v1/nodes/{companion}", {"spec": {"taints": [COMPANION_TAINT]}}).must()
    location = {"country": "DE", "region": REGION}
    for kind, name, spec in (
        ("GpuPool", POOL, {"location": location}),
        ("DataResidencyPolicy", POLICY, {"countries": {"sets": ["EU"]}}),
    ):
        body = {"apiVersion": f"{names.GROUP}/{names.VERSION}", "kind": kind, "spec": spec}
        admin.apply({**body, "metadata": {"name": name}}).must()
    for node in (*workers(cluster)[:2], companion):
        labels = {names.NODE_POOL_LABEL: POOL}
        admin.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": labels}}).must()
    path = f"/apis/{names.GROUP}/{names.VERSION}/gpupools/{POOL}"
    capacity = 2 * GPUS_PER_NODE
    admin.wait(path, lambda body: body["status"]["gpus"]["allocatable"] == capacity, 60.0)

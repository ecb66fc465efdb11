"""What one wants to see after a failure, gathered into one folder."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from rig.errors import RigError
from rig.product import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rig.kind.cluster import Cluster

UNITS = ("kubelet", "containerd")


def collect(cluster: Cluster, directory: Path) -> Path:
    """Write logs of operator, kubelets and API server and the state of things; return the folder.

    What cannot be had is left out: a broken cluster is when this is wanted most.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, command in _questions():
        with contextlib.suppress(RigError):
            (directory / name).write_text(cluster.kubectl(*command), encoding="utf-8")
    with contextlib.suppress(RigError):
        for node in cluster.get("nodes"):
            _node(cluster, node["metadata"]["name"], directory)
    return directory


def _questions() -> Iterator[tuple[str, tuple[str, ...]]]:
    selected = (f"--namespace={NAMESPACE}", "--selector=app.kubernetes.io/name=sovereign-gpu")
    operator = ("logs", *selected, "--prefix", "--tail=-1")
    yield "operator.log", operator
    yield "operator-before.log", (*operator, "--previous")
    for component in ("kube-apiserver", "kube-scheduler", "kube-controller-manager"):
        labels = ("--namespace=kube-system", f"--selector=component={component}")
        yield f"{component}.log", ("logs", *labels, "--tail=-1")
    fake = ("--namespace=fake-gpu", "--selector=app.kubernetes.io/name=fake-gpu")
    yield "fake-gpu.log", ("logs", *fake, "--prefix", "--tail=-1")
    yield "pods.txt", ("get", "pods", "--all-namespaces", "--output=wide")
    yield "pods.yaml", ("get", "pods", "--all-namespaces", "--output=yaml")
    yield "nodes.yaml", ("get", "nodes", "--output=yaml")
    yield "events.txt", ("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp")
    kinds = "gpupools,tenantquotas,dataresidencypolicies"
    yield "product.yaml", ("get", kinds, "--output=yaml")


def _node(cluster: Cluster, node: str, directory: Path) -> None:
    for unit in UNITS:
        with contextlib.suppress(RigError):
            text = cluster.on_node(node, "journalctl", "--no-pager", f"--unit={unit}")
            (directory / f"{node}-{unit}.log").write_text(text, encoding="utf-8")

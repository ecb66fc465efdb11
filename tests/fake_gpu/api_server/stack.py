"""The stack installed from its manifests on the rig, its parts as processes beside it.

Every part has a token of exactly the service account that the manifests give it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import requests
import yaml

from rig.client import wait_for
from rig.processes import free_ports
from rig.users import PLATFORM_ADMIN

if TYPE_CHECKING:
    from types import TracebackType

    from rig.control_plane import Rig

TREE = Path(__file__).resolve().parents[3]
DEPLOY = TREE / "rig" / "fake_gpu" / "deploy"
NAMESPACE = "fake-gpu"
CONFIG_MAP = f"/api/v1/namespaces/{NAMESPACE}/configmaps/fake-gpu"


class Part:
    """One part of the stack for one node, as a process."""

    def __init__(self, rig: Rig, part: str, node: str, log: Path, *options: str) -> None:
        self.log = log
        (self.port,) = free_ports(1)
        self._command = [
            *(sys.executable, "-m", "rig.fake_gpu", part, "--node", node),
            *("--namespace", NAMESPACE, "--host", "127.0.0.1", "--port", str(self.port)),
            *("--kubeconfig", str(rig.service_account_kubeconfig(NAMESPACE, part)), *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def start(self) -> Self:
        path = f"{TREE / 'operator'}:{TREE}"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                self._command,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": path},
            )
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code; safe to call when it has ended."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(20)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def page(self, path: str) -> tuple[int, str]:
        """Return status and text of a page; 0 while nobody listens."""
        try:
            answer = requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=5)
        except requests.RequestException:
            return 0, ""
        return answer.status_code, answer.text

    @property
    def ready(self) -> bool:
        return self.page("/readyz")[0] == 200

    def said(self, words: str) -> bool:
        return words in self.log.read_text()


class Stack:
    """The manifests on a rig, and what stands in the ConfigMap."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.admin = rig.client(PLATFORM_ADMIN)

    def install(self) -> None:
        """Apply the manifests as a user does."""
        command = [
            *(str(self.rig.binaries / "kubectl"), "apply", "--kustomize", str(DEPLOY)),
            *("--kubeconfig", str(self.rig.kubeconfig(PLATFORM_ADMIN))),
        ]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own command

    def tell(self, node: str, **fields: Any) -> None:
        """Write what a node has and what is wrong with it."""
        self.write(node, yaml.safe_dump(fields))

    def write(self, key: str, text: str | None) -> None:
        """Write one key of the ConfigMap."""
        self.admin.patch(CONFIG_MAP, {"data": {key: text}}).must()

    def node(self, name: str, **labels: str) -> str:
        """Register a node as a new kubelet does: with nothing of NVIDIA's on it."""
        room = {"pods": "110", "cpu": "8", "memory": "16Gi"}
        status = {"capacity": room, "conditions": [{"type": "Ready", "status": "True"}]}
        body = {"metadata": {"name": name, "labels": labels}, "status": status}
        self.admin.create("/api/v1/nodes", body).must()
        return name

    def labels(self, node: str) -> dict[str, str]:
        """Return the labels of a node."""
        found: dict[str, str] = (
            self.admin.get(f"/api/v1/nodes/{node}").must()["metadata"].get("labels", {})
        )
        return found

    def wait_label(self, node: str, key: str, value: str | None) -> None:
        """Wait until a label has a value, or is gone."""
        wait_for(lambda: self.labels(node).get(key) == value, 20, f"{key} of {node} to be {value}")

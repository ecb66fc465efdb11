"""The product on the rig: the chart by helm, the operator as a process.

No kubelet runs here, so the chart's Deployment is installed with no replicas and the operator runs
beside the control plane, with a token of exactly the service account that the chart made.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import requests

from rig import users
from rig.client import wait_for
from rig.errors import RigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rig.client import Client
    from rig.control_plane import Rig

NAMESPACE = "sovereign-gpu-system"
NAME = "sovereign-gpu"
TREE = Path(__file__).resolve().parent.parent
CHART = TREE / "charts" / "sovereign-gpu"
_PROBES = "/api/v1/namespaces/default/pods"
_PROBE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "policy-probe", "namespace": "default"},
    "spec": {
        "containers": [
            {"name": "probe", "image": "probe", "resources": {"limits": {"nvidia.com/gpu": 1}}}
        ]
    },
}


def install(rig: Rig, values: Sequence[str] = ()) -> None:
    """Install or upgrade the chart and wait until its policies are in force.

    Args:
        rig: the control plane, which is up.
        values: `key=value` settings of the chart.

    Raises:
        RigError: helm failed; the message is helm's.
    """
    settings = (part for value in ("replicas=0", *values) for part in ("--set", value))
    _helm(rig, "upgrade", "--install", NAME, str(CHART), "--create-namespace", *settings)
    wait_in_force(rig)


def uninstall(rig: Rig, seconds: float = 30.0) -> None:
    """Uninstall the chart and wait until its policies are no longer in force.

    Raises:
        RigError: helm failed; the message is helm's.
    """
    _helm(rig, "uninstall", NAME)
    admin = rig.client(users.PLATFORM_ADMIN)
    wait_for(
        lambda: admin.create(_PROBES, _PROBE, dryRun="All").ok,
        seconds,
        "the admission policies to be gone",
    )


def _helm(rig: Rig, *words: str) -> None:
    command = [
        *(str(rig.binaries / "helm"), *words, "--namespace", NAMESPACE, "--wait"),
        *("--kubeconfig", str(rig.kubeconfig(users.PLATFORM_ADMIN))),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RigError(f"helm {' '.join(words[:2])}: {done.stderr.strip()}")


def wait_in_force(rig: Rig, seconds: float = 30.0) -> None:
    """Wait until the API server refuses what the policies refuse."""
    wait_refusing(rig.client(users.PLATFORM_ADMIN), seconds)


def wait_refusing(admin: Client, seconds: float = 30.0) -> None:
    """Wait, as somebody who may do everything, until the policies refuse it nevertheless."""
    wait_for(
        lambda: admin.create(_PROBES, _PROBE, dryRun="All").status in {403, 422},
        seconds,
        "the admission policies to be in force",
    )


class OperatorProcess:
    """One process of the operator, started from this tree."""

    def __init__(
        self,
        rig: Rig,
        *,
        arguments: Sequence[str] = (),
        log: Path | None = None,
        server: str | None = None,
    ) -> None:
        """Prepare; nothing runs before `start`.

        Args:
            rig: the control plane with the chart installed.
            arguments: more flags of the operator.
            log: file for its log; `operator.log` beside the daemons' logs if omitted.
            server: address of the API server instead of the rig's own, for proxies between.
        """
        self._server = server
        self._rig = rig
        self._arguments = tuple(arguments)
        self._log = log or rig.logs / "operator.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = self._read_port = 0

    @property
    def pid(self) -> int:
        """Process number.

        Raises:
            RigError: it does not run.
        """
        if self._process is None or self._process.poll() is not None:
            raise RigError(f"the operator does not run; see {self._log}")
        return self._process.pid

    def start(self, *, wait: bool = True) -> Self:
        """Start the process; with `wait`, until it leads."""
        self._port, self._read_port = _free_port(), _free_port()
        kubeconfig = self._kubeconfig()
        environment = {**os.environ, **self._told(), "PYTHONPATH": str(TREE / "operator")}
        command = [
            *(sys.executable, "-m", "sovereign_gpu", "operator", "--kubeconfig", str(kubeconfig)),
            *("--listen", f"127.0.0.1:{self._port}"),
            *("--read-api", f"127.0.0.1:{self._read_port}", *self._arguments),
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=TREE
            )
        if wait:
            self.wait_leading()
        return self

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Wait until /readyz answers ok: it follows everything."""
        wait_for(
            lambda: self._page("readyz").ok, seconds, f"the operator to be ready; see {self._log}"
        )

    def wait_leading(self, seconds: float = 60.0) -> None:
        """Wait until it decides."""
        wait_for(self.leads, seconds, f"the operator to lead; see {self._log}", 0.1)

    def leads(self) -> bool:
        """Whether it decides."""
        return "sovereign_gpu_leader 1.0" in self._page("metrics").text

    @property
    def read_api(self) -> str:
        """Address of the read API: a service's endpoint may not be on loopback."""
        return f"https://127.0.0.1:{self._read_port}"

    def metrics(self) -> str:
        """Return the text of /metrics."""
        return requests.get(self._url("metrics"), timeout=10).text

    def terminate(self, seconds: float = 30.0) -> int:
        """Ask it to end, wait, and return its exit code."""
        return self._end(signal.SIGTERM, seconds)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL, 10.0)

    def __enter__(self) -> Self:
        """Start and wait until ready."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self.terminate()

    def _kubeconfig(self) -> Path:
        path = self._rig.service_account_kubeconfig(NAMESPACE, NAME)
        if self._server is None:
            return path
        other = path.with_name(f"{self._server.rpartition(':')[2]}.{path.name}")
        other.write_text(path.read_text("utf-8").replace(self._rig.url, self._server), "utf-8")
        return other

    def _told(self) -> dict[str, str]:
        """Return what the chart's Deployment tells its container in plain words."""
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}"
        found = self._rig.client(users.PLATFORM_ADMIN).get(path).must()
        variables = found["spec"]["template"]["spec"]["containers"][0]["env"]
        own = ("SOVEREIGN_GPU_LISTEN", "SOVEREIGN_GPU_READ_API")
        told = {each["name"]: each["value"] for each in variables if "value" in each}
        return {key: value for key, value in told.items() if key not in own}

    def _end(self, number: signal.Signals, seconds: float) -> int:
        if self._process is None:
            raise RigError("the operator was not started")
        self._process.send_signal(number)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise RigError(f"the operator did not end within {seconds:.0f} s") from None

    def _page(self, name: str) -> requests.Response:
        if self._process is not None and self._process.poll() is not None:
            raise RigError(f"the operator ended with {self._process.returncode}; see {self._log}")
        try:
            return requests.get(self._url(name), timeout=5)
        except requests.RequestException:
            silent = requests.Response()
            silent.status_code = 503
            return silent

    def _url(self, page: str) -> str:
        return f"http://127.0.0.1:{self._port}/{page}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

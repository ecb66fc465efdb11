"""One kind cluster from its creation to its end."""

from __future__ import annotations

import functools
import itertools
import json
import time
from typing import TYPE_CHECKING, Any

import yaml

from rig.binaries import KIND, locate
from rig.client import wait_for
from rig.errors import RigError
from rig.kind import engine as engines
from rig.kind import host
from rig.kind.paths import CONFIGURATION, digest, state_directory
from rig.kind.shell import run, works

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rig.kind.engine import Engine

READY_SECONDS = 180.0
# What nodes from our own image need: no network add-on, and kubelets that accept old machines.
OWN_NETWORKING = {"disableDefaultCNI": True}
OWN_PATCHES = (
    "kind: KubeletConfiguration\nfailCgroupV1: false\noomScoreAdj: 0\n",
    "kind: KubeProxyConfiguration\noomScoreAdj: 0\n",
)


class Cluster:
    """The cluster of a kind configuration; nothing of any other cluster is touched."""

    def __init__(self, configuration: Path = CONFIGURATION) -> None:
        """Read the configuration.

        Raises:
            RigError: the programs are not built; the message names the command.
        """
        self.configuration: dict[str, Any] = yaml.safe_load(
            configuration.read_text(encoding="utf-8")
        )
        self.name: str = self.configuration["name"]
        self.binaries = locate(KIND)
        self.directory = state_directory() / "clusters" / self.name
        self.kubeconfig = self.directory / "kubeconfig"
        self._record = self.directory / "cluster.json"

    # --- life -------------------------------------------------------------------------------
    def up(self, say: Callable[[str], None]) -> None:
        """Create the cluster and wait until all of it is ready; a ready one is left alone.

        Raises:
            RigError: a step failed, or something was not ready in time.
        """
        engine = engines.find(self.binaries, say)
        wanted = digest(json.dumps(self.configuration), engine.image, self.binaries.name)
        if self._recorded().get("digest") == wanted and self._answers():
            say(f"cluster {self.name} is up")
            return
        self._delete(engine)
        self.directory.mkdir(parents=True, exist_ok=True)
        body = {"name": engine.name, "image": engine.image, "own": engine.own, "digest": wanted}
        self._record.write_text(json.dumps(body), encoding="utf-8")
        began = time.monotonic()
        say(f"creating cluster {self.name} with {engine.name}, nodes of {engine.image}")
        self._kind(engine, "create", "cluster", "--config", "-", "--image", engine.image)
        self.route()
        self.wait_ready()
        say(f"cluster {self.name} is up after {time.monotonic() - began:.0f} s")

    def down(self, say: Callable[[str], None]) -> None:
        """Delete the cluster and take back what the machine was changed for it."""
        engine = self._engine()
        if engine is not None:
            self._delete(engine)
            if engine.own:
                # Refused while somebody else's container uses it.
                works("podman", "network", "rm", "sovereign-gpu", env=engine.environment())
        # Also after a start that never came to a cluster.
        host.restore(say)
        for path in (self.kubeconfig, self._record):
            path.unlink(missing_ok=True)
        say(f"cluster {self.name} is down")

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until all nodes are ready and all pods of the control plane are.

        Raises:
            RigError: they were not in time; the message has the last state.
        """
        last = [""]

        def ready() -> bool:
            nodes = self.get("nodes")
            pods = self.get("pods", "--namespace=kube-system")
            objects = [*nodes, *pods]
            waiting = [each["metadata"]["name"] for each in objects if not _is_ready(each)]
            last[0] = ", ".join(waiting)
            return len(nodes) == len(self.configuration["nodes"]) and not waiting

        try:
            wait_for(ready, seconds, f"cluster {self.name} to be ready", 1.0)
        except RigError as error:
            raise RigError(f"{error}: not ready are {last[0]}") from None

    # --- use --------------------------------------------------------------------------------
    def kubectl(self, *arguments: str | Path, text: str | None = None) -> str:
        """Run kubectl as the cluster's administrator."""
        binary = self.binaries / "kubectl"
        return run(binary, f"--kubeconfig={self.kubeconfig}", *arguments, text=text)

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the objects that `kubectl get` finds."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", *arguments, "-o=json"))[
            "items"
        ]
        return items

    def helm(self, *arguments: str | Path) -> str:
        """Run helm as the cluster's administrator."""
        return run(self.binaries / "helm", "--kubeconfig", self.kubeconfig, *arguments)

    def load(self, archive: Path) -> None:
        """Put the images of an archive onto all nodes; once, as long as the archive's name holds.

        Its name has to change with its content.
        """
        recorded = self._recorded()
        if archive.name not in recorded.get("loaded", ()):
            self._kind(self.running(), "load", "image-archive", archive)
            recorded["loaded"] = [*recorded.get("loaded", ()), archive.name]
            self._record.write_text(json.dumps(recorded), encoding="utf-8")

    def on_node(self, node: str, *command: str, text: str | None = None) -> str:
        """Run a command on a node, as root."""
        return self.running().run("exec", "--interactive", node, *command, text=text)

    def copy(self, node: str, source: Path, target: str) -> None:
        """Copy a file of this machine onto a node."""
        self.running().run("cp", source, f"{node}:{target}")

    def reboot(self, node: str) -> None:
        """Restart a worker as after a loss of power: all processes end at once, disks stay.

        Raises:
            RigError: a step failed, or the cluster was not ready again in time.
        """
        engine = self.running()
        engine.run("kill", node)
        if engine.own:
            # podman would give it another address, under which kubelet and routes do not know it.
            network = ("sovereign-gpu", node)
            address = _address(json.loads(self.kubectl("get", "node", node, "-o=json")))
            engine.run("network", "disconnect", *network)
            engine.run("network", "connect", "--ip", address, *network)
        engine.run("start", node)
        ready = (engine.name, "exec", node, "systemctl", "is-active", "kubelet")
        up = functools.partial(works, *ready, env=engine.environment())
        wait_for(up, READY_SECONDS, f"the kubelet of {node} to be started", 1.0)
        self.route()

    def route(self) -> None:
        """Tell the nodes the ways to each other's pods, where kind's own network does not."""
        engine = self.running()
        if engine.own:
            self._route(engine)

    def running(self) -> Engine:
        """Return the engine of the cluster.

        Raises:
            RigError: there is no cluster.
        """
        engine = self._engine()
        if engine is None:
            raise RigError(f"no cluster {self.name}: create it with `make kind-up`")
        return engine

    # --- the rest ---------------------------------------------------------------------------
    def _recorded(self) -> dict[str, Any]:
        if not self._record.exists():
            return {}
        recorded: dict[str, Any] = json.loads(self._record.read_text(encoding="utf-8"))
        return recorded

    def _engine(self) -> Engine | None:
        recorded = self._recorded()
        if not recorded:
            return None
        return engines.Engine(recorded["name"], recorded["image"], own=recorded["own"])

    def _answers(self) -> bool:
        try:
            self.wait_ready(10.0)
        except RigError:
            return False
        return True

    def _kind(self, engine: Engine, *arguments: str | Path) -> None:
        run(
            *(self.binaries / "kind", *arguments, "--name", self.name),
            *(("--kubeconfig", self.kubeconfig) if "cluster" in arguments else ()),
            env=engine.environment(),
            text=json.dumps(self._complete(engine)),
        )

    def _delete(self, engine: Engine) -> None:
        self._kind(engine, "delete", "cluster")

    def _complete(self, engine: Engine) -> dict[str, Any]:
        if not engine.own:
            return self.configuration
        body = dict(self.configuration)
        body["networking"] = {**body.get("networking", {}), **OWN_NETWORKING}
        body["kubeadmConfigPatches"] = [*body.get("kubeadmConfigPatches", ()), *OWN_PATCHES]
        return body

    def _route(self, engine: Engine) -> None:
        """Tell each node by which node the pods of the others are reached."""
        found: list[dict[str, Any]] = []

        def assigned() -> bool:
            found[:] = self.get("nodes")
            return all("podCIDR" in each["spec"] for each in found)

        wait_for(assigned, 60.0, "every node to have addresses for its pods", 1.0)
        for node, other in itertools.permutations(found, 2):
            way = ("ip", "route", "replace", other["spec"]["podCIDR"], "via", _address(other))
            engine.run("exec", node["metadata"]["name"], *way)


def _address(node: dict[str, Any]) -> str:
    addresses = node["status"]["addresses"]
    return next(str(each["address"]) for each in addresses if each["type"] == "InternalIP")


def _is_ready(found: dict[str, Any]) -> bool:
    conditions = found["status"].get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

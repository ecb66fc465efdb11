"""The commands `why`, `queue`, `top` and `nodes`, typed by a platform team and by a tenant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rig import product
from rig.client import wait_for
from rig.demo.manifests import HOME_POOL
from rig.demo.pods import one
from sovereign_gpu import names

if TYPE_CHECKING:
    from rig.demo.pods import Pod
    from rig.demo.scene import Scene

_DESK = "desk"
"""Service account of whoever sits there: a token can be passed on to the operator, a client
certificate cannot."""
_LINES = 8
_RBAC = "rbac.authorization.k8s.io"
_PATIENCE = 30.0
_WAITS, _STUCK = 3, 4
"""Exit codes of `why`: it passes by itself, and it does not."""


@dataclass(slots=True)
class Typed:
    """What a command printed."""

    code: int
    lines: list[str]
    errors: str
    seconds: float

    @property
    def document(self) -> Any:
        """The JSON it printed; empty if it printed none."""
        try:
            return json.loads("\n".join(self.lines))
        except ValueError:
            return {}


@dataclass(slots=True)
class Terminal:
    """Where one person types. The operator answers at its port: no service leads to loopback."""

    stage: Scene
    kubeconfig: Path

    def type(self, *words: str) -> Typed:
        """Run a command and return what it printed."""
        server = ("--server", self.stage.operator.read_api, "--insecure-skip-tls-verify")
        environment = {
            **os.environ,
            "PYTHONPATH": str(product.TREE / "operator"),
            "KUBECONFIG": str(self.kubeconfig),
        }
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "sovereign_gpu", *words, *server],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        took = time.monotonic() - began
        return Typed(done.returncode, done.stdout.splitlines(), done.stderr, took)

    def show(self, *words: str) -> Typed:
        """Run a command and print it with what it printed."""
        typed = self.type(*words)
        say = self.stage.screen.line
        say(f"$ sovereign-gpu {' '.join(words)}", "bold")
        for line in typed.lines[:_LINES]:
            say(line, "cyan")
        if len(typed.lines) > _LINES:
            say(f"… {len(typed.lines) - _LINES} more lines", "dim")
        if typed.errors:
            say(typed.errors.strip(), "red")
        say(f"[{typed.seconds:.1f} s]", "dim")
        return typed


def show(stage: Scene) -> None:
    """Type them all, and compare what they say with the pods and nodes of the API server."""
    tenant = stage.tenants[-1]
    platform = _sit_down(stage, product.NAMESPACE, everything=True)
    guest = _sit_down(stage, tenant.namespaces[0], everything=False)
    pods = stage.pods()
    _pools(stage, platform, pods)
    _tenants(stage, platform, pods)
    _queue(stage, platform, guest, pods)
    _why(stage, guest, [each for each in pods if each.namespace == tenant.namespaces[0]])


def _pools(stage: Scene, platform: Terminal, pods: list[Pod]) -> None:
    platform.show("nodes")
    rows = platform.type("nodes", "-o", "json").document.get("items", [])
    home: dict[str, Any] = next((each for each in rows if each["pool"] == HOME_POOL), {})
    used = sum(each.gpus for each in pods if each.node and each.lives)
    stage.screen.expect(
        "`nodes` says what is used, as the pods on the nodes do",
        home.get("used") == used,
        f"{home.get('used')} GPUs of {home.get('gpus')}",
    )


def _tenants(stage: Scene, platform: Terminal, pods: list[Pod]) -> None:
    platform.show("top")
    rows = platform.type("top", "-o", "json").document.get("items", [])
    said = {each["tenant"]: each["used"] for each in rows if each["pool"] == HOME_POOL}
    counted = {
        tenant.name: sum(
            each.gpus
            for each in pods
            if each.namespace in tenant.namespaces and each.node and each.lives
        )
        for tenant in stage.tenants
    }
    stage.screen.expect("`top` says what every tenant holds", said == counted, str(said))


def _queue(stage: Scene, platform: Terminal, guest: Terminal, pods: list[Pod]) -> None:
    platform.show("queue", "-A")
    tenant = stage.tenants[-1]
    namespace = tenant.namespaces[0]
    typed = guest.show("queue", "-n", namespace)
    rows = guest.type("queue", "-n", namespace, "-o", "json").document.get("items", [])
    gated = {each.name for each in pods if each.gated and each.namespace == namespace}
    others = [each.name for each in stage.tenants[:-1] if each.name in "\n".join(typed.lines)]
    stage.screen.expect(
        "`queue` shows a tenant its own pods, and others as numbers only",
        {each["name"] for each in rows} == gated and not others,
        f"{len(rows)} of {len(gated)} waiting pods of {tenant.name}, {len(others)} other names",
    )


def _why(stage: Scene, guest: Terminal, own: list[Pod]) -> None:
    for what, code, fits in (
        ("`why` says what a pod waits for, and that it passes by itself", _WAITS, True),
        ("`why` says that waiting does not help", _STUCK, False),
    ):
        pod = one(
            [each for each in own if each.gated and each.fits is fits], "waiting pod to ask of"
        )
        typed = guest.show("why", f"{pod.namespace}/{pod.name}")
        stage.screen.expect(what, typed.code == code, f"{pod.name}, exit code {typed.code}")


def _sit_down(stage: Scene, namespace: str, *, everything: bool) -> Terminal:
    """Return the terminal of a service account that may read its namespace, or everything."""
    admin = stage.admin
    account = {"kind": "ServiceAccount", "name": _DESK, "namespace": namespace}
    body = {"metadata": {"name": _DESK, "namespace": namespace}}
    admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", **body}).must()
    binding: dict[str, Any] = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        **body,
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "view"},
        "subjects": [account],
    }
    if everything:
        readable = {"apiGroups": ["", names.GROUP], "resources": ["*"], "verbs": ["get", "list"]}
        role = {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": _DESK}}
        admin.apply({**role, "rules": [readable]}).must()
        binding |= {"kind": "ClusterRoleBinding", "metadata": {"name": _DESK}}
        binding["roleRef"] = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": _DESK}
    admin.apply(binding).must()
    terminal = Terminal(stage, stage.rig.service_account_kubeconfig(namespace, _DESK))
    # Rights reach the authorizer through its own watch, a moment after they are written.
    words = ("top",) if everything else ("queue", "-n", namespace)
    wait_for(lambda: not terminal.type(*words).code, _PATIENCE, f"{namespace} to be let in", 1.0)
    return terminal

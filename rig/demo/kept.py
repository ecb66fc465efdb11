"""A demo that was left running: how to look around in it, and how to end it."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rig import users
from rig.control_plane import Rig, default_root
from rig.demo.scene import OFFICE_USER
from rig.errors import RigError
from rig.processes import Identity
from rig.product import TREE

if TYPE_CHECKING:
    from rig.demo.scene import Scene

_END_SECONDS = 20.0
_ONE_GPU = json.dumps(
    {
        "spec": {
            "containers": [
                {"name": "more", "image": "any", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
            ]
        }
    }
)


def _note(name: str) -> Path:
    return default_root(name) / "operator.json"


def refuse_second(name: str) -> None:
    """Refuse to begin over a demo of the same name that runs.

    Raises:
        RigError: one runs.
    """
    if Rig(name).status()["phase"] in {"starting", "up"}:
        raise RigError(
            f"a rig named {name} runs already; end it with `{_end_command(name)}`, "
            "or choose another --name"
        )


def keep(scene: Scene) -> None:
    """Let rig and operator outlive this process, and say how to look around."""
    scene.rig.keep()
    operator = Identity.of(scene.operator.pid)
    note = {"pid": operator.pid, "started": operator.started}
    _note(scene.rig.name).write_text(json.dumps(note), encoding="utf-8")
    for line in _instructions(scene):
        scene.screen.line(line)


def end(name: str) -> int:
    """End what `--keep` left running; return the exit code."""
    try:
        operator = Identity(**json.loads(_note(name).read_text(encoding="utf-8")))
    except FileNotFoundError:
        print(f"demo: nothing that was kept under the name {name}")
    else:
        operator.signal(signal.SIGTERM)
        if not operator.wait_gone(_END_SECONDS):
            operator.signal(signal.SIGKILL)
    Rig(name).destroy()
    print(f"demo: {name} ended, nothing is left")
    return 0


def _instructions(scene: Scene) -> list[str]:
    kubectl = scene.rig.binaries / "kubectl"
    people = (users.PLATFORM_ADMIN, *(each.user for each in scene.tenants), OFFICE_USER)
    files = {each: scene.rig.kubeconfig(each) for each in people}
    tenant = scene.tenants[-1]
    ours = f"env PYTHONPATH={TREE / 'operator'} {sys.executable} -m sovereign_gpu"
    return [
        "",
        "It runs on. Who you may be:",
        *(f"  export KUBECONFIG={path}" for path in files.values()),
        "What to try, as the platform admin and as a tenant:",
        f"  alias kubectl={kubectl}",
        "  kubectl get sovereign-gpu",
        f"  kubectl get tenantquota {tenant.name} -o yaml",
        f"  kubectl -n {tenant.namespaces[0]} get pods",
        f"  kubectl -n {tenant.namespaces[0]} run more --image=any --overrides='{_ONE_GPU}'",
        "  kubectl explain tenantquota.spec",
        f"  alias sovereign-gpu='{ours}'",
        "  sovereign-gpu top",
        f"  sovereign-gpu -n {tenant.namespaces[0]} queue",
        f"  sovereign-gpu why {tenant.namespaces[0]}/more",
        f"Logs, the audit log among them: {scene.rig.logs}",
        f"End it: {_end_command(scene.rig.name)}",
    ]


def _end_command(name: str) -> str:
    named = "" if name == "demo" else f" --name {name}"
    return f"(cd {TREE} && PYTHONPATH=operator:. {sys.executable} -m rig.demo --end{named})"

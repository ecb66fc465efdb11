"""kubectl, as the people of the story use it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import yaml

from rig.errors import RigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rig.control_plane import Rig
    from rig.demo.manifests import Manifest


def run(rig: Rig, user: str, *arguments: str, stdin: str | None = None) -> str:
    """Run kubectl as a user and return what it printed.

    Raises:
        RigError: it failed; the message is kubectl's.
    """
    command = [
        str(rig.binaries / "kubectl"),
        *("--kubeconfig", str(rig.kubeconfig(user))),
        *("--cache-dir", str(rig.root / "kubectl-cache")),
        *arguments,
    ]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RigError(f"kubectl {' '.join(arguments)} as {user}: {done.stderr.strip()}")
    return done.stdout


def apply(rig: Rig, user: str, documents: Iterable[Manifest]) -> str:
    """Run `kubectl apply` on documents as a user."""
    return run(rig, user, "apply", "-f", "-", stdin=yaml.safe_dump_all(list(documents)))

"""Which container engine runs the nodes, and from which image.

The public node image is taken where an engine of this machine can reach it. Where it cannot, the
nodes run on podman from an image made here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rig.errors import RigError
from rig.kind import host
from rig.kind.node_image import node_image
from rig.kind.shell import run, works

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The default of the pinned kind.
PUBLIC = (
    "docker.io/kindest/node:v1.36.1"
    "@sha256:3489c7674813ba5d8b1a9977baea8a6e553784dab7b84759d1014dbd78f7ebd5"
)
CHOICE = "SOVEREIGN_GPU_NODE_IMAGE"
"""Environment variable: `own` or `public` instead of trying."""
ASK_SECONDS = 20.0
PULL_SECONDS = 900.0
ENGINES = ("docker", "podman")


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine and the node image in its store.

    Attributes:
        name: `docker` or `podman`, also the program.
        image: name of the node image.
        own: whether the image was made here; networking is ours then, not kind's.
    """

    name: str
    image: str
    own: bool

    def environment(self) -> dict[str, str]:
        """Return the environment in which the engine and kind run."""
        variables = host.environment() if self.own else dict(os.environ)
        network = {"KIND_EXPERIMENTAL_PODMAN_NETWORK": "sovereign-gpu"} if self.own else {}
        return variables | network | {"KIND_EXPERIMENTAL_PROVIDER": self.name}

    def run(self, *arguments: str | Path, text: str | None = None) -> str:
        """Run the engine's command and return its output."""
        return run(self.name, *arguments, env=self.environment(), text=text)


def find(binaries: Path, say: Callable[[str], None]) -> Engine:
    """Return an engine that can start nodes; prepares this machine if there is none.

    Args:
        binaries: directory of the programs of the profile `kind`.
        say: receives one line at a time.

    Raises:
        RigError: the choice in the environment cannot be met, or making the image failed.
    """
    choice = os.environ.get(CHOICE, "")
    if choice not in {"", "own", "public"}:
        raise RigError(f"{CHOICE} is {choice!r}: own, public or nothing")
    if choice != "own":
        for name in ENGINES:
            if _has_public(name, say):
                return Engine(name, PUBLIC, own=False)
        if choice == "public":
            raise RigError(f"no engine of {' and '.join(ENGINES)} can reach {PUBLIC}")
        say("no container engine here reaches the public node image: nodes run from our own")
    host.prepare(say)
    return Engine("podman", node_image(binaries, say), own=True)


def _has_public(name: str, say: Callable[[str], None]) -> bool:
    if not works(name, "info", timeout=ASK_SECONDS):
        return False
    if works(name, "image", "inspect", PUBLIC, timeout=ASK_SECONDS):
        return True
    # Asking for the manifest tells within seconds whether pulling has a chance.
    if not works(name, "manifest", "inspect", PUBLIC, timeout=ASK_SECONDS):
        return False
    say(f"{name} pull {PUBLIC}")
    return works(name, "pull", PUBLIC, timeout=PULL_SECONDS)

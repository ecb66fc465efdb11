"""Where the daemons come from: a directory of the user, or the cache that the builder fills."""

from __future__ import annotations

import os
from pathlib import Path

from rig.components import DAEMONS, TOOLS
from rig.errors import RigError

DIRECTORY_VARIABLE = "SOVEREIGN_GPU_BINARIES"
CACHE_VARIABLE = "SOVEREIGN_GPU_CACHE"
NAMES = (*DAEMONS, *TOOLS)


def cache_directory() -> Path:
    """Return the directory outside every source tree that holds what can be made again."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sovereign-gpu"


def locate(profile: str, directory: Path | None = None) -> Path:
    """Return the directory that holds all daemons and tools of a profile.

    Args:
        profile: Kubernetes minor version.
        directory: where they are; else the environment says, else the cache of builds is used.

    Raises:
        RigError: some are missing.
    """
    named = directory or os.environ.get(DIRECTORY_VARIABLE)
    found = Path(named).resolve() if named else cache_directory() / "binaries" / profile
    missing = [each for each in NAMES if not os.access(found / each, os.X_OK)]
    if missing:
        raise RigError(
            f"missing in {found}: {', '.join(missing)}\n"
            f"build them with `make rig-binaries` (Kubernetes {profile}), "
            f"or name a directory that has them in {DIRECTORY_VARIABLE}"
        )
    return found

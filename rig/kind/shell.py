"""Runs the commands that this folder is made of, and turns their failures into messages."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from rig.errors import RigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LINES = 25
"""Lines of a failed command that are worth showing."""


def run(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    text: str | None = None,
    timeout: float | None = None,
) -> str:
    """Run a command and return its standard output.

    Args:
        *command: program and arguments.
        env: the whole environment; the caller's when omitted.
        text: standard input.
        timeout: seconds.

    Raises:
        RigError: it failed, is missing or took too long; the message ends with its last lines.
    """
    argv = [str(each) for each in command]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, env=env, input=text, timeout=timeout
        )
    except FileNotFoundError:
        raise RigError(f"{argv[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise RigError(f"{' '.join(argv[:4])} took more than {timeout:.0f} s") from None
    if done.returncode:
        said = (done.stdout + done.stderr).splitlines()[-LINES:]
        raise RigError("\n  ".join([f"{' '.join(argv[:6])} failed:", *said]))
    return done.stdout


def works(*command: str | Path, env: Mapping[str, str] | None = None, timeout: float = 30) -> bool:
    """Whether a command exists and succeeds within `timeout` seconds."""
    try:
        run(*command, env=env, timeout=timeout)
    except RigError:
        return False
    return True

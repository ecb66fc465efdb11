"""Processes that cannot outlive whoever started them.

A rig is six daemons. Whatever happens to the starter (its end, Ctrl-C, kill -9), none of them may
stay behind, because the next run would then measure or test against leftovers.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PR_SET_PDEATHSIG = 1
# Below the range from which Linux takes ports of outgoing connections, or a connection of
# somebody else could sit on a port between choosing and binding it.
PORTS = range(12000, 32000)

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that cannot be confused with a later one of the same number.

    Attributes:
        pid: process number.
        started: start time in clock ticks since boot; 0 when the process is gone.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Identity:
        """Return the identity of a process that exists now."""
        return cls(pid, _started(pid))

    @property
    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return self.started != 0 and _started(self.pid) == self.started

    def signal(self, number: signal.Signals) -> None:
        """Send a signal if the process is still this one."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait_gone(self, seconds: float) -> bool:
        """Wait until the process has ended.

        Returns:
            False if it still runs after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while self.alive:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def _started(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The command name may hold blanks and brackets; the fields begin after its last bracket.
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process so far, in seconds; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process in bytes; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/statm").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_ports(count: int) -> list[int]:
    """Return ports on loopback that nobody listens on."""
    found: list[int] = []
    # A random order keeps rigs that start at the same moment apart.
    for port in random.sample(PORTS, len(PORTS)):
        if port_is_free(port):
            found.append(port)
            if len(found) == count:
                return found
    raise OSError(f"no {count} free ports in {PORTS.start}-{PORTS.stop - 1} on 127.0.0.1")


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of loopback now."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def spawn(
    argv: Sequence[str | Path],
    log: Path,
    env: Mapping[str, str] | None = None,
    *,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that is killed when the calling *thread* ends, however it ends.

    The kernel ties the child to the thread, not to the process: call it from a thread that
    lives as long as the child should, normally the main one.

    Args:
        argv: command line.
        log: file that receives standard output and error, appended.
        env: the whole environment; the caller's when omitted.
        cwd: working directory.
    """
    parent = os.getpid()

    def bind_to_parent() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above took effect
            os._exit(1)

    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(each) for each in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            # Ctrl-C in the terminal goes to the starter alone, which ends its children in order.
            start_new_session=True,
            preexec_fn=bind_to_parent,  # noqa: PLW1509 - prctl and getppid only; takes no locks
        )


def stop(child: subprocess.Popen[bytes], grace: float) -> int:
    """End a process: SIGTERM, then SIGKILL after `grace` seconds; return its exit code."""
    child.terminate()
    try:
        return child.wait(grace)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()

"""The one process that owns the daemons of a rig.

It starts them in waves, reports in a file, and ends them in reverse order when it is told to,
or when the pipe from its starter closes, which the kernel sees to when the starter is
killed. Killed itself, the kernel kills the daemons. So every way down is covered, and `rig up`
returns simply by telling the supervisor to go on without it.

    python -m rig.supervisor PLAN.json LIFELINE
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rig.processes import Identity, spawn

if TYPE_CHECKING:
    import subprocess

DETACH = b"d"
POLL_SECONDS = 0.03


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for the end
    """The end was asked for; the argument says by whom."""


class Daemon:
    """One daemon of the plan: its command, how to see that it is ready, how long it may take."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.name: str = spec["name"]
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False

    def start(self) -> None:
        """Start it; the kernel ends it when this process ends."""
        # Less garbage collection than the default: two cores are few, memory is not.
        environment = {**os.environ, "GOGC": "200"}
        self.process = spawn(self.spec["argv"], Path(self.spec["log"]), env=environment)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def probe(self) -> bool:
        """Whether its health endpoint answers 200 (daemons without one count as ready)."""
        if not self.ready:
            self.ready = _healthy(self.spec.get("health"))
        return self.ready

    def report(self) -> dict[str, Any]:
        """Return name, number and state for the report."""
        if self.process is None:
            return {"name": self.name, "state": "not started"}
        code = self.process.poll()
        state = "running" if code is None else f"ended with code {code}"
        started = Identity.of(self.process.pid).started if code is None else 0
        return {"name": self.name, "pid": self.process.pid, "started": started, "state": state}


def _healthy(health: dict[str, str] | None) -> bool:
    if health is None:
        return True
    context = ssl.create_default_context(cafile=health["ca"])
    context.load_cert_chain(health["certificate"], health["key"])
    opener = urllib.request.build_opener(
        # Never through a proxy that the environment names: all of this is loopback.
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=context),
    )
    try:
        with opener.open(health["url"], timeout=2) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004
    except (OSError, urllib.error.URLError):
        return False


class Supervisor:
    """Runs a plan: `{"report": path, "patience": seconds, "waves": [[daemon, …], …]}`."""

    def __init__(self, plan: dict[str, Any], lifeline: int) -> None:
        self._report_path = Path(plan["report"])
        self._patience = float(plan["patience"])
        self._waves = [[Daemon(spec) for spec in wave] for wave in plan["waves"]]
        self._ready = 0
        self._lifeline: int | None = lifeline
        self._wakeup, writer = os.pipe()
        os.set_blocking(writer, False)
        os.set_blocking(self._wakeup, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        heard = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1)
        for number in heard:
            signal.signal(number, lambda *_: None)

    def run(self) -> int:
        """Start, watch and end the daemons; return the exit code."""
        phase, message = "stopped", ""
        try:
            for wave in self._waves:
                self._start(wave)
            self._report("up")
            while True:
                self._pause(None)
                self._report("up")
        except Stopped as reason:
            message = str(reason)
        except (OSError, RuntimeError) as error:
            phase, message = "failed", str(error)
        self._report("failed" if phase == "failed" else "stopping", message)
        self._end()
        self._report(phase, message)
        return int(phase == "failed")

    def _start(self, wave: list[Daemon]) -> None:
        for daemon in wave:
            daemon.start()
        self._report("starting")
        deadline = time.monotonic() + self._patience
        while not all(daemon.probe() for daemon in wave):
            for daemon in wave:
                if not daemon.running:
                    state = daemon.report()["state"]
                    raise RuntimeError(f"{daemon.name} {state}; see {daemon.spec['log']}")
            if time.monotonic() > deadline:
                late = ", ".join(daemon.name for daemon in wave if not daemon.ready)
                raise RuntimeError(f"not ready within {self._patience:.0f} s: {late}")
            self._pause(POLL_SECONDS)
        self._ready += 1
        self._report("starting")

    def _pause(self, seconds: float | None) -> None:
        """Wait for a signal, the lifeline or the time; raise Stopped when it is the end."""
        watched = [self._wakeup, *([] if self._lifeline is None else [self._lifeline])]
        readable, _, _ = select.select(watched, [], [], seconds)
        if self._lifeline in readable and self._lifeline is not None:
            word = os.read(self._lifeline, 1)
            os.close(self._lifeline)
            self._lifeline = None
            if word != DETACH:
                raise Stopped("the starter is gone")
        if self._wakeup in readable:
            for number in os.read(self._wakeup, 64):
                if number == signal.SIGUSR1:
                    self._revive()
                elif number != signal.SIGCHLD:
                    raise Stopped(f"signal {signal.Signals(number).name}")

    def _revive(self) -> None:
        """Start anew what has ended."""
        for daemon in (daemon for wave in self._waves for daemon in wave):
            if not daemon.running:
                daemon.start()

    def _end(self) -> None:
        """End the waves in reverse: clients of the API server first, etcd last."""
        for wave in reversed(self._waves):
            processes = [daemon.process for daemon in wave if daemon.process is not None]
            for process in processes:
                process.terminate()
            grace = max((float(daemon.spec["grace"]) for daemon in wave), default=0.0)
            deadline = time.monotonic() + grace
            while any(each.poll() is None for each in processes) and time.monotonic() < deadline:
                with contextlib.suppress(Stopped):  # a second Ctrl-C changes nothing
                    self._pause(POLL_SECONDS)
            for process in processes:
                process.kill()
                process.wait()

    def _report(self, phase: str, message: str = "") -> None:
        report = {
            "phase": phase,
            "message": message,
            "waves": self._ready,
            "supervisor": {"pid": os.getpid(), "started": Identity.of(os.getpid()).started},
            "daemons": [daemon.report() for wave in self._waves for daemon in wave],
        }
        draft = self._report_path.with_suffix(".tmp")
        draft.write_text(json.dumps(report, indent=1), encoding="utf-8")
        draft.replace(self._report_path)


def main(arguments: list[str]) -> int:
    """Run the plan in the file named first; the second argument is the lifeline's number."""
    plan = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    return Supervisor(plan, int(arguments[1])).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

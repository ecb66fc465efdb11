"""The starter's side of the supervisor: start it, read its report, let it go, end it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rig import supervisor
from rig.errors import RigError
from rig.processes import Identity

if TYPE_CHECKING:
    from collections.abc import Callable

    Report = dict[str, Any]

STOP_SECONDS = 30.0
REPORT_SECONDS = 240.0
"""How long a start may take in all; the supervisor's own patience is shorter."""
POLL_SECONDS = 0.02
LOG_LINES = 12


class Keeper:
    """Keeps one set of daemons through their supervisor.

    Args:
        run: directory for the plan and the report.
        log: file for what the supervisor itself has to say.
    """

    def __init__(self, run: Path, log: Path) -> None:
        self._run = run
        self._log = log
        self.report_file = run / "report.json"
        self._lifeline: int | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def detached(self) -> bool:
        """Whether the daemons do not depend on this process."""
        return self._lifeline is None

    def start(self, plan: dict[str, Any]) -> None:
        """Start the supervisor with a plan; see `rig.supervisor.Supervisor` for its form."""
        self._run.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self.report_file.unlink(missing_ok=True)
        plan_file = self._run / "plan.json"
        plan_file.write_text(json.dumps(plan, indent=1), encoding="utf-8")
        reader, self._lifeline = os.pipe()
        path = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        try:
            with self._log.open("ab") as log:
                self._child = subprocess.Popen(
                    [sys.executable, "-m", "rig.supervisor", str(plan_file), str(reader)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[reader],
                    # Away from the terminal: Ctrl-C reaches it through us, in order.
                    start_new_session=True,
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
                )
        finally:
            os.close(reader)

    def wait_until(self, reached: Callable[[Report], bool]) -> None:
        """Wait until the report is as wanted.

        Raises:
            RigError: the daemons failed, or nothing is reported.
        """
        deadline = time.monotonic() + REPORT_SECONDS
        while not reached(report := self.report()):
            ended = self._child is None or self._child.poll() is not None
            if report.get("phase") == "failed" or ended:
                raise RigError(self._failure())
            if time.monotonic() > deadline:
                raise RigError(f"the supervisor does not report; see {self._log}")
            time.sleep(POLL_SECONDS)

    def let_go(self) -> None:
        """Let the daemons outlive this process."""
        if self._lifeline is not None:
            os.write(self._lifeline, supervisor.DETACH)
            os.close(self._lifeline)
            self._lifeline = None
        if self._child is not None:
            # Nobody waits for it any more: without this, Popen complains that it still runs.
            self._child.returncode = 0
            self._child = None

    def revive(self) -> None:
        """Start the daemons anew that have ended; does not wait until they are ready."""
        running = self._supervisor()
        if running is None:
            raise RigError("nobody keeps the daemons")
        running.signal(signal.SIGUSR1)

    def stop(self) -> None:
        """End the daemons, whoever started them, and wait until the last one is gone."""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        running = self._supervisor()
        if running is not None:
            running.signal(signal.SIGTERM)
            if not running.wait_gone(STOP_SECONDS):
                running.signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait(STOP_SECONDS)
            self._child = None
        # Only a supervisor that was killed leaves daemons, and the kernel ends those; wait for it.
        for each in self.report().get("daemons", []):
            if each.get("pid"):
                Identity(each["pid"], each["started"]).wait_gone(STOP_SECONDS)

    def running(self) -> bool:
        """Whether the supervisor lives."""
        return self._supervisor() is not None

    def report(self) -> Report:
        """Return the supervisor's last report; empty if there was none."""
        try:
            report: Report = json.loads(self.report_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return report

    def _supervisor(self) -> Identity | None:
        report = self.report()
        if "supervisor" not in report:
            return None
        found = Identity(report["supervisor"]["pid"], report["supervisor"]["started"])
        return found if found.alive else None

    def _failure(self) -> str:
        message = str(self.report().get("message") or "the supervisor ended without a report")
        match = re.search(r"see (\S+)$", message)
        log = Path(match.group(1)) if match else self._log
        lines = []
        with contextlib.suppress(OSError):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        return "\n  ".join([f"did not come up: {message}", *lines])

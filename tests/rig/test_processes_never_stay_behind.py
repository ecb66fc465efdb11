"""The supervisor with harmless daemons: every way in which a starter can end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import rig.keeper
from rig.client import wait_for
from rig.errors import RigError
from rig.keeper import Keeper
from rig.pki import Authority
from rig.processes import Identity, free_ports, port_is_free, spawn, stop

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 20.0
PATIENT = ["sleep", "600"]
STUBBORN = [sys.executable, "-c", "import signal; signal.signal(15, lambda *_: 0); signal.pause()"]


def plan(directory: Path, *waves: list[list[str]], grace: float = 2.0) -> dict[str, Any]:
    daemons = [
        [
            {
                "name": f"daemon-{wave}-{index}",
                "argv": argv,
                "log": str(directory / f"{wave}-{index}.log"),
                "health": None,
                "grace": grace,
            }
            for index, argv in enumerate(commands)
        ]
        for wave, commands in enumerate(waves)
    ]
    return {"report": str(directory / "run" / "report.json"), "patience": 10, "waves": daemons}


def is_up(report: dict[str, Any]) -> bool:
    return report.get("phase") == "up"


def everybody(report: dict[str, Any]) -> list[Identity]:
    members = [report["supervisor"], *report["daemons"]]
    return [Identity(each["pid"], each["started"]) for each in members]


def all_gone(members: list[Identity]) -> bool:
    return not any(each.alive for each in members)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    keeper = Keeper(tmp_path / "run", tmp_path / "supervisor.log")
    yield keeper
    keeper.stop()


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own that starts two daemons and then waits for its end."""
    script = f"""
import json, pathlib, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in background
from rig.keeper import Keeper
keeper = Keeper(pathlib.Path({str(tmp_path / "run")!r}), pathlib.Path({str(tmp_path / "s.log")!r}))
keeper.start(json.loads({json.dumps(plan(tmp_path, [PATIENT], [PATIENT]))!r}))
keeper.wait_until(lambda report: report.get("phase") == "up")
print("up", flush=True)
signal.pause()
"""
    env = os.environ | {"PYTHONPATH": str(Path(rig.keeper.__file__).parent.parent)}
    with subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process
        process.kill()


def report_in(directory: Path) -> dict[str, Any]:
    return Keeper(directory / "run", directory / "unused.log").report()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_daemons_end_with_their_starter_however_it_ends(
    tmp_path: Path, starter: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    members = everybody(report_in(tmp_path))
    assert all(each.alive for each in members)
    starter.send_signal(number)
    starter.wait(SECONDS)
    wait_for(lambda: all_gone(members), SECONDS, "every process to be gone")
    assert report_in(tmp_path)["message"] == "the starter is gone"


def test_daemons_end_with_their_supervisor_even_when_it_is_killed(
    tmp_path: Path, keeper: Keeper
) -> None:
    keeper.start(plan(tmp_path, [PATIENT, PATIENT]))
    keeper.wait_until(is_up)
    members = everybody(keeper.report())
    members[0].signal(signal.SIGKILL)
    wait_for(lambda: all_gone(members[1:]), SECONDS, "the daemons to be gone")


def test_daemons_that_were_let_go_outlive_their_starter_until_somebody_stops_them(
    tmp_path: Path, keeper: Keeper
) -> None:
    keeper.start(plan(tmp_path, [PATIENT]))
    keeper.wait_until(is_up)
    keeper.let_go()
    assert keeper.detached
    other = Keeper(tmp_path / "run", tmp_path / "other.log")
    assert other.running()
    members = everybody(other.report())
    other.stop()
    assert all_gone(members)
    assert other.report()["phase"] == "stopped"


def test_a_daemon_that_ignores_the_polite_signal_is_killed(tmp_path: Path, keeper: Keeper) -> None:
    keeper.start(plan(tmp_path, [STUBBORN], grace=0.2))
    keeper.wait_until(is_up)
    members = everybody(keeper.report())
    keeper.stop()
    assert all_gone(members)


def test_later_waves_are_not_started_when_an_earlier_one_dies(
    tmp_path: Path, keeper: Keeper
) -> None:
    doomed = plan(tmp_path, [["sh", "-c", "echo no space left; exit 7"]], [PATIENT])
    # A health endpoint that never answers keeps the wave waiting until it notices the death.
    (port,) = free_ports(1)
    pair = Authority(tmp_path / "pki").pair
    doomed["waves"][0][0]["health"] = {
        "url": f"https://127.0.0.1:{port}/",
        "ca": str(pair.certificate),
        "certificate": str(pair.certificate),
        "key": str(pair.key),
    }
    keeper.start(doomed)
    with pytest.raises(RigError, match=r"daemon-0-0 ended with code 7(?s:.)*no space left"):
        keeper.wait_until(is_up)
    assert keeper.report()["daemons"][1]["state"] == "not started"


def test_a_daemon_that_dies_later_is_reported_and_the_others_live_on(
    tmp_path: Path, keeper: Keeper
) -> None:
    keeper.start(plan(tmp_path, [PATIENT, PATIENT]))
    keeper.wait_until(is_up)
    first, second = everybody(keeper.report())[1:]
    first.signal(signal.SIGKILL)
    keeper.wait_until(lambda report: report["daemons"][0]["state"] == "ended with code -9")
    assert keeper.report()["phase"] == "up"
    assert second.alive


def test_a_spawned_process_logs_and_stops(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "out.log"
    child = spawn(["sh", "-c", "echo $WORD; exec sleep 600"], log, {"WORD": "hello"} | PATH)
    wait_for(lambda: log.read_text() == "hello\n", SECONDS, "the output")
    identity = Identity.of(child.pid)
    assert stop(child, SECONDS) == -signal.SIGTERM
    assert not identity.alive


def test_a_process_number_used_again_is_somebody_else() -> None:
    own = Identity.of(os.getpid())
    assert own.alive
    assert not Identity(own.pid, own.started - 1).alive


def test_ports_in_use_are_not_offered() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert all(port_is_free(each) for each in ports)


PATH = {"PATH": os.environ["PATH"]}

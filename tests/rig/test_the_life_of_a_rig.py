"""Whole control planes: several at once, across down, up and reset, and after a kill -9."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rig.control_plane
from rig.__main__ import main
from rig.binaries import CACHE_VARIABLE, DIRECTORY_VARIABLE
from rig.client import wait_for
from rig.control_plane import Rig
from rig.errors import RigError
from rig.processes import Identity
from rig.users import PLATFORM_ADMIN

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 60.0
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Another rig beside the session's."""
    with Rig("second", root=tmp_path_factory.mktemp("second")) as control_plane:
        yield control_plane


def config_map(name: str) -> dict[str, object]:
    return {"metadata": {"name": name}, "data": {"written": "yes"}}


def test_two_rigs_run_side_by_side_and_know_nothing_of_each_other(rig: Rig, second: Rig) -> None:
    assert rig.url != second.url
    second.client(PLATFORM_ADMIN).create(CONFIG_MAPS, config_map("only-here")).must()
    assert rig.client(PLATFORM_ADMIN).get(f"{CONFIG_MAPS}/only-here").status == 404
    with pytest.raises(RigError, match="no answer"):
        # The certificate of one rig's CA convinces nobody at the other.
        rig.client(PLATFORM_ADMIN).__class__(second.url, rig.ca_file).get("/version")


def test_status_names_every_daemon_and_only_loopback_is_listened_on(second: Rig) -> None:
    status = second.status()
    assert status["phase"] == "up"
    assert set(second.pids()) == {
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kwok",
    }
    listening = [address for pid in second.pids().values() for address in listeners(pid)]
    assert len(listening) >= 5
    assert set(listening) == {"0100007F"}


def listeners(pid: int) -> list[str]:
    """Local addresses, as the kernel writes them, on which a process listens."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        target = str(link.readlink()) if link.is_symlink() else ""
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text("utf-8").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.append(fields[1].split(":")[0])
    return found


@pytest.mark.parametrize("daemon", ["etcd", "kube-apiserver", "kwok"])
def test_a_daemon_that_was_killed_is_started_anew(second: Rig, daemon: str) -> None:
    before = second.pids()
    os.kill(before[daemon], signal.SIGKILL)
    wait_for(lambda: daemon not in second.pids(), SECONDS, f"{daemon} to be gone")
    second.revive()
    wait_for(lambda: daemon in second.pids(), SECONDS, f"{daemon} to be back")
    after = second.pids()
    assert after[daemon] != before[daemon]
    assert {k: v for k, v in after.items() if k != daemon} == {
        k: v for k, v in before.items() if k != daemon
    }
    admin = second.client(PLATFORM_ADMIN)

    def answers() -> bool:
        with contextlib.suppress(RigError):
            return admin.get("/readyz").ok
        return False

    wait_for(answers, SECONDS, "the API server to answer")


def test_objects_survive_down_and_up_but_not_reset_and_kubeconfigs_stay_valid(
    second: Rig,
) -> None:
    client = second.client(PLATFORM_ADMIN)
    kubeconfig = second.kubeconfig(PLATFORM_ADMIN).read_bytes()
    client.create(CONFIG_MAPS, config_map("kept")).must()
    members = [Identity.of(pid) for pid in second.pids().values()]
    second.down()
    assert not any(each.alive for each in members)
    assert second.status()["phase"] == "stopped"
    second.up()
    assert client.get(f"{CONFIG_MAPS}/kept").ok
    second.reset()
    assert client.get(f"{CONFIG_MAPS}/kept").status == 404
    assert yaml_server(kubeconfig) == yaml_server(second.kubeconfig(PLATFORM_ADMIN).read_bytes())


def yaml_server(kubeconfig: bytes) -> bytes:
    (line,) = [each for each in kubeconfig.splitlines() if b"server:" in each]
    return line


def test_nothing_is_left_when_the_starter_is_killed(tmp_path: Path) -> None:
    script = f"""
import pathlib, signal
from rig.control_plane import Rig
Rig("doomed", root=pathlib.Path({str(tmp_path / "rig")!r})).up()
print("up", flush=True)
signal.pause()
"""
    env = os.environ | {"PYTHONPATH": str(Path(rig.control_plane.__file__).parent.parent)}
    with subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=env
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        left = Rig("doomed", root=tmp_path / "rig")
        members = [Identity.of(pid) for pid in left.pids().values()]
        members.append(Identity.of(left.status()["supervisor"]))
        assert len(members) == 6
        assert all(each.alive for each in members)
        starter.send_signal(signal.SIGKILL)
        starter.wait(SECONDS)
    wait_for(lambda: not any(each.alive for each in members), SECONDS, "all processes to end")
    assert left.status()["phase"] == "stopped"


def test_the_command_starts_a_rig_that_stays_until_it_is_taken_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    binaries = Rig("unused", root=tmp_path).binaries
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(binaries))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    try:
        assert main(["up", "--name", "demo", "--no-kwok"]) == 0
        assert "up, https://127.0.0.1:" in capsys.readouterr().out
        assert main(["status", "--name", "demo"]) == 0
        out = capsys.readouterr().out
        assert "kube-scheduler" in out
        assert "kwok" not in out
        assert main(["kubeconfig", "--name", "demo", "tenant-siemens"]) == 0
        assert Path(capsys.readouterr().out.strip()).stat().st_mode & 0o777 == 0o600
        assert main(["logs", "--name", "demo", "kube-apiserver"]) == 0
        assert "kube-apiserver.log" in capsys.readouterr().out
        assert main(["up", "--name", "demo", "--profile", "1.37"]) == 0, "it runs: nothing to do"
    finally:
        assert main(["down", "--name", "demo"]) == 0
    assert main(["status", "--name", "demo"]) == 3
    capsys.readouterr()
    assert main(["up", "--name", "demo", "--profile", "1.37"]) == 1
    assert "holds objects of Kubernetes 1.36" in capsys.readouterr().err
    assert main(["logs", "--name", "demo", "no-such-daemon"]) == 1


def test_missing_binaries_are_named_with_the_command_that_builds_them(tmp_path: Path) -> None:
    with pytest.raises(RigError, match=r"kube-apiserver(?s:.)*make rig-binaries"):
        Rig("empty", root=tmp_path, binaries=tmp_path).up()


def test_a_daemon_that_cannot_start_shows_the_end_of_its_log(rig: Rig, tmp_path: Path) -> None:
    broken = tmp_path / "bin"
    broken.mkdir()
    for each in rig.binaries.iterdir():
        (broken / each.name).symlink_to(each)
    (broken / "etcd").unlink()
    (broken / "etcd").write_text("#!/bin/sh\necho the disk is full\nexit 1\n", encoding="utf-8")
    (broken / "etcd").chmod(0o755)
    with pytest.raises(RigError, match=r"rig unlucky: .*etcd ended with code 1(?s:.)*disk is full"):
        Rig("unlucky", root=tmp_path / "rig", binaries=broken).up()


def test_names_that_could_leave_the_cache_are_refused() -> None:
    with pytest.raises(RigError, match="lower case"):
        Rig("../elsewhere")

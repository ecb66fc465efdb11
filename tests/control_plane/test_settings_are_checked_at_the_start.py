"""Settings that cannot work end the process with 2 and one sentence, before anything happens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sovereign_gpu import settings
from sovereign_gpu.cluster.errors import ConfigurationError

TREE = Path(__file__).parents[2]
WRONG = [
    (["--lease-seconds", "1"], "--lease-seconds: found '1', allowed a number from 2 to 300"),
    (["--lease-seconds", "soon"], "--lease-seconds: found 'soon', allowed a number from 2 to 300"),
    (["--lease-seconds", "nan"], "--lease-seconds: found 'nan'"),
    (["--writes-in-flight", "0"], "--writes-in-flight: found '0', allowed a number from 1 to 128"),
    (["--listen", "host:port"], "--listen: found 'host:port', allowed HOST:PORT"),
    (["--listen", "0.0.0.0:65536"], "--listen: found '0.0.0.0:65536'"),
    (["--read-api", "8443"], "--read-api: found '8443', allowed HOST:PORT"),
    (["--log-level", "loud"], "--log-level: found 'loud', allowed debug, info, warning, error"),
    (["--lease-namespace", ""], "--lease-namespace: found '', allowed a word without spaces"),
    (["--identity", "two words"], "--identity: found 'two words', allowed a word without spaces"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda each: str(each)[:40])
def test_what_is_wrong_is_named_with_what_is_allowed(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings.read(arguments, {})
    assert str(caught.value).startswith(message)


def test_the_environment_speaks_where_no_flag_does() -> None:
    environment = {"SOVEREIGN_GPU_LEASE_SECONDS": "40", "SOVEREIGN_GPU_LISTEN": "[::1]:9090"}
    found = settings.read([], environment)
    assert (found.lease_seconds, found.host, found.port) == (40, "::1", 9090)
    assert settings.read(["--lease-seconds", "7"], environment).lease_seconds == 7
    with pytest.raises(ConfigurationError, match="--lease-seconds: found 'x'"):
        settings.read([], {"SOVEREIGN_GPU_LEASE_SECONDS": "x"})


def _run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    hidden = {"KUBECONFIG", "KUBERNETES_SERVICE_HOST"}
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    return subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-m", "sovereign_gpu", "operator", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**environment, "PYTHONPATH": str(TREE / "operator"), **variables},
    )


def test_a_wrong_setting_ends_the_process_with_2_and_one_line() -> None:
    done = _run("--lease-seconds", "1")
    assert done.returncode == 2
    assert done.stderr == (
        "sovereign-gpu: --lease-seconds: found '1', allowed a number from 2 to 300\n"
    )
    assert done.stdout == ""


def test_without_a_way_to_the_api_server_it_says_how_to_give_one() -> None:
    done = _run()
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("sovereign-gpu: no way to the API server: give --kubeconfig")
    assert "Traceback" not in done.stderr


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = _run("--kubeconfig", str(tmp_path / "absent"))
    assert done.returncode == 2
    assert str(tmp_path / "absent") in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "{current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}],"
        " clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}],"
        " users: [{name: a, user: {token: t}}]}"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = _run("--kubeconfig", str(config), "--listen", address)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"sovereign-gpu: --listen: {address}: ")
    assert "Traceback" not in done.stderr


def test_an_unknown_flag_is_refused_and_help_and_version_are_not() -> None:
    assert _run("--leese-seconds", "3").returncode == 2
    assert _run("--version").stdout.strip() == settings.__version__
    assert "SOVEREIGN_GPU_LEASE_SECONDS" in _run("--help").stdout

"""Flags and environment are checked once, and a bad value names flag, found and allowed."""

from __future__ import annotations

import socket

import pytest

from sovereign_gpu import settings
from sovereign_gpu.cluster.errors import ConfigurationError


def test_nothing_said_gives_what_the_chart_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "sovereign-gpu-7d")
    assert settings.read([], {}) == settings.Settings(
        host="0.0.0.0",  # noqa: S104 – probes come from the node
        port=8080,
        kubeconfig=None,
        lease_namespace="sovereign-gpu-system",
        lease_seconds=15,
        identity="sovereign-gpu-7d",
        writes_in_flight=32,
        log_level="info",
        read_api=None,
    )


def test_every_setting_has_a_flag_and_a_variable() -> None:
    said = {
        "listen": "[::1]:0",
        "kubeconfig": "/k",
        "lease-namespace": "n",
        "lease-seconds": "2.5",
        "identity": "me.example_1",
        "writes-in-flight": "128",
        "log-level": "debug",
        "read-api": "[::]:8443",
        "pod": "sovereign-gpu-7d9c-x2x",
    }
    flags = [part for name, value in said.items() for part in (f"--{name}", value)]
    variables = {
        "SOVEREIGN_GPU_" + name.upper().replace("-", "_"): value for name, value in said.items()
    }
    wanted = settings.Settings(
        "::1",
        0,
        "/k",
        "n",
        2.5,
        "me.example_1",
        128,
        "debug",
        read_api=("::", 8443),
        pod=said["pod"],
    )
    assert settings.read(flags, {}) == wanted
    assert settings.read([], variables) == wanted
    assert settings.read(flags, dict.fromkeys(variables, "nonsense")) == wanted


@pytest.mark.parametrize(
    ("flag", "found", "allowed"),
    [
        ("listen", "8080", "HOST:PORT"),
        ("listen", "h:", "HOST:PORT"),
        ("listen", "h:-1", "HOST:PORT"),
        ("listen", "h:65536", "HOST:PORT"),
        ("listen", "h:http", "HOST:PORT"),
        ("read-api", "8443", "HOST:PORT"),
        ("read-api", "h:x", "HOST:PORT"),
        ("lease-namespace", "../kube-system", "lower-case"),
        ("lease-namespace", "", "lower-case"),
        ("lease-namespace", "Upper", "lower-case"),
        ("lease-namespace", "-a", "lower-case"),
        ("lease-namespace", "a" * 64, "lower-case"),
        ("lease-seconds", "1.9", "2 to 300"),
        ("lease-seconds", "301", "2 to 300"),
        ("lease-seconds", "nan", "2 to 300"),
        ("lease-seconds", "inf", "2 to 300"),
        ("lease-seconds", "", "2 to 300"),
        ("identity", "a b", "without spaces"),
        ("identity", "a/b", "slashes"),
        ("identity", "a\nb", "without spaces"),
        ("identity", "", "without spaces"),
        ("writes-in-flight", "0", "1 to 128"),
        ("writes-in-flight", "129", "1 to 128"),
        ("writes-in-flight", "3.5", "a whole one"),
        ("writes-in-flight", "1e2", "a whole one"),
        ("writes-in-flight", "-4", "a whole one"),
        ("log-level", "loud", "debug, info, warning, error"),
    ],
)
def test_a_bad_value_says_flag_found_and_allowed(flag: str, found: str, allowed: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings.read([f"--{flag}={found}"], {})
    said = str(caught.value)
    assert said.startswith(f"--{flag}: found {found!r}, allowed ")
    assert allowed in said


@pytest.mark.parametrize("arguments", [["--lease", "5"], ["--lease-sec", "5"], ["words"]])
def test_half_a_flag_is_no_flag(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        settings.read(arguments, {})
    assert caught.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err

"""Which words make a command, what help says of them, and how little is loaded for one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sovereign_gpu import __version__
from sovereign_gpu.cli import arguments

TREE = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("who",),
        ("why",),
        ("queue", "--request-timeout", "0"),
        ("queue", "--request-timeout", "2h"),
        ("queue", "--request-timeout", "soon"),
        ("queue", "-o", "xml"),
        ("queue", "--name", "x"),
        ("queue", "extra"),
    ],
)
def test_words_that_make_no_command_end_with_2(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        arguments.parse(words)
    assert caught.value.code == 2
    assert "usage: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "seconds"), [("5", 5), ("500ms", 0.5), ("1.5s", 1.5), ("1m", 60), ("1h", 3600)]
)
def test_time_outs_are_written_as_for_kubectl(said: str, seconds: float) -> None:
    assert arguments.parse(("queue", "--request-timeout", said)).request_timeout == seconds


def test_flags_may_stand_on_either_side_of_the_command() -> None:
    before = arguments.parse(("-n", "a", "--no-headers", "queue"), {})
    after = arguments.parse(("queue", "-n", "a", "--no-headers"), {})
    assert before == after


@pytest.mark.parametrize(
    ("called", "shown"),
    [("kubectl-sovereign_gpu", "kubectl sovereign-gpu"), ("sovereign-gpu", "sovereign-gpu")],
)
def test_help_speaks_as_it_was_called_and_has_the_exit_codes(
    called: str,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [f"/usr/local/bin/{called}"])
    with pytest.raises(SystemExit) as caught:
        arguments.parse(("why", "--help"))
    out = capsys.readouterr().out
    assert caught.value.code == 0
    assert out.startswith(f"usage: {shown} why ")
    for code in range(6):
        assert f"\n  {code}  " in out


def _python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 – ourselves
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(TREE / "operator")},
    )


def test_a_command_starts_without_what_it_does_not_need() -> None:
    heavy = "{'aiohttp', 'asyncio', 'cryptography', 'kopf', 'prometheus_client', 'pydantic'}"
    script = f"import sys, sovereign_gpu.cli.command; print({heavy} & sys.modules.keys())"
    assert _python("-c", script).stdout == "set()\n"


def test_the_first_word_chooses_between_people_and_the_operator() -> None:
    assert _python("-m", "sovereign_gpu", "--version").stdout == f"{__version__}\n"
    assert "--lease-seconds" in _python("-m", "sovereign_gpu", "operator", "--help").stdout

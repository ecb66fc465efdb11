"""One line per record, readable by machines, whatever is in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from sovereign_gpu.telemetry import logs


def lines(monkeypatch: pytest.MonkeyPatch, speak: Callable[[], None]) -> list[dict[str, Any]]:
    """Return what is written when `speak` is called in a process that logs as ours does."""
    written = io.StringIO()
    root = logging.getLogger()
    with monkeypatch.context() as patched:
        patched.setattr("sys.stderr", written)
        patched.setattr(root, "handlers", [])  # else pytest's own would be closed
        patched.setattr(root, "level", root.level)
        logs.configure("info")
        speak()
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_record_is_a_line_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    def speak() -> None:
        logging.getLogger("sovereign_gpu.x").warning("pod %s says\n%s", "a/b", {"ü": '"'})

    (line,) = lines(monkeypatch, speak)
    assert line["message"] == "pod a/b says\n{'ü': '\"'}"
    assert (line["level"], line["logger"]) == ("warning", "sovereign_gpu.x")
    assert abs(datetime.fromisoformat(line["time"]) - datetime.now(UTC)).total_seconds() < 60
    assert line["time"].endswith("+00:00")


def test_an_exception_stays_on_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def speak() -> None:
        try:
            int("why")
        except ValueError:
            logging.getLogger("x").exception("it broke")

    (line,) = lines(monkeypatch, speak)
    assert line["exception"].endswith("base 10: 'why'")


def test_only_what_was_asked_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def speak() -> None:
        logging.getLogger("x").debug("no")
        logging.getLogger("kopf.objects").info("every event")
        logging.getLogger("aiohttp.access").info("every scrape")
        logging.getLogger("x").info("yes")

    assert [line["message"] for line in lines(monkeypatch, speak)] == ["yes"]

"""A server to type commands against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.stand import Stand


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    monkeypatch.setenv("NO_COLOR", "1")
    made = Stand(tmp_path / "kubeconfig")
    server = made.start()
    yield made
    server.shutdown()
    server.server_close()

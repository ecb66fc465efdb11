"""One installation of the manifests for all tests of this folder."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.fake_gpu.api_server.stack import Part, Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rig.control_plane import Rig
    from tests.fake_gpu.conftest import Node

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def stack(rig: Rig) -> Stack:
    made = Stack(rig)
    made.install()
    return made


@pytest.fixture
def name(stack: Stack) -> Iterator[str]:
    """The name of a node that does not exist yet."""
    chosen = f"fake-{next(_numbers)}"
    yield chosen
    stack.write(chosen, None)
    stack.admin.delete(f"/api/v1/nodes/{chosen}")


@pytest.fixture
def start(stack: Stack, name: str, tmp_path: Path) -> Iterator[Callable[..., Part]]:
    """Start parts for the test's node; they are ended after the test."""
    made: list[Part] = []

    def begin(part: str, *options: str) -> Part:
        log = tmp_path / f"{part}-{len(made)}.log"
        made.append(Part(stack.rig, part, name, log, *options).start())
        return made[-1]

    yield begin
    for part in made:
        part.end()


@pytest.fixture
def start_plugin(start: Callable[..., Part], node: Node) -> Callable[[], Part]:
    def begin() -> Part:
        places = ("--directory", str(node.plugins), "--cdi-directory", str(node.cdi))
        return start("device-plugin", *places)

    return begin

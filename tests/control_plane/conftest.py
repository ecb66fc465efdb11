"""A control plane of its own: the chart's policies would stand in the way of others."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

import pytest

from rig import product
from rig.control_plane import Rig
from rig.nodes import create_nodes
from rig.users import PLATFORM_ADMIN
from tests.control_plane.cluster import NOWHERE, Cluster, Site
from tests.control_plane.processes import Process
from tests.control_plane.trail import forbidden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NODES = 24


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with the chart installed, the operator running, and nodes in no pool."""
    root = tmp_path_factory.mktemp("product")
    profile = os.environ.get("SOVEREIGN_GPU_PROFILE", "1.36")
    with Rig("product", root=root, profile=profile) as rig:
        product.install(rig)
        nodes = create_nodes(rig, NODES, region=NOWHERE, prefix="gpu")
        log = root / "operator.log"
        operator = product.OperatorProcess(rig, log=log)
        with operator:
            found = Cluster(rig, rig.client(PLATFORM_ADMIN), operator, deque(nodes))
            yield found
            pid = operator.pid  # it must have lived until here
        # What every test of the session relied on, and what no single one of them can show.
        assert pid
        assert forbidden(rig, found.fenced) == []
        assert '"exception"' not in log.read_text()


@pytest.fixture
def site(cluster: Cluster) -> Iterator[Site]:
    """Names, a region and nodes for one test."""
    made = cluster.site()
    yield made
    made.clear()


@pytest.fixture(scope="module")
def alone(cluster: Cluster) -> Iterator[None]:
    """Without the session's operator."""
    usual = cluster.operator
    usual.terminate()
    yield
    cluster.operator = usual.start()


@pytest.fixture
def start(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start operators; those that still run are ended after the test."""
    made: list[Process] = []

    def begin(lease: int = 3, *, wait: bool = True) -> Process:
        process = Process(cluster.rig, tmp_path / f"operator-{len(made)}.log", lease)
        made.append(process)
        process.start(wait=wait)
        cluster.operator = process
        return process

    yield begin
    for process in made:
        if process.runs():
            process.terminate()

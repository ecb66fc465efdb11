"""One cluster for the session, with the product and fake GPUs on it; `make kind-up` made it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from rig.kind import logs, story
from rig.kind.cluster import Cluster
from tests.kind.world import PEOPLE, World

if TYPE_CHECKING:
    from collections.abc import Iterator

CLUSTER = pytest.StashKey[Cluster]()


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """The cluster of kind-config.yaml."""
    found = Cluster()
    found.running()
    request.config.stash[CLUSTER] = found
    return found


@pytest.fixture(scope="session")
def product(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The cluster with fake GPUs, the chart, a pool of two nodes and a policy."""
    admin = story.prepare(cluster, print)
    admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PEOPLE}}).must()
    first, second, abroad = story.workers(cluster)
    companion = story.control_plane(cluster)
    directory = tmp_path_factory.mktemp("people")
    return World(cluster, admin, directory, [first, second], abroad, companion)


@pytest.fixture
def world(product: World) -> Iterator[World]:
    """What one test uses; everything that it makes is gone afterwards."""
    yield product
    product.clear()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """After a failure, gather what explains it and say where it is."""
    failed = terminalreporter.stats.get("failed") or terminalreporter.stats.get("error")
    cluster = config.stash.get(CLUSTER, None)
    if failed and cluster is not None:
        name = time.strftime("%Y%m%d-%H%M%S")
        folder = logs.collect(cluster, cluster.directory / "failures" / name)
        terminalreporter.write_line(f"logs of operator, kubelets and API server: {folder}")

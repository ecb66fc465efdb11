"""Fixtures of every rung that needs a real API server.

One control plane serves the whole session, so a test makes its own namespaces and names, and
assumes nothing about objects that it did not write.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING

import pytest

from rig.control_plane import Rig
from rig.users import PLATFORM_ADMIN, grant_tenant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rig.client import Client

UP_SECONDS = pytest.StashKey[float]()
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A control plane with KWOK and no nodes; it is gone after the session, however that ends."""
    root = tmp_path_factory.mktemp("rig")
    profile = os.environ.get("SOVEREIGN_GPU_PROFILE", "1.36")
    began = time.monotonic()
    with Rig("tests", root=root, profile=profile) as control_plane:
        request.config.stash[UP_SECONDS] = time.monotonic() - began
        yield control_plane


@pytest.fixture(scope="session")
def admin(rig: Rig) -> Client:
    """The platform administrator's client."""
    return rig.client(PLATFORM_ADMIN)


@pytest.fixture
def make_namespace(admin: Client) -> Iterator[Callable[..., str]]:
    """Make namespaces that pods can be created in at once; they are deleted after the test.

    Called as `make_namespace("prefix", labels={…})`; returns the name.
    """
    made: list[str] = []

    def make(prefix: str = "test", labels: dict[str, str] | None = None) -> str:
        name = f"{prefix}-{next(_numbers)}"
        metadata = {"name": name, "labels": labels or {}}
        admin.create("/api/v1/namespaces", {"metadata": metadata}).must()
        made.append(name)
        # The API server refuses pods until the controller has made their service account.
        admin.wait(f"/api/v1/namespaces/{name}/serviceaccounts/default", lambda _: True)
        return name

    yield make
    for name in made:
        admin.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def namespace(make_namespace: Callable[..., str]) -> str:
    """A fresh namespace."""
    return make_namespace()


@pytest.fixture
def make_tenant(rig: Rig, admin: Client) -> Callable[..., Client]:
    """Make a tenant's user with the stock `admin` role in namespaces; returns its client.

    Called as `make_tenant("siemens", ["siemens-train"])`; the user is `tenant-siemens`.
    """

    def make(name: str, namespaces: list[str]) -> Client:
        user = f"tenant-{name}"
        grant_tenant(admin, user, namespaces)
        client = rig.client(user)
        for each in namespaces:
            # Rights reach the authorizer through its own watch, a moment after they are written.
            client.wait(f"/api/v1/namespaces/{each}/pods", lambda _: True)
        return client

    return make


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how long the control plane took to come up."""
    seconds = config.stash.get(UP_SECONDS, None)
    if seconds is not None:
        terminalreporter.write_line(f"rig: control plane up in {seconds:.1f} s")

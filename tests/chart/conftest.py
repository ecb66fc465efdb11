"""Helm as the rig has it, and a control plane that the chart is installed on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rig import binaries
from rig.control_plane import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rig.client import Client

CHART = Path(__file__).parents[2] / "charts" / "sovereign-gpu"
NAMESPACE = "sovereign-gpu-system"
PROFILE = os.environ.get("SOVEREIGN_GPU_PROFILE", "1.36")


class Helm:
    """Runs helm; a failure is an answer like any other."""

    def __init__(self, home: Path, kubeconfig: Path | None = None) -> None:
        self._binary = binaries.locate(PROFILE) / "helm"
        # Neither the user's repositories nor the user's clusters have a say.
        self._env = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(kubeconfig or home / "no-kubeconfig"),
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - helm, which the rig built
            [str(self._binary), *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=self._env,
        )

    def must(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def template(self, *arguments: str) -> list[dict[str, Any]]:
        text = self.must("template", "x", str(CHART), "--namespace", NAMESPACE, *arguments)
        return [document for document in yaml.safe_load_all(text) if document]


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm without a cluster."""
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A control plane of its own: the chart's policies would stand in the way of others."""
    with Rig("chart", root=tmp_path_factory.mktemp("chart"), profile=PROFILE, kwok=False) as rig:
        yield rig


@pytest.fixture(scope="session")
def installer(cluster: Rig, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm as the platform administrator of the cluster."""
    return Helm(tmp_path_factory.mktemp("installer"), cluster.kubeconfig("platform-admin"))


@pytest.fixture(scope="session")
def installed(cluster: Rig, installer: Helm) -> Client:
    """The platform administrator of a cluster where the chart is installed."""
    installer.must(
        *("install", "sovereign-gpu", str(CHART), "--namespace", NAMESPACE, "--create-namespace")
    )
    return cluster.client("platform-admin")

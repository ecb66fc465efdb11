"""A control plane of its own: the policies would stand in the way of other tests."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rig.control_plane import Rig
from sovereign_gpu.admission.manifests import manifests
from tests.admission import policies
from tests.admission.world import SETTINGS, World, build, documents, populate

if TYPE_CHECKING:
    from collections.abc import Iterator

CHART = Path(__file__).parents[2] / "charts" / "sovereign-gpu"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A cluster with the policies in force and no operator."""
    with cluster("admission", tmp_path_factory.mktemp("admission")) as made:
        yield made


@contextlib.contextmanager
def cluster(name: str, root: Path) -> Iterator[World]:
    """A control plane with the policies, people and things of `World`."""
    profile = os.environ.get("SOVEREIGN_GPU_PROFILE", "1.36")
    with Rig(name, root=root, profile=profile) as rig:
        rendered = subprocess.run(  # noqa: S603 - helm, which the rig built
            [
                str(rig.binaries / "helm"),
                *("template", "sovereign-gpu", str(CHART), "--namespace", SETTINGS.namespace),
                *("--show-only", "templates/rbac.yaml"),
                *("--show-only", "templates/serviceaccount.yaml"),
                *("--show-only", "templates/priorityclasses.yaml"),
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        made = build(rig, documents(rendered))
        policies.put(made.admin, manifests(SETTINGS))
        populate(made)
        yield made

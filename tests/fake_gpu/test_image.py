"""The files that the image is made of are all that the stack needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rig.fake_gpu.__main__ import PORTS

TREE = Path(__file__).resolve().parents[2]
PARTS = TREE / "rig" / "fake_gpu"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the COPY lines of the Dockerfile copy."""
    root = tmp_path_factory.mktemp("image")
    for line in (PARTS / "Dockerfile").read_text().splitlines():
        words = line.split()
        if words[:1] == ["COPY"]:
            target = root / words[-1].lstrip("/")
            for source in words[1:-1]:
                found = list(TREE.glob(source))
                assert found, source
                target.parent.mkdir(parents=True, exist_ok=True)
                if words[-1].endswith("/"):
                    target.mkdir(exist_ok=True)
                for each in found:
                    shutil.copy(each, target)
    return root / "app"


@pytest.mark.parametrize("part", ["device-plugin", "labeller", "exporter"])
def test_every_part_starts_from_the_files_of_the_image(image: Path, part: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "rig.fake_gpu", part, "--help"],
        cwd=image,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"fake_gpu {part}" in done.stdout


@pytest.mark.parametrize("part", ["device-plugin", "labeller", "exporter"])
def test_the_manifests_start_the_parts_at_their_ports(part: str) -> None:
    daemonset = next(yaml.safe_load_all((PARTS / "deploy" / f"{part}.yaml").read_text()))
    (container,) = daemonset["spec"]["template"]["spec"]["containers"]
    assert container["args"] == [part]
    (port,) = container["ports"]
    assert port["containerPort"] == PORTS[part]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}

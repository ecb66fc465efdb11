"""Which images of ours a cluster gets, and how they are made.

Where an engine can fetch base images it builds the Dockerfiles; where none can, the same content
is put together from Debian packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rig.kind.paths import TREE, digest, state_directory
from rig.kind.python_image import Built, Program, python_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rig.kind.engine import Engine

OPERATOR = "sovereign-gpu"
FAKE_GPU = "fake-gpu"
PYTHON = "python-alone:test"
"""Python and nothing else, for pods of tests."""
DOCKERFILES = {
    OPERATOR: TREE / "Dockerfile",
    FAKE_GPU: TREE / "rig" / "fake_gpu" / "Dockerfile",
    PYTHON: TREE / "tests" / "kind" / "Dockerfile",
}


def operator_program() -> Program:
    """Return the product: what the chart's Deployment runs."""
    return Program(
        OPERATOR,
        ("-m", "sovereign_gpu"),
        TREE / "requirements" / "operator.txt",
        wheel=TREE,
    )


def fake_gpu_program() -> Program:
    """Return the stack that plays NVIDIA's on the nodes; it takes names from rig and product."""
    places = (
        *("rig/__init__.py", "rig/catalogue.py", "rig/stages.py", "rig/fake_gpu"),
        *("sovereign_gpu/__init__.py", "sovereign_gpu/names.py"),
    )
    return Program(
        FAKE_GPU,
        ("-m", "rig.fake_gpu"),
        TREE / "requirements" / "fake-gpu.txt",
        {each: TREE / (f"operator/{each}" if each.startswith("sov") else each) for each in places},
    )


def build(engine: Engine, say: Callable[[str], None]) -> dict[str, Built]:
    """Return all images that the scenarios need, made first if necessary.

    Args:
        engine: of the cluster; its nodes run from our own image where no registry can be reached.
        say: receives one line at a time.
    """
    programs = (operator_program(), fake_gpu_program(), Program(PYTHON))
    if engine.own:
        return {each.image: python_image(each, say) for each in programs}
    return {each.image: _from_dockerfile(engine, each.image, say) for each in programs}


def _from_dockerfile(engine: Engine, image: str, say: Callable[[str], None]) -> Built:
    dockerfile = DOCKERFILES[image]
    key = digest(dockerfile, *_context())
    # The nodes look for short names there, but podman builds under a prefix of its own.
    name = f"docker.io/library/{image if ':' in image else f'{image}:{key}'}"
    stem = image.replace(":", "-")
    target = state_directory() / "images" / f"{stem}-{engine.name}-{key}.tar"
    if not target.exists():
        say(f"{engine.name} build of {image}")
        engine.run("build", "--tag", name, "--file", dockerfile, TREE)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(".tmp")
        draft.unlink(missing_ok=True)
        engine.run("save", "--output", draft, name)
        draft.replace(target)
    return Built(name.removeprefix("docker.io/library/"), target)


def _context() -> tuple[Path, ...]:
    files = ("operator", "requirements", "pyproject.toml", "rig/fake_gpu", "rig/catalogue.py")
    return (*(TREE / each for each in files), TREE / "rig" / "stages.py")

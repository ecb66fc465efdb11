"""Which images of ours a cluster gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rig.kind.paths import TREE
from rig.kind.python_image import Built, Program, python_image

if TYPE_CHECKING:
    from collections.abc import Callable

OPERATOR = "sovereign-gpu"
FAKE_GPU = "fake-gpu"
PYTHON = "python-alone:test"
"""Python and nothing else, for pods of tests."""


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


def build(say: Callable[[str], None]) -> dict[str, Built]:
    """Return all images that the scenarios need, by name without tag, made first if necessary."""
    programs = (operator_program(), fake_gpu_program(), Program(PYTHON))
    return {each.image.partition(":")[0]: python_image(each, say) for each in programs}

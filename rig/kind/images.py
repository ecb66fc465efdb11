"""Which images of ours a cluster gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from rig.kind.paths import TREE
from rig.kind.python_image import Program, python_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPERATOR = "sovereign-gpu"
PYTHON = "sovereign-gpu/python:test"
"""Python and nothing else, for pods of tests."""


def operator_program() -> Program:
    """Return the product: what the chart's Deployment runs."""
    chart = TREE / "charts" / "sovereign-gpu" / "Chart.yaml"
    version = yaml.safe_load(chart.read_text(encoding="utf-8"))["appVersion"]
    return Program(
        f"{OPERATOR}:{version}",
        ("-m", "sovereign_gpu"),
        TREE / "requirements" / "operator.txt",
        wheel=TREE,
    )


def archives(say: Callable[[str], None]) -> list[Path]:
    """Return the archives of all images that the scenarios need, made first if necessary."""
    return [python_image(each, say) for each in (operator_program(), Program(PYTHON))]

"""Names and places of the clusters of containers, each said once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from rig.binaries import cache_directory

if TYPE_CHECKING:
    from collections.abc import Iterable

TREE = Path(__file__).resolve().parents[2]
CONFIGURATION = TREE / "kind-config.yaml"
POD_NETWORK = "10.244.0.0/16"
"""Addresses of pods; kind's own default."""
LABEL = "io.sovereign-gpu.rig"
"""Marks the images that may be removed when a newer one is there."""


def state_directory() -> Path:
    """Return the directory of everything here that can be made again."""
    return cache_directory() / "kind"


def digest(*parts: str | bytes | Path) -> str:
    """Return a short digest of texts and files; a directory counts with all its files."""
    found = hashlib.sha256()
    for part in parts:
        for name, content in _contents(part):
            found.update(f"{name} {len(content)}\n".encode() + content)
    return found.hexdigest()[:16]


def _contents(part: str | bytes | Path) -> Iterable[tuple[str, bytes]]:
    if isinstance(part, str):
        return [("", part.encode())]
    if isinstance(part, bytes):
        return [("", part)]
    if part.is_dir():
        files = sorted(each for each in part.rglob("*") if each.is_file())
        kept = (each for each in files if "__pycache__" not in each.parts)
        return [(str(each.relative_to(part)), each.read_bytes()) for each in kept]
    return [(part.name, part.read_bytes())]

"""Writes container images as archives that `docker load`, `ctr import` and `kind load` read.

An image is a few files and a list of what they are, so no engine is needed to make one. Equal
content gives equal bytes: names are sorted, and times and owners are those of nobody.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from rig.binaries import architecture

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

CREATED = "1970-01-01T00:00:00Z"
MERGED = ("bin", "lib", "lib64", "sbin")
"""Top directories that Debian keeps below /usr."""


class Layer:
    """Files of an image, by their path in it (absolute, with /usr in front of bin and lib)."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[Path | bytes, int]] = {}
        self._links: dict[str, str] = {}
        self._directories: dict[str, int] = {}

    def add(self, target: str, source: Path | bytes, mode: int | None = None) -> None:
        """Add a file; its mode is that of the source when omitted."""
        if mode is None:
            executable = isinstance(source, Path) and source.stat().st_mode & 0o111
            mode = 0o755 if executable else 0o644
        self._files[_clean(target)] = (source, mode)

    def link(self, target: str, to: str) -> None:
        """Add a symbolic link."""
        self._links[_clean(target)] = to

    def directory(self, target: str, mode: int = 0o755) -> None:
        """Add a directory that may stay empty."""
        self._directories[_clean(target)] = mode

    def add_tree(self, target: str, source: Path, skip: Collection[Path] = ()) -> None:
        """Add all files and links below a directory, but the skipped ones (paths in it)."""
        for path in source.rglob("*"):
            inside = f"{target}/{path.relative_to(source)}"
            if path.relative_to(source) in skip:
                continue
            if path.is_symlink():
                self.link(inside, str(path.readlink()))
            elif path.is_file():
                self.add(inside, path)

    def merge_usr(self) -> None:
        """Let /bin, /lib and their kin lead below /usr, as in Debian."""
        for name in MERGED:
            self.link(name, f"usr/{name}")
            self.directory(f"usr/{name}")

    def write(self, path: Path) -> str:
        """Write the layer as a tar and return its digest."""
        names = {*self._files, *self._links, *self._directories}
        parents = {str(each) for name in names for each in PurePosixPath(name).parents}
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for name in sorted((names | parents) - {"."}):
                self._put(tar, name)
        return _sha256(path)

    def _put(self, tar: tarfile.TarFile, name: str) -> None:
        entry = tarfile.TarInfo(name)
        if name in self._links:
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, self._links[name], 0o777
            tar.addfile(entry)
        elif name in self._files:
            source, entry.mode = self._files[name]
            entry.size = len(source) if isinstance(source, bytes) else source.stat().st_size
            with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
                tar.addfile(entry, stream)
        else:
            entry.type, entry.mode = tarfile.DIRTYPE, self._directories.get(name, 0o755)
            tar.addfile(entry)


@dataclass(frozen=True, slots=True)
class Image:
    """What an image says about itself.

    Attributes:
        name: reference with tag, as manifests spell it.
        entrypoint: command that the arguments of a container are appended to.
        user: `uid:gid`; root when empty.
        environment: variables besides PATH.
        labels: of the image.
    """

    name: str
    entrypoint: tuple[str, ...] = ()
    user: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def configuration(self, diff_ids: list[str]) -> dict[str, Any]:
        """Return the image's configuration, as the OCI image specification has it."""
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        variables = {"PATH": path, **self.environment}
        return {
            "architecture": architecture(),
            "os": platform.system().lower(),
            "created": CREATED,
            "config": {
                "Entrypoint": list(self.entrypoint),
                "User": self.user,
                "Env": [f"{key}={value}" for key, value in variables.items()],
                "Labels": dict(self.labels),
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created": CREATED, "created_by": "layer"} for _ in diff_ids],
        }


def write(path: Path, image: Image, *layers: Layer) -> Path:
    """Write an image of these layers, lowest first, and return the path.

    A reader of the path sees the whole archive or none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    parts = [path.with_name(f".{path.name}.{number}.layer") for number in range(len(layers))]
    try:
        digests = [layer.write(part) for layer, part in zip(layers, parts, strict=True)]
        files = [f"{digest}/layer.tar" for digest in digests]
        identities = [f"sha256:{digest}" for digest in digests]
        body = json.dumps(image.configuration(identities), sort_keys=True).encode()
        name = f"{hashlib.sha256(body).hexdigest()}.json"
        manifest = [{"Config": name, "RepoTags": [image.name], "Layers": files}]
        with tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as tar:
            _append(tar, name, body)
            for file, part in zip(files, parts, strict=True):
                entry = tarfile.TarInfo(file)
                entry.size = part.stat().st_size
                with part.open("rb") as stream:
                    tar.addfile(entry, stream)
            _append(tar, "manifest.json", json.dumps(manifest).encode())
        draft.replace(path)
    finally:
        for part in (draft, *parts):
            part.unlink(missing_ok=True)
    return path


def _append(tar: tarfile.TarFile, name: str, body: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(body)
    tar.addfile(entry, io.BytesIO(body))


def _clean(target: str) -> str:
    name = str(PurePosixPath("/", target)).lstrip("/")
    return f"usr/{name}" if name.split("/", 1)[0] in MERGED and "/" in name else name


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

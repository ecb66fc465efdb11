"""Binaries that somebody else built: from a directory, or the official release files.

Both are choices of the user, never a fallback. Nothing is used whose version is not the pinned
one, and nothing that was downloaded is used whose checksum is not the published one.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import requests

from rig.binaries import Binary, architecture, binaries, cache_directory, profile_directory
from rig.builder import Progress, exclusive, link
from rig.errors import RigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 60.0
PRODUCTS = ("kubernetes", "etcd", "kwok", "helm")
_VERSION = re.compile(r"v?(\d+\.\d+\.\d+)")


def from_directory(profile: str, source: Path, say: Callable[[str], None]) -> Path:
    """Use the programs in a directory, after asking each for its version.

    Args:
        profile: Kubernetes minor version.
        source: directory with all programs of a rig.
        say: receives one line at a time.

    Raises:
        RigError: one is missing, does not run, or has another version than the pinned one.
    """
    found = [(each, (source / each.name).absolute()) for each in binaries(profile)]
    for binary, path in found:
        if not path.is_file():
            raise RigError(f"{source} has no {binary.name}")
        check_version(binary, path)
    directory = profile_directory(profile)
    with exclusive(say):
        for binary, path in found:
            link(directory, binary.name, path)
            say(f"{binary.name} {binary.version}: {path}")
    return directory


def check_version(binary: Binary, path: Path) -> None:
    """Run a program and compare the version it reports with the pinned one.

    Helm and kwok may differ from the pin in the patch; Kubernetes and etcd may not.

    Raises:
        RigError: it does not run, or is another version.
    """
    arguments = {
        "kubectl": ["version", "--client"],
        "helm": ["version", "--short"],
    }.get(binary.name, ["--version"])
    try:
        answer = subprocess.run(
            [path, *arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RigError(f"{path} does not run: {error}") from error
    reported = _VERSION.search(answer.stdout) or re.search(r"v(\d+\.\d+)", answer.stdout)
    version = reported.group(1) if reported else "no version"
    exact = binary.name not in {"helm", "kwok"}
    wanted = binary.version.removeprefix("v")
    length = 3 if exact else 2
    if version.split(".")[:length] != wanted.split(".")[:length]:
        raise RigError(f"{path} reports {version}, the pinned version is {wanted}")


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """Where a program is found below its product's base address.

    Attributes:
        path: the file, below the base.
        member: the program's name inside an archive; empty when the file is the program.
        checksums: files that may hold the checksum, below the base, in order of preference.
    """

    path: str
    member: str
    checksums: tuple[str, ...]


def release_file(binary: Binary) -> tuple[str, ReleaseFile]:
    """Return the product of a program and the official layout of its release."""
    version, machine = binary.version, architecture()
    if binary.name == "etcd":
        stem = f"etcd-{version}-linux-{machine}"
        path = f"{version}/{stem}.tar.gz"
        return "etcd", ReleaseFile(path, f"{stem}/etcd", (f"{version}/SHA256SUMS",))
    if binary.name == "helm":
        path = f"helm-{version}-linux-{machine}.tar.gz"
        return "helm", ReleaseFile(path, f"linux-{machine}/helm", (f"{path}.sha256sum",))
    if binary.name == "kwok":
        path = f"{version}/kwok-linux-{machine}"
        return "kwok", ReleaseFile(path, "", (f"{path}.sha256", f"{version}/SHA256SUMS"))
    path = f"{version}/bin/linux/{machine}/{binary.name}"
    return "kubernetes", ReleaseFile(path, "", (f"{path}.sha256",))


def addresses(words: Iterable[str]) -> dict[str, str]:
    """Return the base address per product from words `PRODUCT=URL`, or `URL` for all others."""
    found: dict[str, str] = {}
    for word in words:
        product, _, url = word.partition("=")
        if product in PRODUCTS:
            found[product] = url
        else:
            found = dict.fromkeys(PRODUCTS, word) | found
    return found


def download(
    profile: str,
    bases: Mapping[str, str],
    say: Callable[[str], None],
    checksums: Path | None = None,
) -> Path:
    """Fetch the official release files of a profile and use them.

    Args:
        profile: Kubernetes minor version.
        bases: base address per product (`kubernetes`, `etcd`, `kwok`, `helm`).
        say: receives one line at a time.
        checksums: list in the format of sha256sum by file name; it then alone decides, instead
            of the checksum files beside the releases.

    Raises:
        RigError: a base is not named, a file is missing, or a checksum is wrong.
    """
    lacking = [each for each in PRODUCTS if each not in bases]
    if lacking:
        raise RigError(f"name the base address of {', '.join(lacking)}: --download PRODUCT=URL")
    known = None if checksums is None else checksums.read_text(encoding="utf-8")
    directory, wanted = profile_directory(profile), binaries(profile)
    with exclusive(say):
        for number, binary in enumerate(wanted, start=1):
            progress = Progress(say, f"[{number}/{len(wanted)}] {binary.name} {binary.version}")
            product, release = release_file(binary)
            target = _download_one(binary, release, bases[product].rstrip("/"), known)
            check_version(binary, target)
            link(directory, binary.name, target)
            progress.tell("downloaded and verified")
    return directory


def _download_one(binary: Binary, release: ReleaseFile, base: str, known: str | None) -> Path:
    directory = cache_directory() / "binaries" / f"release-{binary.version}-{architecture()}"
    target = directory / binary.name
    if target.exists():
        return target
    directory.mkdir(parents=True, exist_ok=True)
    name = PurePosixPath(release.path).name
    expected = _listed(known, name) if known is not None else _published(base, release, name)
    draft = directory / f".{binary.name}.download"
    found = _fetch(f"{base}/{release.path}", draft)
    if found != expected:
        draft.unlink()
        raise RigError(f"{base}/{release.path}: its sha256 is {found}, published is {expected}")
    program = directory / f".{binary.name}.tmp"
    if release.member:
        _extract(draft, release.member, program)
        draft.unlink()
    else:
        draft.replace(program)
    program.chmod(0o755)
    program.replace(target)
    return target


def _published(base: str, release: ReleaseFile, name: str) -> str:
    for path in release.checksums:
        answer = requests.get(f"{base}/{path}", timeout=TIMEOUT_SECONDS)
        if answer.ok:
            return _listed(answer.text, name)
    raise RigError(f"no checksum beside {base}/{release.path}: {', '.join(release.checksums)}")


def _listed(text: str, name: str) -> str:
    """Return a file's checksum from a list, or from a file that holds nothing but one."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and len(lines[0]) == 1:
        return lines[0][0].lower()
    for fields in lines:
        if len(fields) > 1 and PurePosixPath(fields[-1].lstrip("*")).name == name:
            return fields[0].lower()
    raise RigError(f"the list of checksums has none for {name}")


def _fetch(url: str, target: Path) -> str:
    digest = hashlib.sha256()
    with requests.get(url, stream=True, timeout=TIMEOUT_SECONDS) as answer:
        if not answer.ok:
            raise RigError(f"{url}: {answer.status_code} {answer.reason}")
        with target.open("wb") as stream:
            for chunk in answer.iter_content(CHUNK_BYTES):
                digest.update(chunk)
                stream.write(chunk)
    return digest.hexdigest()


def _extract(archive: Path, member: str, target: Path) -> None:
    with tarfile.open(archive) as tar:
        try:
            source = tar.extractfile(member)
        except KeyError:
            source = None
        if source is None:
            raise RigError(f"{archive.name} holds no {member}")
        # The member alone is copied to a name of ours: paths in the archive have no say.
        with source, target.open("wb") as stream:
            shutil.copyfileobj(source, stream)

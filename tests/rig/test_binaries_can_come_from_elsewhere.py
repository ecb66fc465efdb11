"""Programs from a directory, and release files from a local file server."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import tarfile
import threading
from typing import TYPE_CHECKING

import pytest

from rig import releases
from rig.__main__ import main
from rig.binaries import CACHE_VARIABLE, DIRECTORY_VARIABLE, binaries, locate, profile_directory
from rig.errors import RigError
from rig.releases import release_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def script(version: str) -> bytes:
    return f"#!/bin/sh\necho version {version}\n".encode()


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(DIRECTORY_VARIABLE, raising=False)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    directory = tmp_path / "programs"
    directory.mkdir()
    for binary in binaries("1.36"):
        (directory / binary.name).write_bytes(script(binary.version))
        (directory / binary.name).chmod(0o755)
    return directory


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing: requests are not what the test is about."""


@pytest.fixture
def releases_directory(tmp_path: Path) -> Path:
    """The release files of all products in their official layout, with checksums beside them."""
    root = tmp_path / "releases"
    for binary in binaries("1.36"):
        product, release = release_file(binary)
        path = root / product / release.path
        path.parent.mkdir(parents=True, exist_ok=True)
        content = script(binary.version)
        if release.member:
            with tarfile.open(path, "w:gz") as tar:
                member = tarfile.TarInfo(release.member)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        else:
            path.write_bytes(content)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lone = release.checksums[0].endswith(".sha256")
        line = digest if lone else f"{digest}  {path.name}\n"
        (root / product / release.checksums[0]).write_text(line, encoding="utf-8")
    return root


@pytest.fixture
def server(releases_directory: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(releases_directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=[0.02])
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


@pytest.fixture
def bases(server: str) -> dict[str, str]:
    return {each: f"{server}/{each}" for each in releases.PRODUCTS}


def test_a_directory_of_the_user_is_used_when_every_version_is_the_pinned_one(
    programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["binaries", "--from-directory", str(programs)]) == 0
    assert "kube-apiserver v1.36" in capsys.readouterr().out
    directory = locate("1.36")
    assert directory == profile_directory("1.36")
    assert (directory / "etcd").resolve() == (programs / "etcd").resolve()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("kube-scheduler", script("v1.35.9"), r"reports 1\.35\.9, the pinned version is 1\.36\."),
        ("helm", script("v3.19.0"), r"reports 3\.19\.0, the pinned version is 4\.2\.4"),
        ("etcd", b"#!/bin/sh\n", "reports no version"),
        ("kwok", b"not a program", "does not run"),
        ("kubectl", None, "has no kubectl"),
    ],
)
def test_a_directory_with_anything_else_is_refused(
    programs: Path, said: list[str], name: str, content: bytes | None, message: str
) -> None:
    (programs / name).unlink()
    if content is not None:
        (programs / name).write_bytes(content)
        (programs / name).chmod(0o755)
    with pytest.raises(RigError, match=message):
        releases.from_directory("1.36", programs, said.append)
    assert not profile_directory("1.36").exists()


def test_release_files_are_fetched_verified_and_kept(
    bases: dict[str, str], releases_directory: Path, said: list[str]
) -> None:
    directory = releases.download("1.36", bases, said.append)
    assert directory == locate("1.36")
    assert len([line for line in said if "downloaded and verified" in line]) == 7
    for each in releases_directory.rglob("*"):
        if each.is_file():
            each.unlink()
    assert releases.download("1.36", bases, said.append) == directory


def test_a_wrong_checksum_is_refused_and_nothing_of_the_file_stays(
    bases: dict[str, str], releases_directory: Path, tmp_path: Path, said: list[str]
) -> None:
    (binary,) = (each for each in binaries("1.36") if each.name == "kube-apiserver")
    product, release = release_file(binary)
    (releases_directory / product / release.path).write_bytes(script(binary.version) + b"# evil\n")
    with pytest.raises(RigError, match=r"its sha256 is \w{64}, published is \w{64}"):
        releases.download("1.36", bases, said.append)
    left = [each.name for each in (tmp_path / "cache").rglob("*kube-apiserver*")]
    assert left == []


def test_a_list_of_checksums_decides_instead_of_the_files_beside(
    bases: dict[str, str], releases_directory: Path, tmp_path: Path, said: list[str]
) -> None:
    lines = []
    for binary in binaries("1.36"):
        product, release = release_file(binary)
        path = releases_directory / product / release.path
        lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()} *{path.name}")
        (releases_directory / product / release.checksums[0]).write_text("0" * 64, "utf-8")
    listed = tmp_path / "SHA256SUMS"
    listed.write_text("\n".join(lines[1:]), encoding="utf-8")
    with pytest.raises(RigError, match="has none for etcd"):
        releases.download("1.36", bases, said.append, listed)
    listed.write_text("\n".join(lines), encoding="utf-8")
    releases.download("1.36", bases, said.append, listed)


def test_what_is_not_there_is_named(
    bases: dict[str, str], releases_directory: Path, said: list[str]
) -> None:
    with pytest.raises(RigError, match="name the base address of kwok, helm"):
        releases.download("1.36", {"kubernetes": "http://x", "etcd": "http://x"}, said.append)
    (binary,) = (each for each in binaries("1.36") if each.name == "etcd")
    product, release = release_file(binary)
    (releases_directory / product / release.path).unlink()
    with pytest.raises(RigError, match=r"etcd-v3.*tar\.gz: 404"):
        releases.download("1.36", bases, said.append)
    (releases_directory / product / release.checksums[0]).unlink()
    with pytest.raises(RigError, match="no checksum beside"):
        releases.download("1.36", bases, said.append)


def test_addresses_are_named_per_product_or_for_all() -> None:
    words = ["helm=http://b", "http://a", "etcd=http://c?x=y"]
    assert releases.addresses(words) == {
        "kubernetes": "http://a",
        "etcd": "http://c?x=y",
        "kwok": "http://a",
        "helm": "http://b",
    }

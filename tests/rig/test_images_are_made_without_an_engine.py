"""Archives of images: readable by every engine, equal for equal content."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from typing import TYPE_CHECKING, Any

from rig.kind.archive import Image, Layer, write
from rig.kind.paths import digest

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = Image("example/tool:v1", ("/tool",), "65532:65532", {"KEY": "value"})


def _layer(source: Path) -> Layer:
    layer = Layer()
    layer.merge_usr()
    layer.add("/etc/b", b"second")
    layer.add("/etc/a", b"first", 0o600)
    layer.add("/tool", source)
    layer.add("/lib/library.so", b"code")
    layer.directory("/tmp", 0o1777)  # noqa: S108 - a directory of the image
    return layer


def _program(path: Path, seconds: int) -> Path:
    path.write_bytes(b"program")
    path.chmod(0o755)
    os.utime(path, (seconds, seconds))
    return path


def _members(body: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return {each.name: each for each in tar}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    with tarfile.open(path) as tar:
        files = {each.name: tar.extractfile(each) for each in tar}
        contents = {name: stream.read() for name, stream in files.items() if stream}
    manifest = json.loads(contents["manifest.json"])[0]
    return manifest, json.loads(contents[manifest["Config"]]), contents[manifest["Layers"][0]]


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write(tmp_path / "1.tar", IMAGE, _layer(_program(tmp_path / "tool", 1)))
    second = write(tmp_path / "2.tar", IMAGE, _layer(_program(tmp_path / "tool", 2)))
    assert first.read_bytes() == second.read_bytes()


def test_other_content_gives_another_digest(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one", encoding="utf-8")
    first = digest("name", tmp_path)
    (tmp_path / "file").write_text("two", encoding="utf-8")
    assert digest("name", tmp_path) != first


def test_the_configuration_names_the_layers_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "image.tar", IMAGE, _layer(_program(tmp_path / "tool", 1)))
    manifest, configuration, layer = _read(path)
    assert manifest["RepoTags"] == ["example/tool:v1"]
    assert configuration["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert configuration["config"]["User"] == "65532:65532"
    assert configuration["config"]["Entrypoint"] == ["/tool"]
    assert "KEY=value" in configuration["config"]["Env"]


def test_modes_links_and_parents_are_those_of_a_root_file_system(tmp_path: Path) -> None:
    path = write(tmp_path / "image.tar", IMAGE, _layer(_program(tmp_path / "tool", 1)))
    members = _members(_read(path)[2])
    assert {name: members[name].mode for name in ("tool", "etc/a", "etc/b", "tmp")} == {
        "tool": 0o755,
        "etc/a": 0o600,
        "etc/b": 0o644,
        "tmp": 0o1777,
    }
    assert members["etc"].isdir()
    assert members["lib"].linkname == "usr/lib"
    assert members["usr/lib/library.so"].isfile()
    assert list(members) == sorted(members)


def test_nothing_is_left_of_an_archive_that_could_not_be_written(tmp_path: Path) -> None:
    layer = _layer(_program(tmp_path / "tool", 1))
    (tmp_path / "tool").unlink()
    try:
        write(tmp_path / "out" / "image.tar", IMAGE, layer)
    except FileNotFoundError:
        pass
    else:
        raise AssertionError("a file that is missing went unnoticed")
    assert list((tmp_path / "out").iterdir()) == []

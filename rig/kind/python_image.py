"""Images of Python programs, without an engine: Debian's interpreter, pinned wheels, our code.

They hold no shell and no package manager, and run as nobody. `Dockerfile` makes the same image of
the product where a registry can be reached.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rig.binaries import architecture
from rig.kind import archive, rootfs
from rig.kind.paths import LABEL, TREE, digest, state_directory
from rig.kind.shell import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PYTHON = "python3.11"
VERSION = "3.11"
# Version of the C library that the tree has; wheels may be built for any older one.
GLIBC = range(17, 37)
USER = "65532:65532"
APPLICATION = "/opt/app"
_PACKAGES = (
    *rootfs.PYTHON_PACKAGES,
    *(
        "libc6",
        "libgcc-s1",
        "libstdc++6",
        "libssl3",
        "zlib1g",
        "libexpat1",
        "libffi8",
        "libbz2-1.0",
    ),
    *("liblzma5", "libuuid1", "libcrypt1"),
)
# Character sets of the C library: Python has its own.
_LEFT_OUT = ("usr/lib/*/gconv",)
_PASSWD = b"nobody:x:65532:65532:nobody:/:/nonexistent\n"


@dataclass(frozen=True, slots=True)
class Program:
    """A Python program that is to become an image.

    Attributes:
        image: name of the image; without a tag it gets one that changes with its content.
        arguments: of the interpreter.
        requirements: pinned and hashed packages; none when omitted.
        sources: files and directories of code, by where they belong below the application's.
        wheel: source tree whose wheel is installed; none when omitted.
        user: `uid:gid`.
    """

    image: str
    arguments: tuple[str, ...] = ()
    requirements: Path | None = None
    sources: Mapping[str, Path] = field(default_factory=dict)
    wheel: Path | None = None
    user: str = USER


class Built(NamedTuple):
    """An image in an archive, under its full name."""

    name: str
    archive: Path


def python_image(program: Program, say: Callable[[str], None]) -> Built:
    """Return a program's image, made first if it is not there.

    Interpreter and packages are one layer, kept for the next image that has the same ones; the
    code is another.

    Raises:
        RigError: a package could not be fetched, or the code does not compile.
    """
    packages = _packages(program, say)
    key = _key(program, packages)
    name = program.image if ":" in program.image else f"{program.image}:{key}"
    stem = program.image.rpartition("/")[2].replace(":", "-")
    target = state_directory() / "images" / f"{stem}-{key}.tar"
    if target.exists():
        return Built(name, target)
    say(f"making the image {program.image}")
    with _draft(target) as work:
        root = work / "root"
        run("cp", "--archive", "--reflink=auto", packages, root)
        application = root / APPLICATION.lstrip("/")
        before = _state(root)
        _code(program, application, work)
        _compile(root, APPLICATION)
        code = archive.Layer()
        code.add_tree("", root, skip=before)
        for older in target.parent.glob(f"{stem}-*.tar"):
            older.unlink()
        archive.write(target, _image(program, name), _layer(packages), code)
    return Built(name, target)


def _packages(program: Program, say: Callable[[str], None]) -> Path:
    """Return a root file system of interpreter and packages, kept in the cache."""
    tree = rootfs.rootfs(say)
    pins = program.requirements.read_bytes() if program.requirements else b""
    target = state_directory() / "images" / f"packages-{digest(tree.name, pins, Path(__file__))}"
    if target.exists():
        return target
    say(f"installing Python and the packages of {program.image}")
    with _draft(target) as work:
        root = work / "root"
        _interpreter(tree, root)
        application = root / APPLICATION.lstrip("/")
        application.mkdir(parents=True)
        if program.requirements:
            _pip("--require-hashes", "--requirement", program.requirements, target=application)
            # Scripts name the interpreter of this machine.
            shutil.rmtree(application / "bin", ignore_errors=True)
            _strip(application)
        _compile(root, f"/usr/lib/{PYTHON}", APPLICATION)
        root.rename(target)
    return target


@contextlib.contextmanager
def _draft(target: Path) -> Iterator[Path]:
    work = target.with_name(f".{target.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _key(program: Program, packages: Path) -> str:
    parts: list[str | bytes | Path] = [packages.name, repr(program)]
    parts.append(Path(archive.__file__ or ""))
    if program.wheel:
        parts += [program.wheel / "pyproject.toml", program.wheel / "operator"]
    return digest(*parts, *program.sources.values())


def _state(root: Path) -> frozenset[Path]:
    return frozenset(each.relative_to(root) for each in root.rglob("*"))


def _layer(root: Path) -> archive.Layer:
    layer = archive.Layer()
    layer.add_tree("", root)
    layer.directory("/tmp", 0o1777)  # noqa: S108 - a directory of the image
    return layer


def _compile(root: Path, *places: str) -> None:
    # Made once here instead of at every start: the file system of the container is read-only.
    compiler = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash")
    run("chroot", root, f"/usr/bin/{PYTHON}", *compiler, *places)


def _strip(application: Path) -> None:
    """Take the symbols out of the packages' libraries: a fifth of the image, and never loaded."""
    libraries = [each for each in application.rglob("*.so*") if each.is_file()]
    if libraries:
        run("strip", "--strip-unneeded", *libraries)


def _image(program: Program, name: str) -> archive.Image:
    return archive.Image(
        name,
        (f"/usr/bin/{PYTHON}", *program.arguments),
        program.user,
        {"PYTHONPATH": APPLICATION, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"},
        {LABEL: "image"},
    )


def _interpreter(tree: Path, root: Path) -> None:
    layer = rootfs.package_layer(tree, _PACKAGES)
    layer.link("/usr/bin/python3", PYTHON)
    layer.add("/etc/passwd", _PASSWD)
    root.mkdir(parents=True)
    layer.write(root.with_suffix(".layer"))
    run("tar", "--extract", "--file", root.with_suffix(".layer"), "--directory", root)
    for pattern in _LEFT_OUT:
        for path in root.glob(pattern):
            shutil.rmtree(path)


def _code(program: Program, application: Path, work: Path) -> None:
    if program.wheel:
        wheel = _wheel(program.wheel, work)
        _pip("--no-deps", "--no-index", wheel, target=application)
        shutil.rmtree(application / "bin", ignore_errors=True)
    for place, source in program.sources.items():
        (application / place).parent.mkdir(parents=True, exist_ok=True)
        if source.is_file():
            shutil.copy2(source, application / place)
        else:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, application / place, ignore=ignored, dirs_exist_ok=True)


def _wheel(tree: Path, work: Path) -> Path:
    pins = TREE / "requirements" / "build.txt"
    tools = state_directory() / f"build-tools-{digest(pins)}"
    if not tools.exists():
        draft = work / "tools"
        _own_pip("install", "--require-hashes", "--target", draft, "--requirement", pins)
        draft.rename(tools)
    environment = os.environ | {"PYTHONPATH": str(tools), "SOURCE_DATE_EPOCH": "315532800"}
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", work, tree)
    _own_pip(*build, environment=environment)
    return next(work.glob("*.whl"))


def _pip(*arguments: str | Path, target: Path) -> None:
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[architecture()]
    tags = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC]
    platforms = [
        part for tag in (*tags, f"manylinux2014_{machine}") for part in ("--platform", tag)
    ]
    _own_pip(
        *("install", "--no-compile", "--only-binary=:all:", "--target", target),
        *("--implementation", "cp", "--python-version", VERSION, *platforms, *arguments),
    )


def _own_pip(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> None:
    quiet = ("-m", "pip", "--quiet", "--disable-pip-version-check")
    run(sys.executable, *quiet, *arguments, env=environment)

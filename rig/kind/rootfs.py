"""The Debian tree that nodes and images are cut from: made by debootstrap, kept in the cache."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rig.errors import RigError
from rig.kind.archive import Layer
from rig.kind.paths import digest, state_directory
from rig.kind.shell import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# The last release whose systemd still runs on version 1 of control groups.
SUITE = "bookworm"
NODE_PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "procps", "hostname", "util-linux", "mount", "kmod"),
    *("containerd", "runc", "containernetworking-plugins", "jq", "ca-certificates", "e2fsprogs"),
    *("iptables", "conntrack", "iproute2", "ethtool", "ebtables", "socat"),
)
# Not needed by nodes, but images of the product are cut out of the same tree.
PYTHON_PACKAGES = ("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib")
LEFT_OUT = ("usr/share/man/", "usr/share/locale/", "usr/share/lintian/", "usr/share/doc/")


def rootfs(say: Callable[[str], None]) -> Path:
    """Return the tree, made first if it is not there.

    Raises:
        RigError: debootstrap failed; the message ends with its last lines.
    """
    packages = (*NODE_PACKAGES, *PYTHON_PACKAGES)
    target = state_directory() / f"rootfs-{digest(SUITE, *packages)}"
    if target.exists():
        return target
    say(f"debootstrap of Debian {SUITE}: {len(packages)} packages and what they need")
    draft = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.parent.mkdir(parents=True, exist_ok=True)
    wanted = f"--include={','.join(packages)}"
    # It mounts /proc into the tree: in a namespace of its own that is gone however it ends, and
    # cleaning up never reaches into the machine.
    run("unshare", "--mount", "debootstrap", "--variant=minbase", wanted, SUITE, draft)
    shutil.rmtree(draft / "var" / "cache" / "apt")
    shutil.rmtree(draft / "var" / "lib" / "apt" / "lists")
    draft.rename(target)
    return target


def package_layer(tree: Path, packages: Iterable[str]) -> Layer:
    """Return the files of some packages of the tree, without manuals and translations.

    What the packages depend on is not followed: name all.
    """
    layer = Layer()
    layer.merge_usr()
    for package in packages:
        for name in _files(tree, package):
            path = tree / name.lstrip("/")
            unread = any(part in f"{name}/" for part in LEFT_OUT) and path.name != "copyright"
            if unread or (path.is_dir() and not path.is_symlink()):
                continue
            if path.is_symlink():
                layer.link(name, str(path.readlink()))
            elif path.exists():
                layer.add(name, path)
    return layer


def _files(tree: Path, package: str) -> list[str]:
    lists = tree / "var" / "lib" / "dpkg" / "info"
    found = [*lists.glob(f"{package}.list"), *lists.glob(f"{package}:*.list")]
    if not found:
        raise RigError(f"the tree has no package {package}")
    return found[0].read_text(encoding="utf-8").splitlines()

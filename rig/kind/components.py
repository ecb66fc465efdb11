"""The images that kubeadm expects on every node, made of the rig's own binaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rig.errors import RigError
from rig.kind.archive import Image, Layer, write
from rig.kind.rootfs import package_layer
from rig.kind.shell import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What kube-proxy calls, and all libraries of these: the extensions of iptables load theirs late.
_PROXY_PACKAGES = (
    *("iptables", "conntrack", "libc6", "libgcc-s1", "libxtables12", "libip4tc2", "libip6tc2"),
    *("libmnl0", "libnftnl11", "libnfnetlink0", "libnetfilter-conntrack3"),
)


def names(binaries: Path, version: str) -> dict[str, str]:
    """Return the images that kubeadm wants, by component (`pause`, `etcd`, …)."""
    listed = run(binaries / "kubeadm", "config", "images", "list", "--kubernetes-version", version)
    found = listed.split()
    return {each.rpartition("/")[2].partition(":")[0]: each for each in found}


def archives(binaries: Path, tree: Path, wanted: dict[str, str], target: Path) -> Iterator[Path]:
    """Write the archive of each image and yield its path.

    Args:
        binaries: directory of the programs.
        tree: the Debian tree.
        wanted: names of the images by component.
        target: directory of the archives.

    Raises:
        RigError: kubeadm wants an image that this module cannot make.
    """
    for component, name in wanted.items():
        place = f"/usr/local/bin/{component}"
        layer = Layer()
        if component == "kube-proxy":
            layer = _proxy(tree)
        elif component in {"coredns", "pause"}:
            place = f"/{component}"
        elif component != "etcd" and not component.startswith("kube-"):
            raise RigError(f"kubeadm wants {name}, and nothing here makes it")
        layer.add(place, binaries / component, 0o755)
        layer.directory("/tmp", 0o1777)  # noqa: S108 - a directory of the image
        yield write(target / f"{component}.tar", Image(name, (place,)), layer)


def _proxy(tree: Path) -> Layer:
    layer = package_layer(tree, _PROXY_PACKAGES)
    for family in ("iptables", "ip6tables"):
        for suffix in ("", "-save", "-restore"):
            layer.link(f"/usr/sbin/{family}{suffix}", "xtables-legacy-multi")
    return layer

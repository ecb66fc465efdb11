"""The image of a node: Debian, containerd, the kubelet, and the images of the control plane."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from rig.binaries import KIND, binaries
from rig.errors import RigError
from rig.kind import archive, components, host, rootfs
from rig.kind.paths import LABEL, POD_NETWORK, digest, state_directory
from rig.kind.shell import run, works

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = "localhost/sovereign-gpu/node"
FILES = Path(__file__).parent / "node"
PROGRAMS = ("kubeadm", "kubelet", "kubectl")
UNITS = ("containerd.service", "kubelet.service", "pod-masquerade.service")
# What a machine starts and a container must not: disks, devices, consoles.
WANTS = (
    *("etc/systemd/system/*.wants/*", "lib/systemd/system/multi-user.target.wants/*"),
    *("lib/systemd/system/local-fs.target.wants/*", "lib/systemd/system/basic.target.wants/*"),
    *("lib/systemd/system/sockets.target.wants/*udev*",),
    *("lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup*",),
    *("lib/systemd/system/sysinit.target.wants/*udev*",),
)


def node_image(directory: Path, say: Callable[[str], None]) -> str:
    """Return the name of the node image in podman's store, made first if it is not there.

    Args:
        directory: where the programs of the profile `kind` are.
        say: receives one line at a time.

    Raises:
        RigError: a step failed.
    """
    tree = rootfs.rootfs(say)
    recipe = (FILES, *(Path(each.__file__ or "") for each in (archive, components)), Path(__file__))
    name = f"{REPOSITORY}:{digest(tree.name, directory.name, *recipe)}"
    podman = host.environment()
    if works("podman", "image", "exists", name, env=podman):
        return name
    say("making the node image")
    version = next(each.version for each in binaries(KIND) if each.name == "kubelet")
    work = state_directory() / "node-image.tmp"
    shutil.rmtree(work, ignore_errors=True)
    try:
        root = work / "root"
        root.parent.mkdir(parents=True)
        run("cp", "--archive", "--reflink=auto", tree, root)
        wanted = components.names(directory, version)
        _fill(root, directory, version, wanted["pause"])
        _preload(root, list(components.archives(directory, tree, wanted, root / "images")))
        _import(root, name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _forget_older(name)
    return name


def _fill(root: Path, directory: Path, version: str, pause: str) -> None:
    for pattern in WANTS:
        for path in root.glob(pattern):
            path.unlink()
    shutil.copytree(FILES, root, dirs_exist_ok=True)
    for name, old, new in (
        ("etc/containerd/config.toml", "@PAUSE@", pause),
        ("etc/systemd/system/pod-masquerade.service", "@PODS@", POD_NETWORK),
    ):
        path = root / name
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    for program in PROGRAMS:
        shutil.copy2((directory / program).resolve(), root / "usr" / "bin" / program)
    (root / "kind").mkdir()
    (root / "kind" / "version").write_text(f"{version}\n", encoding="utf-8")
    (root / "opt" / "cni").mkdir(parents=True)
    (root / "opt" / "cni" / "bin").symlink_to("/usr/lib/cni")
    spec = json.loads(run("chroot", root, "ctr", "oci", "spec"))
    # The limits of files and processes of whoever starts the container are good enough.
    del spec["process"]["rlimits"]
    base = root / "etc" / "containerd" / "base-spec.json"
    base.write_text(json.dumps(spec), encoding="utf-8")
    run("chroot", root, "systemctl", "enable", *UNITS)
    run("chroot", root, "update-alternatives", "--set", "iptables", "/usr/sbin/iptables-legacy")
    run("chroot", root, "update-alternatives", "--set", "ip6tables", "/usr/sbin/ip6tables-legacy")


def _preload(root: Path, archives: list[Path]) -> None:
    inside = [f"/{each.relative_to(root)}" for each in archives]
    enter = 'mount -t proc proc "$1/proc"; root=$1; shift; exec chroot "$root" "$@"'
    # containerd mounts and leaves helpers behind: in namespaces of its own both end with it.
    run(
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("sh", "-c", enter, "sh", str(root), "/usr/local/bin/preload", *inside),
        timeout=300,
    )
    shutil.rmtree(root / "images")
    for leftover in ("run", "tmp"):
        shutil.rmtree(root / leftover)
        (root / leftover).mkdir()
    (root / "tmp").chmod(0o1777)


def _import(root: Path, name: str) -> None:
    changes = (
        'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]',
        "STOPSIGNAL SIGRTMIN+3",
        "ENV container=podman",
        f"LABEL {LABEL}=node",
    )
    flags = [part for change in changes for part in ("--change", change)]
    tar = ["tar", "--create", "--numeric-owner", "--directory", str(root), "."]
    with subprocess.Popen(tar, stdout=subprocess.PIPE) as packer:
        done = subprocess.run(
            ["podman", "import", "--quiet", *flags, "-", name],
            stdin=packer.stdout,
            env=host.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode or packer.returncode:
        raise RigError(f"podman import failed: {done.stderr.strip()}")


def _forget_older(name: str) -> None:
    podman = host.environment()
    listed = run(
        *("podman", "images", "--filter", f"label={LABEL}=node"),
        *("--format", "{{.Repository}}:{{.Tag}}"),
        env=podman,
    )
    for each in listed.split():
        if each != name:
            # One that a running cluster uses stays.
            works("podman", "rmi", each, env=podman)

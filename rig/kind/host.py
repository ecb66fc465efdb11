"""Prepares this machine for containers, says what it changes, and takes back what it can.

Only for machines without a container engine that works: where Docker or Podman can fetch the
public node image, nothing here is touched.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rig.errors import RigError
from rig.kind.paths import POD_NETWORK, state_directory
from rig.kind.shell import run, works

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES = (
    *("podman", "runc", "netavark", "aardvark-dns", "conntrack"),
    *("iptables", "debootstrap", "debian-archive-keyring", "binutils"),
)
MODULES = Path("/lib/modules")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
# Of the two backends, one may lack its kernel modules; the nodes use the older one as well.
IPTABLES = ("iptables-legacy", "ip6tables-legacy")
ULIMIT = 20000
CONTAINERS = """\
[containers]
# Above the hard limit of the machine no container would start.
default_ulimits = ["nofile={limit}:{limit}", "nproc={limit}:{limit}"]
pids_limit = 0
log_driver = "k8s-file"

[engine]
# crun refuses machines that mount both versions of control groups.
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"

[network]
# The only backend with DNS between containers: nodes find each other by name.
network_backend = "netavark"
"""


def prepare(say: Callable[[str], None]) -> None:
    """Make podman usable: packages, settings, forwarding. Repeating it changes nothing.

    Args:
        say: receives one line for each change.

    Raises:
        RigError: not root, or a package cannot be installed.
    """
    if os.geteuid() != 0:
        raise RigError("nodes are containers with all rights: run this as root")
    _install(say)
    if not MODULES.exists():
        say(f"creating {MODULES}, which kind mounts into nodes")
        MODULES.mkdir(parents=True)
    directory = state_directory()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "containers.conf").write_text(
        CONTAINERS.format(limit=min(ULIMIT, _hard_limit())), encoding="utf-8"
    )
    _prefer_iptables(directory / "bin")
    _forward(directory / "host.json", say)


def restore(say: Callable[[str], None]) -> None:
    """Take back what `prepare` changed in the kernel; packages and settings stay."""
    record = state_directory() / "host.json"
    if not record.exists():
        return
    before = json.loads(record.read_text(encoding="utf-8"))
    for rule in before["rules"]:
        if works("iptables-legacy", "-C", *rule):
            run("iptables-legacy", "-D", *rule)
            say(f"removed the rule {' '.join(rule)}")
    if FORWARDING.read_text(encoding="utf-8").strip() != before["forwarding"]:
        FORWARDING.write_text(before["forwarding"], encoding="utf-8")
        say(f"net.ipv4.ip_forward is {before['forwarding']} again")
    record.unlink()


def environment() -> dict[str, str]:
    """Return the environment in which podman and kind run."""
    directory = state_directory()
    return os.environ | {
        "CONTAINERS_CONF": str(directory / "containers.conf"),
        "PATH": f"{directory / 'bin'}:{os.environ['PATH']}",
    }


def _install(say: Callable[[str], None]) -> None:
    lacking = [each for each in PACKAGES if not works("dpkg", "-s", each)]
    if not lacking:
        return
    if shutil.which("apt-get") is None:
        raise RigError(f"missing, and no apt-get to install them: {', '.join(lacking)}")
    say(f"installing with apt-get: {' '.join(lacking)}")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-qq", env=quiet)
    run("apt-get", "install", "-qq", "--yes", "--no-install-recommends", *lacking, env=quiet)


def _hard_limit() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return ULIMIT if hard == resource.RLIM_INFINITY else hard


def _prefer_iptables(directory: Path) -> None:
    """Let our podman find the backend that works, without changing the machine's choice."""
    directory.mkdir(exist_ok=True)
    for name in IPTABLES:
        found = shutil.which(name)
        link = directory / name.removesuffix("-legacy")
        link.unlink(missing_ok=True)
        if found is not None and works(found, "-t", "nat", "-S"):
            # The program behind it goes by the name it is called with.
            link.write_text(f'#!/bin/sh\nexec {found} "$@"\n', encoding="utf-8")
            link.chmod(0o755)


def _forward(record: Path, say: Callable[[str], None]) -> None:
    forwarding = FORWARDING.read_text(encoding="utf-8").strip()
    before: dict[str, Any] = {"forwarding": forwarding, "rules": []}
    if record.exists():
        before = json.loads(record.read_text(encoding="utf-8"))
    if "-P FORWARD DROP" in run("iptables-legacy", "-S", "FORWARD"):
        for way in ("-s", "-d"):
            rule = ["FORWARD", way, POD_NETWORK, "-j", "ACCEPT"]
            if not works("iptables-legacy", "-C", *rule):
                say(f"letting pods through the firewall: iptables -A {' '.join(rule)}")
                run("iptables-legacy", "-A", *rule)
                before["rules"].append(rule)
    record.write_text(json.dumps(before), encoding="utf-8")
    if FORWARDING.read_text(encoding="utf-8").strip() != "1":
        say("setting net.ipv4.ip_forward to 1 until the cluster is taken down")
        FORWARDING.write_text("1", encoding="utf-8")

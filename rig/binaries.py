"""Which binaries a rig needs, what pins them, and where they are.

The pins are the committed `go.mod` and `go.sum` of the wrapper modules. What was built from them
lies in the cache under their digest, so a changed pin is a changed directory and nothing built
from other pins is ever used by mistake.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rig.errors import RigError

DIRECTORY_VARIABLE: Final = "SOVEREIGN_GPU_BINARIES"
CACHE_VARIABLE: Final = "SOVEREIGN_GPU_CACHE"
MODULES: Final = Path(__file__).parent / "modules"
PROFILES: Final = ("1.36", "1.37")
DEFAULT_PROFILE: Final = PROFILES[0]
KIND: Final = "kind"
"""Profile of clusters of containers: the default one's Kubernetes, and what runs on its nodes."""

_KUBERNETES: Final = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
)
_ETCD: Final = "go.etcd.io/etcd/server/v3"
_KWOK: Final = "sigs.k8s.io/kwok"
_HELM: Final = "helm.sh/helm/v4"
_K8S: Final = "k8s.io/kubernetes"
_NODE: Final = ("kubelet", "kubeadm", "kube-proxy")
_COREDNS: Final = "github.com/coredns/coredns"
_KIND: Final = "sigs.k8s.io/kind"


@dataclass(frozen=True, slots=True)
class Binary:
    """One program of a rig.

    Attributes:
        name: file name.
        module: name of the wrapper module that pins it, below `rig/modules`.
        package: Go package that is its main.
        requirement: Go module whose version is the program's version.
    """

    name: str
    module: str
    package: str
    requirement: str

    @property
    def version(self) -> str:
        """The pinned version, with a leading `v`."""
        text = (module_directory(self.module) / "go.mod").read_text(encoding="utf-8")
        found = re.search(rf"^\s+{re.escape(self.requirement)} (v\S+)", text, re.MULTILINE)
        if found is None:
            raise RigError(f"rig/modules/{self.module}/go.mod does not require {self.requirement}")
        return found.group(1)


def binaries(profile: str) -> tuple[Binary, ...]:
    """Return the programs of a profile, in the order in which they are built.

    kwok and helm always come from the module of 1.36: they compile against its libraries.
    """
    if profile == KIND:
        common = (each for each in binaries(DEFAULT_PROFILE) if each.name != "kwok")
        return (
            *common,
            *(Binary(each, KIND, f"{_K8S}/cmd/{each}", _K8S) for each in _NODE),
            Binary("coredns", KIND, "./coredns", _COREDNS),
            Binary("pause", KIND, "./pause", _K8S),
            Binary("kind", KIND, _KIND, _KIND),
        )
    if profile not in PROFILES:
        raise RigError(f"profile {profile!r}: there are {', '.join(PROFILES)}")
    kubernetes = f"kubernetes-{profile}"
    tools = f"kubernetes-{DEFAULT_PROFILE}"
    return (
        Binary("etcd", "etcd", _ETCD, _ETCD),
        *(Binary(each, kubernetes, f"{_K8S}/cmd/{each}", _K8S) for each in _KUBERNETES),
        Binary("kwok", tools, f"{_KWOK}/cmd/kwok", _KWOK),
        Binary("helm", tools, f"{_HELM}/cmd/helm", _HELM),
    )


def module_directory(module: str) -> Path:
    """Return the directory of a wrapper module."""
    return MODULES / module


def module_digest(module: str) -> str:
    """Return the digest of a wrapper module: its pins, and its programs if it has any."""
    digest = hashlib.sha256()
    directory = module_directory(module)
    for path in (directory / "go.mod", directory / "go.sum", *sorted(directory.glob("*/*.go"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def profile_directory(profile: str) -> Path:
    """Return where the programs of a profile, with the pins of this tree, belong."""
    modules = sorted({each.module for each in binaries(profile)})
    pins = " ".join(module_digest(each) for each in modules)
    digest = hashlib.sha256(pins.encode()).hexdigest()[:16]
    return cache_directory() / "binaries" / f"{profile}-{digest}"


def cache_directory() -> Path:
    """Return the directory outside every source tree that holds what can be made again."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sovereign-gpu"


def missing(directory: Path, profile: str) -> list[str]:
    """Return the names of the programs that a directory lacks."""
    return [
        each.name for each in binaries(profile) if not os.access(directory / each.name, os.X_OK)
    ]


def locate(profile: str, directory: Path | None = None) -> Path:
    """Return the directory that holds all programs of a profile.

    Args:
        profile: Kubernetes minor version.
        directory: where they are; else the environment says, else the cache of builds is used.

    Raises:
        RigError: some are missing; the message names the command that builds them.
    """
    named = directory or os.environ.get(DIRECTORY_VARIABLE)
    found = Path(named).absolute() if named else profile_directory(profile)
    lacking = missing(found, profile)
    if lacking:
        command = f"python -m rig binaries --profile {profile}"
        command = "make rig-binaries" if profile == DEFAULT_PROFILE else command
        command = "make kind-binaries" if profile == KIND else command
        raise RigError(
            f"missing in {found}: {', '.join(lacking)}\n"
            f"build them with `{command}`, "
            f"or name a directory that has them in {DIRECTORY_VARIABLE}"
        )
    return found


def architecture() -> str:
    """Return this machine's architecture as Go and the release files call it."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)

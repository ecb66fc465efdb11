"""A rig: one control plane, its state directory, and the identities that may talk to it."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import re
import shutil
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from rig import binaries as binaries_module
from rig import users
from rig.client import Client, wait_for
from rig.components import Files, Layout, Plan, Ports
from rig.errors import RigError
from rig.keeper import Keeper
from rig.pki import Authority, KeyPair, write_private
from rig.processes import free_ports, port_is_free

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

START_SECONDS = 60.0
"""How long one wave of daemons may take on a machine that has much else to do."""
API_WAVES = 2
"""Waves after which the API server serves: etcd, and itself."""


def default_root(name: str) -> Path:
    """Return where a rig of this name keeps its state: outside every source tree."""
    return binaries_module.cache_directory() / "rigs" / name


class Rig:
    """One control plane on loopback.

    Used as a context manager it is up inside and gone after. Started by `up()` it ends with the
    calling process at the latest, unless `keep()` is called.

    Args:
        name: tells rigs apart; part of the state directory.
        root: state directory; below the cache when omitted.
        profile: Kubernetes minor version, "1.36" or "1.37".
        binaries: directory with the daemons; built ones of the profile when omitted.
        kwok: whether KWOK keeps nodes alive and runs pods.
        admission: AdmissionConfiguration of the API server; none when omitted.
    """

    def __init__(
        self,
        name: str = "default",
        root: Path | None = None,
        profile: str = "1.36",
        binaries: Path | None = None,
        *,
        kwok: bool = True,
        admission: Path | None = None,
    ) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name):
            raise RigError(
                f"rig name {name!r}: lower case letters, digits, '-' and '.' are allowed"
            )
        self.name = name
        self.profile = profile
        self._kwok = kwok
        self._admission = admission
        self._binaries = binaries
        self._layout = Layout((root or default_root(name)).resolve())
        self._keeper = Keeper(self._layout.run, self._layout.logs / "supervisor.log")
        self._issued: dict[str, Path] = {}

    # --- places -----------------------------------------------------------------------------
    @property
    def root(self) -> Path:
        """State directory."""
        return self._layout.root

    @property
    def url(self) -> str:
        """Base URL of the API server."""
        return f"https://127.0.0.1:{self._ports().apiserver}"

    @property
    def ca_file(self) -> Path:
        """Certificate of the rig's CA."""
        return self._layout.pki / "ca.crt"

    @property
    def audit_log(self) -> Path:
        """Audit log of the API server, one JSON event per line, one file."""
        return self._layout.logs / "audit.log"

    @property
    def logs(self) -> Path:
        """Directory with one log per daemon."""
        return self._layout.logs

    @property
    def binaries(self) -> Path:
        """Directory with the daemons and tools (kubectl, helm).

        Raises:
            RigError: some are missing; the message names the command that builds them.
        """
        return binaries_module.locate(self.profile, self._binaries)

    # --- life -------------------------------------------------------------------------------
    def up(self) -> Self:
        """Start the control plane and wait until it serves; return self.

        Raises:
            RigError: it did not come up; the message holds the end of the log at fault.
        """
        binaries = self.binaries
        with exclusive(self._layout.run / "lock"):
            if self._keeper.running():
                return self
            self._refuse_another_profile()
            self._write_choices()
            ports = self._choose_ports()
            plan = Plan(
                self._layout,
                binaries,
                ports,
                self._files(),
                kwok=self._kwok,
                admission=self._admission,
            )
            plan.write_configuration()
            self._start(plan.build(self._keeper.report_file, START_SECONDS))
        return self

    def keep(self) -> None:
        """Let the control plane outlive this process; `down` ends it."""
        self._keeper.let_go()

    def down(self) -> None:
        """End the control plane and wait until every process of it is gone; state is kept."""
        with exclusive(self._layout.run / "lock"):
            self._keeper.stop()

    def revive(self) -> None:
        """Start daemons anew that were killed; returns before they are ready.

        Raises:
            RigError: the control plane is not up.
        """
        self._keeper.revive()

    def reset(self) -> Self:
        """Empty the cluster: down, forget all objects and logs, up again. Identities stay."""
        kept = self._keeper.detached and self._keeper.running()
        with exclusive(self._layout.run / "lock"):
            self._keeper.stop()
            shutil.rmtree(self._layout.data, ignore_errors=True)
            shutil.rmtree(self._layout.logs, ignore_errors=True)
        self.up()
        if kept:
            self.keep()
        return self

    def destroy(self) -> None:
        """End the control plane and delete its state directory."""
        self.down()
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.up()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    def status(self) -> dict[str, Any]:
        """Return name, profile, url, phase and the daemons with pid and state."""
        report = self._keeper.report()
        phase = report.get("phase", "never started")
        ended = phase in {"stopped", "failed", "never started"}
        if not ended and not self._keeper.running():
            phase = "killed"
        up = phase in {"starting", "up", "stopping"}
        return {
            "name": self.name,
            "profile": self._read_choices().get("profile", self.profile),
            "phase": phase,
            "message": report.get("message", ""),
            "url": self.url if up else "",
            "root": str(self.root),
            "supervisor": report.get("supervisor", {}).get("pid") if up else None,
            "daemons": report.get("daemons", []) if up else [],
        }

    def pids(self) -> dict[str, int]:
        """Return the process number of every running daemon by name."""
        daemons = self.status()["daemons"]
        return {each["name"]: each["pid"] for each in daemons if each["state"] == "running"}

    # --- identities -------------------------------------------------------------------------
    def kubeconfig(self, user: str, groups: Sequence[str] | None = None) -> Path:
        """Return a kubeconfig for a user, with a client certificate made on demand.

        Args:
            user: `platform-admin`, `auditor`, `tenant-<name>`, `system:node:<node>`, or any.
            groups: groups instead of the user's usual ones (`rig.users.groups_of`).
        """
        stem = self._stem(user, groups)
        if stem not in self._issued:
            pair = self._issue(user, groups)
            credentials = {
                "client-certificate-data": _base64(pair.certificate),
                "client-key-data": _base64(pair.key),
            }
            path = self._layout.users / f"{stem}.kubeconfig"
            self._issued[stem] = self._write_kubeconfig(path, user, credentials)
        return self._issued[stem]

    def client(self, user: str, groups: Sequence[str] | None = None) -> Client:
        """Return a client that is this user; see `kubeconfig`."""
        return Client(self.url, self.ca_file, certificate=self.certificate(user, groups))

    def certificate(self, user: str, groups: Sequence[str] | None = None) -> KeyPair:
        """Return the files of a user's client certificate; see `kubeconfig`."""
        self.kubeconfig(user, groups)
        stem = self._stem(user, groups)
        return KeyPair(self._layout.users / f"{stem}.crt", self._layout.users / f"{stem}.key")

    def service_account_token(self, namespace: str, name: str, seconds: int = 86400) -> str:
        """Return a token of a service account, as its pods would be given."""
        admin = self.client(users.PLATFORM_ADMIN)
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        return str(admin.create(path, body).must()["status"]["token"])

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Return a kubeconfig that acts as a service account of the cluster."""
        token = self.service_account_token(namespace, name)
        path = self._layout.users / f"serviceaccount.{namespace}.{name}.kubeconfig"
        return self._write_kubeconfig(path, f"{namespace}:{name}", {"token": token})

    def service_account_client(self, namespace: str, name: str) -> Client:
        """Return a client that acts as a service account of the cluster."""
        return Client(self.url, self.ca_file, token=self.service_account_token(namespace, name))

    @staticmethod
    def _stem(user: str, groups: Sequence[str] | None) -> str:
        readable = re.sub(r"[^A-Za-z0-9.-]", "_", user)
        distinct = json.dumps([user, groups if groups is None else list(groups)])
        if groups is None and readable == user:
            return readable
        return f"{readable}-{hashlib.sha256(distinct.encode()).hexdigest()[:8]}"

    def _issue(self, user: str, groups: Sequence[str] | None) -> KeyPair:
        """Return a user's certificate; the one on disk if there is one.

        Somebody may be reading it: a new key beside an old certificate would break their next
        connection, so it is made once, under a lock that threads and processes share.
        """
        stem = self._layout.users / self._stem(user, groups)
        pair = KeyPair(stem.with_name(f"{stem.name}.crt"), stem.with_name(f"{stem.name}.key"))
        carried = users.groups_of(user) if groups is None else groups
        with exclusive(self._layout.users / "lock"):
            if not pair.certificate.exists():
                Authority(self._layout.pki).client(stem, user, carried)
        return pair

    def _write_kubeconfig(self, path: Path, user: str, credentials: dict[str, str]) -> Path:
        cluster = {"server": self.url, "certificate-authority-data": _base64(self.ca_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": f"rig-{self.name}", "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [
                {"name": user, "context": {"cluster": f"rig-{self.name}", "user": user}},
            ],
            "current-context": user,
        }
        write_private(path, yaml.safe_dump(config, sort_keys=False).encode())
        return path

    def _files(self) -> Files:
        self._issued.clear()
        signer = Authority(self._layout.pki)
        private, public = signer.token_signing_key()
        return Files(
            ca=self.ca_file,
            front_proxy_ca=Authority(self._layout.pki / "front-proxy").pair.certificate,
            serving=signer.serving(),
            health=self.certificate(users.BOOTSTRAP),
            tokens_key=private,
            tokens_public=public,
            controller_manager=self.kubeconfig("system:kube-controller-manager"),
            scheduler=self.kubeconfig("system:kube-scheduler"),
            kwok=self.kubeconfig(users.KWOK),
        )

    # --- the supervisor ---------------------------------------------------------------------
    def _start(self, plan: dict[str, Any]) -> None:
        try:
            self._keeper.start(plan)
            self._keeper.wait_until(lambda report: report.get("waves", 0) >= API_WAVES)
            users.bootstrap(self.client(users.BOOTSTRAP))
            self._keeper.wait_until(lambda report: report.get("phase") == "up")
            self._wait_for_controllers()
        except RigError as error:
            self._keeper.stop()
            raise RigError(f"rig {self.name}: {error}") from error
        except BaseException:
            self._keeper.stop()
            raise

    def _wait_for_controllers(self) -> None:
        """The control plane is of use once namespaces get their service account."""
        admin = self.client(users.PLATFORM_ADMIN)
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        wait_for(lambda: admin.get(path).ok, START_SECONDS, "the controllers to act")

    # --- choices that last ------------------------------------------------------------------
    def _ports(self) -> Ports:
        try:
            return Ports(**json.loads((self._layout.root / "ports.json").read_text("utf-8")))
        except FileNotFoundError:
            raise RigError(f"rig {self.name} was never started") from None

    def _choose_ports(self) -> Ports:
        """Keep the ports of last time if nobody took them, so that kubeconfigs stay valid."""
        with contextlib.suppress(RigError):
            ports = self._ports()
            if all(port_is_free(each) for each in astuple(ports)):
                return ports
        ports = Ports(*free_ports(len(fields(Ports))))
        (self._layout.root / "ports.json").write_text(json.dumps(asdict(ports)), encoding="utf-8")
        return ports

    def _refuse_another_profile(self) -> None:
        """Objects that a newer Kubernetes stored may be unreadable to an older one."""
        stored = self._read_choices().get("profile", self.profile)
        if stored != self.profile and self._layout.data.exists():
            raise RigError(
                f"rig {self.name} holds objects of Kubernetes {stored}; "
                f"empty it for {self.profile} with `python -m rig reset --name {self.name} "
                f"--profile {self.profile}`"
            )

    def _write_choices(self) -> None:
        choices = {"profile": self.profile, "kwok": self._kwok}
        (self._layout.run / "choices.json").write_text(json.dumps(choices), encoding="utf-8")

    def _read_choices(self) -> dict[str, Any]:
        try:
            text = (self._layout.run / "choices.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        choices: dict[str, Any] = json.loads(text)
        return choices


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file; threads and processes that want it wait."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()

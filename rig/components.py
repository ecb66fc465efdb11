"""Command lines of the daemons: what a rig's control plane is made of.

Everything that production has and tests rely on is on (RBAC, Node authorizer, NodeRestriction,
audit log, TLS everywhere); everything that only costs time on one machine is off (fsync, leader
election, client rate limits).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from rig import stages

if TYPE_CHECKING:
    from pathlib import Path

    from rig.pki import KeyPair

CLIENT_QPS = ("--kube-api-qps=1000", "--kube-api-burst=2000")
# Renewals of 1,250 leases every 10 s would be the main load of an idle rig.
LEASE_SECONDS = 300
GRACE_SECONDS = LEASE_SECONDS + 60
# A rig may be killed: nothing in it is worth waiting for.
STOP_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports on 127.0.0.1, one per listener."""

    etcd: int
    etcd_peer: int
    apiserver: int
    controller_manager: int
    scheduler: int
    kwok: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where one rig keeps what: everything below one directory."""

    root: Path

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.root / "pki"

    @property
    def config(self) -> Path:
        """Configuration of the daemons."""
        return self.root / "config"

    @property
    def users(self) -> Path:
        """Kubeconfigs."""
        return self.root / "users"

    @property
    def data(self) -> Path:
        """State of etcd."""
        return self.root / "etcd"

    @property
    def logs(self) -> Path:
        """Logs of the daemons, and the audit log."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """What runs now."""
        return self.root / "run"


@dataclass(frozen=True, slots=True)
class Files:
    """Credentials that the daemons are given."""

    ca: Path
    front_proxy_ca: Path
    serving: KeyPair
    health: KeyPair
    tokens_key: Path
    tokens_public: Path
    controller_manager: Path
    scheduler: Path
    kwok: Path


class Plan:
    """Turns binaries, ports and files into the supervisor's plan.

    Args:
        layout: directories of the rig.
        binaries: directory with the daemons.
        ports: where they listen.
        files: their credentials.
        kwok: whether nodes are kept alive and pods are run by KWOK.
        admission: AdmissionConfiguration of the API server, or None.
    """

    def __init__(
        self,
        layout: Layout,
        binaries: Path,
        ports: Ports,
        files: Files,
        *,
        kwok: bool,
        admission: Path | None = None,
    ) -> None:
        self._layout = layout
        self._binaries = binaries
        self._ports = ports
        self._files = files
        self._kwok = kwok
        self._admission = admission

    def write_configuration(self) -> None:
        """Write the files that the daemons read at start."""
        self._layout.config.mkdir(parents=True, exist_ok=True)
        self._layout.logs.mkdir(parents=True, exist_ok=True)
        policy = self._layout.config / "audit-policy.yaml"
        policy.write_text(yaml.safe_dump(audit_policy(), sort_keys=False), encoding="utf-8")
        documents = yaml.safe_dump_all(stages.configuration(LEASE_SECONDS), sort_keys=False)
        (self._layout.config / "kwok.yaml").write_text(documents, encoding="utf-8")

    def build(self, report: Path, patience: float) -> dict[str, Any]:
        """Return the plan as the supervisor reads it.

        Args:
            report: file in which the supervisor reports.
            patience: seconds that one wave may take to become ready.
        """
        followers = [
            self._daemon("kube-controller-manager", self._controller_manager(), "healthz"),
            self._daemon("kube-scheduler", self._scheduler(), "healthz"),
        ]
        waves = [
            [self._daemon("etcd", self._etcd(), "health")],
            [self._daemon("kube-apiserver", self._apiserver(), "readyz")],
            followers,
        ]
        # Last: its rights are written while the followers start.
        if self._kwok:
            waves.append([self._daemon("kwok", self._kwok_arguments(), None)])
        return {"report": str(report), "patience": patience, "waves": waves}

    def _daemon(self, name: str, arguments: list[str], health: str | None) -> dict[str, Any]:
        ports = {
            "etcd": self._ports.etcd,
            "kube-apiserver": self._ports.apiserver,
            "kube-controller-manager": self._ports.controller_manager,
            "kube-scheduler": self._ports.scheduler,
        }
        probe = None
        if health is not None:
            probe = {
                "url": f"https://127.0.0.1:{ports[name]}/{health}",
                "ca": str(self._files.ca),
                "certificate": str(self._files.health.certificate),
                "key": str(self._files.health.key),
            }
        return {
            "name": name,
            "argv": [str(self._binaries / name), *arguments],
            "log": str(self._layout.logs / f"{name}.log"),
            "health": probe,
            "grace": STOP_SECONDS,
        }

    def _etcd(self) -> list[str]:
        client = f"https://127.0.0.1:{self._ports.etcd}"
        peer = f"https://127.0.0.1:{self._ports.etcd_peer}"
        serving = self._files.serving
        tls = [
            f"{prefix}{flag}"
            for prefix in ("--", "--peer-")
            for flag in (
                f"cert-file={serving.certificate}",
                f"key-file={serving.key}",
                f"trusted-ca-file={self._files.ca}",
                "client-cert-auth",
            )
        ]
        return [
            "--name=rig",
            f"--data-dir={self._layout.data}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=rig={peer}",
            *tls,
            # A rig does not have to survive a power cut.
            "--unsafe-no-fsync",
            "--quota-backend-bytes=8589934592",
            "--log-level=warn",
        ]

    def _apiserver(self) -> list[str]:
        files = self._files
        return [
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._ports.apiserver}",
            # Loopback may not be an endpoint, so nobody is to write one.
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--etcd-servers=https://127.0.0.1:{self._ports.etcd}",
            f"--etcd-cafile={files.ca}",
            f"--etcd-certfile={files.health.certificate}",
            f"--etcd-keyfile={files.health.key}",
            f"--tls-cert-file={files.serving.certificate}",
            f"--tls-private-key-file={files.serving.key}",
            f"--client-ca-file={files.ca}",
            # Of its own: whoever signs for it may speak in the name of anybody.
            f"--requestheader-client-ca-file={files.front_proxy_ca}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--anonymous-auth=false",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={files.tokens_public}",
            f"--service-account-signing-key-file={files.tokens_key}",
            f"--audit-policy-file={self._layout.config / 'audit-policy.yaml'}",
            f"--audit-log-path={self._layout.logs / 'audit.log'}",
            "--audit-log-format=json",
            # One file, so that whoever counts in it need not know about rotation.
            "--audit-log-maxsize=1000000",
            "--max-requests-inflight=1200",
            "--max-mutating-requests-inflight=600",
            "--profiling=false",
            "--event-ttl=1h",
            *self._admission_arguments(),
        ]

    def _admission_arguments(self) -> list[str]:
        if self._admission is None:
            return []
        return [
            f"--admission-control-config-file={self._admission}",
            # On by itself from 1.37.
            "--feature-gates=ManifestBasedAdmissionControlConfig=true",
        ]

    def _secured(self, port: int, kubeconfig: Path) -> list[str]:
        return [
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={self._files.serving.certificate}",
            f"--tls-private-key-file={self._files.serving.key}",
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--leader-elect=false",
            "--profiling=false",
            *CLIENT_QPS,
        ]

    def _controller_manager(self) -> list[str]:
        return [
            *self._secured(self._ports.controller_manager, self._files.controller_manager),
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self._files.tokens_key}",
            f"--root-ca-file={self._files.ca}",
            f"--node-monitor-grace-period={GRACE_SECONDS}s",
            # Rewrites an annotation of every node whenever their number passes 100, 500, 1000.
            "--controllers=*,-ttl-controller",
        ]

    def _scheduler(self) -> list[str]:
        return self._secured(self._ports.scheduler, self._files.scheduler)

    def _kwok_arguments(self) -> list[str]:
        return [
            f"--kubeconfig={self._files.kwok}",
            f"--config={self._layout.config / 'kwok.yaml'}",
            "--v=WARN",
        ]


def audit_policy() -> dict[str, Any]:
    """Return what the API server writes down: who did what, and with which body where it counts.

    Every admitted pod can be recounted from it: a release is a patch of a pod, a placement is a
    POST to its binding, an end is a kubelet's patch of the status, so these are kept with their
    bodies.
    """
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "omitManagedFields": True,
        "rules": [
            {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*"]},
            # Heartbeats of kubelets: a thousand lines a minute that say nothing.
            {
                "level": "None",
                "namespaces": ["kube-node-lease"],
                "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}],
            },
            {
                "level": "Request",
                "verbs": ["create"],
                "resources": [{"group": "", "resources": ["pods/binding", "bindings"]}],
            },
            {
                "level": "Request",
                "verbs": ["patch", "update"],
                "resources": [{"group": "", "resources": ["pods", "pods/status"]}],
            },
            {"level": "Metadata"},
        ],
    }

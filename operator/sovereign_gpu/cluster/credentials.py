"""Where the API server is and who we are, for our own requests and for kopf's.

Inside a cluster the service account is used and its token is read anew before it expires;
elsewhere a kubeconfig with certificates or a token. What a kubeconfig may say besides (plugins
that run a command, impersonation, unverified TLS) is refused: ignoring it would make us somebody
else than the file says.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import ssl
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sovereign_gpu.cluster.errors import ConfigurationError

log = logging.getLogger(__name__)

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_MAX_AGE = 60.0
"""Seconds; a projected token is rotated long before it expires."""
_CLUSTER_KEYS = frozenset(
    {"server", "certificate-authority", "certificate-authority-data", "disable-compression"}
)
_USER_KEYS = frozenset(
    {
        "client-certificate",
        "client-certificate-data",
        "client-key",
        "client-key-data",
        "token",
        "tokenFile",
    }
)


@dataclass(slots=True)
class Credentials:
    """Where the API server is and who we are; certificates as files or as PEM text."""

    server: str
    ca_file: str | None = None
    ca_data: str | None = None
    client_cert_file: str | None = None
    client_cert_data: str | None = None
    client_key_file: str | None = None
    client_key_data: str | None = None
    token: str | None = None
    token_file: Path | None = None
    _read_at: float = field(default=float("-inf"), init=False)

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the context for the server's and our certificates; None for plain HTTP.

        Raises:
            ConfigurationError: a certificate or key cannot be read.
        """
        if not self.server.startswith("https:"):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file, cadata=self.ca_data)
            self._identify(context)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigurationError(f"certificates for {self.server}: {error}") from error
        return context

    def _identify(self, context: ssl.SSLContext) -> None:
        with contextlib.ExitStack() as files:
            cert = self.client_cert_file or _brief_file(files, self.client_cert_data)
            key = self.client_key_file or _brief_file(files, self.client_key_data)
            if cert:
                context.load_cert_chain(cert, key)

    def bearer(self) -> str | None:
        """Return the token, read again from its file once a minute.

        A file that cannot be read leaves the token as it was.

        Raises:
            ConfigurationError: there never was a token in the file.
        """
        if self.token_file is None or time.monotonic() - self._read_at <= _TOKEN_MAX_AGE:
            return self.token
        try:
            self.token = _token(self.token_file)
        except (OSError, ValueError) as error:
            if self.token is None:
                raise ConfigurationError(f"token file {self.token_file}: {error}") from error
            log.warning("token file %s: %s; using the token read before", self.token_file, error)
        self._read_at = time.monotonic()
        return self.token

    def renewed(self) -> bool:
        """Read the token file now; whether it holds another token than before."""
        before = self.token
        self._read_at = float("-inf")
        return self.bearer() != before


def load_credentials(kubeconfig: str | None = None) -> Credentials:
    """Return the credentials of the given kubeconfig, $KUBECONFIG, or the service account.

    Raises:
        ConfigurationError: neither is there, or the kubeconfig asks for what is not supported.
    """
    path = kubeconfig or os.environ.get("KUBECONFIG")
    if path:
        return _from_kubeconfig(Path(path))
    host, port = (
        os.environ.get("KUBERNETES_SERVICE_HOST"),
        os.environ.get("KUBERNETES_SERVICE_PORT"),
    )
    if not host or not port:
        raise ConfigurationError(
            "no way to the API server: give --kubeconfig, set KUBECONFIG, or run in a pod"
        )
    host = f"[{host}]" if ":" in host else host
    return Credentials(
        server=f"https://{host}:{port}",
        ca_file=str(_SERVICE_ACCOUNT / "ca.crt"),
        token_file=_SERVICE_ACCOUNT / "token",
    )


def _from_kubeconfig(path: Path) -> Credentials:
    try:
        config = yaml.safe_load(path.read_text())
        chosen = config["current-context"]
        if not chosen:
            raise ConfigurationError(f"kubeconfig {path}: current-context is not set")
        context = _named(config, "contexts", chosen)["context"]
        cluster = _named(config, "clusters", context["cluster"])["cluster"]
        user = _named(config, "users", context["user"])["user"] or {}
        _only(path, "cluster", cluster, _CLUSTER_KEYS)
        _only(path, "user", user, _USER_KEYS)
        return _credentials(path.parent, cluster, user)
    except (OSError, KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"kubeconfig {path} is not usable: {type(error).__name__}: {error}"
        ) from error


def _credentials(folder: Path, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> Credentials:
    def file_of(source: Mapping[str, Any], key: str) -> str | None:
        # Data wins over a file, and files are named from where the kubeconfig is, as in kubectl.
        if source.get(f"{key}-data") or not source.get(key):
            return None
        return str(folder / source[key])

    def data_of(source: Mapping[str, Any], key: str) -> str | None:
        data = source.get(f"{key}-data")
        return base64.b64decode(data, validate=True).decode("ascii") if data else None

    return Credentials(
        server=cluster["server"].rstrip("/"),
        ca_file=file_of(cluster, "certificate-authority"),
        ca_data=data_of(cluster, "certificate-authority"),
        client_cert_file=file_of(user, "client-certificate"),
        client_cert_data=data_of(user, "client-certificate"),
        client_key_file=file_of(user, "client-key"),
        client_key_data=data_of(user, "client-key"),
        token=user.get("token"),
        token_file=folder / user["tokenFile"] if user.get("tokenFile") else None,
    )


def _named(config: Any, kind: str, name: str) -> Any:
    for entry in config[kind]:
        if entry["name"] == name:
            return entry
    raise KeyError(f"{kind}[name={name}]")


def _only(path: Path, part: str, found: Mapping[str, Any], known: frozenset[str]) -> None:
    odd = sorted(key for key in found if key not in known and key != "extensions" and found[key])
    if odd:
        raise ConfigurationError(
            f"kubeconfig {path}: {part} says {', '.join(odd)}, which is not supported; "
            f"allowed: {', '.join(sorted(known))}"
        )


def _token(file: Path) -> str:
    text = file.read_text().strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("holds no token")
    return text


def _brief_file(files: contextlib.ExitStack, data: str | None) -> str | None:
    # The ssl module loads our certificate from files only; they are gone when it has.
    if not data:
        return None
    file = tempfile.NamedTemporaryFile("w", encoding="ascii")  # noqa: SIM115 – the stack closes it
    files.enter_context(file)
    file.write(data)
    file.flush()
    return file.name

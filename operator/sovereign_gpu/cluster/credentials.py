"""Where the API server is and who we are, for our own requests and for kopf's.

Inside a cluster the service account is used and its token is read anew before it expires;
elsewhere a kubeconfig with certificates or a token; for people also with a plugin that gets them
one. What a kubeconfig may say besides (impersonation, unverified TLS) is refused: ignoring it would
make us somebody else than the file says.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import ssl
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from sovereign_gpu.cluster import exec_plugin
from sovereign_gpu.cluster import kubeconfig as kubeconfig_files
from sovereign_gpu.cluster.errors import ConfigurationError
from sovereign_gpu.cluster.kubeconfig import Context, Part

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
        return _of(kubeconfig_files.read(_files(path)), _USER_KEYS)
    return _service_account()


def load_context(kubeconfig: str, context: str) -> tuple[Credentials, str]:
    """Return credentials and namespace of a person at a terminal, as kubectl finds them.

    Args:
        kubeconfig: a file; empty: those of $KUBECONFIG, ~/.kube/config, or the service account.
        context: its name; empty: the current one.

    Raises:
        ConfigurationError: there are none, or they ask for what is not supported.
    """
    path = kubeconfig or os.environ.get("KUBECONFIG", "")
    usual = Path.home() / ".kube" / "config"
    if not path and not usual.exists():
        found = _service_account()
        return found, _own_namespace()
    chosen = kubeconfig_files.read(_files(path) if path else [usual], context)
    return _of(chosen, _USER_KEYS | {"exec"}), chosen.namespace


def _files(path: str) -> list[Path]:
    return [Path(each) for each in path.split(os.pathsep) if each]


def _own_namespace() -> str:
    try:
        return (_SERVICE_ACCOUNT / "namespace").read_text().strip() or "default"
    except OSError:
        return "default"


def _service_account() -> Credentials:
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


def _of(context: Context, allowed: frozenset[str]) -> Credentials:
    cluster, user = context.cluster, context.user
    cluster.only(_CLUSTER_KEYS)
    user.only(allowed)
    try:
        return _credentials(cluster, user)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"kubeconfig {user.file} is not usable: {type(error).__name__}: {error}"
        ) from error


def _credentials(cluster: Part, user: Part) -> Credentials:
    token_file = user.content.get("tokenFile")
    found = Credentials(
        server=cluster.content["server"].rstrip("/"),
        ca_file=_file_of(cluster, "certificate-authority"),
        ca_data=_data_of(cluster, "certificate-authority"),
        client_cert_file=_file_of(user, "client-certificate"),
        client_cert_data=_data_of(user, "client-certificate"),
        client_key_file=_file_of(user, "client-key"),
        client_key_data=_data_of(user, "client-key"),
        token=user.content.get("token"),
        token_file=user.file.parent / token_file if token_file else None,
    )
    plugin = user.content.get("exec")
    if plugin:
        said = exec_plugin.run(plugin, user.file.parent, cluster.content)
        found.token = said.get("token")
        found.client_cert_data = said.get("clientCertificateData")
        found.client_key_data = said.get("clientKeyData")
    return found


def _file_of(part: Part, key: str) -> str | None:
    # Data wins over a file, and files are named from where the kubeconfig is, as in kubectl.
    if part.content.get(f"{key}-data") or not part.content.get(key):
        return None
    return str(part.file.parent / part.content[key])


def _data_of(part: Part, key: str) -> str | None:
    data = part.content.get(f"{key}-data")
    return base64.b64decode(data, validate=True).decode("ascii") if data else None


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

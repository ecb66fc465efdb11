"""A kubeconfig is either understood completely or refused with what is wrong."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml

from sovereign_gpu.cluster.errors import ConfigurationError
from sovereign_gpu.cluster.session import Credentials, load_credentials

Write = Any


def packed(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(
        cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **more: Any
    ) -> str:
        config = {
            "current-context": "here",
            "contexts": [
                {"name": "other", "context": {"cluster": "none", "user": "none"}},
                {"name": "here", "context": {"cluster": "c", "user": "u"}},
            ],
            "clusters": [
                {"name": "c", "cluster": {"server": "https://h:6443/", **(cluster or {})}}
            ],
            "users": [{"name": "u", "user": user}],
            **more,
        }
        file = tmp_path / "kubeconfig"
        file.write_text(yaml.safe_dump(config))
        return str(file)

    return make


def test_certificates_may_be_data(write: Write) -> None:
    found = load_credentials(
        write(
            {"certificate-authority-data": packed("ca"), "extensions": [{"name": "minikube"}]},
            {"client-certificate-data": packed("cert"), "client-key-data": packed("key")},
        )
    )
    assert found == Credentials(
        server="https://h:6443", ca_data="ca", client_cert_data="cert", client_key_data="key"
    )


def test_files_are_named_from_where_the_kubeconfig_is(write: Write, tmp_path: Path) -> None:
    found = load_credentials(
        write(
            {"certificate-authority": "pki/ca.crt"},
            {"client-certificate": "/abs/c.crt", "client-key": "c.key", "tokenFile": "token"},
        )
    )
    assert found.ca_file == str(tmp_path / "pki/ca.crt")
    assert found.client_cert_file == "/abs/c.crt"
    assert found.client_key_file == str(tmp_path / "c.key")
    assert found.token_file == tmp_path / "token"


def test_data_wins_over_a_file(write: Write) -> None:
    found = load_credentials(
        write({"certificate-authority": "ca.crt", "certificate-authority-data": packed("ca")})
    )
    assert (found.ca_file, found.ca_data) == (None, "ca")


def test_a_user_may_have_a_token_or_nothing(write: Write) -> None:
    assert load_credentials(write(user={"token": "t"})).bearer() == "t"
    assert load_credentials(write()).bearer() is None


def test_the_file_in_the_environment_is_used(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", write(user={"token": "t"}))
    assert load_credentials().token == "t"  # noqa: S105


@pytest.mark.parametrize(
    ("cluster", "user", "named"),
    [
        ({}, {"exec": {"command": "aws"}}, "user says exec"),
        ({}, {"auth-provider": {"name": "gcp"}}, "user says auth-provider"),
        ({}, {"as": "system:admin", "token": "t"}, "user says as"),
        ({}, {"username": "u", "password": "p"}, "user says password, username"),
        ({"insecure-skip-tls-verify": True}, {}, "cluster says insecure-skip-tls-verify"),
        ({"proxy-url": "http://p"}, {}, "cluster says proxy-url"),
        ({"certificate-authority-data": "%%%"}, {}, "not usable"),
        ({"certificate-authority-data": packed("ü")}, {}, "not usable"),
        ({"server": None}, {}, "not usable"),
    ],
)
def test_what_we_would_have_to_ignore_is_refused(
    write: Write, cluster: dict[str, Any], user: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        load_credentials(write(cluster, user))


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"current-context": ""}, "current-context is not set"),
        ({"current-context": "gone"}, "contexts"),
        ({"clusters": []}, "clusters"),
        ({"users": None}, "not usable"),
    ],
)
def test_a_broken_kubeconfig_says_what_is_broken(
    write: Write, more: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        load_credentials(write(**more))


@pytest.mark.parametrize("text", ["", "[]", "a: [", "just words"])
def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="config"):
        load_credentials(str(file))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="none"):
        load_credentials(str(tmp_path / "none"))


class TestInAPod:
    """The service account, found through the environment every container has."""

    @pytest.mark.parametrize(
        ("host", "server"),
        [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")],
    )
    def test_is_used(self, monkeypatch: pytest.MonkeyPatch, host: str, server: str) -> None:
        monkeypatch.delenv("KUBECONFIG", raising=False)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
        found = load_credentials()
        assert found.server == server
        assert found.token_file is not None

    def test_nothing_at_all_says_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(ConfigurationError, match="--kubeconfig"):
            load_credentials()


class TestTls:
    """Certificates are checked when the operator starts, not with its first request."""

    def test_is_not_needed_for_plain_http(self) -> None:
        assert Credentials(server="http://h").ssl_context() is None

    def test_verifies_the_server(self) -> None:
        context = Credentials(server="https://h").ssl_context()
        assert context is not None
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname

    @pytest.mark.parametrize(
        "broken",
        [{"ca_file": "none"}, {"ca_data": "no pem"}, {"client_cert_data": "no pem"}],
    )
    def test_says_what_cannot_be_read(self, broken: dict[str, str]) -> None:
        with pytest.raises(ConfigurationError, match="certificates for https://h"):
            Credentials(server="https://h", **broken).ssl_context()

    def test_leaves_no_key_on_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: tuple[str, str]
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        certificate, key = pair
        Credentials(
            server="https://h", client_cert_data=certificate, client_key_data=key
        ).ssl_context()
        assert list(tmp_path.iterdir()) == []

    @pytest.fixture
    def pair(self) -> tuple[str, str]:
        from datetime import UTC, datetime, timedelta  # noqa: PLC0415

        from cryptography import x509  # noqa: PLC0415
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "me")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        return (
            certificate.public_bytes(serialization.Encoding.PEM).decode(),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ).decode(),
        )

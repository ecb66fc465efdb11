"""A certificate authority per rig, so that identities are real and never shared.

Users of Kubernetes are what their certificates say. Tests about rights mean something only
when every identity is its own certificate, checked by the API server as in production.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LIFETIME = dt.timedelta(days=365)
# Machines under test may disagree about the time by a little.
BACKDATE = dt.timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Paths of a certificate and its private key, both PEM."""

    certificate: Path
    key: Path


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read; readers see the old or the new content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    draft.replace(path)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _name(common_name: str, organizations: Sequence[str] = ()) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


class Authority:
    """The rig's certificate authority, kept in one directory and made on first use.

    Args:
        directory: where keys and certificates live; created with mode 0700.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.pair = KeyPair(directory / "ca.crt", directory / "ca.key")
        if not self.pair.certificate.exists():
            self._found()
        self._certificate = x509.load_pem_x509_certificate(self.pair.certificate.read_bytes())
        key = serialization.load_pem_private_key(self.pair.key.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self.pair.key}: an elliptic curve key was expected")
        self._key = key

    def _found(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("rig-ca")
        builder = (
            self._builder(name, name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
        )
        certificate = builder.sign(key, hashes.SHA256())
        write_private(self.pair.key, _key_pem(key))
        # Last, because its presence says that the authority is complete.
        write_private(self.pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))

    @staticmethod
    def _builder(
        subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + LIFETIME)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )

    def _issue(
        self,
        stem: str | Path,
        subject: x509.Name,
        extensions: Sequence[tuple[x509.ExtensionType, bool]],
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(subject, self._certificate.subject, key.public_key())
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        certificate = builder.sign(self._key, hashes.SHA256())
        pair = KeyPair(self._directory / f"{stem}.crt", self._directory / f"{stem}.key")
        write_private(pair.key, _key_pem(key))
        write_private(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        return pair

    def serving(self, stem: str = "serving") -> KeyPair:
        """Return a certificate for servers on loopback, which may also act as clients.

        etcd dials itself with the certificate it serves, hence both usages.
        """
        pair = KeyPair(self._directory / f"{stem}.crt", self._directory / f"{stem}.key")
        if pair.certificate.exists():
            return pair
        names = x509.SubjectAlternativeName(
            [
                x509.DNSName("localhost"),
                x509.DNSName("kubernetes.default.svc"),
                x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            ]
        )
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(
            stem,
            _name(f"rig-{stem}"),
            [(names, False), (x509.ExtendedKeyUsage(usages), False), (_key_usage(), True)],
        )

    def client(self, stem: str | Path, user: str, groups: Sequence[str] = ()) -> KeyPair:
        """Issue a client certificate; the API server takes user and groups from it.

        Args:
            stem: path without suffix; relative ones lie beside the CA.
            user: the user name (common name).
            groups: the user's groups (organizations).
        """
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return self._issue(stem, _name(user, groups), [(usage, False), (_key_usage(), True)])

    def token_signing_key(self) -> tuple[Path, Path]:
        """Return private and public key that sign service account tokens."""
        private, public = self._directory / "tokens.key", self._directory / "tokens.pub"
        if not public.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            write_private(private, _key_pem(key))
            spki = serialization.PublicFormat.SubjectPublicKeyInfo
            write_private(public, key.public_key().public_bytes(serialization.Encoding.PEM, spki))
        return private, public


def _key_usage(*, signs_certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )

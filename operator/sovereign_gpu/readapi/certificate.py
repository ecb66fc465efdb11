"""A certificate that lives and ends with the process.

The API server, through which people come, does not verify the certificate of a service it proxies
to; TLS is there so that tokens do not cross the pod network in the clear. So there is nothing to
rotate, to mount or to issue.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_NAME = "sovereign-gpu"
_LIFETIME = timedelta(days=3650)
"""Longer than any process; nobody checks it."""
_BACKDATE = timedelta(hours=1)
"""Clocks disagree."""


def server_context() -> ssl.SSLContext:
    """Return a context that serves TLS 1.2 or newer with a key made now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with _unwritten(pem) as path:
        context.load_cert_chain(path)
    return context


@contextlib.contextmanager
def _unwritten(content: bytes) -> Iterator[str]:
    # The ssl module reads keys from files only, and the container's file system is read-only.
    descriptor = os.memfd_create("certificate")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)

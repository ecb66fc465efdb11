"""Who speaks to the cluster: its administrator, and people who are service accounts."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import yaml

from rig.client import Client
from rig.pki import KeyPair, write_private

if TYPE_CHECKING:
    from pathlib import Path

TOKEN_SECONDS = 6 * 3600


def administrator(kubeconfig: Path) -> Client:
    """Return the client of a kubeconfig with one cluster and a client certificate."""
    body = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    cluster, user = body["clusters"][0]["cluster"], body["users"][0]["user"]
    files = {
        "ca.crt": cluster["certificate-authority-data"],
        "client.crt": user["client-certificate-data"],
        "client.key": user["client-key-data"],
    }
    for name, data in files.items():
        write_private(kubeconfig.parent / name, base64.b64decode(data))
    directory = kubeconfig.parent
    identity = KeyPair(directory / "client.crt", directory / "client.key")
    return Client(cluster["server"], directory / "ca.crt", identity)


def token(admin: Client, namespace: str, account: str) -> str:
    """Make a service account if there is none and return a token of it."""
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    admin.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": account, "namespace": namespace},
        }
    ).must()
    body = {"spec": {"expirationSeconds": TOKEN_SECONDS}}
    answer: dict[str, Any] = admin.create(f"{accounts}/{account}/token", body).must()
    return str(answer["status"]["token"])


def bearer(kubeconfig: Path, secret: str) -> Client:
    """Return a client of the same cluster that shows a token; call `administrator` first."""
    body = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    server = body["clusters"][0]["cluster"]["server"]
    return Client(server, kubeconfig.parent / "ca.crt", token=secret)


def write_kubeconfig(target: Path, kubeconfig: Path, secret: str) -> None:
    """Write a kubeconfig for the same cluster that shows a token."""
    body = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    user = body["users"][0]["name"]
    body["users"] = [{"name": user, "user": {"token": secret}}]
    write_private(target, yaml.safe_dump(body).encode())

"""Who exists on a rig and what each may do.

The people of a real cluster: an administrator, one user per tenant with nothing but the stock
`admin` role in the tenant's namespaces, an auditor who reads, and kubelets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rig.client import Client

PLATFORM_ADMIN = "platform-admin"
AUDITOR = "auditor"
BOOTSTRAP = "rig-bootstrap"
"""Sets up the rights of everybody else; a group the API server trusts without RBAC."""
KWOK = "rig-kwok"
TENANT_PREFIX = "tenant-"
KUBELET_PREFIX = "system:node:"

_RBAC = "rbac.authorization.k8s.io"
_GROUPS = {
    PLATFORM_ADMIN: ("platform-admins",),
    AUDITOR: ("auditors",),
    BOOTSTRAP: ("system:masters",),
}


def groups_of(user: str) -> tuple[str, ...]:
    """Return the groups that a user's certificate carries."""
    if user.startswith(KUBELET_PREFIX):
        return ("system:nodes",)
    if user.startswith(TENANT_PREFIX):
        return ("tenants",)
    return _GROUPS.get(user, ())


def grant_tenant(client: Client, user: str, namespaces: Iterable[str]) -> None:
    """Give a user the stock `admin` role in namespaces that exist, and nothing else.

    Args:
        client: somebody who may write RoleBindings.
        user: the tenant's user, by convention `tenant-<name>`.
        namespaces: names of the namespaces.
    """
    for namespace in namespaces:
        binding = {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": f"{user}-admin", "namespace": namespace},
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "admin"},
            "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": user}],
        }
        client.apply(binding).must()


def bootstrap(client: Client) -> None:
    """Write the rights of the people and of KWOK into a new API server."""
    _kwok_role(client)
    for name, role, kind, subject in (
        ("platform-admins", "cluster-admin", "Group", "platform-admins"),
        ("auditors", "view", "Group", "auditors"),
        (KWOK, KWOK, "User", KWOK),
    ):
        binding = {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"rig:{name}"},
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": _RBAC, "kind": kind, "name": subject}],
        }
        client.apply(binding).must()


def _kwok_role(client: Client) -> None:
    """KWOK plays all kubelets; it gets what they need and no more.

    With the rights of an administrator it would slip through admission policies that ask the
    authorizer, and tests would pass that should not.
    """
    rules = [
        _rule("", ["nodes", "pods"], ["get", "list", "watch", "update", "patch", "delete"]),
        _rule("", ["nodes/status", "pods/status"], ["update", "patch"]),
        _rule("", ["events"], ["create", "patch", "update"]),
        _rule(
            "coordination.k8s.io", ["leases"], ["get", "list", "watch", "create", "update", "patch"]
        ),
    ]
    role = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": KWOK},
        "rules": rules,
    }
    client.apply(role).must()


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str]) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}

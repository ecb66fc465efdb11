"""The operator may do what the list says, and the API server agrees."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chart.conftest import NAMESPACE

if TYPE_CHECKING:
    from rig.client import Client
    from rig.control_plane import Rig

LIST = Path(__file__).parent / "operator-rights.txt"
PLACES = (NAMESPACE, "default", "kube-system")


def written() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), set())
        elif line and not line.startswith("#"):
            section.add(line)
    return found


def flat(rules: list[dict[str, Any]]) -> set[str]:
    return {
        f"{verb} {group + '/' if group else ''}{resource} {name}"
        for rule in rules
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", ["*"])
    }


def rights(client: Client, namespace: str) -> set[str]:
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    status = client.create(path, body).must()["status"]
    assert not status["incomplete"]
    return flat(status["resourceRules"])


def test_the_operator_may_do_what_is_written_and_nothing_else(
    installed: Client, cluster: Rig
) -> None:
    installed.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "nobody", "namespace": NAMESPACE},
        }
    ).must()
    operator = cluster.service_account_client(NAMESPACE, "sovereign-gpu")
    nobody = cluster.service_account_client(NAMESPACE, "nobody")
    wanted = written()
    for place in PLACES:
        own = rights(operator, place) - rights(nobody, place)
        assert own == wanted["everywhere"] | wanted.get(place, set()), place


def test_the_operator_can_neither_enrol_nor_bind_nor_read_secrets(
    installed: Client, cluster: Rig
) -> None:
    assert installed
    operator = cluster.service_account_client(NAMESPACE, "sovereign-gpu")
    for path in (
        "/api/v1/secrets",
        f"/api/v1/namespaces/{NAMESPACE}/secrets",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    ):
        assert operator.get(path).status == 403
    binding = {"metadata": {"name": "x"}, "target": {"kind": "Node", "name": "x"}}
    assert operator.create("/api/v1/namespaces/default/pods/x/binding", binding).status == 403
    assert operator.delete("/api/v1/namespaces/default/pods/x").status == 403

"""The chart opens one port of one service, to whom the values name, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sovereign_gpu import names
from tests.chart.conftest import CHART

if TYPE_CHECKING:
    from tests.chart.conftest import Helm

REVIEWS = {"tokenreviews", "subjectaccessreviews"}


def named(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    return next(
        each for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )


def container(documents: list[dict[str, Any]]) -> dict[str, Any]:
    pod = named(documents, "Deployment", "sovereign-gpu")["spec"]["template"]["spec"]
    found: dict[str, Any] = pod["containers"][0]
    return found


def resources(documents: list[dict[str, Any]]) -> set[str]:
    rules = named(documents, "ClusterRole", "sovereign-gpu")["rules"]
    return {resource for rule in rules for resource in rule["resources"]}


def test_the_role_names_one_port_of_one_service(helm: Helm) -> None:
    documents = helm.template()
    role = named(documents, "Role", "sovereign-gpu-read")
    assert role["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["services/proxy"],
            "resourceNames": [f"https:sovereign-gpu:{names.READ_PORT}"],
            "verbs": ["get"],
        }
    ]
    binding = named(documents, "RoleBinding", "sovereign-gpu-read")
    assert [each["name"] for each in binding["subjects"]] == ["system:authenticated"]
    ports = named(documents, "Service", "sovereign-gpu")["spec"]["ports"]
    assert {each["name"]: each["targetPort"] for each in ports} == {"http": "http", "read": "read"}
    assert resources(documents) >= REVIEWS


def test_port_and_people_can_be_others(helm: Helm) -> None:
    subject = '[{"kind":"Group","name":"tenants","apiGroup":"rbac.authorization.k8s.io"}]'
    documents = helm.template(
        "--set", "readApi.port=9443", "--set-json", f"readApi.subjects={subject}"
    )
    binding = named(documents, "RoleBinding", "sovereign-gpu-read")
    assert [each["name"] for each in binding["subjects"]] == ["tenants"]
    told = {each["name"]: each.get("value") for each in container(documents)["env"]}
    assert told["SOVEREIGN_GPU_READ_API"] == "0.0.0.0:9443"
    assert {"name": "read", "containerPort": 9443} in container(documents)["ports"]


def test_without_it_nothing_listens_and_nothing_is_allowed(helm: Helm) -> None:
    documents = helm.template("--set", "readApi.enabled=false")
    assert "sovereign-gpu-read" not in {each["metadata"]["name"] for each in documents}
    assert [each["name"] for each in container(documents)["ports"]] == ["http"]
    assert "SOVEREIGN_GPU_READ_API" not in {each["name"] for each in container(documents)["env"]}
    assert not resources(documents) & REVIEWS


def test_the_container_runs_the_operator_and_not_a_command(helm: Helm) -> None:
    assert container(helm.template())["args"] == ["operator"]
    more = container(helm.template("--set-json", 'operator.args=["--log-level=debug"]'))
    assert more["args"] == ["operator", "--log-level=debug"]


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("readApi.port=80", "port"),
        ("readApi.subjects=[]", "subjects"),
        ('readApi.subjects=[{"kind":"Role","name":"x"}]', "kind"),
        ('readApi.subjects=[{"kind":"Group"}]', "name"),
        ("readApi.open=true", "open"),
    ],
)
def test_values_of_it_that_mean_nothing_are_refused(helm: Helm, setting: str, name: str) -> None:
    done = helm.run("template", "x", str(CHART), "--set-json", setting)
    assert done.returncode != 0
    assert name in done.stderr

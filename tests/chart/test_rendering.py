"""What the chart renders, without a cluster."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sovereign_gpu.admission import render
from sovereign_gpu.admission.catalogue import CATALOGUE
from sovereign_gpu.admission.manifests import manifests
from sovereign_gpu.admission.settings import Settings
from tests.chart.conftest import CHART, NAMESPACE

if TYPE_CHECKING:
    from tests.chart.conftest import Helm

ADMISSION = "admissionregistration.k8s.io/v1"
OTHER = {
    "admission.exemptNamespaces": '["kube-system","infra"]',
    "admission.exemptServiceAccounts": '["ci:imager"]',
    "admission.schedulerUsers": '["system:kube-scheduler","kai"]',
    "admission.knownResources": '["rdma/hca"]',
    "admission.allowedHostPaths": '["/raid"]',
}
OTHER_SETTINGS = Settings(
    namespace=NAMESPACE,
    service_account="other",
    exempt_namespaces=("kube-system", "infra"),
    exempt_service_accounts=("ci:imager",),
    scheduler_users=("system:kube-scheduler", "kai"),
    known_resources=("rdma/hca",),
    allowed_host_paths=("/raid",),
    gpu_taint="example.com/gpu",
)


def policies(documents: list[dict[str, Any]]) -> dict[tuple[str, str], Any]:
    return {
        (each["kind"], each["metadata"]["name"]): each["spec"]
        for each in documents
        if each["apiVersion"] == ADMISSION
    }


def one(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(each for each in documents if each["kind"] == kind)


def test_lint_finds_nothing(helm: Helm) -> None:
    helm.must("lint", "--strict", str(CHART))


def test_rendering_twice_gives_the_same(helm: Helm) -> None:
    assert helm.must("template", "x", str(CHART)) == helm.must("template", "x", str(CHART))


def test_the_chart_holds_the_policies_of_the_catalogue(helm: Helm) -> None:
    assert policies(helm.template()) == policies(manifests(Settings(namespace=NAMESPACE)))


def test_values_become_literals_of_the_policies(helm: Helm) -> None:
    values = [part for key, value in OTHER.items() for part in ("--set-json", f"{key}={value}")]
    named = ("--set", "serviceAccount.name=other", "--set", "admission.gpuTaint=example.com/gpu")
    assert policies(helm.template(*values, *named)) == policies(manifests(OTHER_SETTINGS))


def test_default_settings_are_the_default_values() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    admission, defaults = values["admission"], Settings()
    assert tuple(admission["exemptNamespaces"]) == defaults.exempt_namespaces
    assert tuple(admission["schedulerUsers"]) == defaults.scheduler_users
    assert admission["gpuTaint"] == defaults.gpu_taint
    assert values["serviceAccount"]["name"] == defaults.service_account


FENCE = "sovereign-gpu-fence"
LOOKED_AT_ONCE = {
    FENCE,
    "sovereign-gpu-node",
    "sovereign-gpu-pod-contents",
    "sovereign-gpu-pod-contents-warning",
    "sovereign-gpu-pod-status",
}
"""Policies on status writes, of which nearly all are of no concern."""


def test_every_policy_fails_closed(helm: Helm) -> None:
    for (kind, name), spec in policies(helm.template()).items():
        if not kind.endswith("Binding"):
            assert spec["failurePolicy"] == "Fail", name
            # An error in a condition is a denial as well. Where there is one, the attacks of the
            # policy show that it skips nothing that a rule would refuse.
            assert not spec.get("matchConditions") or name in LOOKED_AT_ONCE, name
            assert "objectSelector" not in spec["matchConstraints"], name
            assert ("paramKind" in spec) == (name == FENCE), name


def test_generated_files_are_what_the_generator_writes() -> None:
    assert render.drift() == []


def test_a_generated_file_that_was_edited_is_named(tmp_path: Path) -> None:
    (tmp_path / "crds").mkdir()
    assert render.main(["--root", str(tmp_path)]) == 0
    assert render.main(["--root", str(tmp_path), "--check"]) == 0
    folder = tmp_path / "charts" / "sovereign-gpu" / "templates" / "admission"
    (folder / "node.yaml").write_text("edited", encoding="utf-8")
    (folder / "stray.yaml").write_text("stray", encoding="utf-8")
    assert [Path(name).name for name in render.drift(tmp_path)] == ["node.yaml", "stray.yaml"]
    assert render.main(["--root", str(tmp_path), "--check"]) == 1
    assert render.main(["--root", str(tmp_path)]) == 0
    assert render.drift(tmp_path) == []


def test_an_expression_that_helm_would_evaluate_is_refused() -> None:
    policy = CATALOGUE[-1]
    rule = dataclasses.replace(policy.validations[0], expression='{{"a": "b"}: "c"}.size() == 1')
    with pytest.raises(ValueError, match="which helm would evaluate"):
        render.policy_template(dataclasses.replace(policy, validations=(rule,)))


@pytest.mark.parametrize(
    "definition",
    ["kind: X", "kind: X\nmetadata:\n  annotations: {}\nspec: {}", "\nmetadata:\n  name: {{ x }}"],
)
def test_a_definition_of_another_shape_is_refused(definition: str) -> None:
    with pytest.raises(ValueError, match="cannot be made a template"):
        render.crd_template(definition)


def test_every_rule_has_a_line_on_the_page_for_readers() -> None:
    page = render.rules_page()
    for policy in CATALOGUE:
        for rule in policy.validations:
            assert f"| `{rule.name}` | {rule.allowed.strip()}" in page


def test_definitions_are_kept_and_can_be_left_out(helm: Helm) -> None:
    kept = one(helm.template(), "CustomResourceDefinition")["metadata"]["annotations"]
    assert kept == {"helm.sh/resource-policy": "keep"}
    lost = one(helm.template("--set", "crds.keep=false"), "CustomResourceDefinition")
    assert "annotations" not in lost["metadata"]
    kinds = {each["kind"] for each in helm.template("--set", "crds.enabled=false")}
    assert "CustomResourceDefinition" not in kinds


def test_the_operator_runs_restricted_and_twice(helm: Helm) -> None:
    spec = one(helm.template(), "Deployment")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["labelSelector"] == spec["selector"]
    budget = one(helm.template(), "PodDisruptionBudget")["spec"]
    assert budget == {"minAvailable": 1, "selector": spec["selector"]}
    alone = helm.template("--set", "replicas=1")
    # It would keep the last node from being drained for ever.
    assert not [each for each in alone if each["kind"] == "PodDisruptionBudget"]
    pod = spec["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = pod["containers"][0]["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_an_image_is_named_by_tag_or_by_digest(helm: Helm) -> None:
    def image(*arguments: str) -> str:
        pod = one(helm.template(*arguments), "Deployment")["spec"]["template"]["spec"]
        return str(pod["containers"][0]["image"])

    digest = "sha256:" + "0" * 64
    assert image() == "sovereign-gpu:0.1.0"
    assert image("--set", "image.tag=main") == "sovereign-gpu:main"
    assert image("--set", f"image.digest={digest}") == f"sovereign-gpu@{digest}"


def test_the_rules_are_those_of_the_file(helm: Helm) -> None:
    assert not [each for each in helm.template() if each["kind"] == "PrometheusRule"]
    labels = "prometheusRule.labels.release=monitoring"
    found = helm.template("--set", "prometheusRule.enabled=true", "--set", labels)
    rule = one(found, "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "monitoring"
    text = (CHART / "rules" / "alerts.yaml").read_text("utf-8")
    assert rule["spec"] == yaml.safe_load(text)


def test_without_a_level_of_its_own_the_operator_queues_with_others(helm: Helm) -> None:
    kinds = {"FlowSchema", "PriorityLevelConfiguration"}
    assert kinds <= {each["kind"] for each in helm.template()}
    left = helm.template("--set", "flowControl.enabled=false")
    assert not kinds & {each["kind"] for each in left}


def test_priority_classes_never_preempt(helm: Helm) -> None:
    every = [each for each in helm.template() if each["kind"] == "PriorityClass"]
    ours = "sovereign-gpu-operator"
    classes = [each for each in every if each["metadata"]["name"] != ours]
    assert {each["metadata"]["name"]: each["value"] for each in classes} == {
        "sovereign-gpu-high": 1000,
        "sovereign-gpu-normal": 100,
        "sovereign-gpu-low": -100,
    }
    assert {each["preemptionPolicy"] for each in classes} == {"Never"}
    assert (
        one(helm.template(), "Deployment")["spec"]["template"]["spec"]["priorityClassName"] == ours
    )
    without = helm.template("--set", "priorityClasses.enabled=false")
    assert "priorityClassName" not in one(without, "Deployment")["spec"]["template"]["spec"]


def test_an_older_cluster_is_refused(helm: Helm) -> None:
    done = helm.run("template", "x", str(CHART), "--kube-version", "1.35.9")
    assert done.returncode != 0
    assert "requires kubeVersion: >=1.36.0-0" in done.stderr


def test_a_cluster_without_mutating_policies_is_refused(helm: Helm) -> None:
    done = helm.run("template", "x", str(CHART), "--api-versions", "v1/Pod")
    assert done.returncode != 0
    assert "needs admissionregistration.k8s.io/v1 MutatingAdmissionPolicy" in done.stderr


def test_an_exempt_namespace_of_its_own_is_refused(helm: Helm) -> None:
    done = helm.run("template", "x", str(CHART), "--namespace", "kube-system")
    assert done.returncode != 0
    assert "exempt namespace kube-system" in done.stderr


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("typo=1", "typo"),
        ("image.tags=1", "tags"),
        ("replicas=6", "replicas"),
        ("image.digest=sha1:00", "digest"),
        ("operator.port=80", "port"),
        ('admission.exemptNamespaces=["infra"]', "exemptNamespaces"),
        ('admission.exemptNamespaces=["kube-system","*"]', "exemptNamespaces"),
        ('admission.exemptServiceAccounts=["imager"]', "exemptServiceAccounts"),
        ('admission.schedulerUsers=["a\\"b"]', "schedulerUsers"),
        ("admission.schedulerUsers=[]", "schedulerUsers"),
        ('admission.allowedHostPaths=["/dev/shm"]', "allowedHostPaths"),
        ('admission.allowedHostPaths=["/"]', "allowedHostPaths"),
        ('admission.allowedHostPaths=["/a/../dev"]', "allowedHostPaths"),
        ("priorityClasses.high=2000000000", "high"),
        ("crds.keep=1", "keep"),
    ],
)
def test_values_that_mean_nothing_are_refused(helm: Helm, setting: str, named: str) -> None:
    key, _, value = setting.partition("=")
    value = value if value[:1] in "[0123456789" else f'"{value}"'
    done = helm.run("template", "x", str(CHART), "--set-json", f"{key}={value}")
    assert done.returncode != 0
    assert named in done.stderr

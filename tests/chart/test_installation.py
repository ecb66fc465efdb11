"""The chart on a real API server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rig.client import wait_for
from sovereign_gpu.admission.catalogue import CATALOGUE
from tests.chart.conftest import CHART, NAMESPACE

if TYPE_CHECKING:
    from rig.client import Client
    from rig.control_plane import Rig
    from tests.chart.conftest import Helm

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
PODS = "/api/v1/namespaces/default/pods"


def gpu_pod() -> dict[str, Any]:
    limits = {"limits": {"nvidia.com/gpu": "1"}}
    container = {"name": "main", "image": "registry.invalid/app:1", "resources": limits}
    return {"metadata": {"name": "probe"}, "spec": {"containers": [container]}}


def test_policies_are_in_force_while_the_operator_does_not_run(installed: Client) -> None:
    def refused() -> bool:
        answer = installed.create(PODS, gpu_pod(), dryRun="All")
        return "gpu-needs-tenant: found " in answer.message

    wait_for(refused, 30, "the policies to be in force")


def test_the_type_checker_of_the_api_server_has_no_remarks(installed: Client) -> None:
    for policy in CATALOGUE:
        if not policy.mutating:
            body = installed.wait(
                f"{ADMISSION}/validatingadmissionpolicies/{policy.name}",
                lambda body: body["status"]["observedGeneration"] == body["metadata"]["generation"],
            )
            assert body["status"]["typeChecking"] == {}, policy.name


def test_the_operator_has_a_level_of_its_own_and_renews_its_lease_on_another(
    installed: Client, cluster: Rig
) -> None:
    operator = cluster.service_account_client(NAMESPACE, "sovereign-gpu")
    flows = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"
    for path, schema in (
        ("/api/v1/pods", "sovereign-gpu"),
        (f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/x", "sovereign-gpu-lease"),
    ):
        uid = installed.get(f"{flows}/{schema}").must()["metadata"]["uid"]

        def answered_by(path: str = path, uid: str = uid) -> bool:
            headers = operator.get(path, limit="1").headers
            return bool(headers["X-Kubernetes-PF-FlowSchema-UID"] == uid)

        wait_for(answered_by, 30, f"{path} to be answered on {schema}")


def test_the_operator_pod_passes_its_own_policies(installed: Client) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    installed.wait(path, lambda body: len(body["items"]) == 2)


def test_the_operator_pod_is_restricted_enough_for_the_strictest_standard(
    installed: Client,
) -> None:
    strictest = {"pod-security.kubernetes.io/enforce": "restricted"}
    installed.patch(f"/api/v1/namespaces/{NAMESPACE}", {"metadata": {"labels": strictest}}).must()
    template = installed.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/sovereign-gpu")
    spec = template.must()["spec"]["template"]["spec"]
    body = {"metadata": {"name": "probe"}, "spec": spec}
    installed.create(f"/api/v1/namespaces/{NAMESPACE}/pods", body, dryRun="All").must()


def test_an_upgrade_changes_definitions_and_policies(installed: Client, installer: Helm) -> None:
    path = f"{ADMISSION}/validatingadmissionpolicybindings/sovereign-gpu-pod-create"
    installer.must(
        *("upgrade", "sovereign-gpu", str(CHART), "--namespace", NAMESPACE),
        *("--set-json", 'admission.exemptNamespaces=["kube-system","infra"]'),
    )
    selector = installed.get(path).must()["spec"]["matchResources"]["namespaceSelector"]
    assert selector["matchExpressions"][0]["values"] == ["kube-system", "infra"]


def test_definitions_stay_when_the_chart_goes(installed: Client, installer: Helm) -> None:
    installer.must("uninstall", "sovereign-gpu", "--namespace", NAMESPACE, "--wait")
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert len(installed.get(definitions).must()["items"]) == 3
    for kind in ("validatingadmissionpolicies", "mutatingadmissionpolicies"):
        assert installed.get(f"{ADMISSION}/{kind}").must()["items"] == []
    installer.must("install", "sovereign-gpu", str(CHART), "--namespace", NAMESPACE)

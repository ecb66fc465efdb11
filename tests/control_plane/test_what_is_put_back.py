"""Marks are put right by the operator; policies by a process of their own, where it is wanted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rig import product, users
from rig.client import wait_for
from rig.control_plane import Rig
from sovereign_gpu import names
from sovereign_gpu.controller.guards import PLURALS
from tests.control_plane.cluster import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rig.client import Client

TREE = Path(__file__).parents[2]
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
SECONDS = 10.0


def events(site: Site, name: str) -> list[Any]:
    path = "/api/v1/namespaces/default/events"
    found = site.admin.get(path, fieldSelector=f"involvedObject.name={name}").must()
    return [each for each in found["items"] if each["reason"] == "MarksChanged"]


def test_a_mark_that_somebody_moved_is_put_right_and_told(site: Site) -> None:
    pool, policy = site.pool(), site.policy()
    tenant = site.tenant("acme", {pool: 8}, [policy])
    space, node = f"/api/v1/namespaces/{tenant.namespace}", f"/api/v1/nodes/{site.nodes[0]}"
    label = names.NODE_RESIDENCY_PREFIX + policy
    site.admin.wait(node, lambda found: label in found["metadata"]["labels"])
    before = sum(site.cluster.series("marks_moved_total"))
    # An administrator with every right; nobody else may.
    wide = {"metadata": {"annotations": {names.REGIONS: "us-east"}}}
    site.admin.patch(space, wide).must()
    site.admin.wait(
        space, lambda found: found["metadata"]["annotations"][names.REGIONS] == site.region, SECONDS
    )
    site.admin.patch(node, {"metadata": {"labels": {label: None}}}).must()
    site.admin.wait(node, lambda found: label in found["metadata"]["labels"], SECONDS)
    for name in (tenant.namespace, site.nodes[0]):
        wait_for(lambda name=name: events(site, name), SECONDS, f"an event about {name}")
    assert sum(site.cluster.series("marks_moved_total")) == before + 2


def test_what_the_operator_itself_changes_is_no_alarm(site: Site) -> None:
    pool, policy = site.pool(), site.policy()
    tenant = site.tenant("acme", {pool: 8}, [policy])
    before = sum(site.cluster.series("marks_moved_total"))
    site.put("DataResidencyPolicy", policy, {"countries": {"include": ["FR"]}})
    space = f"/api/v1/namespaces/{tenant.namespace}"
    site.admin.wait(space, lambda found: found["metadata"]["annotations"][names.REGIONS] == "")
    assert sum(site.cluster.series("marks_moved_total")) == before


# --- policies ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A control plane with the chart and the process that keeps its policies."""
    root = tmp_path_factory.mktemp("guarded")
    profile = os.environ.get("SOVEREIGN_GPU_PROFILE", "1.36")
    with Rig("guarded", root, profile, kwok=False) as rig:
        product.install(rig, ["guard.repair=true", "guard.replicas=0"])
        admin = rig.client(users.PLATFORM_ADMIN)
        path = f"/apis/apps/v1/namespaces/{product.NAMESPACE}/deployments/sovereign-gpu-guard"
        (container,) = admin.get(path).must()["spec"]["template"]["spec"]["containers"]
        told = {each["name"]: each["value"] for each in container["env"]}
        account = rig.service_account_kubeconfig(product.NAMESPACE, "sovereign-gpu-guard")
        with (root / "guard.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - the product's own command
                [sys.executable, "-m", "sovereign_gpu", *container["args"]],
                env=os.environ
                | told
                | {
                    "PYTHONPATH": str(TREE / "operator"),
                    "SOVEREIGN_GPU_KUBECONFIG": str(account),
                },
                stdout=log,
                stderr=log,
            )
        yield admin
        process.terminate()
        assert process.wait(20) == 0


def path_of(kind: str, name: str) -> str:
    return f"{ADMISSION}/{PLURALS[kind]}/{name}"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("ValidatingAdmissionPolicy", "sovereign-gpu-pod-create"),
        ("ValidatingAdmissionPolicyBinding", "sovereign-gpu-binding"),
        ("MutatingAdmissionPolicy", "sovereign-gpu-pod-patch"),
        ("MutatingAdmissionPolicyBinding", "sovereign-gpu-pod-patch"),
    ],
)
def test_what_was_removed_or_weakened_is_put_back(guarded: Client, kind: str, name: str) -> None:
    path = path_of(kind, name)
    body = guarded.get(path).must()
    spec = body["spec"]
    if kind.endswith("Binding"):
        nowhere = {"namespaceSelector": {"matchLabels": {"no": "namespace"}}}
        body["spec"] = spec | {"matchResources": nowhere}
    else:
        never = [{"name": "never", "expression": "false"}]
        body["spec"] = spec | {"failurePolicy": "Ignore", "matchConditions": never}
    guarded.replace(path, body).must()
    # The first time, also until it has seen everything.
    before = guarded.wait(path, lambda found: found["spec"] == spec, 30.0)
    guarded.delete(path).must()
    after = guarded.wait(
        path, lambda found: found["metadata"]["uid"] != before["metadata"]["uid"], SECONDS
    )
    assert after["spec"] == spec
    # Helm has to know its own again.
    for part in ("labels", "annotations"):
        assert after["metadata"].get(part) == before["metadata"].get(part)


def test_the_guard_may_write_these_policies_and_nothing_else(guarded: Client) -> None:
    for verb, resource, name, allowed in (
        ("update", "validatingadmissionpolicies", "sovereign-gpu-binding", True),
        ("update", "validatingadmissionpolicies", "theirs", False),
        ("delete", "validatingadmissionpolicies", "sovereign-gpu-binding", False),
        ("create", "mutatingadmissionpolicies", "theirs", False),
        ("update", "validatingwebhookconfigurations", "sovereign-gpu-binding", False),
    ):
        attributes = {
            "group": "admissionregistration.k8s.io",
            "verb": verb,
            "resource": resource,
            "name": name,
        }
        user = f"system:serviceaccount:{product.NAMESPACE}:sovereign-gpu-guard"
        review = {"spec": {"user": user, "resourceAttributes": attributes}}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        status = guarded.create(path, review).must()["status"]
        assert status["allowed"] is allowed, json.dumps(attributes)

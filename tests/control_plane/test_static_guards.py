"""Policies in files of the API server: not even cluster-admin removes ours through the API."""

from __future__ import annotations

import copy
import io
import os
from typing import TYPE_CHECKING, Any

import pytest

from rig import product, users
from rig.client import wait_for
from rig.control_plane import Rig
from sovereign_gpu import names
from sovereign_gpu.cli.command import main
from sovereign_gpu.controller.guards import PLURALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rig.client import Client, Response

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MAINTAINER = "system:serviceaccount:flux-system:helm-controller"
BINDING = f"{ADMISSION}/validatingadmissionpolicybindings/sovereign-gpu-binding"
POLICY = f"{ADMISSION}/validatingadmissionpolicies/sovereign-gpu-binding"
PATCHES = f"{ADMISSION}/mutatingadmissionpolicies/sovereign-gpu-pod-patch"
KIND = f"{DEFINITIONS}/gpupools.{names.GROUP}"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A control plane that reads what `render-static` wrote, with the chart on it."""
    root = tmp_path_factory.mktemp("static")
    words = ("--out", str(root), "--directory", str(root / "policies"))
    said = io.StringIO()
    assert main(["render-static", *words, "--maintainer", MAINTAINER], said, said) == 0
    profile = os.environ.get("SOVEREIGN_GPU_PROFILE", "1.36")
    configuration = root / "admission-configuration.yaml"
    with Rig("static", root / "rig", profile, kwok=False, admission=configuration) as made:
        product.install(made)
        yield made


@pytest.fixture
def admin(rig: Rig) -> Client:
    """Holds every right of the API."""
    return rig.client(users.PLATFORM_ADMIN)


@pytest.fixture
def maintainer(rig: Rig) -> Client:
    """As the administrator, under the name that the file has."""
    return rig.client(MAINTAINER, groups=["platform-admins"])


def _emptied(path: str) -> Callable[[Client], Response]:
    def act(client: Client) -> Response:
        body: Any = copy.deepcopy(client.get(path).must())
        body["spec"]["failurePolicy"] = "Ignore"
        return client.replace(path, body, dryRun="All")

    return act


WAYS: dict[str, Callable[[Client], Response]] = {
    "a-binding-deleted": lambda client: client.delete(BINDING, dryRun="All"),
    "a-policy-deleted": lambda client: client.delete(POLICY, dryRun="All"),
    "a-mutating-policy-deleted": lambda client: client.delete(PATCHES, dryRun="All"),
    "all-bindings-deleted-at-once": lambda client: client.delete(
        BINDING.rpartition("/")[0], dryRun="All"
    ),
    "a-binding-that-only-audits": lambda client: client.patch(
        BINDING, {"spec": {"validationActions": ["Audit"]}}, dryRun="All"
    ),
    "a-binding-for-no-namespace": lambda client: client.patch(
        BINDING,
        {"spec": {"matchResources": {"namespaceSelector": {"matchLabels": {"no": "one"}}}}},
        dryRun="All",
    ),
    "a-policy-that-ignores-errors": _emptied(POLICY),
    "a-mutating-policy-that-ignores-errors": _emptied(PATCHES),
    "a-definition-deleted": lambda client: client.delete(KIND, dryRun="All"),
    "a-definition-relabelled": lambda client: client.patch(
        KIND, {"metadata": {"labels": {"x": "y"}}}, dryRun="All"
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_who_holds_every_right_is_refused(admin: Client, way: str) -> None:
    answer = WAYS[way](admin)
    assert answer.status == 403, answer.body
    rule = "guard-definition" if "definition" in way else "guard-policy"
    assert f"{rule}: found " in answer.message
    assert f"{users.PLATFORM_ADMIN}; allowed: " in answer.message
    assert MAINTAINER in answer.message


@pytest.mark.parametrize("way", WAYS)
def test_the_maintainer_of_the_file_may(maintainer: Client, way: str) -> None:
    WAYS[way](maintainer).must()


def test_what_guards_is_not_in_the_api(admin: Client) -> None:
    for plural in PLURALS.values():
        found = admin.get(f"{ADMISSION}/{plural}").must()["items"]
        assert not [each for each in found if each["metadata"]["name"].endswith(".static.k8s.io")]


def test_everybody_else_s_policies_and_definitions_are_theirs(admin: Client) -> None:
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "theirs"},
        "spec": {"policyName": "theirs", "validationActions": ["Deny"]},
    }
    admin.apply(body).must()
    path = f"{ADMISSION}/validatingadmissionpolicybindings/theirs"
    admin.patch(path, {"metadata": {"labels": {"x": "y"}}}).must()
    admin.delete(path).must()


def test_the_policies_go_on_working(admin: Client) -> None:
    path = "/api/v1/namespaces/default/pods"
    body = {
        "metadata": {"name": "x"},
        "spec": {
            "containers": [
                {"name": "x", "image": "x", "resources": {"limits": {"nvidia.com/gpu": 1}}}
            ]
        },
    }
    refused = admin.create(path, body, dryRun="All")
    assert "gpu-needs-tenant: found" in refused.message
    found = admin.get(KIND).must()["status"]["conditions"]
    assert {"Established", "NamesAccepted"} <= {c["type"] for c in found if c["status"] == "True"}


def test_a_maintainer_more_is_a_line_in_the_file(rig: Rig, admin: Client) -> None:
    said = io.StringIO()
    words = ("--out", str(rig.root.parent), "--directory", str(rig.root.parent / "policies"))
    names_ = ("--maintainer", MAINTAINER, "--maintainer", users.PLATFORM_ADMIN)
    assert main(["render-static", *words, *names_], said, said) == 0
    wait_for(lambda: admin.delete(BINDING, dryRun="All").ok, 90, "the file to be read again")

"""What enforces is removed, weakened and put back: the operator says so within seconds."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

import pytest

from rig.client import wait_for
from sovereign_gpu import names
from sovereign_gpu.controller.guards import PLURALS
from tests.control_plane.cluster import POLICIES, Site, conditions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SECONDS = 10.0
"""From the change to the alarm."""

Change = "Callable[[dict[str, Any]], None]"


@pytest.fixture
def tamper(site: Site) -> Iterator[Callable[[str, Callable[[Any], None] | None], float]]:
    """Change an object, or delete it; all are as they were after the test."""
    before: dict[str, Any] = {}

    def act(path: str, change: Callable[[Any], None] | None) -> float:
        found = before.setdefault(path, site.admin.get(path).must())
        began = time.monotonic()
        if change is None:
            site.admin.delete(path).must()
        else:
            body = copy.deepcopy(found)
            change(body)
            site.admin.replace(path, body).must()
        return began

    yield act
    for path, body in before.items():
        now = site.admin.get(path)
        body["metadata"].pop("uid")
        if now.ok:
            body["metadata"]["resourceVersion"] = now.body["metadata"]["resourceVersion"]
            site.admin.replace(path, body).must()
        else:
            body["metadata"].pop("resourceVersion")
            site.admin.create(path.rpartition("/")[0], body).must()
    wait_for(lambda: not faults(site), SECONDS, "everything to be as it was installed")


def faults(site: Site) -> set[tuple[str, str]]:
    found = site.cluster.operator.metrics().splitlines()
    rows = [line for line in found if line.startswith("sovereign_gpu_guard_faults{")]
    return {
        (line.split('name="')[1].split('"')[0], line.split('fault="')[1].split('"')[0])
        for line in rows
    }


def seconds_until(site: Site, began: float, *fault: str) -> float:
    wait_for(lambda: fault in faults(site), SECONDS, f"the alarm {fault}")
    return time.monotonic() - began


def path_of(kind: str, name: str) -> str:
    return f"{ADMISSION}/{PLURALS[kind]}/{name}"


def _validations(body: Any) -> None:
    del body["spec"]["validations"][0]


def _expression(body: Any) -> None:
    body["spec"]["validations"][-1]["expression"] = "true"


def _warn(body: Any) -> None:
    body["spec"]["validationActions"] = ["Warn"]


def _ignore(body: Any) -> None:
    body["spec"]["failurePolicy"] = "Ignore"


def _condition(body: Any) -> None:
    body["spec"]["matchConditions"] = [{"name": "never", "expression": "false"}]


def _exempt(body: Any) -> None:
    selector = body["spec"]["matchResources"]["namespaceSelector"]
    selector["matchExpressions"][0]["values"].append("default")


def _unread(body: Any) -> None:
    body["spec"]["matchConstraints"]["resourceRules"][0]["operations"] = ["UPDATE"]


CHANGES = {
    "a-rule-less": ("ValidatingAdmissionPolicy", "sovereign-gpu-binding", _validations),
    "a-rule-that-always-holds": ("ValidatingAdmissionPolicy", "sovereign-gpu-binding", _expression),
    "a-rule-that-only-warns": ("ValidatingAdmissionPolicyBinding", "sovereign-gpu-node", _warn),
    "errors-that-pass": ("ValidatingAdmissionPolicy", "sovereign-gpu-namespace", _ignore),
    "a-condition-that-never-holds": (
        "ValidatingAdmissionPolicy",
        "sovereign-gpu-pod-create",
        _condition,
    ),
    "a-namespace-more-exempt": (
        "MutatingAdmissionPolicyBinding",
        "sovereign-gpu-pod-patch",
        _exempt,
    ),
    "an-operation-less": ("MutatingAdmissionPolicy", "sovereign-gpu-pod-patch", _unread),
}


def test_nothing_is_wrong_with_what_the_chart_installs(site: Site) -> None:
    assert site.cluster.series("guards_watched")[0] > 40
    assert faults(site) == set()


@pytest.mark.parametrize("case", CHANGES)
def test_a_weakened_guard_is_an_alarm_within_seconds(
    site: Site, tamper: Callable[..., float], case: str
) -> None:
    kind, name, change = CHANGES[case]
    began = tamper(path_of(kind, name), change)
    assert seconds_until(site, began, name, "Changed") <= SECONDS


def test_a_removed_guard_is_an_alarm_an_event_and_a_condition(
    site: Site, tamper: Callable[..., float]
) -> None:
    policy = site.policy()
    name = "sovereign-gpu-binding"
    began = tamper(path_of("ValidatingAdmissionPolicyBinding", name), None)
    assert seconds_until(site, began, name, "Missing") <= SECONDS
    found = site.admin.wait(
        f"{POLICIES}/{policy}",
        lambda body: conditions(body["status"])["Unguarded"]["status"] == "True",
        SECONDS,
    )
    message = conditions(found["status"])["Unguarded"]["message"]
    assert f"ValidatingAdmissionPolicyBinding {name} (Missing)" in message
    site.admin.wait(
        "/api/v1/namespaces/default/events",
        lambda body: [each for each in body["items"] if each["reason"] == "GuardMissing"],
        SECONDS,
        fieldSelector=f"involvedObject.name={name}",
    )


def test_a_definition_without_its_rules_is_an_alarm(
    site: Site, tamper: Callable[..., float]
) -> None:
    def loosen(body: Any) -> None:
        schema = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        del schema["properties"]["spec"]["properties"]["countries"]["x-kubernetes-validations"]

    name = f"dataresidencypolicies.{names.GROUP}"
    began = tamper(f"{DEFINITIONS}/{name}", loosen)
    assert seconds_until(site, began, name, "Changed") <= SECONDS

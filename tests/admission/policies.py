"""Putting policies into an API server, and knowing when it has taken them up."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from rig.client import wait_for
from sovereign_gpu.admission.manifests import API_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rig.client import Client

_generations = itertools.count(1)
PROBES = "/api/v1/namespaces/default/configmaps"


def put(client: Client, objects: Iterable[dict[str, Any]]) -> None:
    """Write policies and wait until requests are judged by them."""
    generation = f"generation-{next(_generations)}"
    for obj in (*objects, *_probes(generation)):
        client.apply(obj, field_manager="tests").must()
    wait_for(lambda: _active(client, generation), 30, f"policies of {generation}")


def _active(client: Client, generation: str) -> bool:
    # The API server takes up all policies of a kind together, in the order in which they were
    # written. So a probe that was written last and is in force says that all others are.
    body = {"metadata": {"name": "probe"}, "data": {"validating": "no"}}
    judged = client.create(PROBES, body, dryRun="All")
    changed = client.create(PROBES, {"metadata": {"name": "probe"}}, dryRun="All")
    return generation in judged.message and generation in str(changed.body)


def _probes(generation: str) -> list[dict[str, Any]]:
    match = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
        "resourceRules": [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["configmaps"],
                "resourceNames": ["probe"],
            },
        ],
    }
    patch = f'[JSONPatch{{op: "add", path: "/data", value: {{"taken": "{generation}"}}}}]'
    judging: dict[str, Any] = {
        "validations": [
            {
                "expression": 'object.?data[?"validating"].orValue("") == ""',
                "message": generation,
            },
        ],
    }
    changing: dict[str, Any] = {
        "reinvocationPolicy": "Never",
        "mutations": [
            {
                "patchType": "JSONPatch",
                "jsonPatch": {
                    "expression": f'object.?data[?"validating"].orValue("") == "" ? {patch} : []',
                },
            },
        ],
    }
    made = []
    for kind, spec, actions in (
        ("ValidatingAdmissionPolicy", judging, {"validationActions": ["Deny"]}),
        ("MutatingAdmissionPolicy", changing, {}),
    ):
        base = {"apiVersion": API_VERSION, "metadata": {"name": "probe"}}
        rule = {"failurePolicy": "Fail", "matchConstraints": match}
        made.append({**base, "kind": kind, "spec": rule | spec})
        binding = {"policyName": "probe", **actions}
        made.append({**base, "kind": f"{kind}Binding", "spec": binding})
    return made

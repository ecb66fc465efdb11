"""Policies for files of the API server: nobody removes ours through the API any more.

No policy of the API can guard policies, since the API server does not ask policies about policies.
Those that it reads from files it does ask (KEP-5793; alpha in Kubernetes 1.36, on in 1.37), and no
right of the API reaches a file. Whoever has to change ours later (Helm, a GitOps controller) is
named in the file by user name; somebody with access to the machine can always change the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from sovereign_gpu import names
from sovereign_gpu.admission.catalogue import CATALOGUE
from sovereign_gpu.admission.manifests import binding_manifest, policy_manifest
from sovereign_gpu.admission.model import Match, Policy, Scope, Validation, Variable

SUFFIX: Final = ".static.k8s.io"
"""How names of policies in files have to end."""
PLUGIN: Final = "ValidatingAdmissionPolicy"
_KINDS: Final = (
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
)
_PLURALS: Final = ("gpupools", "tenantquotas", "dataresidencypolicies")

_GUARDED: Final = Variable("guarded", "oldObject.metadata.name in $GUARDED")
_MAINTAINER: Final = Variable("maintainer", "request.userInfo.username in $MAINTAINERS")
_FOUND: Final = (
    'oldObject.metadata.name + (object == null ? " deleted by " : " changed by ")'
    " + request.userInfo.username"
)


def _guard(name: str, rule: str, purpose: str, match: Match) -> Policy:
    return Policy(
        name=name,
        purpose=purpose,
        match=(match,),
        scope=Scope.EVERYWHERE,
        variables=(_GUARDED, _MAINTAINER),
        validations=(
            Validation(
                rule,
                "!variables.guarded || variables.maintainer",
                _FOUND,
                "changes by the maintainers whom the file of the API server names: ",
                '$MAINTAINERS.size() == 0 ? "none" : $MAINTAINERS.join(", ")',
            ),
        ),
    )


_POLICIES: Final = _guard(
    "sovereign-gpu-guard-policies",
    "guard-policy",
    "The admission policies of the chart stay as they are.",
    Match("admissionregistration.k8s.io", _KINDS, ("UPDATE", "DELETE")),
)
_DEFINITIONS: Final = _guard(
    "sovereign-gpu-guard-definitions",
    "guard-definition",
    "The definitions of the three kinds stay as they are.",
    Match("apiextensions.k8s.io", ("customresourcedefinitions",), ("UPDATE", "DELETE")),
)


def guards(maintainers: Iterable[str]) -> list[dict[str, Any]]:
    """Return the manifests of the guards, each policy with its binding.

    Args:
        maintainers: user names that may change what is guarded.
    """
    made = []
    for policy, guarded in (
        (_POLICIES, [each.name for each in CATALOGUE]),
        (_DEFINITIONS, [f"{plural}.{names.GROUP}" for plural in _PLURALS]),
    ):
        literals = {
            "GUARDED": json.dumps(guarded),
            "MAINTAINERS": f"dyn({json.dumps(list(maintainers))})",
        }
        for manifest in (policy_manifest(policy, literals), binding_manifest(policy, [], "")):
            manifest["metadata"]["name"] += SUFFIX
            if "policyName" in manifest["spec"]:
                manifest["spec"]["policyName"] += SUFFIX
            made.append(manifest)
    return made


def configuration(directory: str) -> dict[str, Any]:
    """Return the AdmissionConfiguration that makes an API server read the directory.

    Args:
        directory: absolute path on the machine of the API server.
    """
    group = "apiserver.config.k8s.io/v1"
    plugin = {
        "apiVersion": group,
        "kind": f"{PLUGIN}Configuration",
        "staticManifestsDir": directory,
    }
    return {
        "apiVersion": group,
        "kind": "AdmissionConfiguration",
        "plugins": [{"name": PLUGIN, "configuration": plugin}],
    }

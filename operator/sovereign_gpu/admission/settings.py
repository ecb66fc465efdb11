"""What an installation chooses, as literals of the policies.

The choices are rendered into the expressions, and no object is read when a request is judged:
an object could be missing, late or written by somebody else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sovereign_gpu import names

if TYPE_CHECKING:
    from collections.abc import Iterable

COUNTED_RESOURCES: Final = ("cpu", "memory", "ephemeral-storage", names.GPU_RESOURCE)
"""What governed pods may always ask for, besides `hugepages-*`."""

ENDPOINT_USERS: Final = (
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:endpoint-controller",
    "system:serviceaccount:kube-system:endpointslice-controller",
    "system:serviceaccount:kube-system:endpointslicemirroring-controller",
)
"""Kubernetes' own writers of endpoints."""

DEFAULT_EXEMPT: Final = ("kube-system", "kube-public", "kube-node-lease", "gpu-operator")


@dataclass(frozen=True, slots=True)
class Settings:
    """The values that the chart knows under `admission`.

    Attributes:
        namespace: Where the operator runs.
        service_account: The operator's own identity there.
        exempt_namespaces: Infrastructure; its pods are not judged, and count as foreign.
        exempt_service_accounts: `namespace:name`; their pods are not judged outside governed
            namespaces. Nothing is exempt inside one.
        scheduler_users: Who may bind without the right `gpupools/bind`.
        known_resources: What governed pods may ask for beyond `COUNTED_RESOURCES`.
        allowed_host_paths: Host directories that governed pods may mount, with all below.
        gpu_taint: Taint key of GPU nodes.
        endpoint_users: Who may write endpoints in tenants' namespaces.
        gpu_device_classes: DeviceClasses that hand out GPUs, besides those with nvidia.com in their
            names.
        country_claim: Key of the user's extra attributes that names the country of a person.
    """

    namespace: str = "sovereign-gpu-system"
    service_account: str = "sovereign-gpu"
    exempt_namespaces: tuple[str, ...] = DEFAULT_EXEMPT
    exempt_service_accounts: tuple[str, ...] = ()
    scheduler_users: tuple[str, ...] = ("system:kube-scheduler",)
    known_resources: tuple[str, ...] = ()
    allowed_host_paths: tuple[str, ...] = ()
    gpu_taint: str = names.GPU_TAINT
    endpoint_users: tuple[str, ...] = ENDPOINT_USERS
    gpu_device_classes: tuple[str, ...] = ()
    country_claim: str = "sovereign-gpu.io/country"

    @property
    def operator_user(self) -> str:
        """The user name under which the API server knows the operator."""
        return f"system:serviceaccount:{self.namespace}:{self.service_account}"

    def literals(self) -> dict[str, str]:
        """Placeholder name to CEL literal."""
        users = [f"system:serviceaccount:{name}" for name in self.exempt_service_accounts]
        return {
            "operatorUser": json.dumps(self.operator_user),
            "exemptNamespaces": _list(self.exempt_namespaces),
            "exemptUsers": _list(users),
            "schedulerUsers": _list(self.scheduler_users),
            "knownResources": _list([*COUNTED_RESOURCES, *self.known_resources]),
            "hostPaths": _list(self.allowed_host_paths),
            "gpuTaint": json.dumps(self.gpu_taint),
            "endpointUsers": _list(self.endpoint_users),
            "gpuDeviceClasses": _list(self.gpu_device_classes),
            "countryClaim": json.dumps(self.country_claim),
        }


def from_json(text: str) -> Settings:
    """Return the settings that the chart hands to the operator.

    Raises:
        ValueError: it is no JSON object, or has a field that this version does not know.
    """
    values: Any = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("no object")  # noqa: TRY004 - of all that is wrong with a text
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return Settings(**fields)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _list(values: Iterable[str]) -> str:
    # Spelled as Helm spells it, so that both renderings can be compared.
    return json.dumps(list(values), separators=(",", ":"))


_VALUES: Final = ".Values.admission."
_COUNTED: Final = " ".join(json.dumps(name) for name in COUNTED_RESOURCES)

HELM_LITERALS: Final = {
    "operatorUser": '{{ include "sovereign-gpu.operatorUser" . | toJson }}',
    "exemptNamespaces": "{{ " + _VALUES + "exemptNamespaces | toJson }}",
    "exemptUsers": '{{ include "sovereign-gpu.exemptUsers" . }}',
    "schedulerUsers": "{{ " + _VALUES + "schedulerUsers | toJson }}",
    "knownResources": "{{ concat (list " + _COUNTED + ") " + _VALUES + "knownResources | toJson }}",
    "hostPaths": "{{ " + _VALUES + "allowedHostPaths | toJson }}",
    "gpuTaint": "{{ " + _VALUES + "gpuTaint | toJson }}",
    "endpointUsers": "{{ " + _VALUES + "endpointUsers | toJson }}",
    "gpuDeviceClasses": "{{ " + _VALUES + "gpuDeviceClasses | toJson }}",
    "countryClaim": "{{ " + _VALUES + "countryClaim | toJson }}",
}
"""The same placeholders as the chart fills them in."""

"""Objects that are compared as they are: admission policies, definitions, NetworkPolicies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from sovereign_gpu import names
from sovereign_gpu.cluster.reading import Kind
from sovereign_gpu.cluster.wire import ListMeta, ObjectMeta

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NETWORK_POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"


class _Wire(TypedDict, total=False):
    metadata: ObjectMeta
    spec: dict[str, Any]


class _List(TypedDict):
    metadata: ListMeta
    items: list[_Wire]


class _Event(TypedDict):
    type: str
    object: _Wire


@dataclass(frozen=True, slots=True)
class Observed:
    """One object, its spec as a canonical text."""

    name: str
    namespace: str
    uid: str
    spec: str
    metadata: str = "{}"
    """Labels and annotations."""

    def marks(self) -> dict[str, Any]:
        """Return labels and annotations as metadata has them."""
        found: dict[str, Any] = json.loads(self.metadata)
        return found


def canonical(spec: Any) -> str:
    """Return a text that is equal for equal specs; nothing and an empty list or map are alike."""
    return json.dumps(_full(spec), sort_keys=True, separators=(",", ":"))


def _full(value: Any) -> Any:
    if isinstance(value, Mapping):
        parts = {key: _full(part) for key, part in value.items()}
        return {key: part for key, part in parts.items() if part not in (None, [], {})}
    if isinstance(value, list | tuple):
        return [_full(part) for part in value]
    return value


def _decode(source: Any) -> Observed:
    meta = source["metadata"]
    return Observed(
        meta["name"],
        meta.get("namespace", ""),
        meta["uid"],
        canonical(source.get("spec", {})),
        canonical({key: meta.get(key) for key in ("labels", "annotations")}),
    )


def _kind(path: str, key: str, field_selector: str = "") -> Kind[Observed]:
    return Kind(
        path=path,
        lists=TypeAdapter(_List),
        events=TypeAdapter(_Event),
        decode=_decode,
        key=lambda source: str(source["metadata"][key]),
        field_selector=field_selector,
    )


def policies(plural: str) -> Kind[Observed]:
    """Return a kind of admission policies or their bindings; keys are names."""
    return _kind(f"{ADMISSION}/{plural}", "name")


def definition(plural: str) -> Kind[Observed]:
    """Return one definition of ours; keys are names."""
    return _kind(DEFINITIONS, "name", f"metadata.name={plural}.{names.GROUP}")


EGRESS_POLICIES = _kind(NETWORK_POLICIES, "namespace", f"metadata.name={names.EGRESS_POLICY}")
"""The NetworkPolicies that the operator writes; keys are namespaces."""

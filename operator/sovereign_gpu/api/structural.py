"""From pydantic's JSON schema to the structural schema that the API server accepts.

What pydantic may emit and a CustomResourceDefinition refuses (references, unions with null,
titles, `additionalProperties: false`) is rewritten here. A keyword that is not known
to be safe is an error: a bound that was silently dropped would be a bound that nobody checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sovereign_gpu.api.base import Resource

_KEPT = frozenset(
    {
        "description", "enum", "format", "items", "maxItems", "maxLength", "maxProperties",
        "maximum", "minItems", "minLength", "minimum", "pattern", "properties", "required",
        "type", "x-kubernetes-list-map-keys", "x-kubernetes-list-type",
        "x-kubernetes-validations",
    }
)  # fmt: skip
_DROPPED = frozenset({"$defs", "title", "default", "additionalProperties", "anyOf"})

Schema = dict[str, Any]


class SchemaError(Exception):
    """A model that cannot be said in a structural schema."""


def structural_schema(kind: type[Resource]) -> Schema:
    """Return the schema of one kind, without references.

    Defaults stand in `spec` only, and only those that are not empty: nothing and an empty
    list mean the same, and stored objects stay short. In `status` there is one default, an
    observedGeneration of 0, so that an object that no operator has seen yet is not taken for
    one that is done.

    Raises:
        SchemaError: a field has no description, or a keyword that is not known to be safe.
    """
    raw = kind.model_json_schema(by_alias=True)
    definitions = raw.get("$defs", {})
    properties = raw.pop("properties")
    root = _node(raw, definitions, kind.__name__, defaults=False)
    root["properties"] = {
        "apiVersion": {
            "description": "Group and version of this object.",
            "type": "string",
        },
        "kind": {"description": f"Always {kind.__name__}.", "type": "string"},
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
        "spec": _node(properties["spec"], definitions, "spec", defaults=True),
        "status": {
            **_node(properties["status"], definitions, "status", defaults=False),
            "default": {"observedGeneration": 0},
        },
    }
    root["required"] = ["metadata", "spec"]
    return root


def _node(raw: Mapping[str, Any], definitions: Schema, path: str, *, defaults: bool) -> Schema:
    source = _resolved(raw, definitions, path)
    if unknown := set(source) - _KEPT - _DROPPED:
        raise SchemaError(f"{path}: {sorted(unknown)} cannot be said in a structural schema")
    node = {key: source[key] for key in _KEPT & set(source)}
    if "items" in source:
        node["items"] = _node(source["items"], definitions, f"{path}[]", defaults=defaults)
    if isinstance(values := source.get("additionalProperties"), Mapping):
        node["additionalProperties"] = _node(values, definitions, f"{path}{{}}", defaults=defaults)
    if "properties" in source:
        node["properties"] = {
            name: _property(field, definitions, f"{path}.{name}", defaults=defaults)
            for name, field in source["properties"].items()
        }
    default = _without_empty(source.get("default"))
    if defaults and default is not None:
        node["default"] = default
    return node


def _property(raw: Mapping[str, Any], definitions: Schema, path: str, *, defaults: bool) -> Schema:
    node = _node(raw, definitions, path, defaults=defaults)
    if not node.get("description"):
        raise SchemaError(f"{path}: has no description")
    return node


def _resolved(raw: Mapping[str, Any], definitions: Schema, path: str) -> Schema:
    """Follow references and take the branch of an optional field that is not null."""
    source = dict(raw)
    if "$ref" in source:
        target = definitions[source.pop("$ref").rpartition("/")[2]]
        return _resolved({**target, **source}, definitions, path)
    if "anyOf" in source:
        branches = [branch for branch in source.pop("anyOf") if branch != {"type": "null"}]
        if len(branches) != 1:
            raise SchemaError(f"{path}: a union of several types is not structural")
        return _resolved({**branches[0], **source}, definitions, path)
    return source


def _without_empty(value: Any) -> Any:
    """Drop what is empty, at every depth; nothing left is None."""
    if isinstance(value, Mapping):
        kept = {key: _without_empty(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item is not None} or None
    return None if value in (None, "", []) else value

"""The reference page of the three kinds: one table each, from the same schema as the CRDs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from sovereign_gpu import names
from sovereign_gpu.api.base import Resource
from sovereign_gpu.api.structural import Schema, structural_schema

_INTRODUCTION = (
    f"API version `{names.GROUP}/{names.VERSION}`. All kinds are cluster-scoped and in the "
    "category `sovereign-gpu`: `kubectl get sovereign-gpu` shows them together. The same "
    "text is in the cluster: `kubectl explain gpupool.spec --recursive`."
)


def reference_page(kinds: Iterable[type[Resource]], command: str) -> str:
    """Return the page in Markdown.

    Args:
        kinds: the kinds, in the order of the page.
        command: what the reader has to run to make the page anew.
    """
    head = [
        f"<!-- Generated from operator/sovereign_gpu/api by `{command}`. Do not edit. -->",
        "# The three kinds",
        "",
        _INTRODUCTION,
        "",
    ]
    return "\n".join([*head, *(line for kind in kinds for line in _section(kind))]).rstrip() + "\n"


def _section(kind: type[Resource]) -> Iterator[str]:
    schema = structural_schema(kind)
    yield f"## {kind.__name__}"
    yield ""
    yield f"Short name `{kind.naming.short}`."
    yield ""
    for paragraph in schema["description"].split("\n\n"):
        yield " ".join(paragraph.split())
        yield ""
    yield "| field | type | required | default | allowed | meaning |"
    yield "|---|---|---|---|---|---|"
    for part in ("spec", "status"):
        yield from _rows(schema["properties"][part], part)
    yield ""


def _rows(node: Schema, path: str) -> Iterator[str]:
    required = set(node.get("required", ()))
    for name, field in node["properties"].items():
        default = f"`{json.dumps(field['default'])}`" if "default" in field else ""
        cells = (
            f"`{path}.{name}`",
            _type(field),
            "yes" if name in required else "",
            default,
            _allowed(field),
            field["description"],
        )
        yield "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
        inner = field.get("items", field)
        if "properties" in inner:
            yield from _rows(inner, f"{path}.{name}" + ("[]" if inner is not field else ""))


def _type(field: Schema) -> str:
    if field["type"] == "array":
        keys = field.get("x-kubernetes-list-map-keys")
        unique = f", by {keys[0]}" if keys else ""
        return f"list of {field['items']['type']}{unique}"
    return "map of string" if "additionalProperties" in field else str(field["type"])


def _allowed(field: Schema) -> str:
    """Say bounds, words and rules in a few words."""
    parts = [_bounds(field, "minItems", "maxItems", " entries"), *_value(field)]
    if field["type"] == "array":
        parts += _value(field["items"])
    return "; ".join(part for part in parts if part)


def _value(field: Schema) -> Iterator[str]:
    rules = field.get("x-kubernetes-validations", ())
    if "enum" in field:
        yield ", ".join(f"`{word}`" for word in field["enum"])
    yield _bounds(field, "minimum", "maximum", "")
    yield _bounds(field, "minProperties", "maxProperties", " entries")
    if "pattern" in field or not rules:  # what a rule allows says more than the length of a text
        yield _bounds(field, "minLength", "maxLength", " characters")
    yield from (rule["message"].partition("allowed: ")[2] for rule in rules)


def _bounds(field: Schema, low: str, high: str, unit: str) -> str:
    least, most = field.get(low, 0), field.get(high)
    if most is None or most == 2**53:
        return f"≥ {least}{unit}" if low in field else ""
    return f"{least}{unit}" if least == most else f"{least} to {most}{unit}"

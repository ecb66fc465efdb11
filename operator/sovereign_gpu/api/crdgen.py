"""Write `crds/` and the reference page from the models: `python -m sovereign_gpu.api.crdgen`.

With `--check` nothing is written and the command fails when the files are not what the models
say. The output depends on the models alone, so a diff in `crds/` is a change of the API.
"""

from __future__ import annotations

import argparse
import difflib
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sovereign_gpu import names
from sovereign_gpu.api.base import Column, Resource
from sovereign_gpu.api.parse import KINDS
from sovereign_gpu.api.reference import reference_page
from sovereign_gpu.api.structural import structural_schema

COMMAND = "python -m sovereign_gpu.api.crdgen"
_HEADER = f"# Generated from operator/sovereign_gpu/api by `{COMMAND}`. Do not edit.\n"
_WIDTH = 74
"""What `kubectl explain` shows without breaking lines once more."""


def definition(kind: type[Resource]) -> dict[str, Any]:
    """Return the CustomResourceDefinition of one kind."""
    naming = kind.naming
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{naming.plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Cluster",
            "names": {
                "kind": kind.__name__,
                "listKind": f"{kind.__name__}List",
                "plural": naming.plural,
                "singular": naming.singular,
                "shortNames": [naming.short],
                "categories": ["sovereign-gpu"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in naming.columns],
                    "schema": {"openAPIV3Schema": _wrapped(structural_schema(kind))},
                }
            ],
        },
    }


def files(crds: Path, page: Path) -> dict[Path, str]:
    """Return the content of every generated file."""
    manifests = {
        crds / f"{kind.naming.plural}.yaml": _HEADER + _as_yaml(definition(kind))
        for kind in KINDS.values()
    }
    return {**manifests, page: reference_page(KINDS.values(), COMMAND)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or compare them with `--check`.

    Returns:
        The exit code: 0 when the files are, or now are, what the models say.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--out", type=Path, default=Path("crds"), help="folder of the CRDs")
    parser.add_argument(
        "--page", type=Path, default=Path("docs/reference/crds.md"), help="reference page"
    )
    options = parser.parse_args(arguments)
    wanted = files(options.out, options.page)
    if options.check:
        return _check(wanted)
    for path, content in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return 0


def _check(wanted: dict[Path, str]) -> int:
    stale = 0
    for path, content in wanted.items():
        found = path.read_text(encoding="utf-8") if path.exists() else ""
        diff = difflib.unified_diff(
            found.splitlines(keepends=True),
            content.splitlines(keepends=True),
            str(path),
            "what the models say",
        )
        if text := "".join(diff):
            stale += 1
            sys.stderr.write(text)
    if stale:
        sys.stderr.write(f"{stale} generated file(s) are stale; run: {COMMAND}\n")
    return 1 if stale else 0


def _column(column: Column) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": column.name,
        "type": column.type,
        "description": column.description,
        "jsonPath": column.path,
    }
    if column.wide:
        entry["priority"] = 1
    return entry


def _wrapped(schema: Any) -> Any:
    """Break long descriptions into lines, which is all that a human eye gains from them."""
    if isinstance(schema, list):
        return [_wrapped(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _filled(value) if key == "description" and isinstance(value, str) else _wrapped(value)
        for key, value in schema.items()
    }


def _filled(text: str) -> str:
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    return "\n\n".join(
        textwrap.fill(paragraph, _WIDTH, break_long_words=False, break_on_hyphens=False)
        for paragraph in paragraphs
    )


class _Dumper(yaml.SafeDumper):
    """Block style throughout, long text as literals, lists indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - PyYAML's signature
        super().increase_indent(flow=flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _as_yaml(manifest: dict[str, Any]) -> str:
    return yaml.dump(
        manifest, Dumper=_Dumper, sort_keys=True, width=10_000, default_flow_style=False
    )


if __name__ == "__main__":
    raise SystemExit(main())

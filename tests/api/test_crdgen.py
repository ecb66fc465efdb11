"""crds/ and the reference page are what the models say, and the schema is structural."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import pytest
import yaml
from pydantic import Field

from sovereign_gpu import names
from sovereign_gpu.api import crdgen, parse
from sovereign_gpu.api.base import Naming, Resource, Spec
from sovereign_gpu.api.parse import KINDS
from sovereign_gpu.api.structural import SchemaError, structural_schema
from tests.api.manifests import ROOT, example

if TYPE_CHECKING:
    from pathlib import Path

    from sovereign_gpu.api.structural import Schema

ARGUMENTS = ["--out", str(ROOT / "crds"), "--page", str(ROOT / "docs/reference/crds.md")]
NOT_STRUCTURAL = {"$ref", "$defs", "anyOf", "const", "title", "uniqueItems", "exclusiveMinimum"}


def committed(kind: type[Resource]) -> dict[str, Any]:
    path = ROOT / "crds" / f"{kind.naming.plural}.yaml"
    definition: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return definition


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def ours(kind: type[Resource]) -> Iterator[tuple[str, Schema]]:
    properties = structural_schema(kind)["properties"]
    yield from nodes(properties["spec"], "spec")
    yield from nodes(properties["status"], "status")


every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)


def test_the_committed_files_are_what_the_models_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert crdgen.main(["--check", *ARGUMENTS]) == 0, capsys.readouterr().err


def test_a_stale_file_is_shown_and_fails_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--out", str(tmp_path), "--page", str(tmp_path / "page.md")]
    assert crdgen.main(arguments) == 0
    assert crdgen.main(["--check", *arguments]) == 0
    pools = tmp_path / "gpupools.yaml"
    pools.write_text(pools.read_text().replace("shortNames", "nicknames"))
    (tmp_path / "page.md").unlink()
    assert crdgen.main(["--check", *arguments]) == 1
    complaint = capsys.readouterr().err
    assert "-    nicknames:" in complaint
    assert "2 generated file(s) are stale; run: python -m sovereign_gpu.api.crdgen" in complaint


def test_a_generated_file_says_so_and_how() -> None:
    for path in [*(ROOT / "crds").glob("*.yaml"), ROOT / "docs/reference/crds.md"]:
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        assert "Generated from" in first
        assert crdgen.COMMAND in first


@every_kind
def test_a_kind_is_known_by_its_names(kind: type[Resource]) -> None:
    definition = committed(kind)
    spec = definition["spec"]
    assert definition["metadata"]["name"] == f"{spec['names']['plural']}.{names.GROUP}"
    assert (spec["group"], spec["scope"]) == (names.GROUP, "Cluster")
    assert spec["names"]["categories"] == ["sovereign-gpu"]
    (version,) = spec["versions"]
    assert version["name"] == names.VERSION
    assert version["subresources"] == {"status": {}}


def test_short_names_are_those_of_the_design() -> None:
    assert [kind.naming.short for kind in KINDS.values()] == ["gpool", "tq", "drp"]


def test_plurals_are_those_that_rights_are_asked_for() -> None:
    plurals = {kind.naming.plural for kind in KINDS.values()}
    rights = (names.RIGHT_RELEASE, names.RIGHT_ENROL, names.RIGHT_BIND, names.RIGHT_ASSIGN)
    assert {resource for resource, _ in rights} <= plurals


@every_kind
def test_a_printer_column_shows_a_field_that_exists(kind: type[Resource]) -> None:
    fields = {path for path, _ in ours(kind)}
    for column in kind.naming.columns:
        path = column.path.removeprefix(".").replace("[?(@.type=='Ready')]", "[]")
        path = path.replace("[0]", "[]")
        assert path in fields or path == "metadata.creationTimestamp", column
        assert column.description


@every_kind
def test_the_default_view_is_narrow(kind: type[Resource]) -> None:
    assert sum(not column.wide for column in kind.naming.columns) <= 9


@every_kind
def test_every_field_has_a_description(kind: type[Resource]) -> None:
    missing = [
        path for path, node in ours(kind) if not path.endswith("[]") and not node["description"]
    ]
    assert missing == []


@every_kind
def test_everything_that_grows_is_bounded(kind: type[Resource]) -> None:
    for path, node in ours(kind):
        if node["type"] == "array":
            assert "maxItems" in node, path
            assert "x-kubernetes-list-type" in node, path
        if node["type"] == "string" and "enum" not in node and node.get("format") != "date-time":
            assert "maxLength" in node, path
        if node["type"] == "integer":
            assert {"minimum", "maximum"} <= set(node), path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


@every_kind
def test_the_schema_is_structural(kind: type[Resource]) -> None:
    for path, node in ours(kind):
        assert not set(node) & NOT_STRUCTURAL, path
        assert node["type"] in {"object", "array", "string", "integer"}, path


@every_kind
def test_conditions_are_a_map_by_type(kind: type[Resource]) -> None:
    conditions = structural_schema(kind)["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


@every_kind
def test_an_object_that_nobody_has_seen_is_not_taken_for_done(kind: type[Resource]) -> None:
    status = structural_schema(kind)["properties"]["status"]
    assert status["default"] == {"observedGeneration": 0}


@pytest.mark.parametrize("stem", ["gpupool", "tenantquota", "dataresidencypolicy"])
def test_defaults_are_the_same_in_schema_and_model(stem: str) -> None:
    manifest = example(stem)
    kind = KINDS[manifest["kind"]]
    stored = with_defaults(structural_schema(kind), manifest)
    assert parse(manifest["kind"], stored) == parse(manifest["kind"], manifest)


def test_the_reference_page_has_a_row_for_every_field() -> None:
    page = (ROOT / "docs/reference/crds.md").read_text(encoding="utf-8")
    for kind in KINDS.values():
        for path, _ in ours(kind):
            if not path.endswith("[]") and path not in {"spec", "status"}:
                assert f"| `{path}` |" in page


class Undescribed(Spec):
    word: str


class Exact(Spec):
    number: Annotated[int, Field(multiple_of=8, description="A number.")]


class Ambiguous(Spec):
    either: Annotated[int | str, Field(description="A number or a word.")]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Undescribed, r"spec\.word: has no description"),
        (Exact, r"spec\.number: \['multipleOf'\] cannot be said"),
        (Ambiguous, r"spec\.either: a union of several types"),
    ],
)
def test_what_cannot_be_said_in_a_crd_is_an_error(model: type[Spec], says: str) -> None:
    class Odd(Resource):
        naming: ClassVar[Naming] = Naming("odds", "odd", "o", ())
        spec: model  # type: ignore[valid-type]
        status: Spec = Spec()

    with pytest.raises(SchemaError, match=says):
        structural_schema(Odd)


def with_defaults(schema: Schema, value: Any) -> Any:
    """Default a value as the API server does, from the schema alone."""
    if isinstance(value, list):
        return [with_defaults(schema["items"], item) for item in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    result = dict(value)
    for name, field in schema["properties"].items():
        if name not in result and "default" in field:
            result[name] = field["default"]
        if name in result:
            result[name] = with_defaults(field, result[name])
    return result

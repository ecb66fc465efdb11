"""Stored objects are read once, and a bad one becomes a message instead of a crash."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_gpu.api import InvalidObjectError, parse
from sovereign_gpu.api.parse import KINDS
from tests.api.manifests import changed, example


class Body(Mapping[str, Any]):
    """Like kopf's body: a mapping, not a dict."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)


def stored(stem: str, **metadata: Any) -> dict[str, Any]:
    manifest = example(stem)
    manifest["metadata"] |= {
        "uid": "5f0c",
        "generation": 3,
        "resourceVersion": "77",
        "creationTimestamp": "2026-11-23T12:00:00Z",
        "managedFields": [{"manager": "kubectl"}],
        **metadata,
    }
    return manifest


def test_a_stored_object_is_read_with_what_identifies_it() -> None:
    pool = parse("GpuPool", Body(stored("gpupool")))
    assert pool.name == "munich-b200"
    assert (pool.metadata.uid, pool.metadata.generation) == ("5f0c", 3)
    assert pool.metadata.resource_version == "77"


def test_a_stored_status_is_read() -> None:
    body = stored("gpupool") | {"status": {"observedGeneration": 2, "gpus": {"capacity": 8}}}
    status = parse("GpuPool", body).status
    assert (status.observed_generation, status.gpus.capacity, status.gpus.free) == (2, 8, 0)


def test_a_field_that_a_later_version_left_in_status_is_ignored() -> None:
    body = stored("gpupool") | {"status": {"observedGeneration": 2, "mood": "sunny"}}
    assert parse("GpuPool", body).status.observed_generation == 2


def test_a_status_that_cannot_be_read_does_not_hide_the_spec() -> None:
    body = stored("gpupool") | {"status": {"gpus": {"capacity": "many"}}}
    pool = parse("GpuPool", body)
    assert pool.spec.location.country == "DE"
    assert pool.status.gpus.capacity == 0


def test_all_problems_are_said_at_once() -> None:
    body = changed(stored("gpupool"), "spec.location", {"country": "EL", "site": "hall 4"})
    with pytest.raises(InvalidObjectError) as refusal:
        parse("GpuPool", body)
    assert str(refusal.value) == (
        'GpuPool munich-b200: spec.location.country: found "EL", allowed: an ISO 3166-1 alpha-2 '
        "country code in capitals, such as DE or FR; Greece is GR in ISO 3166-1; EL is used in "
        "EU texts only; spec.location.region: found nothing, allowed: a value; the field is "
        "required; spec.location.site: found 'hall 4', allowed: match pattern "
        "'^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$'"
    )
    assert (refusal.value.kind, refusal.value.name) == ("GpuPool", "munich-b200")


def test_an_enum_says_its_words() -> None:
    body = changed(stored("dataresidencypolicy"), "spec.enforcement", "Log")
    with pytest.raises(InvalidObjectError, match="found 'Log', allowed: one of 'Deny' or 'Warn'"):
        parse("DataResidencyPolicy", body)


def test_a_message_stays_short_however_much_is_wrong() -> None:
    shares = [{"name": "p" * 500, "guaranteed": -1} for _ in range(32)]
    body = changed(stored("tenantquota"), "spec.pools", shares)
    with pytest.raises(InvalidObjectError) as refusal:
        parse("TenantQuota", body)
    assert len(refusal.value.problems) == 8
    assert len(str(refusal.value)) < 2000


@pytest.mark.parametrize("body", [{}, {"metadata": None}, {"metadata": {"name": "x"}}])
@pytest.mark.parametrize("kind", KINDS)
def test_an_object_without_spec_is_refused(kind: Any, body: dict[str, Any]) -> None:
    with pytest.raises(InvalidObjectError, match=r"spec: found nothing"):
        parse(kind, body)


def test_an_unknown_kind_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        parse("GpuPuddle", {})  # type: ignore[call-overload]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize("kind", KINDS)
@given(spec=JSON, status=JSON)
def test_nothing_that_is_stored_can_crash_the_reader(kind: Any, spec: Any, status: Any) -> None:
    body = {"metadata": {"name": "x"}, "spec": spec, "status": status}
    with pytest.raises(InvalidObjectError):
        parse(kind, body)

"""The models judge manifests as the API server does, and say what is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sovereign_gpu.api import (
    Condition,
    DataResidencyPolicy,
    GpuPool,
    InvalidObjectError,
    TenantQuota,
    parse,
)
from sovereign_gpu.api.gpupool import GpuPoolStatus
from sovereign_gpu.api.parse import KINDS
from sovereign_gpu.api.tenantquota import Waiting
from sovereign_gpu.core.countries import ISO_COUNTRIES
from sovereign_gpu.core.model import Reason
from tests.api.manifests import EXAMPLES, REFUSED, UNKNOWN_FIELDS, Refused, changed, example, why

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def read(manifest: dict[str, Any]) -> Any:
    return parse(manifest["kind"], manifest)


@pytest.mark.parametrize("stem", EXAMPLES)
def test_an_example_is_read_without_loss(stem: str) -> None:
    manifest = example(stem)
    written = read(manifest).wire()
    assert written["metadata"]["name"] == manifest["metadata"]["name"]
    assert contains(written["spec"], manifest["spec"])


@pytest.mark.parametrize("row", REFUSED, ids=why)
def test_a_refusal_names_the_field_and_what_is_allowed(row: Refused) -> None:
    with pytest.raises(InvalidObjectError) as refusal:
        read(row.manifest())
    assert [problem.field for problem in refusal.value.problems] == [row.field]
    assert refusal.value.problems[0].found
    assert refusal.value.problems[0].allowed


@pytest.mark.parametrize("row", UNKNOWN_FIELDS, ids=why)
def test_an_unknown_field_is_not_overlooked(row: Refused) -> None:
    with pytest.raises(InvalidObjectError, match="found an unknown field") as refusal:
        read(row.manifest())
    assert [problem.field for problem in refusal.value.problems] == [row.field]


def test_a_minimal_pool_is_closed_to_nodes_that_enrol_themselves() -> None:
    pool = parse("GpuPool", example("gpupool"))
    assert pool.spec.nodes.enrolment == "Labelled"
    assert pool.spec.nodes.selector.match_labels == {}
    assert pool.spec.location.site is None


def test_a_minimal_tenant_has_no_gpus() -> None:
    assert parse("TenantQuota", example("tenantquota")).spec.pools == ()


def test_a_minimal_policy_denies() -> None:
    policy = parse("DataResidencyPolicy", example("dataresidencypolicy"))
    assert policy.spec.enforcement == "Deny"
    assert len(policy.spec.countries.resolved()) == 27


def test_a_minimal_policy_evicts_nobody() -> None:
    on_drift = parse("DataResidencyPolicy", example("dataresidencypolicy")).spec.on_drift
    assert (on_drift.action, on_drift.grace_seconds) == ("Alert", 300)


def test_the_order_of_pools_is_kept() -> None:
    pools = parse("TenantQuota", example("tenantquota-all-fields")).spec.pools
    assert [pool.name for pool in pools] == ["munich-b200", "not-there-yet"]


def test_a_policy_resolves_its_sets_its_additions_and_its_exclusions() -> None:
    policy = parse("DataResidencyPolicy", example("dataresidencypolicy-all-fields"))
    allowed = policy.spec.countries.resolved()
    assert {"NO", "CH", "RE"} <= allowed
    assert "MT" not in allowed


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("GpuPool", GpuPool),
        ("TenantQuota", TenantQuota),
        ("DataResidencyPolicy", DataResidencyPolicy),
    ],
)
def test_the_kinds_are_these_three(kind: str, model: type) -> None:
    assert KINDS[kind] is model


def test_models_cannot_be_changed() -> None:
    pool = parse("GpuPool", example("gpupool"))
    with pytest.raises(ValidationError, match="frozen"):
        pool.spec.location.region = "us-east"  # type: ignore[misc]


def test_fields_may_be_set_by_their_python_names() -> None:
    status = GpuPoolStatus(observed_generation=3)
    assert status.wire()["observedGeneration"] == 3


def test_a_condition_is_written_as_kubernetes_writes_times() -> None:
    berlin = datetime(2026, 11, 23, 13, 0, 0, 987_654, tzinfo=timezone(timedelta(hours=1)))
    condition = Condition(
        type="Ready", status="True", reason="Counted", last_transition_time=berlin
    )
    assert condition.wire() == {
        "type": "Ready",
        "status": "True",
        "reason": "Counted",
        "message": "",
        "lastTransitionTime": "2026-11-23T12:00:00Z",
    }


def test_two_conditions_of_one_type_are_a_mistake() -> None:
    ready = Condition(type="Ready", status="True", reason="Counted", last_transition_time=NOON)
    with pytest.raises(ValidationError, match='"Ready" twice'):
        GpuPoolStatus(conditions=(ready, ready))


@pytest.mark.parametrize("reason", Reason)
def test_a_wait_has_one_of_the_reasons_of_the_engine(reason: Reason) -> None:
    assert Waiting(reason=reason, pods=2, gpus=16).wire()["reason"] == str(reason)


def test_a_wait_has_no_other_reason() -> None:
    with pytest.raises(ValidationError, match="QuotaExhausted"):
        Waiting.model_validate({"reason": "BadLuck"})


@given(st.text(min_size=1, max_size=4))
def test_a_country_is_an_iso_code_or_refused(text: str) -> None:
    manifest = changed(example("gpupool"), "spec.location.country", text)
    if text in ISO_COUNTRIES:
        assert read(manifest).spec.location.country == text
    else:
        with pytest.raises(InvalidObjectError):
            read(manifest)


@given(st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.text(), st.none()))
def test_a_guarantee_is_a_whole_number_of_gpus_or_refused(value: object) -> None:
    manifest = example("tenantquota-all-fields")
    del manifest["spec"]["pools"][0]["lendingLimit"]  # it may not exceed the guarantee
    manifest = changed(manifest, "spec.pools[0].guaranteed", value)
    if type(value) is int and 0 <= value <= 1_000_000:
        assert read(manifest).spec.pools[0].guaranteed == value
    else:
        with pytest.raises(InvalidObjectError):
            read(manifest)


@given(st.from_regex(r"\A[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z"))
def test_every_label_value_may_be_a_region(region: str) -> None:
    assert read(changed(example("gpupool"), "spec.location.region", region))


@given(st.text(max_size=70))
def test_a_region_never_breaks_a_list_of_regions(region: str) -> None:
    manifest = changed(example("gpupool"), "spec.location.region", region)
    try:
        accepted = read(manifest).spec.location.region
    except InvalidObjectError:
        return
    assert not set(accepted) & set(",* \n")


def contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(contains, whole, part))
    return bool(whole == part)

"""Watch and list feed the registry side by side: what is newer wins, whatever comes first."""

from __future__ import annotations

from datetime import date

import pytest

from sovereign_gpu import names
from sovereign_gpu.controller.registry import Registry
from sovereign_gpu.core.model import HealthRule, Placement
from tests.controller.bodies import policy, pool, quota

TODAY = date(2026, 11, 28)

KIND = "DataResidencyPolicy"
KEY = (KIND, "eu-only")


class Waker:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


@pytest.fixture
def waker() -> Waker:
    return Waker()


@pytest.fixture
def registry(waker: Waker) -> Registry:
    return Registry(waker)


def test_an_older_state_does_not_replace_a_newer_one(registry: Registry) -> None:
    registry.put(KIND, policy(resourceVersion="9", generation=2))
    registry.put(KIND, policy(resourceVersion="8"))
    assert registry.entries[KEY].generation == 2


def test_versions_are_compared_as_numbers(registry: Registry) -> None:
    registry.put(KIND, policy(resourceVersion="9"))
    registry.put(KIND, policy(resourceVersion="10", generation=2))
    assert registry.entries[KEY].generation == 2


def test_a_list_that_is_older_than_an_object_does_not_remove_it(registry: Registry) -> None:
    registry.put(KIND, policy(resourceVersion="101"))
    registry.replace(KIND, [], "100")
    assert KEY in registry.entries


def test_a_list_removes_what_it_should_hold_and_does_not(registry: Registry) -> None:
    registry.put(KIND, policy(resourceVersion="100"))
    registry.put("GpuPool", pool(resourceVersion="50"))
    registry.changed = False
    registry.replace(KIND, [], "100")
    assert list(registry.entries) == [("GpuPool", "munich")]
    assert registry.changed


def test_an_older_list_does_not_bring_back_what_was_deleted(registry: Registry) -> None:
    registry.put(KIND, policy(resourceVersion="90"))
    registry.remove(KIND, policy(resourceVersion="102"))
    registry.replace(KIND, [policy(resourceVersion="90")], "100")
    assert KEY not in registry.entries


def test_an_object_made_anew_is_taken_in_and_survives_its_predecessors_deletion(
    registry: Registry,
) -> None:
    registry.put(KIND, policy(resourceVersion="90"))
    registry.put(KIND, policy(resourceVersion="105", uid="second"))
    registry.remove(KIND, policy(resourceVersion="102"))
    assert registry.entries[KEY].uid == "second"
    registry.remove(KIND, policy(resourceVersion="110", uid="second"))
    registry.put(KIND, policy(resourceVersion="111", uid="third"))
    assert registry.entries[KEY].uid == "third"


def test_a_confirmed_deletion_is_forgotten(registry: Registry) -> None:
    registry.remove(KIND, policy(resourceVersion="5"))
    registry.replace(KIND, [], "6")
    registry.put(KIND, policy(resourceVersion="3"))
    assert KEY in registry.entries


def test_only_what_matters_to_decisions_wakes_the_loop(registry: Registry, waker: Waker) -> None:
    registry.put("GpuPool", pool())
    registry.changed, waker.calls = False, 0
    ready = {"type": "Ready", "status": "True", "reason": "Counted", "message": "in order"}
    ready["lastTransitionTime"] = "2026-11-23T12:00:00Z"
    status = {"conditions": [ready]}
    registry.put("GpuPool", {**pool(resourceVersion="2"), "status": status})
    assert (registry.changed, waker.calls) == (False, 0)
    found = registry.entries["GpuPool", "munich"]
    assert found.spec is not None
    assert found.spec.incumbent
    assert found.status == status


def test_an_object_that_is_being_deleted_counts_as_absent_and_has_no_problem(
    registry: Registry,
) -> None:
    registry.put("TenantQuota", quota("acme", "acme-train"))
    gone = "2026-11-23T12:00:00Z"
    going = quota("acme", "acme-train", resourceVersion="2", deletionTimestamp=gone)
    registry.put("TenantQuota", going)
    entry = registry.entries["TenantQuota", "acme"]
    assert (entry.spec, entry.deleting, entry.problem) == (None, True, "")
    assert registry.specs(TODAY) == ([], [], [])


def test_an_object_that_cannot_be_read_keeps_the_reason(registry: Registry) -> None:
    broken = policy()
    broken["spec"]["countries"] = {"sets": ["ATLANTIS"]}
    registry.put(KIND, broken)
    entry = registry.entries[KEY]
    assert entry.spec is None
    assert "ATLANTIS" in entry.problem


def test_every_field_of_a_pool_is_news_but_not_what_its_own_status_says(registry: Registry) -> None:
    registry.put("GpuPool", pool())
    registry.changed = False
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    registry.put("GpuPool", {**pool(resourceVersion="2"), "status": ready})
    assert not registry.changed
    counted = pool(resourceVersion="3")
    counted["spec"]["health"] = {
        "conditions": [{"type": "RackCool", "unhealthyStatus": "False"}, {"type": "RackHot"}]
    }
    registry.put("GpuPool", counted)
    assert registry.changed
    (found,) = registry.specs(TODAY)[0]
    assert found.health == (HealthRule("RackCool", "False"), HealthRule("RackHot", "True"))


def test_placement_of_a_pool_is_read_and_is_news(registry: Registry) -> None:
    registry.put("GpuPool", pool())
    (found,) = registry.specs(TODAY)[0]
    assert (found.placement, found.delete_bare_pods) == (Placement.PACK, False)
    for number, mode in enumerate(Placement, start=2):
        registry.changed = False
        changed = pool(resourceVersion=str(number))
        changed["spec"]["placement"] = {"mode": str(mode), "barePods": "Delete"}
        registry.put("GpuPool", changed)
        assert registry.changed
        (found,) = registry.specs(TODAY)[0]
        assert (found.placement, found.delete_bare_pods) == (mode, True)


class TestDrift:
    """What a policy says about pods that stand elsewhere."""

    def test_action_grace_and_generation_reach_the_engine(self, registry: Registry) -> None:
        body = policy(generation=7)
        body["spec"]["onDrift"] = {"action": "Evict", "graceSeconds": 5}
        registry.put(KIND, body)
        (made,) = registry.specs(TODAY)[2]
        assert (made.evicts, made.grace, made.generation, made.confirmed) == (True, 5, 7, 0)

    @pytest.mark.parametrize(
        ("annotations", "confirmed"),
        [
            ({names.CONFIRM_DRIFT: "7"}, 7),
            ({names.CONFIRM_DRIFT: "6"}, 0),
            ({names.CONFIRM_DRIFT: "yes"}, 0),
            ({names.CONFIRM_DRIFT: "7" * 10_000}, 0),
            ({}, 0),
            (None, 0),
        ],
    )
    def test_only_the_present_generation_can_be_confirmed(
        self, registry: Registry, annotations: dict[str, str] | None, confirmed: int
    ) -> None:
        registry.put(KIND, policy(generation=7, annotations=annotations))
        assert registry.specs(TODAY)[2][0].confirmed == confirmed

    def test_a_confirmation_wakes_the_engine_though_the_spec_is_the_same(
        self, registry: Registry, waker: Waker
    ) -> None:
        registry.put(KIND, policy(generation=7))
        calls = waker.calls
        registry.put(KIND, policy(resourceVersion="2", generation=7))
        assert waker.calls == calls
        confirmed = {names.CONFIRM_DRIFT: "7"}
        registry.put(KIND, policy(resourceVersion="3", generation=7, annotations=confirmed))
        assert waker.calls == calls + 1

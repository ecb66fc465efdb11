"""When a pod in violation is announced, let alone, or evicted; and never too many at once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest

from sovereign_gpu import names
from sovereign_gpu.core.drift import Judge
from sovereign_gpu.core.eviction import Brake, Decision, Evict, decide, still_due
from sovereign_gpu.core.model import Owner, Pod, Policy, Pool
from sovereign_gpu.core.notice import Notice, parse
from tests.core.build import engine, munich, node, pod, policy, tenant

NOW = 1_800_000_000.25
SINCE = 1_800_000_001
CROWD = 100
OHIO = Pool("ohio", "US", "us-1")


def evicting(name: str = "eu", *countries: str, **fields: object) -> Policy:
    given: dict[str, object] = {"evicts": True, "grace": 60, "generation": 3, **fields}
    return policy(name, *(countries or ("DE",)), **given)


class Bench:
    """A cluster of many innocent pods at home and some pods abroad."""

    def __init__(self, *policies: Policy, guilty: int = 1, crowd: int = CROWD) -> None:
        self.policies = policies or (evicting(),)
        self.engine = engine(
            node("home"),
            node("abroad", pool="ohio", labels={names.REGION_LABEL: "us-1"}),
            pools=(munich(), OHIO),
            tenants=(tenant(policies=tuple(each.name for each in self.policies)),),
            policies=self.policies,
        )
        for _ in range(crowd):
            self.engine.put_pod(pod(0, gates=(), node="home", cpu=1))
        self.guilty = [self.add() for _ in range(guilty)]
        self.judge = Judge(self.engine)

    def add(self, **fields: object) -> Pod:
        given: dict[str, object] = {"gates": (), "node": "abroad", "pool": "ohio", **fields}
        made = pod(**given)  # type: ignore[arg-type]
        self.engine.put_pod(made)
        return made

    def decide(self, now: float = NOW, *, room: int = 1000, busy: Iterable[str] = ()) -> Decision:
        return decide(self.judge, now, room, set(busy).__contains__)

    def configure(self, *policies: Policy, pools: tuple[Pool, ...] = (munich(), OHIO)) -> None:
        self.engine.configure(pools, self.engine.tenants.values(), policies)
        self.judge.everything()

    def carries(self, text: str, number: int = 0) -> None:
        """Let a guilty pod show a notice."""
        shown = self.guilty[number] = replace(self.guilty[number], notice=text)
        self.engine.put_pod(shown)
        self.judge.pod(shown.uid)

    def announced(self, now: float = NOW) -> Notice:
        """Let the first guilty pod show the notice that is decided now."""
        (announce,) = self.decide(now).announce
        self.carries(announce.notice.text())
        return announce.notice


def quiet(decision: Decision) -> bool:
    return not (decision.announce or decision.withdraw or decision.evict)


# --- the notice -------------------------------------------------------------------------------
def test_a_notice_is_json_that_comes_back_as_it_was() -> None:
    said = Notice((("de", SINCE), ("eu", SINCE + 5)), "n1", "a cause", SINCE + 60)
    assert parse(said.text()) == said
    assert json.loads(said.text()) == {
        "policies": {"de": "2027-01-15T08:00:01Z", "eu": "2027-01-15T08:00:06Z"},
        "node": "n1",
        "cause": "a cause",
        "since": "2027-01-15T08:00:01Z",
        "evictAfter": "2027-01-15T08:01:01Z",
    }


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", '{"policies":{}}', "x" * 10, "[" * 100_000]
    + [
        json.dumps({"policies": p, "node": "n", "cause": "c", "since": "x", "evictAfter": e})
        for p, e in (
            ({}, "2027-01-15T08:00:01Z"),
            ({"eu": 5}, "2027-01-15T08:00:01Z"),
            ({"eu": "soon"}, "2027-01-15T08:00:01Z"),
            (["eu"], "2027-01-15T08:00:01Z"),
        )
    ],
)
def test_what_is_no_notice_is_none(text: str) -> None:
    assert parse(text) is None


# --- announce, wait, evict ------------------------------------------------------------------
def test_a_guilty_pod_is_announced_first_and_evicted_when_its_grace_is_over() -> None:
    bench = Bench()
    said = bench.announced()
    assert said.policies == (("eu", SINCE),)
    assert (said.node, said.evict_after) == ("abroad", SINCE + 60)
    assert said.cause.startswith("CountryNotAllowed: node abroad is in pool ohio")
    waiting = bench.decide(SINCE + 59.9)
    assert quiet(waiting)
    assert waiting.announced == {"eu": 1}
    (evict,) = bench.decide(SINCE + 60).evict
    assert (evict.pod.uid, evict.policies) == (bench.guilty[0].uid, ("eu",))


@pytest.mark.parametrize(
    "silent",
    [
        evicting(evicts=False),
        evicting(enforced=False),
        evicting("eu", "DE", "US"),
    ],
)
def test_alert_warn_and_innocence_evict_nobody_and_take_notices_back(silent: Policy) -> None:
    bench = Bench(silent)
    assert quiet(bench.decide())
    bench.carries(Notice((("eu", SINCE),), "abroad", "c", SINCE).text())
    (back,) = bench.decide(NOW + 1e6).withdraw
    assert back.pod.uid == bench.guilty[0].uid


def test_nobody_is_evicted_for_a_policy_that_is_gone() -> None:
    bench = Bench()
    bench.announced()
    bench.configure()
    decision = bench.decide(NOW + 1e6)
    assert not decision.evict
    assert len(decision.withdraw) == 1


@pytest.mark.parametrize("lost", [(munich(),), ()])
def test_nobody_is_evicted_while_the_pool_is_missing(lost: tuple[Pool, ...]) -> None:
    bench = Bench(evicting(confirmed=3))
    bench.announced()
    bench.configure(evicting(confirmed=3), pools=lost)
    assert not bench.decide(NOW + 1e6).evict


def test_a_pod_whose_own_pool_was_deleted_is_not_evicted_from_where_it_is() -> None:
    bench = Bench(guilty=0)
    bench.guilty = [bench.add(pool="gone")]
    bench.carries(Notice((("eu", 0),), "abroad", "c", 0).text())
    assert not bench.decide().evict


def test_static_pods_are_reported_only() -> None:
    bench = Bench(guilty=0)
    bench.add(owner=Owner("v1", "Node", "abroad", "node-uid"))
    assert quiet(bench.decide())
    assert bench.judge.affected() == {"eu": 1}


def test_a_pod_that_is_ending_or_gone_is_left_alone() -> None:
    bench = Bench()
    bench.announced()
    bench.engine.put_pod(replace(bench.guilty[0], deleting=True))
    assert quiet(bench.decide(NOW + 1e6))
    bench.engine.remove_pod(bench.guilty[0].uid)  # before the watch has told
    assert quiet(bench.decide(NOW + 1e6))


class TestWhatTheNoticeSays:
    """It is the record: what it does not say was not announced."""

    @pytest.mark.parametrize(
        "text",
        [
            "not a notice",
            Notice((("eu", SINCE - 600),), "elsewhere", "c", SINCE - 500).text(),
            Notice((("other", SINCE - 600),), "abroad", "c", SINCE - 500).text(),
            Notice((("eu", SINCE + 600),), "abroad", "c", SINCE).text(),
        ],
    )
    def test_unreadable_elsewhere_of_others_or_from_the_future_begins_anew(self, text: str) -> None:
        bench = Bench()
        bench.carries(text)
        decision = bench.decide()
        assert not decision.evict
        (announce,) = decision.announce
        assert announce.notice.policies == (("eu", SINCE),)

    def test_it_survives_a_restart(self) -> None:
        bench = Bench()
        bench.announced()
        bench.judge = Judge(bench.engine)
        assert quiet(bench.decide(SINCE + 59))
        assert bench.decide(SINCE + 60).evict

    @pytest.mark.parametrize(("grace", "at"), [(600, SINCE + 600), (5, SINCE + 5)])
    def test_another_grace_is_announced_before_it_holds(self, grace: int, at: int) -> None:
        bench = Bench()
        cause = bench.announced().cause
        bench.configure(evicting(grace=grace))
        decision = bench.decide(SINCE + 100)
        assert not decision.evict
        (announce,) = decision.announce
        assert announce.notice == Notice((("eu", SINCE),), "abroad", cause, at)

    def test_each_policy_counts_from_when_it_was_announced_itself(self) -> None:
        slow, quick = evicting(grace=600), evicting("de", grace=30)
        bench = Bench(slow, evicting("de", "DE", "US"))
        bench.announced()
        bench.configure(slow, quick)
        (announce,) = bench.decide(SINCE + 500).announce
        assert announce.notice.policies == (("de", SINCE + 500), ("eu", SINCE))
        assert announce.notice.evict_after == SINCE + 530
        bench.carries(announce.notice.text())
        assert quiet(bench.decide(SINCE + 529))
        (evict,) = bench.decide(SINCE + 530).evict
        assert set(evict.policies) == {"de", "eu"}

    def test_a_policy_that_is_satisfied_again_is_taken_off(self) -> None:
        bench = Bench(evicting(grace=600), evicting("de", grace=30))
        bench.announced()
        bench.configure(evicting(grace=600), evicting("de", "DE", "US", grace=30))
        (announce,) = bench.decide(SINCE + 40).announce
        assert announce.notice.policies == (("eu", SINCE),)
        assert announce.notice.evict_after == SINCE + 600


class TestStillDue:
    """An eviction that waited for its turn is asked about once more."""

    def due(self) -> tuple[Bench, Evict]:
        bench = Bench()
        bench.announced()
        (evict,) = bench.decide(SINCE + 60).evict
        assert still_due(bench.judge, evict)
        return bench, evict

    def test_not_of_a_pod_that_is_innocent_or_gone_by_now(self) -> None:
        bench, evict = self.due()
        bench.configure(evicting("eu", "DE", "US"))
        bench.judge.look()
        assert not still_due(bench.judge, evict)
        bench, evict = self.due()
        bench.engine.remove_pod(evict.pod.uid)
        assert not still_due(bench.judge, evict)

    def test_not_under_another_notice(self) -> None:
        bench, evict = self.due()
        bench.carries("")
        bench.judge.look()
        assert not still_due(bench.judge, evict)

    def test_not_for_a_policy_that_evicts_no_more_or_awaits_confirmation(self) -> None:
        bench, evict = self.due()
        bench.configure(evicting(evicts=False))
        bench.judge.look()
        assert not still_due(bench.judge, evict)
        bench, evict = self.due()
        for _ in range(9):
            bench.judge.pod(bench.add().uid)
        bench.judge.look()
        assert not still_due(bench.judge, evict)

    def test_not_for_another_policy_than_those_it_was_due_for(self) -> None:
        bench, evict = self.due()
        assert not still_due(bench.judge, evict._replace(policies=("other",)))


class TestConfirmation:
    """More than 5 % at once are rather a mistake."""

    @pytest.mark.parametrize(
        ("guilty", "crowd", "many"), [(5, 95, False), (6, 94, True), (1, 0, True)]
    )
    def test_more_than_five_percent_wait_for_it(
        self, guilty: int, crowd: int, *, many: bool
    ) -> None:
        bench = Bench(guilty=guilty, crowd=crowd)
        decision = bench.decide()
        assert decision.awaiting == ({"eu"} if many else set())
        assert len(decision.announce) == (0 if many else guilty)

    @pytest.mark.parametrize(("confirmed", "free"), [(2, False), (3, True), (0, False)])
    def test_it_is_for_one_generation(self, confirmed: int, *, free: bool) -> None:
        bench = Bench(evicting(confirmed=confirmed), crowd=0)
        assert bool(bench.decide().announce) is free

    def test_a_generation_that_is_not_known_cannot_be_confirmed(self) -> None:
        assert Bench(evicting(generation=0), crowd=0).decide().awaiting == {"eu"}

    def test_what_was_announced_stays_announced_and_is_not_evicted(self) -> None:
        bench = Bench(crowd=40)
        bench.announced()
        for _ in range(9):
            bench.add()
        bench.judge.everything()
        decision = bench.decide(NOW + 1e6)
        assert quiet(decision)
        assert decision.announced == {"eu": 1}

    def test_policies_that_alert_await_nothing(self) -> None:
        assert not Bench(evicting(evicts=False), crowd=0).decide().awaiting

    def test_another_policy_that_few_offend_evicts_meanwhile(self) -> None:
        bench = Bench(evicting(), evicting("us", "US"))
        said = bench.announced()
        assert bench.decide().awaiting == {"us"}
        assert [name for name, _ in said.policies] == ["eu"]
        assert bench.decide(SINCE + 60).evict


class TestBrake:
    """So many evictions per minute, over all policies."""

    def test_what_it_has_no_room_for_is_held_and_the_oldest_notice_goes_first(self) -> None:
        bench = Bench(guilty=4)
        for number in range(4):
            notice = Notice((("eu", SINCE - number),), "abroad", "c", SINCE - number + 60)
            bench.carries(notice.text(), number)
        decision = bench.decide(NOW + 1e6, room=3, busy=[bench.guilty[3].uid])
        assert [each.pod.uid for each in decision.evict] == [bench.guilty[n].uid for n in (2, 1, 0)]
        decision = bench.decide(NOW + 1e6, room=2)
        assert len(decision.evict) == 2
        assert decision.held == {"eu": 2}

    @pytest.mark.parametrize(("running", "limit"), [(0, 10), (1099, 10), (1100, 11), (10_000, 100)])
    def test_ten_or_one_percent_per_minute(self, running: int, limit: int) -> None:
        brake = Brake(started=0.0)
        assert brake.room(100.0, running) == limit
        for _ in range(limit):
            brake.take(100.0)
        assert brake.room(159.9, running) == 0
        assert brake.room(160.0, running) == limit

    def test_fewer_pods_leave_less_room_but_never_less_than_none(self) -> None:
        brake = Brake(started=0.0)
        for _ in range(20):
            brake.take(100.0)
        assert brake.room(100.0, 100) == 0

    def test_the_first_minute_may_have_been_used_by_a_predecessor(self) -> None:
        brake = Brake(started=100.0)
        assert brake.room(159.9, 0) == 0
        assert brake.room(160.0, 0) == 10

    def test_what_did_not_happen_is_given_back(self) -> None:
        brake = Brake(started=0.0)
        brake.take(100.0)
        brake.give_back(100.0)
        brake.give_back(7.0)
        assert brake.room(100.0, 0) == 10

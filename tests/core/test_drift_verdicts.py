"""Who stands where a policy no longer allows, and what is said about why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sovereign_gpu import names
from sovereign_gpu.core import drift
from sovereign_gpu.core.drift import Cause, Judge
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Namespace, Pod, Pool, Requirement
from sovereign_gpu.core.sovereignty import Need
from tests.core.build import REGION, engine, munich, node, pod, policy, put, tenant

OHIO = Pool("ohio", "US", "us-1")
PARIS = Pool("paris", "FR", "fr-1")


def running(at: str = "n1", **fields: object) -> Pod:
    given: dict[str, object] = {"gates": (), "node": at, "pool": "munich", **fields}
    return pod(**given)  # type: ignore[arg-type]


class Court:
    """A judge of a cluster with one guilty or innocent pod on n1."""

    def __init__(self, made: Engine | None = None) -> None:
        self.engine = made or engine(node(), pools=(munich(), OHIO, PARIS))
        self.pod = running()
        put(self.engine, self.pod)
        self.judge = Judge(self.engine)
        self.judge.look()

    def configure(
        self,
        *pools: Pool,
        countries: tuple[str, ...] = ("DE", "FR"),
        policies: tuple[str, ...] = ("eu",),
    ) -> None:
        self.engine.configure(
            pools or (munich(), OHIO, PARIS),
            [tenant(policies=policies)],
            [policy("eu", *countries), policy("fr", "FR")],
        )
        self.judge.everything()
        self.judge.look()

    def node(self, **fields: object) -> None:
        self.engine.put_node(node(**fields))  # type: ignore[arg-type]
        self.judge.node("n1")
        self.judge.look()

    @property
    def said(self) -> tuple[Cause, str]:
        offence = self.judge.offences[self.pod.uid]
        return offence.cause, offence.text


def test_a_pod_that_runs_where_it_may_is_innocent() -> None:
    court = Court()
    assert court.judge.offences == {}
    assert court.judge.running == {court.pod.uid}
    assert not court.judge.behind


@pytest.mark.parametrize(
    ("change", "cause", "words"),
    [
        ({"pool": ""}, Cause.NODE_LEFT_POOL, "node n1 is in no pool"),
        ({"pool": "gone"}, Cause.POOL_MISSING, "pool gone, which does not exist"),
        (
            {"labels": {names.REGION_LABEL: "us-1"}},
            Cause.REGION_CHANGED,
            f"node n1 shows region us-1, its pool munich stands in {REGION}",
        ),
        (
            {"pool": "ohio", "labels": {names.REGION_LABEL: "us-1"}},
            Cause.COUNTRY_NOT_ALLOWED,
            "node n1 is in pool ohio: policy eu does not allow its country US",
        ),
        (
            {"labels": {names.NODE_MACHINE_LABEL: "u1234"}, "machine": "another"},
            Cause.NODE_REPLACED,
            "node n1 is another machine than the one enrolled",
        ),
    ],
)
def test_a_changed_node_puts_its_pods_in_violation_until_it_is_back(
    change: dict[str, object], cause: Cause, words: str
) -> None:
    court = Court()
    court.node(**change)
    assert court.said[0] is cause
    assert words in court.said[1]
    assert court.judge.affected() == {"eu": 1}
    court.node()
    assert court.judge.offences == {}


def test_a_node_without_a_region_is_said_to_show_none() -> None:
    court = Court()
    bare = node()
    court.engine.put_node(replace(bare, labels={names.NODE_POOL_LABEL: "munich"}))
    court.judge.node("n1")
    court.judge.look()
    assert "node n1 shows no region" in court.said[1]


def test_a_node_that_the_selector_of_its_pool_no_longer_admits_has_left_it() -> None:
    court = Court()
    court.configure(munich(selector=(Requirement("gpu", "In", ("new",)),)))
    assert court.said[0] is Cause.NODE_LEFT_POOL
    assert "no longer matches spec.nodes.selector of pool munich" in court.said[1]


class TestWhatChanged:
    """The configuration alone does not tell what changed; the one before it does."""

    @pytest.mark.parametrize(
        ("change", "cause", "words"),
        [
            (
                lambda c: c.configure(munich(country="US")),
                Cause.POOL_MOVED,
                "its country was changed from DE to US, which policy eu does not allow",
            ),
            (
                lambda c: c.configure(countries=("FR",)),
                Cause.POLICY_NARROWED,
                "policy eu no longer allows its country DE",
            ),
            (
                lambda c: c.configure(policies=("eu", "fr")),
                Cause.TENANT_REASSIGNED,
                "tenant acme is now under policy fr, which does not allow its country DE",
            ),
        ],
    )
    def test_the_change_is_named_also_after_later_ones(
        self, change: Callable[[Court], None], cause: Cause, words: str
    ) -> None:
        court = Court()
        court.configure()
        for _ in range(3):
            change(court)
            assert court.said[0] is cause
            assert words in court.said[1]

    def test_after_a_restart_only_what_is_is_said(self) -> None:
        court = Court()
        court.configure(countries=("FR",))
        again = Judge(court.engine)
        again.look()
        assert again.offences[court.pod.uid].cause is Cause.COUNTRY_NOT_ALLOWED

    def test_what_was_mended_and_broken_otherwise_is_explained_anew(self) -> None:
        court = Court()
        court.configure(countries=("FR",))
        court.configure()
        court.configure(munich(country="US"))
        assert court.said[0] is Cause.POOL_MOVED

    def test_news_of_a_namespace_are_no_change_of_the_configuration(self) -> None:
        court = Court()
        court.configure(countries=("FR",))
        court.judge.everything()
        court.judge.look()
        assert court.said[0] is Cause.POLICY_NARROWED


class TestWhoIsNotJudged:
    """What is not known accuses nobody."""

    def test_a_pod_whose_node_is_not_in_the_store(self) -> None:
        court = Court()
        court.engine.remove_node("n1")
        court.judge.node("n1")
        court.judge.look()
        assert court.judge.offences == {}

    def test_a_pod_whose_tenant_has_no_object(self) -> None:
        court = Court()
        court.engine.configure([munich(country="US")], [], [policy()])
        court.judge.everything()
        court.judge.look()
        assert court.judge.offences == {}
        assert court.judge.running == {court.pod.uid}

    def test_a_missing_policy_forbids_nothing_here(self) -> None:
        court = Court()
        court.engine.configure([OHIO], [tenant(policies=("eu", "gone"))], [])
        court.judge.everything()
        court.judge.look()
        assert court.judge.offences == {}

    def test_pods_of_nobody_and_pods_that_are_not_bound(self) -> None:
        made = engine(node(pool=""))
        put(made, running(namespace="kube-system"), running(at=""))
        judge = Judge(made)
        judge.look()
        assert (judge.offences, judge.running) == ({}, set())

    def test_where_the_pool_is_missing_or_contradicted_nobody_is_evicted(self) -> None:
        court = Court()
        court.node(pool="gone")
        assert not court.judge.offences[court.pod.uid].certain
        court.node()
        court.configure(munich(country="US"), Pool("other", "DE", REGION))
        assert not court.judge.offences[court.pod.uid].certain
        assert court.said[0] is Cause.POOL_CONTRADICTED
        assert "must lie in one country" in court.said[1]


class TestNews:
    """A judge who is told what changed knows what one who sees all would know."""

    def test_pods_come_and_go(self) -> None:
        court = Court()
        court.node(pool="")
        late = running(notice="{}")
        court.engine.put_pod(late)
        court.judge.pod(late.uid)
        court.judge.look()
        assert set(court.judge.offences) == {court.pod.uid, late.uid}
        assert court.judge.noticed == {late.uid}
        court.engine.put_pod(replace(late, notice=""))
        court.judge.pod(late.uid)
        court.judge.look()
        assert court.judge.noticed == set()
        court.engine.remove_pod(late.uid)
        court.judge.pod(late.uid)
        court.judge.look()
        assert set(court.judge.offences) == court.judge.running == {court.pod.uid}

    def test_much_is_judged_in_parts(self) -> None:
        court = Court()
        for _ in range(24):
            put(court.engine, running())
        court.node(pool="")
        assert len(court.judge.offences) == 25
        court.engine.put_node(node())
        court.judge.node("n1")
        for guilty in (15, 5, 0):
            assert court.judge.behind
            court.judge.look(limit=10)
            assert len(court.judge.offences) == guilty
        assert not court.judge.behind

    def test_a_namespace_changes_hands(self) -> None:
        court = Court()
        court.node(pool="")
        court.engine.put_namespace(Namespace("acme-train", ""))
        court.judge.everything()
        court.judge.look()
        assert (court.judge.offences, court.judge.running) == ({}, set())

    def test_of_several_tenants_on_a_node_each_is_judged_by_its_own_policies(self) -> None:
        made = engine(
            node(),
            tenants=(tenant(), tenant("bolt", policies=("fr",))),
            policies=(policy(), policy("fr", "FR")),
        )
        mine, theirs = running(), running(namespace="bolt-train")
        put(made, mine, theirs)
        judge = Judge(made)
        judge.look()
        assert set(judge.offences) == {theirs.uid}
        assert drift.judge(made, "acme", "n1", None) is None


def test_nothing_new_is_put_on_a_node_from_the_moment_it_is_judged() -> None:
    made = engine(node("n1"), node("n2"))
    made.put_node(node("n1", labels={names.REGION_LABEL: "us-1"}))
    released = put(made, *(pod(2) for _ in range(8)))
    assert {release.node for release in released} == {"n2"}
    made.put_node(node("n1"))
    assert {release.node for release in put(made, pod(2))} == {"n1"}


def test_what_a_pool_no_longer_shows_is_named() -> None:
    court = Court()
    asking = replace(policy("eu", "DE", "FR"), needs=(Need("backup"),))
    court.engine.configure((munich(), OHIO, PARIS), [tenant()], [asking])
    court.judge.everything()
    court.judge.look()
    cause, text = court.said
    assert cause is Cause.REQUIREMENT_NOT_MET
    assert (
        text == "node n1 is in pool munich: policy eu requires backup: the pool says nothing of it"
    )

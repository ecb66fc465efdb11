"""A release narrows where a pod may go, and touches nothing but what is ours to touch."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_gpu import names
from sovereign_gpu.cluster import patches
from sovereign_gpu.core import residency
from sovereign_gpu.core.matching import matches
from sovereign_gpu.core.model import Node, Placement, Pool, Release, Requirement, Resources
from tests.cluster.pods import PREFERRED, REQUIRED, pod, read

PRODUCT = names.PRODUCT_LABEL

LABELLED = Pool("munich", "DE", "eu-de-muc", labelled=True)
NARROWED = Pool(
    "munich", "DE", "eu-de-muc", labelled=True, selector=(Requirement(PRODUCT, "In", ("B200",)),)
)
SELECTED = Pool(
    "munich",
    "DE",
    "eu-de-muc",
    labelled=False,
    selector=(Requirement(PRODUCT, "In", ("B200",)), Requirement("broken", "DoesNotExist")),
)
POOLS = (LABELLED, NARROWED, SELECTED)


def node(name: str, **labels: str) -> Node:
    room = Resources(8, 200_000, 2 << 40)
    return Node(name, labels, (), room, room, ready=True, unschedulable=False)


NODES = [
    node(f"n{i}", **{names.NODE_POOL_LABEL: pool, PRODUCT: product, "zone": zone, **more})
    for i, (pool, product, zone, more) in enumerate(
        (pool, product, zone, more)
        for pool in ("munich", "oslo")
        for product in ("B200", "H100")
        for zone in ("a", "b")
        for more in ({}, {"broken": "yes"})
    )
]
NODES += [node("bare"), node("selected", **{PRODUCT: "B200"})]


def places(source: dict[str, Any]) -> set[str]:
    """Return the nodes that kube-scheduler would take for the pod; read from the pod itself."""
    spec = source["spec"]
    required = spec.get("affinity", {}).get("nodeAffinity", {}).get(REQUIRED)
    return {
        each.name
        for each in NODES
        if spec.get("nodeSelector", {}).items() <= each.labels.items()
        and (required is None or any(takes(t, each) for t in required["nodeSelectorTerms"]))
    }


def takes(term: dict[str, Any], each: Node) -> bool:
    labels, fields = term.get("matchExpressions", []), term.get("matchFields", [])
    if not labels and not fields:
        return False
    named = {"metadata.name": each.name}
    return all(matches(asked(e), each.labels) for e in labels) and all(
        matches(asked(e), named) for e in fields
    )


def asked(source: dict[str, Any]) -> Requirement:
    return Requirement(source["key"], source["operator"], tuple(source.get("values", ())))


def of_pool(pool: Pool) -> set[str]:
    return {each.name for each in NODES if residency.pool_of(each, {pool.name: pool}) == pool.name}


def released(
    source: dict[str, Any], pool: Pool = LABELLED, **decision: Any
) -> tuple[dict[str, Any], Release]:
    """Return the pod as it is after the release, as the API server would store it."""
    chosen = {"node": "n0", "pinned": False, **decision}
    made = Release(pod=read(source), tenant="t", pool=pool.name, **chosen)
    return jsonpatch.apply_patch(source, patches.release(made, pool, "me/3")), made


def test_a_release_is_one_patch_that_anybody_can_read() -> None:
    source = pod(meta={"annotations": {"a": "b"}})
    made = Release(read(source), "t", "munich", "n0", pinned=True)
    key = names.POOL_LABEL.replace("/", "~1")
    assert patches.release(made, LABELLED, "me/3") == [
        {"op": "test", "path": "/metadata/uid", "value": "uid-a-p"},
        {"op": "test", "path": "/spec/schedulingGates/0/name", "value": names.GATE},
        {"op": "remove", "path": "/spec/schedulingGates/0"},
        {"op": "add", "path": "/metadata/labels", "value": {names.POOL_LABEL: "munich"}},
        {
            "op": "add",
            "path": f"/metadata/annotations/{names.DECISION.replace('/', '~1')}",
            "value": '{"pool":"munich","node":"n0","pinned":true,"placement":"Pack"}',
        },
        {
            "op": "add",
            "path": f"/metadata/annotations/{names.RELEASED_BY.replace('/', '~1')}",
            "value": "me/3",
        },
        {
            "op": "add",
            "path": "/spec/affinity",
            "value": {
                "nodeAffinity": {
                    REQUIRED: {
                        "nodeSelectorTerms": [
                            {
                                "matchFields": [
                                    {"key": "metadata.name", "operator": "In", "values": ["n0"]}
                                ]
                            }
                        ]
                    }
                }
            },
        },
    ]
    assert key not in json.dumps(source)


def test_what_is_written_is_what_is_read_back() -> None:
    after, _ = released(pod(), pinned=True)
    found = read(after)
    assert (found.pool, found.released_by, found.planned_node) == ("munich", "me/3", "n0")
    assert names.GATE not in found.gates


@pytest.mark.parametrize("pool", POOLS, ids=("labelled", "narrowed", "selected"))
def test_without_a_pin_the_pod_stays_in_the_pool_and_leans_to_its_node(pool: Pool) -> None:
    after, _ = released(pod(), pool)
    assert places(after) == of_pool(pool)
    (preferred,) = after["spec"]["affinity"]["nodeAffinity"][PREFERRED]
    assert preferred["weight"] == 100
    assert preferred["preference"]["matchFields"][0]["values"] == ["n0"]


def test_a_pin_leaves_one_node() -> None:
    after, _ = released(pod(), pinned=True, node="n1")
    assert places(after) == {"n1"}
    assert PREFERRED not in after["spec"]["affinity"]["nodeAffinity"]


def test_a_pool_that_leaves_the_choice_to_kube_scheduler_names_no_node() -> None:
    after, made = released(pod(), placement=Placement.DELEGATE)
    assert places(after) == of_pool(LABELLED)
    assert PREFERRED not in after["spec"]["affinity"]["nodeAffinity"]
    said = json.loads(after["metadata"]["annotations"][names.DECISION])
    assert (said["placement"], said["node"], said["pinned"]) == ("Delegate", made.node, False)
    assert read(after).planned_node == made.node


def test_a_few_named_nodes_are_alternatives() -> None:
    after, _ = released(pod(), spares=("n1", "n2"))
    assert places(after) == {"n0", "n1", "n2"}


def test_a_term_that_matches_nothing_is_left_alone() -> None:
    affinity = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{}, wants("zone", "a")]}}}
    after, _ = released(pod(affinity=affinity))
    terms = after["spec"]["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    assert terms[0] == {}
    assert places(after) < of_pool(LABELLED)


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"uid": "another"}},
        {"spec": {"schedulingGates": [{"name": "example.com/other"}]}},
        {"spec": {"schedulingGates": [{"name": "example.com/other"}, {"name": names.GATE}]}},
        {"spec": {"schedulingGates": []}},
        {"spec": {"schedulingGates": None}},
    ],
)
def test_another_pod_or_another_gate_refuses_the_whole_patch(change: dict[str, Any]) -> None:
    source = pod()
    made = Release(read(source), "t", "munich", "n0", pinned=True)
    for part, fields in change.items():
        source[part] |= fields
    before = copy.deepcopy(source)
    with pytest.raises((jsonpatch.JsonPatchException, jsonpatch.JsonPointerException)):
        jsonpatch.apply_patch(source, patches.release(made, LABELLED, "me/3"))
    assert source == before


def test_a_release_cannot_happen_twice() -> None:
    source = pod()
    after, made = released(source)
    with pytest.raises((jsonpatch.JsonPatchException, jsonpatch.JsonPointerException)):
        jsonpatch.apply_patch(after, patches.release(made, LABELLED, "me/3"))


def test_the_gate_is_found_among_others() -> None:
    gates = [{"name": "example.com/a"}, {"name": names.GATE}, {"name": "example.com/b"}]
    after, _ = released(pod(schedulingGates=gates))
    assert [gate["name"] for gate in after["spec"]["schedulingGates"]] == [
        "example.com/a",
        "example.com/b",
    ]


def wants(key: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": "In", "values": list(values)}]}


names_of_nodes = st.sampled_from([each.name for each in NODES])
expressions = st.one_of(
    st.just({"key": "zone", "operator": "Exists"}),  # else most terms match nothing
    st.builds(
        lambda key, operator, values: {"key": key, "operator": operator, "values": values},
        st.sampled_from([PRODUCT, "zone", names.NODE_POOL_LABEL]),
        st.sampled_from(["In", "NotIn"]),
        st.lists(st.sampled_from(["a", "b", "B200", "H100", "munich"]), min_size=1, max_size=2),
    ),
    st.builds(
        lambda key, operator: {"key": key, "operator": operator},
        st.sampled_from(["broken", "zone"]),
        st.sampled_from(["Exists", "DoesNotExist"]),
    ),
)
fields = st.builds(
    lambda operator, name: {"key": "metadata.name", "operator": operator, "values": [name]},
    st.sampled_from(["In", "NotIn"]),
    names_of_nodes,
)
terms = st.fixed_dictionaries(
    {},
    optional={
        "matchExpressions": st.lists(expressions, max_size=2),
        "matchFields": st.lists(fields, max_size=2),
    },
)
preferences = st.lists(
    st.fixed_dictionaries({"weight": st.integers(1, 100), "preference": terms}),
    min_size=1,
    max_size=2,
)
node_affinities = st.fixed_dictionaries(
    {},
    optional={
        REQUIRED: st.fixed_dictionaries(
            {"nodeSelectorTerms": st.lists(terms, min_size=1, max_size=3)}
        ),
        PREFERRED: preferences,
    },
)
affinities = st.fixed_dictionaries(
    {},
    optional={
        "nodeAffinity": node_affinities,
        "podAntiAffinity": st.just({PREFERRED: [{"weight": 1}]}),
    },
)
metas = st.fixed_dictionaries(
    {},
    optional={
        "labels": st.just({"app": "x", "a/b": "c"}),
        "annotations": st.just({names.REQUESTED_BY: "kim"}),
    },
)


@given(
    affinity=st.none() | affinities,
    selector=st.sampled_from([{}, {"zone": "a"}]),
    meta=metas,
    pool=st.sampled_from(POOLS),
    chosen=names_of_nodes,
    pinned=st.booleans(),
    named=st.booleans(),
    mode=st.sampled_from(Placement),
)
def test_a_release_only_narrows(
    *,
    affinity: dict[str, Any] | None,
    selector: dict[str, str],
    meta: dict[str, Any],
    pool: Pool,
    chosen: str,
    pinned: bool,
    named: bool,
    mode: Placement,
) -> None:
    pinned, named = pinned and mode is Placement.PACK, named and mode is Placement.PACK
    spec = {} if affinity is None else {"affinity": affinity}
    source = pod(meta=copy.deepcopy(meta), nodeSelector=selector, **copy.deepcopy(spec))
    # Named nodes are for pods without terms of their own.
    own_terms = REQUIRED in (affinity or {}).get("nodeAffinity", {})
    spares = ("n3", "n4") if named and not pinned and not own_terms else ()
    before = copy.deepcopy(source)
    after, _ = released(source, pool, node=chosen, pinned=pinned, spares=spares, placement=mode)
    assert source == before

    allowed = {chosen} if pinned else {chosen, *spares} if spares else of_pool(pool)
    if own_terms and not pinned and not pool.labelled:
        allowed -= {each.name for each in NODES if names.NODE_POOL_LABEL in each.labels}
    assert places(after) == places(before) & allowed
    _only_ours_changed(before, after)


def _only_ours_changed(before: dict[str, Any], after: dict[str, Any]) -> None:
    before, after = copy.deepcopy(before), copy.deepcopy(after)
    for part in ("labels", "annotations"):
        had = before["metadata"].pop(part, {})
        has = after["metadata"].pop(part, {})
        added = {key: has.pop(key) for key in set(has) - set(had)}
        assert has == had
        assert set(added) <= {names.POOL_LABEL, names.DECISION, names.RELEASED_BY}
    assert before["spec"].pop("schedulingGates") == [{"name": names.GATE}]
    assert after["spec"].pop("schedulingGates") == []
    had = before["spec"].pop("affinity", {})
    has = after["spec"].pop("affinity")
    had_nodes, has_nodes = had.pop("nodeAffinity", {}), has.pop("nodeAffinity")
    assert has == had  # pod affinities
    wished = had_nodes.get(PREFERRED, [])
    assert has_nodes.get(PREFERRED, [])[: len(wished)] == wished
    for old, new in zip(
        had_nodes.get(REQUIRED, {}).get("nodeSelectorTerms", []),
        has_nodes[REQUIRED]["nodeSelectorTerms"],
        strict=False,
    ):
        for kind in ("matchExpressions", "matchFields"):  # as the API server demands it
            kept = old.get(kind, [])
            assert new.get(kind, [])[: len(kept)] == kept
    assert after == before


def test_the_notice_speaks_in_the_condition_of_the_gate() -> None:
    assert patches.waiting("PoolFull: 3 of 8 are free") == {
        "status": {
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "SchedulingGated",
                    "message": "PoolFull: 3 of 8 are free",
                }
            ]
        }
    }


def test_marks_are_merged_and_removed_by_name() -> None:
    assert patches.metadata(labels={"a": "b", "c": None}) == {
        "metadata": {"labels": {"a": "b", "c": None}}
    }
    assert patches.metadata(annotations={"a": None}, labels={}) == {
        "metadata": {"annotations": {"a": None}}
    }

"""`uninstall`: what it refuses, what it changes, what it leaves, and what it says."""

from __future__ import annotations

from typing import Any

import pytest

from sovereign_gpu import names
from tests.cli.leaving_world import (
    DE,
    DEPLOYMENTS,
    EU,
    LEASE,
    LEASES,
    TEMPLATES,
    World,
    maker,
    meta,
    node,
    path_of,
    pod,
)
from tests.cli.stand import Stand, status_of

JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"


@pytest.fixture
def world(stand: Stand) -> World:
    return World(stand)


# --- what it refuses --------------------------------------------------------------------------
@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--release", "--keep"),
        ("--release", "-n", "acme"),
        ("--keep", "--server", "https://here:1"),
    ],
)
def test_words_that_leave_open_what_is_meant_are_refused(
    stand: Stand, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        stand.type("uninstall", *words)
    assert ended.value.code == 2
    assert "uninstall: error: " in capsys.readouterr().err
    assert stand.asked == []


def test_help_says_what_stays_and_why(capsys: pytest.CaptureFixture[str], stand: Stand) -> None:
    with pytest.raises(SystemExit) as ended:
        stand.type("uninstall", "--help")
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("--release", "--keep", "--dry-run", "DaemonSet", "kubelet"))


def deployment(replicas: int | None) -> dict[str, Any]:
    found = {**maker("x"), **meta("sovereign-gpu", "gpus")}
    if replicas is not None:
        found["spec"]["replicas"] = replicas
    return found


@pytest.mark.parametrize("replicas", [1, None])
def test_it_refuses_while_the_operator_is_wanted_and_says_how_to_end_that(
    world: World, replicas: int | None
) -> None:
    world.put(DEPLOYMENTS, deployment(replicas))
    world.pods(pod("waits", names.GATE))
    code, out, err = world.stand.type("uninstall", "--release")
    assert (code, out) == (1, "")
    assert "kubectl scale deployment sovereign-gpu --namespace gpus --replicas=0" in err
    assert world.stand.changed == {}
    query = next(query for path, query, _ in world.stand.asked if path == DEPLOYMENTS)
    assert query["labelSelector"] == "app.kubernetes.io/name=sovereign-gpu"


def lease(holder: str, renewed: str) -> dict[str, Any]:
    spec = {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 1}
    return {**meta("sovereign-gpu", "sovereign-gpu-system"), "spec": spec}


def test_it_refuses_while_a_lease_is_renewed(world: World) -> None:
    world.put(LEASES, lease("elsewhere", "2026-11-23T03:00:00Z"))
    world.stand.answers[LEASE] = (200, lease("elsewhere", "2026-11-23T03:00:05Z"))
    world.pods(pod("waits", names.GATE))
    code, out, err = world.stand.type("uninstall", "--release")
    assert (code, out) == (1, "")
    assert "lease sovereign-gpu-system/sovereign-gpu is held by elsewhere" in err
    assert world.stand.changed == {}


@pytest.mark.parametrize("then", ["elsewhere", ""])
def test_a_lease_that_is_not_renewed_or_given_back_is_free(world: World, then: str) -> None:
    world.put(DEPLOYMENTS, deployment(0))
    world.put(LEASES, lease("elsewhere", "2026-11-23T03:00:00Z"))
    world.stand.answers[LEASE] = (200, lease(then, "2026-11-23T03:00:00Z"))
    assert world.stand.type("uninstall", "--release")[0] == 0


def test_a_lease_that_nobody_holds_costs_no_time(world: World) -> None:
    world.put(LEASES, lease("", "2026-11-23T03:00:00Z"))
    code, _, err = world.stand.type("uninstall", "--keep")
    assert (code, err) == (0, "")


def test_what_cannot_be_found_out_is_refused(world: World) -> None:
    world.stand.answers[LEASES] = (403, status_of(403, "may not list leases"))
    code, out, err = world.stand.type("uninstall", "--release")
    assert (code, out) == (1, "")
    assert "may not list leases" in err


def test_an_operator_that_comes_back_meanwhile_is_reported(world: World) -> None:
    world.put("/api/v1/namespaces", meta("acme", "", labels={names.TENANT_LABEL: "acme"}))
    usual = world.stand.accept

    def accept(path: str, body: Any) -> None:
        usual(path, body)
        world.put(DEPLOYMENTS, deployment(1))

    world.stand.accept = accept
    code, out, _ = world.stand.type("uninstall", "--keep")
    assert code == 1
    assert "failed: operator: Deployment gpus/sovereign-gpu asks for 1 replicas" in out


# --- pods -------------------------------------------------------------------------------------
def test_our_gate_goes_from_every_pod_and_no_other_gate(world: World) -> None:
    world.pods(pod("first", names.GATE), pod("second", "other", names.GATE), pod("third", "other"))
    assert world.document("--release")["released"] == 2
    assert world.stand.changed.keys() == {path_of("first"), path_of("second")}
    assert world.stand.changed[path_of("second")] == [
        (
            JSON_PATCH,
            {},
            [
                {"op": "test", "path": "/metadata/uid", "value": "uid-second"},
                {"op": "test", "path": "/spec/schedulingGates/1/name", "value": names.GATE},
                {"op": "remove", "path": "/spec/schedulingGates/1"},
            ],
        )
    ]
    query = next(query for path, query, _ in world.stand.asked if path == "/api/v1/pods")
    assert "status.phase!=Succeeded" in query["fieldSelector"]


def test_kept_pods_are_counted_and_the_way_to_free_them_named(world: World) -> None:
    world.pods(pod("first", names.GATE), pod("second", "other"))
    code, out, _ = world.stand.type("uninstall", "--keep")
    assert code == 0
    assert world.stand.changed == {}
    assert "1 pods stay gated; `sovereign-gpu uninstall --release` frees them" in out


def test_a_pod_whose_gates_moved_is_read_again(world: World) -> None:
    now = pod("waits", names.GATE)
    world.pods(now)
    world.stand.refusals[path_of("waits")] = [(422, status_of(422, "test failed"))]
    pages = iter([[pod("waits", "other", names.GATE)]])
    world.stand.answers["/api/v1/pods"] = (
        200,
        lambda: {"metadata": {}, "items": next(pages, world.lists["/api/v1/pods"])},
    )
    assert world.document("--release")["released"] == 1
    places = [body[-1]["path"] for _, _, body in world.stand.changed[path_of("waits")]]
    assert places == ["/spec/schedulingGates/1", "/spec/schedulingGates/0"]


@pytest.mark.parametrize("now", [404, 200])
def test_a_pod_that_went_meanwhile_is_no_failure(world: World, now: int) -> None:
    world.pods(pod("waits", names.GATE))
    world.stand.refusals[path_of("waits")] = [(422, status_of(422, "test failed"))]
    world.stand.answers[path_of("waits")] = (
        now,
        pod("waits") if now == 200 else status_of(404, ""),
    )
    document = world.document("--release")
    assert document["failed"] == []


def test_single_refusals_are_listed_and_the_rest_is_done(world: World) -> None:
    world.pods(pod("first", names.GATE), pod("second", names.GATE))
    denial = (422, status_of(422, "release: found the gate removed by carl"))
    world.stand.refusals[path_of("first")] = [denial] * 9
    code, out, _ = world.stand.type("uninstall", "--release")
    assert code == 1
    assert "1 pods released" in out
    assert "1 pods stay gated, also after helm uninstall" in out
    assert "failed: pod acme/first: 422: release: found the gate removed by carl" in out
    # What is refused for what it is, is not tried for ever.
    assert len(world.stand.changed[path_of("first")]) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(
    world: World, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    world.pods(pod("first", names.GATE))
    world.stand.refusals[path_of("first")] = [(status, status_of(status, "later"))] * 3
    assert world.document("--release")["released"] == 1
    assert len(world.stand.changed[path_of("first")]) == 4


def test_a_server_that_stays_busy_is_an_answer_in_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    world.pods(pod("first", names.GATE))
    world.stand.refusals[path_of("first")] = [(503, status_of(503, "later"))] * 99
    code, out, _ = world.stand.type("uninstall", "--release")
    assert code == 1
    assert "failed: pod acme/first: 503: later" in out


def test_pods_that_were_made_meanwhile_are_released_too(world: World) -> None:
    world.pods(pod("first", names.GATE))
    world.put("/api/v1/namespaces", meta("acme", "", labels={names.TENANT_LABEL: "acme"}))
    usual = world.stand.accept

    def accept(path: str, body: Any) -> None:
        usual(path, body)
        if path == "/api/v1/namespaces/acme":
            world.pods(*world.lists["/api/v1/pods"], pod("late", names.GATE))

    world.stand.accept = accept
    document = world.document("--release")
    assert (document["released"], document["gated"]) == (2, 0)


# --- namespaces -------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["--release", "--keep"])
def test_namespaces_lose_what_the_operator_wrote_and_nothing_else(world: World, how: str) -> None:
    theirs = {"team": "blue", "sovereign-gpu.io/other": "theirs"}
    world.put(
        "/api/v1/namespaces",
        meta(
            "acme",
            "",
            labels={**theirs, **dict.fromkeys(names.NAMESPACE_LABELS, "x")},
            annotations={**theirs, **dict.fromkeys(names.NAMESPACE_ANNOTATIONS, "x")},
        ),
        meta("plain", ""),
    )
    assert world.document(how)["namespaces"] == 1
    ((content_type, _, body),) = world.stand.changed["/api/v1/namespaces/acme"]
    assert content_type == MERGE_PATCH
    assert body["metadata"] == {
        "labels": dict.fromkeys(names.NAMESPACE_LABELS),
        "annotations": dict.fromkeys(names.NAMESPACE_ANNOTATIONS),
    }
    assert "/api/v1/namespaces/plain" not in world.stand.changed


# --- nodes ------------------------------------------------------------------------------------
def test_labels_that_nothing_selects_go_and_pool_labels_stay(world: World) -> None:
    world.put("/api/v1/nodes", node("n-1", EU, DE, names.NODE_MACHINE_LABEL), node("n-2"))
    assert world.document("--keep")["nodes"] == 1
    assert world.labels("n-1") == set()
    ((_, _, body),) = world.stand.changed["/api/v1/nodes/n-1"]
    assert names.NODE_POOL_LABEL not in body["metadata"]["labels"]


@pytest.mark.parametrize("how", ["--release", "--keep"])
def test_a_label_stays_everywhere_while_a_pod_that_selects_it_is_not_bound(
    world: World, how: str
) -> None:
    world.put("/api/v1/nodes", node("n-1", EU, DE), node("n-2", EU))
    world.pods(pod("waits", names.GATE, selects=(EU,)))
    document = world.document(how)
    assert (world.labels("n-1"), world.labels("n-2")) == ({EU}, {EU})
    assert document["stays"] == [f"{EU} on 2 nodes, selected by 1 pods that are not bound yet"]


def test_a_label_stays_where_a_pod_that_selects_it_is_bound(world: World) -> None:
    world.put("/api/v1/nodes", node("n-1", EU), node("n-2", EU))
    world.pods(pod("runs", node="n-1", selects=(EU,)), pod("plain", node="n-2"))
    document = world.document("--release")
    assert (world.labels("n-1"), world.labels("n-2")) == ({EU}, set())
    assert document["stays"] == [f"{EU} on 1 nodes, selected by 1 pods that are bound there"]


def test_a_required_affinity_selects_as_well(world: World) -> None:
    rule = {"key": EU, "operator": "Exists"}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [rule]}, {"matchFields": []}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
    world.put("/api/v1/nodes", node("n-1", EU))
    world.pods(pod("waits", affinity={"nodeAffinity": required}))
    world.document("--release")
    assert world.labels("n-1") == {EU}


@pytest.mark.parametrize("path", [*TEMPLATES[:3], DEPLOYMENTS])
def test_a_label_stays_while_a_template_makes_pods_that_select_it(world: World, path: str) -> None:
    world.put("/api/v1/nodes", node("n-1", EU, DE))
    # The list of the operator's own Deployments is the same path with a selector.
    world.put(path, {**maker("web", EU), "spec": {**maker("web", EU)["spec"], "replicas": 0}})
    (sentence,) = world.document("--release")["stays"]
    assert world.labels("n-1") == {EU}
    assert sentence.endswith(" acme/web")


def test_a_cronjob_has_its_template_deeper(world: World) -> None:
    world.put("/api/v1/nodes", node("n-1", EU))
    spec = {"jobTemplate": {"spec": maker("web", EU)["spec"]}}
    world.put("/apis/batch/v1/cronjobs", {**meta("web"), "spec": spec})
    assert "CronJob acme/web" in world.document("--release")["stays"][0]


def test_a_job_that_has_ended_selects_nothing(world: World) -> None:
    world.put("/api/v1/nodes", node("n-1", EU))
    ended = [{"type": "Complete", "status": "True"}]
    world.put("/apis/batch/v1/jobs", maker("done", EU, conditions=ended))
    assert world.document("--release")["stays"] == []


def test_of_many_templates_some_are_named(world: World) -> None:
    world.put("/api/v1/nodes", node("n-1", EU))
    world.put("/apis/batch/v1/jobs", *(maker(f"job-{number:02}", EU) for number in range(14)))
    (sentence,) = world.document("--release")["stays"]
    assert "job-09, 4 more templates" in sentence
    assert "job-10" not in sentence


def test_nodes_keep_all_when_it_is_not_known_who_selects_what(world: World) -> None:
    world.put("/api/v1/nodes", node("n-1", EU))
    world.stand.answers["/apis/batch/v1/jobs"] = (403, status_of(403, "may not list jobs"))
    code, out, _ = world.stand.type("uninstall", "--release")
    assert code == 1
    assert "failed: nodes: /apis/batch/v1/jobs: 403: may not list jobs" in out
    assert world.labels("n-1") == {EU}


# --- once more, and before --------------------------------------------------------------------
def test_a_second_run_finds_nothing_to_do(world: World) -> None:
    world.put("/api/v1/nodes", node("n-1", EU))
    world.put("/api/v1/namespaces", meta("acme", "", labels={names.TENANT_LABEL: "acme"}))
    world.pods(pod("waits", names.GATE))
    world.document("--release")
    done = {path: len(changes) for path, changes in world.stand.changed.items()}
    again = world.document("--release")
    assert (again["released"], again["namespaces"], again["nodes"]) == (0, 0, 0)
    assert {path: len(changes) for path, changes in world.stand.changed.items()} == done


def test_a_dry_run_is_judged_by_the_server_and_listed(world: World) -> None:
    world.put("/api/v1/nodes", node("n-1", EU, DE))
    world.put("/api/v1/namespaces", meta("acme", "", labels={names.TENANT_LABEL: "acme"}))
    world.pods(pod("waits", names.GATE, selects=(EU,)), pod("barred", names.GATE))
    denial = (403, status_of(403, "not you"))
    world.stand.refusals[path_of("barred")] = [denial]
    code, out, _ = world.stand.type("uninstall", "--release", "--dry-run")
    assert code == 1
    assert out.splitlines() == [
        f"namespace acme: {names.TENANT_LABEL} removed",
        f"node n-1: {DE} removed",
        "pod acme/waits: gate removed",
        "1 pods would be released",
        "1 namespaces would be cleared of labels and annotations",
        "1 nodes would be cleared of labels",
        "1 pods stay gated, also after helm uninstall",
        f"stays: {EU} on 1 nodes, selected by 1 pods that are not bound yet",
        "labels that stay hold nobody up; run this again, also after helm uninstall",
        "failed: pod acme/barred: 403: not you",
    ]
    queries = [query for changes in world.stand.changed.values() for _, query, _ in changes]
    assert queries == [{"dryRun": "All"}] * 4
    assert world.labels("n-1") == {EU, DE}


def test_a_dry_run_goes_on_where_the_operator_runs(world: World) -> None:
    world.put(DEPLOYMENTS, deployment(1))
    world.pods(pod("waits", names.GATE))
    code, out, err = world.stand.type("uninstall", "--release", "--dry-run")
    assert code == 1
    assert "1 pods would be released" in out
    assert err.startswith("without --dry-run this would be refused: Deployment gpus/sovereign-gpu")


def test_progress_is_told_beside_the_answer(world: World) -> None:
    world.pods(*(pod(f"p-{number}", names.GATE) for number in range(40)))
    code, out, err = world.stand.type("uninstall", "--release")
    assert code == 0
    assert "40 pods released" in out
    assert err == "pods: 40 of 40\n"

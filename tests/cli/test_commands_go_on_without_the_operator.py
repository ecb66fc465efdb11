"""Where the operator does not answer, a command works with what its caller may read itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from sovereign_gpu import names
from tests.cli.stand import Stand, status_of

FORBIDDEN = (403, status_of(403, "forbidden"))
OWN = f"/apis/{names.GROUP}/{names.VERSION}"


# --- with the rights of an administrator ------------------------------------------------------
def listing(*items: dict[str, Any]) -> tuple[int, Any]:
    return 200, {"metadata": {"resourceVersion": "7"}, "items": list(items)}


def waiting(name: str, message: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "acme-train",
            "uid": name,
            "creationTimestamp": "2026-11-23T03:00:00Z",
        },
        "spec": {
            "schedulingGates": [{"name": names.GATE}],
            "containers": [{"resources": {"requests": {names.GPU_RESOURCE: "2"}}}],
        },
        "status": {"conditions": [{"type": "PodScheduled", "message": message}]},
    }


def cluster(stand: Stand) -> None:
    """Let everything be read: no quota, one waiting pod."""
    for plural in ("gpupools", "tenantquotas", "dataresidencypolicies"):
        stand.answers[f"{OWN}/{plural}"] = listing()
    labels = {"labels": {names.TENANT_LABEL: "acme"}}
    stand.answers["/api/v1/namespaces"] = listing({"metadata": {"name": "acme-train", **labels}})
    stand.answers["/api/v1/nodes"] = listing()
    stand.answers["/api/v1/pods"] = listing(waiting("train", "Scheduling is blocked"))


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_where_the_operator_is_not_the_cluster_is_read(stand: Stand, status: int) -> None:
    cluster(stand)
    stand.operator("/v1/queue", status_of(status, "not now"), status)
    code, out, err = stand.type("queue", "-A")
    assert code == 0
    assert out.splitlines()[1].endswith("TenantQuotaMissing")
    assert err == (
        f"operator not asked: {status}: not now\nworked out here from the cluster as it is\n"
    )


def test_a_standby_that_answers_is_as_good_as_none(stand: Stand) -> None:
    cluster(stand)
    stand.operator("/v1/why/acme-train/train", {"status": 503, "message": "does not lead"}, 503)
    code, out, _ = stand.type("why", "acme-train/train")
    assert (code, "TenantQuotaMissing" in out) == (4, True)


@pytest.mark.parametrize("words", [("top",), ("nodes",), ("nodes", "-o", "wide")])
def test_the_other_views_are_worked_out_as_well(stand: Stand, words: tuple[str, ...]) -> None:
    cluster(stand)
    code, out, _ = stand.type(*words)
    assert (code, bool(out)) == (0, True)


def test_a_pod_that_the_cluster_does_not_have_is_not_found(stand: Stand) -> None:
    cluster(stand)
    code, out, err = stand.type("why", "acme-train/gone")
    assert (code, out) == (5, "")
    assert err.endswith("error: no unfinished pod gone in namespace acme-train\n")


def test_long_lists_are_read_in_pages(stand: Stand) -> None:
    cluster(stand)
    first = listing(waiting("a", ""))[1]
    first["metadata"]["continue"] = "next"
    stand.answers["/api/v1/pods"] = (200, first)
    stand.answers["/api/v1/pods?continue=next"] = listing(waiting("b", ""))
    assert len(stand.type("queue", "-A", "--no-headers")[1].splitlines()) == 2


def test_a_list_that_is_none_is_an_error(stand: Stand) -> None:
    cluster(stand)
    stand.answers["/api/v1/nodes"] = (200, b"<html>")
    code, _, err = stand.type("queue", "-A")
    assert (code, "error: /api/v1/nodes: not JSON" in err) == (1, True)


def test_a_certificate_is_said_to_be_no_token(stand: Stand) -> None:
    cluster(stand)
    stand.identify({})
    code, _, err = stand.type("queue", "-A")
    assert code == 0
    assert err.startswith("operator not asked: your kubeconfig identifies you by a certificate")
    assert all("Authorization" not in headers for _, _, headers in stand.asked)


def test_an_api_server_that_is_gone_is_an_error(stand: Stand) -> None:
    stand.url = "http://127.0.0.1:1"
    stand.identify({"token": "secret"})
    code, out, err = stand.type("queue")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("error: http://127.0.0.1:1: ")


# --- with the rights of a tenant --------------------------------------------------------------
def tenant(stand: Stand) -> None:
    for path in ("gpupools", "tenantquotas"):
        stand.answers[f"{OWN}/{path}"] = FORBIDDEN
    for path in ("/api/v1/pods", "/api/v1/nodes", "/api/v1/namespaces"):
        stand.answers[path] = FORBIDDEN
    running = waiting("runs", "")
    running["spec"] |= {"nodeName": "n1", "schedulingGates": []}
    free = waiting("free", "")
    free["spec"]["schedulingGates"] = []
    free["status"]["conditions"][0] |= {"reason": "Unschedulable", "message": "0/1 nodes"}
    stand.answers["/api/v1/namespaces/acme-train/pods"] = listing(
        waiting("full", "QuotaExhausted: asks for 2 GPUs"),
        waiting("huge", "NeverFits: asks for 2 GPUs"),
        waiting("held", "Held: waits for the gates of others"),
        waiting("new", "Scheduling is blocked due to non-empty scheduling gates"),
        running,
        free,
    )


def test_a_tenant_is_shown_what_its_pods_were_told(stand: Stand) -> None:
    tenant(stand)
    code, out, err = stand.type("queue", "-n", "acme-train", "-o", "json")
    assert code == 0
    assert err.endswith("showing what you may read yourself: forbidden\n")
    found = {each["name"]: (each["state"], each["reason"]) for each in json.loads(out)["items"]}
    assert found == {
        "full": ("Waiting", "QuotaExhausted"),
        "huge": ("Waiting", "NeverFits"),
        "held": ("Held", "Held"),
        "new": ("Waiting", ""),
        "free": ("Released", "CannotBind"),
    }


@pytest.mark.parametrize(
    ("name", "code"), [("runs", 0), ("full", 3), ("new", 3), ("huge", 4), ("free", 4), ("gone", 5)]
)
def test_why_has_the_same_codes_for_a_tenant(stand: Stand, name: str, code: int) -> None:
    tenant(stand)
    assert stand.type("why", name, "-n", "acme-train")[0] == code


@pytest.mark.parametrize("view", ["queue", "top", "nodes"])
def test_a_tenant_is_not_shown_the_cluster(stand: Stand, view: str) -> None:
    tenant(stand)
    code, out, err = stand.type(view, "-A")
    assert (code, out, err.splitlines()[-1]) == (1, "", "error: forbidden")


def test_totals_come_from_the_status_of_the_quota(stand: Stand) -> None:
    tenant(stand)
    meta = {"name": "acme-train", "labels": {names.TENANT_LABEL: "acme"}}
    stand.answers["/api/v1/namespaces/acme-train"] = (200, {"metadata": meta})
    quota = {
        "metadata": {"name": "acme"},
        "spec": {"weight": 3},
        "status": {"pools": [{"name": "munich", "guaranteed": 16, "used": 4}]},
    }
    stand.answers[f"{OWN}/tenantquotas/acme"] = (200, quota)
    _, out, _ = stand.type("top", "-n", "acme-train", "--no-headers")
    assert out.split()[:4] == ["acme", "munich", "16", "4"]
    meta["labels"].clear()
    assert "belongs to no tenant" in stand.type("top", "-n", "acme-train")[2]


def test_pools_come_from_their_status(stand: Stand) -> None:
    tenant(stand)
    pool = {
        "metadata": {"name": "munich", "uid": "1", "resourceVersion": "7"},
        "spec": {"location": {"region": "eu-de-muc"}},
        "status": {"nodes": {"enrolled": 2}, "gpus": {"capacity": 16, "free": 3}},
    }
    stand.answers[f"{OWN}/gpupools"] = (200, listing(pool)[1])
    _, out, _ = stand.type("nodes", "--no-headers")
    assert out.split()[:7] == ["munich", "eu-de-muc", "-", "2", "16", "-", "3"]


@pytest.mark.parametrize("everything", [True, False])
def test_what_is_worked_out_here_can_be_yaml_too(stand: Stand, *, everything: bool) -> None:
    (cluster if everything else tenant)(stand)
    pod = "acme-train/train" if everything else "acme-train/free"
    for words in (("queue", "-n", "acme-train"), ("why", pod)):
        _, out, _ = stand.type(*words, "-o", "yaml")
        assert yaml.safe_load(out)

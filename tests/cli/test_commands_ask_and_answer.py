"""What a command asks of whom, what it prints, and with which code it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sovereign_gpu import __version__, names
from sovereign_gpu.cli import arguments, command
from tests.cli.stand import PROXY, Stand, row, status_of, why

TREE = Path(__file__).parents[2]
QUEUE = {"items": [row("a")], "others": {"pods": 0, "gpus": 0}, "continue": ""}
FORBIDDEN = (403, status_of(403, "forbidden"))
OWN = f"/apis/{names.GROUP}/{names.VERSION}"


# --- the operator -----------------------------------------------------------------------------
def test_the_operator_is_asked_through_the_api_server(stand: Stand) -> None:
    stand.operator("/v1/queue", QUEUE)
    code, out, err = stand.type("queue", "-n", "acme-train")
    assert (code, err) == (0, "")
    assert out.splitlines()[1].startswith("1          a      acme-train")
    ((path, query, headers),) = stand.asked
    assert path == f"{PROXY}/v1/queue"
    assert query == {"limit": "1000", "namespace": "acme-train"}
    assert headers["Authorization"] == "Bearer secret"
    assert headers[names.CALLER_HEADER] == "secret"


def test_pages_are_joined(stand: Stand) -> None:
    stand.operator("/v1/queue", {**QUEUE, "continue": "more"})
    stand.operator("/v1/queue?continue=more", {**QUEUE, "items": [row("b")]})
    _, out, _ = stand.type("queue", "-A", "-o", "json")
    found = json.loads(out)
    assert [each["name"] for each in found["items"]] == ["a", "b"]
    assert found.keys() == {"items", "others"}
    assert all("namespace" not in query for _, query, _ in stand.asked)


@pytest.mark.parametrize(
    ("words", "namespace"),
    [
        (("queue",), "usual"),
        (("queue", "-n", "other"), "other"),
        (("-n", "other", "queue"), "other"),
        (("queue", "-A"), None),
        (("top", "-A", "-n", "other"), None),
    ],
)
def test_the_namespace_is_that_of_the_flags_or_of_the_context(
    stand: Stand, words: tuple[str, ...], namespace: str | None
) -> None:
    stand.identify({"token": "secret"}, namespace="usual")
    stand.operator("/v1/queue", QUEUE)
    stand.operator("/v1/top", {"items": [], "others": [], "totals": {}})
    assert stand.type(*words)[0] == 0
    assert stand.asked[0][1].get("namespace") == namespace


@pytest.mark.parametrize("said", ["acme-train/train", "pod/train", "train"])
def test_a_pod_may_be_named_with_its_namespace(stand: Stand, said: str) -> None:
    stand.operator("/v1/why/acme-train/train", why())
    assert stand.type("why", said, "-n", "acme-train")[0] == 3


def test_why_is_asked_of_one_pod(stand: Stand) -> None:
    code, _, err = stand.type("why", "train", "-A")
    assert (code, stand.asked) == (1, [])
    assert "NAMESPACE/POD" in err


def test_nodes_are_asked_for_one_by_one_when_wide(stand: Stand) -> None:
    stand.operator("/v1/nodes", {"items": []})
    stand.type("nodes", "-o", "wide")
    stand.type("nodes")
    assert [query.get("by") for _, query, _ in stand.asked] == ["node", None]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (why(state="Running", reason=""), 0),
        (why(state="Released", reason=""), 0),
        (why(passesByItself=True), 3),
        (why(reason="", passesByItself=True), 3),
        (why(passesByItself=False), 4),
        (why(state="Released", reason="CannotBind", passesByItself=False), 4),
    ],
)
def test_the_exit_code_of_why_says_whether_to_act(
    stand: Stand, answer: dict[str, Any], code: int
) -> None:
    stand.operator("/v1/why/default/train", answer)
    assert stand.type("why", "train")[0] == code


@pytest.mark.parametrize(("status", "code"), [(400, 1), (401, 1), (403, 1), (404, 5)], ids=str)
def test_a_refusal_of_the_operator_is_the_answer(stand: Stand, status: int, code: int) -> None:
    refusal = {"status": status, "message": "not for you"}
    stand.operator("/v1/why/default/train", refusal, status)
    assert stand.type("why", "train") == (code, "", "error: not for you\n")
    assert len(stand.asked) == 1


def test_another_namespace_of_the_operator_can_be_named(stand: Stand) -> None:
    stand.answers[PROXY.replace("sovereign-gpu-system", "gpus") + "/v1/queue"] = (200, QUEUE)
    assert stand.type("queue", "--operator-namespace", "gpus")[0] == 0


# --- without the operator ---------------------------------------------------------------------
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


# --- forms of the answer ----------------------------------------------------------------------
def test_an_answer_can_be_yaml(stand: Stand) -> None:
    stand.operator("/v1/why/default/train", why(message="one line: with a colon " * 20))
    _, out, _ = stand.type("why", "train", "-o", "yaml")
    assert yaml.safe_load(out) == why(message="one line: with a colon " * 20)


@pytest.mark.parametrize("everything", [True, False])
def test_what_is_worked_out_here_can_be_yaml_too(stand: Stand, *, everything: bool) -> None:
    (cluster if everything else tenant)(stand)
    pod = "acme-train/train" if everything else "acme-train/free"
    for words in (("queue", "-n", "acme-train"), ("why", pod)):
        _, out, _ = stand.type(*words, "-o", "yaml")
        assert yaml.safe_load(out)


def test_somebody_who_pages_may_leave(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.operator("/v1/queue", QUEUE)
    reading, writing = os.pipe()
    os.close(reading)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 – closed by the command itself
        monkeypatch.setattr(sys, "stderr", nowhere)
        out = os.fdopen(writing, "w", buffering=1)
        words = ("queue", "--kubeconfig", str(stand.kubeconfig))
        assert command.main(words, out) == 0
    with pytest.raises(BrokenPipeError):
        out.close()


def test_a_kubeconfig_that_is_not_there_is_an_error(stand: Stand) -> None:
    code, out, err = stand.type("queue", "--context", "elsewhere")
    assert (code, out) == (1, "")
    assert "contexts[name=elsewhere]" in err


# --- the command line -------------------------------------------------------------------------
@pytest.mark.parametrize(
    "words",
    [
        (),
        ("who",),
        ("why",),
        ("queue", "--request-timeout", "0"),
        ("queue", "--request-timeout", "2h"),
        ("queue", "--request-timeout", "soon"),
        ("queue", "-o", "xml"),
        ("queue", "--name", "x"),
        ("queue", "extra"),
    ],
)
def test_words_that_make_no_command_end_with_2(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        arguments.parse(words)
    assert caught.value.code == 2
    assert "usage: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "seconds"), [("5", 5), ("500ms", 0.5), ("1.5s", 1.5), ("1m", 60), ("1h", 3600)]
)
def test_time_outs_are_written_as_for_kubectl(said: str, seconds: float) -> None:
    assert arguments.parse(("queue", "--request-timeout", said)).request_timeout == seconds


def test_flags_may_stand_on_either_side_of_the_command() -> None:
    before = arguments.parse(("-n", "a", "--no-headers", "queue"), {})
    after = arguments.parse(("queue", "-n", "a", "--no-headers"), {})
    assert before == after


@pytest.mark.parametrize(
    ("called", "shown"),
    [("kubectl-sovereign_gpu", "kubectl sovereign-gpu"), ("sovereign-gpu", "sovereign-gpu")],
)
def test_help_speaks_as_it_was_called_and_has_the_exit_codes(
    called: str,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [f"/usr/local/bin/{called}"])
    with pytest.raises(SystemExit) as caught:
        arguments.parse(("why", "--help"))
    out = capsys.readouterr().out
    assert caught.value.code == 0
    assert out.startswith(f"usage: {shown} why ")
    for code in range(6):
        assert f"\n  {code}  " in out


def _python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 – ourselves
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(TREE / "operator")},
    )


def test_a_command_starts_without_what_it_does_not_need() -> None:
    heavy = "{'aiohttp', 'asyncio', 'cryptography', 'kopf', 'prometheus_client', 'pydantic'}"
    script = f"import sys, sovereign_gpu.cli.command; print({heavy} & sys.modules.keys())"
    assert _python("-c", script).stdout == "set()\n"


def test_the_first_word_chooses_between_people_and_the_operator() -> None:
    assert _python("-m", "sovereign_gpu", "--version").stdout == f"{__version__}\n"
    assert "--lease-seconds" in _python("-m", "sovereign_gpu", "operator", "--help").stdout

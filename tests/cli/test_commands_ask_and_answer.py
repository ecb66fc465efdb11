"""What a command asks the operator, what it prints, and with which code it ends."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest
import yaml

from sovereign_gpu import names
from sovereign_gpu.cli import command
from tests.cli.stand import PROXY, Stand, row, why

QUEUE = {"items": [row("a")], "others": {"pods": 0, "gpus": 0}, "continue": ""}


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


# --- forms of the answer ----------------------------------------------------------------------
def test_an_answer_can_be_yaml(stand: Stand) -> None:
    stand.operator("/v1/why/default/train", why(message="one line: with a colon " * 20))
    _, out, _ = stand.type("why", "train", "-o", "yaml")
    assert yaml.safe_load(out) == why(message="one line: with a colon " * 20)


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

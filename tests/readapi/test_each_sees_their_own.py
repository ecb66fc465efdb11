"""What is shown follows the rights of whoever asks; of others there are numbers, never names."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import Pod, Share
from tests.core.build import engine, munich, node, pod, put, tenant
from tests.readapi.desk import Desk, desk

SECRETS = ("bolt", "bolt-train", "b-run", "b-wait", "a-serve", "acme-serve", "paris", "n2")


def named(name: str, gpus: int, namespace: str) -> Pod:
    return pod(gpus, namespace, name=name, uid=name)


def busy() -> Engine:
    made = engine(
        node("n1"),
        node("n2"),
        node("p1", pool="paris"),
        pools=(munich(), munich(name="paris")),
        tenants=(
            tenant("acme", 2, namespaces=("acme-train", "acme-serve")),
            tenant("bolt", shares=(Share("munich", 4), Share("paris", 8))),
        ),
    )
    put(made, named("a-run", 2, "acme-train"), named("b-run", 4, "bolt-train"))
    put(
        made,
        named("a-serve", 1, "acme-serve"),
        named("a-wait", 1, "acme-train"),
        named("b-wait", 8, "bolt-train"),
        named("b-wait-too", 8, "bolt-train"),
    )
    return made


@pytest.fixture
async def open_desk() -> AsyncIterator[Desk]:
    async with desk(busy()) as made:
        made.registrar.people |= {
            "acme": {("pods", "acme-train")},
            "nobody": set(),
            "auditor": {("pods", "")},
            "finance": {("tenantquotas", "")},
            "hardware": {("nodes", "")},
        }
        yield made


def unspoken(document: object) -> bool:
    return not any(f'"{secret}"' in str(document).replace("'", '"') for secret in SECRETS)


async def test_whoever_may_list_everything_sees_everything(open_desk: Desk) -> None:
    status, queue = await open_desk.ask("/v1/queue")
    assert status == 200
    assert {row["tenant"] for row in queue["items"]} == {"acme", "bolt"}
    assert queue["others"] == {"pods": 0, "gpus": 0}
    status, top = await open_desk.ask("/v1/top")
    assert [(r["tenant"], r["pool"]) for r in top["items"]] == [
        ("acme", "munich"),
        ("bolt", "munich"),
        ("bolt", "paris"),
    ]
    status, nodes = await open_desk.ask("/v1/nodes?by=node")
    assert [row["node"] for row in nodes["items"]] == ["n1", "n2", "p1"]


async def test_a_tenant_sees_the_pods_of_its_namespace(open_desk: Desk) -> None:
    status, queue = await open_desk.ask("/v1/queue?namespace=acme-train", "acme")
    assert status == 200
    assert {row["name"] for row in queue["items"]} == {"a-run", "a-wait"}
    assert queue["others"]["pods"] == 4
    assert unspoken(queue)


async def test_a_tenant_sees_its_totals_and_the_others_as_one(open_desk: Desk) -> None:
    status, top = await open_desk.ask("/v1/top?namespace=acme-train", "acme")
    assert status == 200
    assert [row["tenant"] for row in top["items"]] == ["acme"]
    assert [(row["tenant"], row["pool"], row["guaranteed"]) for row in top["others"]] == [
        ("", "munich", None)
    ]
    assert unspoken(top)


async def test_a_tenant_sees_its_pools_without_names_of_nodes(open_desk: Desk) -> None:
    status, nodes = await open_desk.ask("/v1/nodes?namespace=acme-train", "acme")
    assert (status, [row["pool"] for row in nodes["items"]]) == (200, ["munich"])
    assert unspoken(nodes)
    status, refused = await open_desk.ask("/v1/nodes?by=node&namespace=acme-train", "acme")
    assert (status, refused["message"]) == (403, "user-of-acme may not list nodes in the cluster")


async def test_a_tenant_learns_why_its_own_pod_waits(open_desk: Desk) -> None:
    status, why = await open_desk.ask("/v1/why/acme-train/a-wait", "acme")
    assert (status, why["reason"], why["position"]) == (200, "QuotaExhausted", 2)
    assert unspoken(why)


@pytest.mark.parametrize("pod", ["b-wait", "no-such-pod"])
async def test_the_pods_of_another_cannot_be_told_from_none(open_desk: Desk, pod: str) -> None:
    found = await open_desk.ask(f"/v1/why/bolt-train/{pod}", "acme")
    assert found == (
        403,
        {"status": 403, "message": "user-of-acme may not list pods in namespace bolt-train"},
    )


async def test_that_there_is_no_such_pod_is_told_to_who_may_know(open_desk: Desk) -> None:
    status, said = await open_desk.ask("/v1/why/acme-train/b-wait", "acme")
    assert (status, said["message"]) == (404, "no unfinished pod b-wait in namespace acme-train")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/queue",
        "/v1/queue?namespace=bolt-train",
        "/v1/queue?namespace=acme-serve",
        "/v1/top",
        "/v1/top?namespace=bolt-train",
        "/v1/nodes",
        "/v1/nodes?namespace=bolt-train",
        "/v1/why/acme-serve/a-serve",
    ],
)
async def test_a_tenant_is_refused_what_is_not_its_own(open_desk: Desk, path: str) -> None:
    status, said = await open_desk.ask(path, "acme")
    assert status == 403
    assert said.keys() == {"status", "message"}


@pytest.mark.parametrize("path", ["/v1/queue", "/v1/top", "/v1/nodes", "/v1/why/acme-train/a-run"])
async def test_whoever_has_no_right_sees_nothing(open_desk: Desk, path: str) -> None:
    for query in ("", "?namespace=acme-train"):
        assert (await open_desk.ask(path + query, "nobody"))[0] == 403


async def test_all_pods_alone_do_not_show_all_tenants(open_desk: Desk) -> None:
    status, said = await open_desk.ask("/v1/queue", "auditor")
    assert (status, said["message"]) == (
        403,
        "user-of-auditor may not list tenantquotas.sovereign-gpu.io in the whole cluster",
    )
    assert (await open_desk.ask("/v1/queue?namespace=bolt-train", "auditor"))[0] == 200
    status, top = await open_desk.ask("/v1/top?namespace=acme-train", "auditor")
    assert [row["tenant"] for row in top["items"]] == ["acme"]


async def test_all_tenants_alone_do_not_show_pods(open_desk: Desk) -> None:
    status, top = await open_desk.ask("/v1/top", "finance")
    assert (status, len(top["items"])) == (200, 3)
    assert (await open_desk.ask("/v1/nodes", "finance"))[0] == 200
    assert (await open_desk.ask("/v1/queue", "finance"))[0] == 403
    assert (await open_desk.ask("/v1/nodes?by=node", "finance"))[0] == 403


async def test_nodes_alone_show_neither_pods_nor_tenants(open_desk: Desk) -> None:
    status, nodes = await open_desk.ask("/v1/nodes?by=node", "hardware")
    assert (status, len(nodes["items"])) == (200, 3)
    assert (await open_desk.ask("/v1/top", "hardware"))[0] == 403


async def test_a_namespace_of_no_tenant_has_no_totals(open_desk: Desk) -> None:
    open_desk.registrar.people["guest"] = {("pods", "lab")}
    status, top = await open_desk.ask("/v1/top?namespace=lab", "guest")
    assert (status, top["items"], top["others"]) == (200, [], [])
    assert (await open_desk.ask("/v1/nodes?namespace=lab", "guest"))[1]["items"] == []
    status, queue = await open_desk.ask("/v1/queue?namespace=lab", "guest")
    assert (status, queue["items"], queue["others"]["pods"]) == (200, [], 6)

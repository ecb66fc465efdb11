"""Who asks is known, reviews are few, answers come in pages, and what is wrong is said in JSON."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest

from sovereign_gpu.readapi import reviews as reviews_module
from sovereign_gpu.readapi import server as server_module
from sovereign_gpu.readapi.certificate import server_context
from tests.core.build import engine, node, pod, put, tenant
from tests.readapi.desk import Desk, desk

PODS = 25


@pytest.fixture
async def open_desk() -> AsyncIterator[Desk]:
    made = engine(node("n1"), node("n2"), tenants=(tenant(guaranteed=1), tenant("bolt", 1)))
    put(made, *(pod(1, name=f"p{n:02}", created=float(n)) for n in range(PODS)))
    put(made, pod(1, "bolt-train"))
    async with desk(made) as opened:
        yield opened


# --- who asks ---------------------------------------------------------------------------------
async def test_without_a_token_nothing_is_asked_of_anybody(open_desk: Desk) -> None:
    status, said = await open_desk.ask("/v1/queue", None)
    assert (status, said["message"]) == (
        401,
        "no bearer token in Sovereign-Gpu-Token or Authorization",
    )
    assert not open_desk.registrar.asked


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_the_usual_header_does_where_nobody_takes_it_away(
    open_desk: Desk, scheme: str
) -> None:
    headers = {"Authorization": f"{scheme} all"}
    assert (await open_desk.ask("/v1/queue", None, headers))[0] == 200


async def test_our_header_counts_before_the_usual_one(open_desk: Desk) -> None:
    headers = {"Authorization": "Bearer all"}
    assert (await open_desk.ask("/v1/queue", "forged", headers))[0] == 401


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "all"])
async def test_other_schemes_are_no_token(open_desk: Desk, header: str) -> None:
    assert (await open_desk.ask("/v1/queue", None, {"Authorization": header}))[0] == 401


async def test_a_token_that_nobody_holds_is_refused(open_desk: Desk) -> None:
    status, said = await open_desk.ask("/v1/queue", "forged")
    assert (status, said["message"]) == (401, "the API server does not accept the token")


# --- reviews ----------------------------------------------------------------------------------
async def test_answers_of_the_api_server_hold_for_ten_seconds(open_desk: Desk) -> None:
    for _ in range(5):
        await open_desk.ask("/v1/queue")
        await open_desk.ask("/v1/queue", "forged")
    assert open_desk.registrar.asked == {"token": 2, "access": 2}
    open_desk.registrar.people["all"].clear()
    open_desk.clock.now += 9.9
    assert (await open_desk.ask("/v1/queue"))[0] == 200
    open_desk.clock.now += 0.2
    assert (await open_desk.ask("/v1/queue"))[0] == 403


async def test_a_right_of_one_is_not_the_right_of_another(open_desk: Desk) -> None:
    assert (await open_desk.ask("/v1/queue"))[0] == 200
    open_desk.registrar.people["other"] = set()
    assert (await open_desk.ask("/v1/queue", "other"))[0] == 403


async def test_only_so_many_answers_are_remembered(
    open_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviews_module, "_MOST_REMEMBERED", 3)
    for number in range(4):
        await open_desk.ask("/v1/queue", f"forged-{number}")
    await open_desk.ask("/v1/queue", "forged-3")
    assert open_desk.registrar.asked["token"] == 4
    await open_desk.ask("/v1/queue", "forged-0")
    assert open_desk.registrar.asked["token"] == 5


async def test_a_flood_of_tokens_reaches_the_api_server_a_few_at_a_time(open_desk: Desk) -> None:
    open_desk.registrar.gate = asyncio.Event()
    asked = [asyncio.create_task(open_desk.ask("/v1/queue", f"forged-{n}")) for n in range(60)]
    await open_desk.registrar.crowded.wait()
    open_desk.registrar.gate.set()
    assert {status for status, _ in await asyncio.gather(*asked)} == {401}
    assert open_desk.registrar.most_at_a_time == 16


@pytest.mark.parametrize("status", [500, 403])
async def test_without_an_answer_of_the_api_server_nothing_is_shown(
    open_desk: Desk, status: int
) -> None:
    open_desk.registrar.broken = status
    status, said = await open_desk.ask("/v1/queue")
    assert (status, said["message"]) == (
        503,
        "the API server did not say who you are or what you may see",
    )


# --- the process ------------------------------------------------------------------------------
async def test_a_process_that_does_not_lead_keeps_no_books(open_desk: Desk) -> None:
    open_desk.leading = False
    status, said = await open_desk.ask("/v1/queue")
    assert status == 503
    assert "does not lead" in said["message"]


async def test_too_many_questions_at_a_time_are_turned_away(
    open_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_AT_A_TIME", 2)
    open_desk.registrar.gate = asyncio.Event()
    asked = [asyncio.create_task(open_desk.ask("/v1/queue")) for _ in range(5)]
    done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result()[0] for task in done} == {503}
    open_desk.registrar.gate.set()
    answers = await asyncio.gather(*asked)
    assert sorted(status for status, _ in answers) == [200, 200, 503, 503, 503]


async def test_an_answer_that_takes_too_long_is_none(
    open_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_SECONDS", 0.05)
    open_desk.registrar.gate = asyncio.Event()
    status, said = await open_desk.ask("/v1/queue")
    assert (status, said["message"]) == (503, "no answer within 0 s")
    open_desk.registrar.gate.set()


async def test_a_failure_of_ours_tells_nothing_of_the_inside(
    open_desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("bolt")

    monkeypatch.setattr(server_module.views, "queue_page", fail)
    status, said = await open_desk.ask("/v1/queue")
    assert status == 500
    assert "bolt" not in said["message"]
    assert "KeyError" in caplog.text


# --- pages and words --------------------------------------------------------------------------
async def test_the_queue_comes_in_pages(open_desk: Desk) -> None:
    whole = (await open_desk.ask("/v1/queue"))[1]["items"]
    found, more = [], ""
    while True:
        page = (await open_desk.ask(f"/v1/queue?limit=7&continue={more}"))[1]
        assert len(page["items"]) <= 7
        found += page["items"]
        more = page["continue"]
        if not more:
            break
    assert found == whole
    assert len(whole) == PODS + 1


@pytest.mark.parametrize("view", ["top", "nodes?by=node"])
async def test_other_lists_come_in_pages_too(open_desk: Desk, view: str) -> None:
    mark = "&" if "?" in view else "?"
    whole = (await open_desk.ask(f"/v1/{view}"))[1]["items"]
    assert len(whole) == 2
    first = (await open_desk.ask(f"/v1/{view}{mark}limit=1"))[1]
    path = f"/v1/{view}{mark}limit=1&continue={first['continue']}"
    second = (await open_desk.ask(path))[1]
    assert [*first["items"], *second["items"]] == whole
    assert second["continue"] == ""


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1e3", "٣", "9" * 5000])
async def test_pages_have_a_size(open_desk: Desk, limit: str) -> None:
    status, said = await open_desk.ask(f"/v1/queue?limit={limit}")
    assert (status, said["message"][:12]) == (400, "limit: found")


@pytest.mark.parametrize(
    "token", ["x", "bnVsbA==", "W10=", "WyJhIl0=", "WzEsIDIsIDMsIDQsIDVd", "e30="]
)
@pytest.mark.parametrize("view", ["queue", "top"])
async def test_a_made_up_place_is_refused(open_desk: Desk, view: str, token: str) -> None:
    status, said = await open_desk.ask(f"/v1/{view}?continue={token}")
    assert (status, said["message"]) == (400, "continue: found no value of an earlier answer")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/why/UPPER/x",
        "/v1/why/acme-train/%20x",
        "/v1/why/acme-train/a%2Fb",
        "/v1/queue?namespace=a%20b",
        "/v1/queue?namespace=" + "a" * 300,
    ],
)
async def test_what_is_no_name_is_no_question(open_desk: Desk, path: str) -> None:
    status, said = await open_desk.ask(path)
    assert (status, said["message"][:7]) == (400, "no name")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/secrets", "/metrics"])
async def test_nothing_else_is_served(open_desk: Desk, path: str) -> None:
    assert (await open_desk.ask(path))[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_nothing_can_be_changed(open_desk: Desk, method: str) -> None:
    url = f"{open_desk.url}/v1/queue"
    async with open_desk.session.request(method, url, ssl=False) as answer:
        assert answer.status == 405


async def test_an_address_that_is_taken_is_an_error_at_the_start(open_desk: Desk) -> None:
    port = int(open_desk.url.rpartition(":")[2])
    read = server_module.ReadApi(open_desk.engine, None, lambda: True)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="in use"):
        await read.serve("127.0.0.1", port)


# --- TLS --------------------------------------------------------------------------------------
async def test_nothing_is_said_in_the_clear(open_desk: Desk) -> None:
    with pytest.raises(aiohttp.ClientError):
        await open_desk.session.get(open_desk.url.replace("https", "http") + "/v1/queue")


def test_each_process_makes_its_own_certificate_and_no_file(tmp_path: object) -> None:
    first, second = server_context(), server_context()
    assert first.minimum_version is ssl.TLSVersion.TLSv1_2
    assert first is not second
    assert tmp_path

"""Refused means that nothing was written; everything that is not sure is uncertain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from sovereign_gpu.cluster.errors import ApiError, ConfigurationError, UncertainError
from sovereign_gpu.cluster.session import JSON_PATCH, METADATA_ONLY, Api, Credentials
from tests.contract.fake_api import Answer, FakeApi

PODS = "/api/v1/namespaces/a/pods"


@asynccontextmanager
async def answering(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """Serve one handler for all requests."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def patch(api: Api, *, timeout: float = 5.0) -> bytes:  # noqa: ASYNC109
    return await api.request(
        "PATCH", f"{PODS}/p", [], content_type=JSON_PATCH, accept=METADATA_ONLY, timeout=timeout
    )


async def test_a_request_carries_what_the_server_needs_to_know(fake: FakeApi, api: Api) -> None:
    fake.put(PODS, "p", {})
    await api.request(
        "PATCH", f"{PODS}/p", [{"op": "x"}], query={"a b": "c&d"}, content_type=JSON_PATCH
    )
    seen = fake.seen[0]
    assert seen.body == [{"op": "x"}]
    assert seen.query == {"a b": "c&d"}
    assert seen.headers["Content-Type"] == JSON_PATCH
    assert seen.headers["User-Agent"] == "test"
    assert "gzip" not in seen.headers["Accept-Encoding"]


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 409, 410, 413, 422, 429])
async def test_these_answers_mean_that_nothing_was_written(
    fake: FakeApi, api: Api, status: int
) -> None:
    fake.answers["PATCH", PODS].append(Answer(status=status, message="because"))
    with pytest.raises(ApiError) as caught:
        await patch(api)
    assert (caught.value.status, caught.value.message) == (status, "because")
    assert str(caught.value) == f"{status}: because"


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_these_answers_leave_it_open(fake: FakeApi, api: Api, status: int) -> None:
    fake.answers["PATCH", PODS].append(Answer(status=status, message="because"))
    with pytest.raises(UncertainError, match=f"PATCH {PODS}/p: {status}: because"):
        await patch(api)


async def test_no_answer_leaves_it_open(fake: FakeApi, api: Api) -> None:
    fake.answers["PATCH", PODS].append(Answer(cut=True, applied=True))
    with pytest.raises(UncertainError, match="PATCH"):
        await patch(api)


async def test_a_late_answer_leaves_it_open(fake: FakeApi, api: Api) -> None:
    late = asyncio.Event()
    fake.answers["PATCH", PODS].append(Answer(until=late))
    with pytest.raises(UncertainError, match="TimeoutError"):
        await patch(api, timeout=0.05)
    late.set()


async def test_no_server_leaves_it_open(unused_tcp_port: int) -> None:
    api = Api(Credentials(server=f"http://127.0.0.1:{unused_tcp_port}"), user_agent="test")
    with pytest.raises(UncertainError, match="Connect"):
        await patch(api)
    await api.close()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("0", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-3", None), ("inf", None)],
)
async def test_what_the_server_asks_to_wait_is_told(
    fake: FakeApi, api: Api, header: str, seconds: float | None
) -> None:
    for status, kind in ((429, ApiError), (503, UncertainError)):
        fake.answers["PATCH", PODS].append(Answer(status=status, headers={"Retry-After": header}))
        with pytest.raises(kind) as caught:
            await patch(api)
        assert caught.value.retry_after == seconds


async def test_an_error_page_of_a_proxy_becomes_a_message() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(status=403, body=b"<h1>\xff no</h1>", content_type="text/html")

    async with answering(page) as url:
        api = Api(Credentials(server=url), user_agent="test")
        with pytest.raises(ApiError, match="<h1>"):
            await api.get("/api")
        await api.close()


@pytest.mark.parametrize("body", ["[]", '{"message": null}', "{}", '"x"'])
async def test_an_error_of_another_shape_is_still_an_error(body: str) -> None:
    async def odd(_: web.Request) -> web.Response:
        return web.Response(status=418, text=body)

    async with answering(odd) as url:
        api = Api(Credentials(server=url), user_agent="test")
        with pytest.raises(ApiError) as caught:
            await api.get("/api")
        assert caught.value.status == 418
        await api.close()


async def test_an_answer_that_is_not_json_is_uncertain() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>login</html>")

    async with answering(page) as url:
        api = Api(Credentials(server=url), user_agent="test")
        with pytest.raises(UncertainError, match="not JSON"):
            await api.get("/api")
        await api.close()


async def test_a_redirect_is_not_followed_with_our_token() -> None:
    async def elsewhere(request: web.Request) -> web.Response:
        if request.path == "/stolen":
            raise AssertionError
        return web.Response(status=307, headers={"Location": "/stolen"})

    async with answering(elsewhere) as url:
        api = Api(Credentials(server=url, token="secret"), user_agent="test")  # noqa: S106
        with pytest.raises(ApiError, match="307"):
            await patch(api)
        await api.close()


async def test_the_lease_does_not_wait_behind_many_writes(fake: FakeApi, api: Api) -> None:
    stuck = asyncio.Event()
    fake.always = lambda seen: Answer(until=stuck) if seen.method == "PATCH" else None
    fake.put("/leases", "l", {})
    writes = [asyncio.create_task(patch(api)) for _ in range(150)]
    await fake.until(lambda: fake.open_writes == 150)
    assert (await api.get("/leases/l"))["metadata"]["name"] == "l"
    stuck.set()
    await asyncio.gather(*writes)


def replace(file: Path, token: str) -> None:
    file.write_text(token)


class TestToken:
    """A projected token is replaced while we run."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "token"
        file.write_text("first\n")
        return file

    async def test_is_sent(self, fake: FakeApi, file: Path) -> None:
        fake.put(PODS, "p", {})
        api = Api(Credentials(server=fake.url, token_file=file), user_agent="test")
        await api.get(f"{PODS}/p")
        assert fake.seen[0].headers["Authorization"] == "Bearer first"
        await api.close()

    async def test_is_read_again_after_a_minute(
        self, fake: FakeApi, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 1000.0
        monkeypatch.setattr("sovereign_gpu.cluster.credentials.time.monotonic", lambda: now)
        credentials = Credentials(server=fake.url, token_file=file)
        assert credentials.bearer() == "first"
        replace(file, "second")
        now += 59
        assert credentials.bearer() == "first"
        now += 2
        assert credentials.bearer() == "second"

    async def test_that_was_replaced_early_costs_nothing(self, fake: FakeApi, file: Path) -> None:
        fake.put(PODS, "p", {})
        fake.always = lambda seen: (
            None if seen.headers["Authorization"] == "Bearer second" else Answer(status=401)
        )
        api = Api(Credentials(server=fake.url, token_file=file), user_agent="test")
        replace(file, "second")
        await api.get(f"{PODS}/p")
        assert len(fake.seen) == 2
        await api.close()

    async def test_that_was_replaced_early_is_used_by_the_next_watch(
        self, fake: FakeApi, file: Path
    ) -> None:
        fake.always = lambda seen: (
            None if seen.headers["Authorization"] == "Bearer second" else Answer(status=401)
        )
        api = Api(Credentials(server=fake.url, token_file=file), user_agent="test")
        replace(file, "second")
        with pytest.raises(ApiError, match="401"):
            async with api.stream(PODS, {"watch": "1", "resourceVersion": "10"}, idle=5):
                pass
        async with api.stream(PODS, {"watch": "1", "resourceVersion": "10"}, idle=5) as response:
            assert response.status == 200
        await api.close()

    async def test_that_stays_refused_is_an_error(self, fake: FakeApi, file: Path) -> None:
        fake.always = lambda _: Answer(status=401)
        api = Api(Credentials(server=fake.url, token_file=file), user_agent="test")
        with pytest.raises(ApiError, match="401"):
            await api.get(PODS)
        assert len(fake.seen) == 1
        await api.close()

    @pytest.mark.parametrize("content", ["", "two words", "line\nline", "\x00", "ü"])
    def test_file_that_is_broken_for_a_moment_changes_nothing(
        self, file: Path, content: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        credentials = Credentials(server="http://x", token_file=file)
        assert credentials.bearer() == "first"
        file.write_text(content)
        assert not credentials.renewed()
        assert credentials.bearer() == "first"
        assert "using the token read before" in caplog.text

    def test_file_that_never_held_one_is_named(self, tmp_path: Path) -> None:
        credentials = Credentials(server="http://x", token_file=tmp_path / "none")
        with pytest.raises(ConfigurationError, match=r"token file .*none"):
            credentials.bearer()


async def test_a_stream_is_opened_by_the_same_rules(fake: FakeApi, api: Api) -> None:
    fake.answers["GET", PODS].extend([Answer(status=410), Answer(status=503)])
    with pytest.raises(ApiError, match="410"):
        async with api.stream(PODS, {}, idle=1.0):
            pass
    with pytest.raises(UncertainError, match="503"):
        async with api.stream(PODS, {}, idle=1.0):
            pass


async def test_a_silent_stream_ends(fake: FakeApi, api: Api) -> None:
    with pytest.raises(aiohttp.ServerTimeoutError):
        async with api.stream(PODS, {"watch": "1", "resourceVersion": "10"}, idle=0.05) as response:
            await response.read()
    assert fake.watched(PODS)

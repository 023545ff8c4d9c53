"""WebSockets at the door: who is let in, how a refusal is told, and for how long somebody may stay."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import structlog

from api.access.signin import COOKIE
from api.http import sockets
from api.http.problems import Problem
from api.http.sockets import MESSAGE_BYTES_MAX, Socket
from tests.api.kernels import Denied, Kernels, Line, line, printed
from tests.api.test_signin import HASH, command, login
from tests.api.world import World

PATH = "/stream/session/mysess/execute"
ENDLESS = {"mode": "query", "code": "print('on', flush=True)\nwhile True: pass"}


async def runs(ada: Line) -> bool:
    """Whether this socket does what it is there for."""
    await ada.say({"mode": "query", "code": "print(6 * 7)"})
    return printed(await ada.hear_until("finished")) == "42\n"


async def refused(world: World, path: str = PATH, who: str | None = "ada", **headers: str) -> httpx.Response:
    with pytest.raises(Denied) as denied:
        async with line(world, path, who, **headers):
            pass
    answer = denied.value.response
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer


async def signed_in(world: World) -> str:
    """The text of a Cookie header of ada's."""
    await command(world, "SetUserPassword", password_hash=HASH)
    async with world.anonymous() as browser:
        assert (await login(browser))["authenticated"]
        return f"{COOKIE}={browser.cookies[COOKIE]}"


@pytest.mark.parametrize(
    "path", ["/stream/session/{}/execute", "/v7/stream/session/{}/execute", "/stream/kernel/{}/execute"]
)
async def test_who_signs_is_let_in_by_any_name_of_the_path(kernels: Kernels, path: str) -> None:
    session = await kernels.session()
    async with line(kernels.world, path.format(session)) as ada:
        assert await runs(ada)


async def test_an_admin_may_act_for_another(kernels: Kernels) -> None:
    await kernels.session()
    async with line(kernels.world, PATH + "?owner_access_key=AKADA", "admin") as admin:
        assert await runs(admin)
    assert (await refused(kernels.world, PATH + "?owner_access_key=AKADA", "eve")).status_code == 403


async def test_who_does_not_sign_is_told_so(world: World) -> None:
    answer = await refused(world, who=None)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (401, "authorization-missing")
    forged = {"Authorization": "BackendAI signMethod=HMAC-SHA256, credential=AKADA:" + "0" * 64}
    answer = await refused(world, **forged)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (401, "signature-mismatch")


async def test_a_path_that_is_none_is_a_404(world: World) -> None:
    answer = await refused(world, "/stream/nothing")
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (404, "api-not-found")
    assert (await refused(world, "/v99" + PATH)).status_code == 404


async def test_a_handshake_counts_as_a_request(kernels: Kernels) -> None:
    await kernels.session()
    change = {"type": "ModifyKeypair", "access_key": "AKADA", "changes": {"rate_limit": 3}}
    async with kernels.world.client("admin") as admin:
        assert (await admin.post("/refold/commands", json=change)).status_code == 200
    async with line(kernels.world, PATH), line(kernels.world, PATH):
        answer = await refused(kernels.world)
    assert answer.status_code == 429
    assert answer.headers["Retry-After"]
    assert answer.headers["X-RateLimit-Remaining"] == "0"


async def test_a_cookie_counts_below_func_only_and_from_our_own_pages(kernels: Kernels) -> None:
    await kernels.session()
    world, cookie = kernels.world, await signed_in(kernels.world)
    for headers in ({}, {"Origin": world.url}):
        async with line(world, "/func" + PATH, None, Cookie=cookie, **headers) as ada:
            assert await runs(ada)
    assert (await refused(world, PATH, None, Cookie=cookie)).status_code == 401
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}):
        answer = await refused(world, "/func" + PATH, None, Cookie=cookie, **headers)
        assert answer.json()["type"].endswith("cross-site-request")
    answer = await refused(
        world, "/func" + PATH, None, Cookie=cookie, Origin=world.url, **{"Sec-Fetch-Site": "same-site"}
    )
    assert answer.status_code == 403


async def test_whose_keypair_is_switched_off_is_out_within_a_second(kernels: Kernels) -> None:
    await kernels.session()
    async with line(kernels.world, PATH) as ada:
        await ada.say(ENDLESS)
        await ada.hear()
        await command(kernels.world, "ModifyKeypair", access_key="AKADA", changes={"active": False})
        began = time.monotonic()
        assert await ada.closed() == 4401
    assert time.monotonic() - began < 1


async def test_who_signs_out_is_out_within_a_second(kernels: Kernels) -> None:
    await kernels.session()
    cookie = await signed_in(kernels.world)
    async with line(kernels.world, "/func" + PATH, None, Cookie=cookie) as ada, kernels.world.anonymous() as browser:
        await ada.say(ENDLESS)
        await ada.hear()
        await browser.post("/server/logout", headers={"Cookie": cookie})
        began = time.monotonic()
        assert await ada.closed() == 4401
    assert time.monotonic() - began < 1


async def test_an_api_that_stops_lets_go_and_the_run_goes_on(kernels: Kernels) -> None:
    session = await kernels.session()
    async with AsyncExitStack() as stack:
        async with kernels.world.api() as (url, _):
            live = await stack.enter_async_context(line(kernels.world, PATH, url=url))
            await live.say({"mode": "query", "runId": "r", "code": "input(); print('alive')"})
            await live.hear_until("waiting-input")
        assert await live.closed() == 1012
    async with kernels.world.client() as ada:
        answer = await ada.post(f"/session/{session}", json={"mode": "input", "code": "", "runId": "r"})
    assert printed([answer.json()["result"]]) == "alive\n"


async def test_a_message_that_is_too_long_ends_the_socket(kernels: Kernels) -> None:
    await kernels.session()
    async with line(kernels.world, PATH) as ada:
        await ada.say("x" * (MESSAGE_BYTES_MAX + 1))
        assert await ada.closed() == 1009


async def test_a_fault_of_ours_closes_and_tells_nothing(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("api.kernels.live_runs._Run", fails)
    await kernels.session()
    with structlog.testing.capture_logs() as logged:
        async with line(kernels.world, PATH) as ada:
            await ada.say(ENDLESS)
            assert await ada.closed() == 1011
    assert "request failed" in [entry["event"] for entry in logged]


# -- servers that cannot answer a handshake ----------------------------------------------------------------------------


async def test_a_server_that_knows_no_refusal_is_told_a_code() -> None:
    sent: list[Mapping[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    socket = Socket({"type": "websocket", "path": "/x"}, receive, send)
    await socket.refuse(Problem(409, "not-now", "Not now"))
    await socket.refuse(Problem(404, "other", "Twice is once"))
    assert sent == [{"type": "websocket.close", "code": 4409, "reason": "not-now"}]


@pytest.mark.parametrize(("is_stopping", "code"), [(False, 4401), (True, 1012)])
async def test_also_who_listens_to_nothing_is_closed(
    monkeypatch: pytest.MonkeyPatch, is_stopping: bool, code: int
) -> None:
    monkeypatch.setattr(sockets, "_CHECK_SECONDS", 0.01)
    sent: list[Mapping[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await asyncio.sleep(60)

    socket = Socket({"type": "websocket", "path": "/x"}, app, send)  # type: ignore[arg-type]  # never received from
    problem = Problem(401, "no-longer", "ü" * 200)
    try:
        await socket.run(app, lambda: problem, lambda: is_stopping)
    except Problem as raised:
        await socket.refuse(raised)
    assert [message["code"] for message in sent[1:]] == [code]
    assert len(sent[1]["reason"].encode()) <= 123, "no close frame holds more"

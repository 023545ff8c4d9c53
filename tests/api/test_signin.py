"""Browsers: a password for a cookie, what the cookie is worth, and how soon that ends."""

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest
import structlog
from argon2 import PasswordHasher

from api.access import otp, passwords, signin
from api.access.signin import COOKIE
from api.http.problems import Problem
from domain.directory.deciding.signing_in import FAILURES_MAX
from domain.messages import AccessKey, SessionId, UserId
from domain.session.messages import CancelSession
from infra.log import read_until
from infra.secrets import hash_password
from tests.api.holding import Held
from tests.api.listening import Heard, listening
from tests.api.test_sessions import RECORDED
from tests.api.world import World

PASSWORD = "correct horse"
HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)  # quickly checked
GENERIC = "The user name or the password is wrong"


@pytest.fixture
async def browsers(world: World) -> World:
    """Ada has a password."""
    await command(world, "SetUserPassword", password_hash=HASH)
    return world


async def command(world: World, kind: str, **members: Any) -> None:
    """By the administrator; about ada unless something else is named."""
    about = {} if "access_key" in members else {"user_id": "user-ada"}
    async with world.client("admin") as admin:
        answer = await admin.post("/refold/commands", json={"type": kind, **about, **members})
        assert answer.status_code == 200, answer.text


async def login(browser: httpx.AsyncClient, password: str = PASSWORD, name: str = "ada", **more: Any) -> Any:
    answer = await browser.post("/server/login", json={"username": name, "password": password, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def is_let_in(browser: httpx.AsyncClient) -> bool:
    answer = await browser.get("/func/manager/announcement")
    assert answer.status_code in {200, 401}, answer.text
    return answer.status_code == 200


def token_of(browser: httpx.AsyncClient) -> str:
    return browser.cookies[COOKIE].partition(".")[0]


async def everything_in(world: World) -> list[str]:
    """Each record of the log, whole."""
    log = world.log
    topics = list(log._logs)
    starts = dict.fromkeys(topics, 0)
    return [
        repr((record.key, record.headers, record.value))
        async for batch in read_until(log, starts, await log.ends(topics))
        for record in batch
    ]


@asynccontextmanager
async def another_process(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.api() as (url, _), httpx.AsyncClient(base_url=url, timeout=20) as client:
        yield client


# -- in ----------------------------------------------------------------------------------------------------------------


async def test_a_password_is_exchanged_for_a_cookie(browsers: World) -> None:
    async with browsers.anonymous() as browser:
        assert not await is_let_in(browser)
        answer = await browser.post("/server/login", json={"username": "ada", "password": PASSWORD})
        assert answer.json() == {
            "authenticated": True,
            "data": {"access_key": "AKADA", "role": "user", "status": "active"},
        }
        name, *attributes = answer.headers["set-cookie"].split("; ")
        assert name.startswith(f"{COOKIE}=")
        assert {each.lower() for each in attributes} == {"httponly", "samesite=lax", "path=/", "max-age=604800"}
        assert await is_let_in(browser)
        assert (await browser.get("/func/")).json()["version"].startswith("v7.")
        assert (await browser.get("/manager/announcement")).status_code == 401, "a cookie counts under /func only"
    async with browsers.client() as ada:
        assert (await ada.get("/func/manager/announcement")).status_code == 401, "and there nothing else does"


async def test_one_signs_in_by_name_or_by_email(browsers: World) -> None:
    async with browsers.anonymous() as browser:
        for who in ({"username": "ada"}, {"username": "Ada@Example.org"}, {"email": "ada@example.org"}):
            answer = await browser.post("/server/login", json={**who, "password": PASSWORD})
            assert answer.json()["authenticated"], who


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"password": "x"}',
        b'{"username": "ada"}',
        b'{"username": 7, "password": "x"}',
        b'{"username": "ada", "password": null}',
        b'{"username": "ada", "password": "\\ud800"}',
        b'{"username": "ada\\u0000", "password": "x"}',
        json.dumps({"username": "ada", "password": "x" * 10_000}).encode(),
    ],
)
async def test_a_bad_request_is_a_problem(browsers: World, body: bytes) -> None:
    async with browsers.anonymous() as browser:
        answer = await browser.post("/server/login", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["type"].endswith("/invalid-api-params")


async def test_the_log_holds_the_hash_of_a_cookie_only(browsers: World) -> None:
    async with browsers.anonymous() as browser:
        await login(browser)
        token = token_of(browser)
    log = "\n".join(await everything_in(browsers))
    assert token not in log
    assert hashlib.sha256(token.encode()).hexdigest() in log
    assert '"client":"127.0.0.1"' in log, "and from where"


async def test_who_signs_in_here_is_known_everywhere_at_once(browsers: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cookie says from which event on it is known, and a process that is behind waits for that."""
    monkeypatch.setattr(signin, "_CATCH_UP_SECONDS", 5.0)
    log = Held(browsers.log)
    async with browsers.api(log) as (url, services), browsers.anonymous() as browser:
        log.reading.clear()
        await login(browser)
        cookie = {"Cookie": f"{COOKIE}={browser.cookies[COOKIE]}"}
        async with httpx.AsyncClient(base_url=url, headers=cookie) as elsewhere:
            asking = asyncio.create_task(elsewhere.get("/func/manager/announcement"))
            await asyncio.sleep(0.1)
            assert not asking.done()
            assert not services.tail.directory.users_by_sign_in
            log.reading.set()
            assert (await asking).status_code == 200


# -- and not in --------------------------------------------------------------------------------------------------------


async def test_unknown_users_wrong_passwords_and_those_locked_out_look_the_same(browsers: World) -> None:
    async with browsers.anonymous() as browser, another_process(browsers) as elsewhere:
        told = [await login(browser, name="nobody"), await login(browser, password="wrong")]
        for _ in range(FAILURES_MAX - 1):
            told.append(await login(browser, password="wrong"))
        told += [await login(browser), await login(elsewhere), await login(browser, name="ada@example.org")]
        assert {json.dumps(each) for each in told} == {json.dumps(told[0])}
        assert told[0]["authenticated"] is False
        assert told[0]["data"]["details"].startswith(GENERIC)
        assert not browser.cookies
    assert any("locked_until" in each and "SignInFailed" in each for each in await everything_in(browsers))


async def test_a_locked_out_user_goes_on_where_he_is_signed_in(browsers: World) -> None:
    async with browsers.anonymous() as browser, browsers.anonymous() as attacker:
        await login(browser)
        for _ in range(FAILURES_MAX):
            await login(attacker, password="wrong")
        assert not (await login(attacker))["authenticated"]
        assert await is_let_in(browser)
        assert (await browser.post("/server/extend-login-session")).status_code == 201


async def test_a_password_takes_as_long_to_be_wrong_as_to_be_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a clock: the same work is done."""
    work: list[str] = []

    def counted(password_hash: str, password: str) -> bool:
        work.append(password_hash.rsplit("$", 2)[0])
        return password == PASSWORD

    monkeypatch.setattr(passwords, "password_fits", counted)
    password_hash = hash_password(PASSWORD)
    assert await passwords.fits(password_hash, PASSWORD)
    assert not await passwords.fits(password_hash, "wrong")
    assert not await passwords.fits(None, PASSWORD)
    assert work[0] == work[1] == work[2], "with the same parameters of argon2"


async def test_who_would_wait_long_for_his_password_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_WAITING_MAX", 1)
    first = asyncio.create_task(passwords.hashed(PASSWORD))
    await asyncio.sleep(0)
    with pytest.raises(Problem) as refused:
        await passwords.hashed(PASSWORD)
    assert (refused.value.status, refused.value.retryable) == (503, True)
    await first


async def test_an_address_may_try_so_many_passwords(tmp_path: Path) -> None:
    async with World(tmp_path, sign_ins_max=2).started() as world, world.anonymous() as browser:
        await login(browser, "wrong")
        await login(browser, "wrong", name="eve")
        answer = await browser.post("/server/login", json={"username": "admin", "password": "wrong"})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 800
        assert (await browser.get("/")).status_code == 200


@pytest.mark.parametrize(
    ("changes", "details"),
    [
        ({"status": "inactive"}, "This user is not active"),
        ({"status": "before-verification"}, "This user is not active"),
        ({"need_password_change": True}, "The password must be changed before signing in"),
        ({"allowed_client_ip": ["10.0.0.0/8"]}, "This user may not sign in from this address"),
    ],
)
async def test_who_has_the_password_is_told_why_it_is_not_enough(
    browsers: World, changes: dict[str, Any], details: str
) -> None:
    await command(browsers, "ModifyUser", changes=changes)
    async with browsers.anonymous() as browser:
        told = await login(browser)
        assert (told["authenticated"], told["data"]["details"]) == (False, details)
        assert not browser.cookies
        assert (await login(browser, "wrong"))["data"]["details"].startswith(GENERIC), "nobody else is told"


async def test_without_an_active_keypair_nobody_signs_in(browsers: World) -> None:
    await command(browsers, "ModifyKeypair", access_key="AKADA", changes={"active": False})
    async with browsers.anonymous() as browser:
        assert (await login(browser))["data"]["details"] == "This user has no active keypair"


# -- out ---------------------------------------------------------------------------------------------------------------


async def test_signing_out_ends_the_cookie_everywhere(browsers: World) -> None:
    async with browsers.anonymous() as browser, another_process(browsers) as elsewhere:
        await login(browser)
        elsewhere.cookies.set(COOKIE, browser.cookies[COOKIE])
        assert await is_let_in(elsewhere)
        answer = await browser.post("/server/logout")
        assert answer.status_code == 200
        assert not browser.cookies, "the browser is told to forget it"
        async with asyncio.timeout(5):
            while await is_let_in(elsewhere):
                await asyncio.sleep(0.005)
        assert (await browser.post("/server/logout")).status_code == 200, "twice is once"


REVOCATIONS: list[tuple[str, dict[str, Any]]] = [
    ("ModifyKeypair", {"access_key": "AKADA", "changes": {"active": False}}),
    ("ModifyUser", {"changes": {"status": "inactive"}}),
    ("SetUserPassword", {"password_hash": hash_password("another one")}),
    ("PurgeUser", {}),
]


@pytest.mark.parametrize(("kind", "members"), REVOCATIONS, ids=[kind for kind, _ in REVOCATIONS])
async def test_what_is_revoked_ends_the_cookie_everywhere(browsers: World, kind: str, members: dict[str, Any]) -> None:
    async with browsers.anonymous() as browser, another_process(browsers) as elsewhere:
        await login(browser)
        elsewhere.cookies.set(COOKIE, browser.cookies[COOKIE])
        assert await is_let_in(elsewhere)
        await command(browsers, kind, **members)
        assert not await is_let_in(browser), "at once where it was said"
        async with asyncio.timeout(5):
            while await is_let_in(elsewhere):
                await asyncio.sleep(0.005)


@pytest.mark.parametrize("revoke", ["sign out", "keypair", "rights"])
async def test_an_event_stream_tells_nothing_more_once_its_listener_is_not_let_in(browsers: World, revoke: str) -> None:
    browser = httpx.AsyncClient(base_url=browsers.url, timeout=20)
    by_cookie = httpx.AsyncClient(base_url=f"{browsers.url}/func", timeout=20)
    async with browser, by_cookie, browsers.client() as ada:
        await login(browser)
        by_cookie.cookies.set(COOKIE, browser.cookies[COOKIE])
        async with listening(by_cookie) as heard:
            await ada.post("/session", json=RECORDED | {"name": "before", "enqueueOnly": True})
            await heard.until("session_enqueued")
            match revoke:
                case "sign out":
                    await browser.post("/server/logout")
                case "keypair":
                    await command(browsers, "ModifyKeypair", access_key="AKADA", changes={"active": False})
                case "rights":
                    await command(browsers, "ModifyUser", changes={"role": "monitor"})
            await browsers.whole.give("session", cancelled("before", heard))
            async with asyncio.timeout(10):
                await heard.ended.wait()
        assert "session_cancelled" not in heard.names


def cancelled(name: str, heard: Heard) -> CancelSession:
    session_id = next(each["sessionId"] for each in heard.data if each["sessionName"] == name)
    return CancelSession(at=datetime.now(UTC), owner=AccessKey("AKADA"), session_id=SessionId(session_id))


async def test_a_sign_in_ends_by_itself(browsers: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with browsers.anonymous() as browser:
        await login(browser)
        assert await is_let_in(browser)
        end = datetime.now(UTC) + timedelta(seconds=browsers.settings.sign_in_seconds)
        monkeypatch.setattr(signin, "now", lambda: end)
        assert not await is_let_in(browser)
        assert (await browser.post("/server/login-check")).json() == {"authenticated": False, "data": None}


async def test_the_cookie_changes_with_each_sign_in_and_extension(browsers: World) -> None:
    async with browsers.anonymous() as browser, browsers.anonymous() as thief:
        await login(browser)
        thief.cookies.set(COOKIE, browser.cookies[COOKIE])
        for renew in ("/server/login", "/server/extend-login-session"):
            before = token_of(browser)
            assert await is_let_in(thief)
            answer = await browser.post(renew, json={"username": "ada", "password": PASSWORD})
            assert answer.status_code in {200, 201}
            assert token_of(browser) != before
            assert await is_let_in(browser)
            assert not await is_let_in(thief), "what was held before has ended"
            thief.cookies.set(COOKIE, browser.cookies[COOKIE])
        thief.cookies.set(COOKIE, "x" * 43 + ".1")
        assert (await thief.post("/server/extend-login-session")).status_code == 401


async def test_one_can_ask_whether_one_is_signed_in(browsers: World) -> None:
    async with browsers.anonymous() as browser:
        assert (await browser.post("/server/login-check")).json() == {"authenticated": False, "data": None}
        signed_in = await login(browser)
        assert (await browser.post("/server/login-check")).json() == signed_in


@pytest.mark.parametrize("value", ["", "x", "x" * 43, "x" * 43 + ".", "ä" * 43 + ".1", "x" * 43 + ".-1", "x" * 90_000])
async def test_a_cookie_that_is_none_of_ours_is_worth_nothing(browsers: World, value: str) -> None:
    async with browsers.anonymous() as browser:
        cookie = {b"Cookie": f"{COOKIE}={value}".encode()}
        answer = await browser.get("/func/manager/announcement", headers=cookie)
        assert answer.status_code in {400, 401}, answer.text
        assert (await browser.post("/server/logout", headers=cookie)).status_code in {200, 400}


# -- other sites' pages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "is_ours"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "{}"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "{}", "Sec-Fetch-Site": "cross-site"}, False),
    ],
)
async def test_another_sites_page_does_nothing_in_its_readers_name(
    browsers: World, headers: dict[str, str], is_ours: bool
) -> None:
    headers = {name: text.format(browsers.url) for name, text in headers.items()}
    async with browsers.anonymous() as browser:
        await login(browser)
        for path in ("/server/login-check", "/func/session/x/rename"):
            answer = await browser.post(path, headers=headers, json={})
            assert (answer.status_code != 403) is is_ours, (path, answer.text)
        tunnelled = {**headers, "X-Method-Override": "GET"}
        answer = await browser.post("/func/manager/announcement", headers=tunnelled)
        assert (answer.status_code != 403) is is_ours
        assert (await browser.get("/func/manager/announcement", headers=headers)).status_code == 200


@pytest.mark.parametrize(("trusted", "is_secure"), [("127.0.0.1", True), ("", False)])
async def test_by_https_the_cookie_goes_back_by_https_only(tmp_path: Path, trusted: str, is_secure: bool) -> None:
    async with World(tmp_path, trusted_proxies=trusted).started() as world:
        await command(world, "SetUserPassword", password_hash=HASH)
        async with world.anonymous() as browser:
            body = {"username": "ada", "password": PASSWORD}
            answer = await browser.post("/server/login", json=body, headers={"X-Forwarded-Proto": "https"})
    assert ("secure" in answer.headers["set-cookie"].lower()) is is_secure


# -- passwords ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "rule"),
    [
        ("", "password_length"),
        ("short", "password_length"),
        ("x" * 257, "password_length"),
        ("tab\tinside", "password_characters"),
        ("PassWord", "password_common"),
        ("aaaabbbb", "password_common"),
        ("my-Ada-123", "password_name"),
    ],
)
def test_a_password_that_is_easily_guessed_is_refused(password: str, rule: str) -> None:
    with pytest.raises(Problem) as refused:
        passwords.check_password(password, ("ada@example.org", "countess"), "new_password")
    assert (refused.value.status, refused.value.members["rule"]) == (400, rule)
    assert refused.value.members["field"] == "new_password"
    assert password not in refused.value.detail or not password


def test_a_passphrase_needs_no_digits() -> None:
    passwords.check_password("correct horse battery staple", ("ada@example.org", "ad"))


async def test_a_password_that_must_be_changed_can_be_changed_by_it_and_by_nothing_else(browsers: World) -> None:
    async with browsers.anonymous() as browser:

        async def change(new: str, current: str = PASSWORD, name: str = "ada") -> httpx.Response:
            body = {"username": name, "current_password": current, "new_password": new}
            return await browser.post("/server/update-password-no-auth", json=body)

        assert (await change("battery staple")).status_code == 403, "it need not be changed"
        await command(browsers, "ModifyUser", changes={"need_password_change": True})
        assert (await change("battery staple", current="wrong")).status_code == 401
        assert (await change("battery staple", name="nobody")).status_code == 401
        assert (await change("short")).json()["rule"] == "password_length"
        assert (await change(PASSWORD)).json()["rule"] == "password_unchanged"
        assert (await change("battery staple")).status_code == 200
        assert not (await login(browser))["authenticated"]
        assert (await login(browser, "battery staple"))["authenticated"]


# -- one-time passwords ------------------------------------------------------------------------------------------------


async def test_one_time_passwords_from_the_offer_to_the_end(browsers: World, monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime.now(UTC)
    monkeypatch.setattr(signin, "now", lambda: at)
    monkeypatch.setattr("api.accounts.otp.now", lambda: at)
    async with browsers.client() as ada, browsers.anonymous() as browser, another_process(browsers) as elsewhere:
        offer = (await ada.post("/totp")).json()
        totp = pyotp.parse_uri(offer["totp_uri"])
        assert isinstance(totp, pyotp.TOTP)
        assert totp.secret == offer["totp_key"]
        assert (await login(browser))["authenticated"], "an offer changes nothing"
        at += timedelta(minutes=59)
        assert (await ada.post("/totp/verify", json={"otp": _other(totp.at(at))})).json()["rule"] == "otp_wrong"
        assert (await ada.post("/totp/verify", json={"otp": totp.at(at)})).json() == {"totp_activated": True}
        for path in ("/totp", "/totp/verify"):
            assert (await ada.post(path, json={"otp": totp.at(at)})).status_code == 409, "in use already"

        assert (await login(browser))["data"]["details"] == "OTP not provided"
        assert (await login(browser, "wrong"))["data"]["details"].startswith(GENERIC)
        assert (await login(browser, otp=_other(totp.at(at))))["data"]["details"] == "Invalid OTP"
        assert (await login(browser, otp=totp.at(at)))["authenticated"]
        assert await is_let_in(browser)
        for again in (browser, elsewhere):
            used = await login(again, otp=totp.at(at))
            assert used["data"]["details"] == "Invalid OTP", "a code serves once, wherever it is given"
        at += timedelta(seconds=60)
        assert (await login(elsewhere, otp=totp.at(at)))["authenticated"]

        bare = {"type": "SetUserTotp", "user_id": "user-ada", "secret": None}
        assert (await browser.post("/func/refold/commands", json=bare)).status_code == 403, "not without a code"
        assert (await ada.request("DELETE", "/totp", json={})).status_code == 400
        assert (await ada.request("DELETE", "/totp", json={"otp": _other(totp.at(at))})).status_code == 400
        assert (await ada.request("DELETE", "/totp", json={"otp": totp.at(at)})).json() == {"totp_activated": False}
        assert (await login(browser))["authenticated"]


async def test_wrong_codes_lock_out_like_wrong_passwords(browsers: World) -> None:
    async with browsers.client() as ada, browsers.anonymous() as browser:
        totp = pyotp.TOTP((await ada.post("/totp")).json()["totp_key"])
        await ada.post("/totp/verify", json={"otp": totp.now()})
        for _ in range(FAILURES_MAX):
            assert (await login(browser, otp="abc"))["data"]["details"] == "Invalid OTP"
        for code in (None, totp.now()):
            told = await login(browser, otp=code)
            assert told["data"]["details"].startswith(GENERIC), "a right password looks like a wrong one then"


async def test_an_admin_helps_who_has_lost_his_device(browsers: World) -> None:
    async with browsers.client() as ada, browsers.client("eve") as eve, browsers.client("admin") as admin:
        totp = pyotp.TOTP((await ada.post("/totp")).json()["totp_key"])
        await ada.post("/totp/verify", json={"otp": totp.now()})
        missing = await eve.delete("/totp", params={"email": "nobody@example.org"})
        others = await eve.delete("/totp", params={"email": "ada@example.org"})
        assert missing.status_code == others.status_code == 404
        assert (await admin.delete("/totp", params={"email": "ada@example.org"})).json() == {"totp_activated": False}
    async with browsers.anonymous() as browser:
        assert (await login(browser))["authenticated"]


def test_codes_are_those_of_the_standard() -> None:
    """RFC 6238, appendix B, cut to six digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    for seconds, code in ((59, "287082"), (1111111109, "081804"), (2000000000, "279037")):
        at = datetime.fromtimestamp(seconds, UTC)
        assert otp.step_of(secret, code, at) == seconds // 30
        assert otp.step_of(secret, code, at + timedelta(seconds=30)) == seconds // 30, "a clock may be a bit slow"
        assert otp.step_of(secret, code, at + timedelta(seconds=61)) is None
    assert otp.step_of(secret, "éèà", datetime.fromtimestamp(59, UTC)) is None


def test_an_offer_is_for_one_user_and_for_an_hour(world: World) -> None:
    at = datetime(2026, 1, 2, 3, 30, tzinfo=UTC)
    secret = otp.offered(world.settings, UserId("a"), at)
    assert secret == otp.offered(world.settings, UserId("a"), at + timedelta(minutes=29))
    assert secret != otp.offered(world.settings, UserId("b"), at)
    later = at + timedelta(hours=1)
    assert otp.confirmed(world.settings, UserId("a"), pyotp.TOTP(secret).at(later), later) == secret
    later = at + timedelta(hours=2)
    assert otp.confirmed(world.settings, UserId("a"), pyotp.TOTP(secret).at(later), later) is None


def _other(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06}"


# -- secrets -----------------------------------------------------------------------------------------------------------


async def test_no_password_cookie_or_secret_is_told_to_anybody(
    browsers: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A whole story, with all that goes wrong in it; then every line of the logs, record of the log, and answer."""
    answers: list[str] = []

    async def heard(response: httpx.Response) -> None:
        await response.aread()
        answers.append(response.text)

    caplog.set_level(logging.DEBUG)
    wrong, new = "not-the-password", "battery staple"
    secrets = [PASSWORD, wrong, new]
    with structlog.testing.capture_logs() as lines:
        async with browsers.client() as ada, browsers.anonymous() as browser:
            browser.event_hooks["response"].append(heard)
            await login(browser)
            secrets.append(token_of(browser))
            totp = pyotp.TOTP((await ada.post("/totp")).json()["totp_key"])
            secrets.append(totp.secret)
            await ada.post("/totp/verify", json={"otp": totp.now()})
            await login(browser, wrong)
            await login(browser, otp=_other(totp.now()))
            await browser.post("/server/extend-login-session")
            secrets.append(token_of(browser))
            await browser.post("/func/refold/commands", content=b"{")
            await browser.post("/server/login", json={"username": wrong, "password": [wrong]})
            await browser.post("/server/login", content=json.dumps({"username": "ada", "password": wrong})[:-1])
            await command(browsers, "ModifyUser", changes={"need_password_change": True})
            change = {"username": "ada", "current_password": PASSWORD, "new_password": new}
            assert (await browser.post("/server/update-password-no-auth", json=change)).status_code == 200
            await browser.post("/server/logout")
            answers += [(await browser.get("/metrics")).text]
    told = {"log": await everything_in(browsers), "answers": answers, "lines": [repr(line) for line in lines]}
    told["libraries"] = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    found = {(where, secret) for where, texts in told.items() for text in texts for secret in secrets if secret in text}
    assert not found
    assert len(told["log"]) > 20

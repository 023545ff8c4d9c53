"""Whoever is no longer let in is refused by every api process, over a real Kafka; how soon is printed (`-s`)."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import httpx
import pytest
import pytest_asyncio

from infra.embedded.folder import ports
from infra.signing import KeypairAuth
from tests.stack import PROCESSES, Stack, running_stack

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

PATH = "/manager/announcement"
CREATE_USER = """mutation($email: String!, $props: UserInput!) {
    create_user(email: $email, props: $props) { ok msg user { uuid } }
}"""
CREATE_KEYPAIR = """mutation($email: String!, $props: KeyPairInput!) {
    create_keypair(user_id: $email, props: $props) { ok msg keypair { access_key secret_key } }
}"""
ROUNDS = 10

Send = Callable[[], Awaitable[httpx.Response]]


@dataclass(frozen=True)
class Pair:
    """Two api processes of one installation."""

    stack: Stack
    elsewhere: str
    after_asking: list[float] = field(default_factory=list)
    after_answer: list[float] = field(default_factory=list)
    """Seconds for which the other process still let in, each time."""

    async def command(self, **members: object) -> None:
        async with self.stack.client() as admin:
            answer = await admin.post("/refold/commands", json=members)
            assert answer.status_code == 200, answer.text

    async def create(self, what: str, mutation: str, props: dict[str, object]) -> dict[str, str]:
        """A user, or his keypair."""
        async with self.stack.client() as admin:
            variables = {"email": "ada@refold.test", "props": props}
            answer = await admin.post("/admin/gql", json={"query": mutation, "variables": variables})
        [done] = answer.json()["data"].values()
        assert done["ok"], done
        made: dict[str, str] = done[what]
        return made

    async def until_refused(self, ask: Send, revoke: Callable[[], Awaitable[object]]) -> None:
        """`ask` of one process without a pause, while it is revoked at the other; notes for how long it still went."""
        admitted_at = 0.0
        assert (await ask()).status_code == 200

        async def asking() -> None:
            nonlocal admitted_at
            while True:
                sent_at = time.monotonic()
                answer = await ask()
                if answer.status_code == 401:
                    return
                assert answer.status_code == 200, answer.text
                admitted_at = sent_at

        task = asyncio.create_task(asking())
        asked_at = time.monotonic()
        await revoke()
        answered_at = time.monotonic()
        async with asyncio.timeout(30):
            await task
        self.after_asking.append(max(0.0, admitted_at - asked_at))
        self.after_answer.append(max(0.0, admitted_at - answered_at))

    async def until_admitted(self, ask: Send) -> None:
        async with asyncio.timeout(30):
            while (await ask()).status_code != 200:
                await asyncio.sleep(0.01)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(kafka: str, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    port = ports(folder, "elsewhere")["elsewhere"]
    processes = {**PROCESSES, "elsewhere": ["api", "--port", str(port)]}
    async with running_stack(kafka, database, folder, processes) as stack:
        running = Pair(stack, f"http://127.0.0.1:{port}")
        async with httpx.AsyncClient(base_url=running.elsewhere) as probe, asyncio.timeout(60):
            while not await _is_ready(probe):
                await asyncio.sleep(0.1)
        yield running
        for since, delays in (("asked", running.after_asking), ("answered", running.after_answer)):
            told = [1000 * delay for delay in delays]
            print(f"\nlet in since it was {since}: median {statistics.median(told):.0f} ms, most {max(told):.0f} ms")


async def _is_ready(probe: httpx.AsyncClient) -> bool:
    try:
        return (await probe.get("/ready")).status_code == 200
    except httpx.HTTPError:
        return False


async def test_a_keypair_or_user_that_is_switched_off_is_refused(pair: Pair) -> None:
    person = {"username": "ada", "password": "battery staple", "need_password_change": False, "domain_name": "default"}
    user = await pair.create("user", CREATE_USER, person)
    keypair = await pair.create("keypair", CREATE_KEYPAIR, {"rate_limit": 10**9, "resource_policy": "default"})
    auth = KeypairAuth(keypair["access_key"], keypair["secret_key"])
    keypair_of = {"type": "ModifyKeypair", "access_key": keypair["access_key"]}
    user_of = {"type": "ModifyUser", "user_id": user["uuid"]}
    async with httpx.AsyncClient(base_url=pair.elsewhere, auth=auth) as ada:
        ask = partial(ada.get, PATH)
        for _ in range(ROUNDS):
            for about, off, on in (
                (keypair_of, {"active": False}, {"active": True}),
                (user_of, {"status": "inactive"}, {"status": "active"}),
            ):
                await pair.until_admitted(ask)
                await pair.until_refused(ask, partial(pair.command, **about, changes=off))
                await pair.command(**about, changes=on)


async def test_a_cookie_that_was_signed_out_is_refused(pair: Pair) -> None:
    admin = pair.stack.admin
    for _ in range(ROUNDS):
        async with (
            httpx.AsyncClient(base_url=pair.stack.endpoint) as browser,
            httpx.AsyncClient(base_url=pair.elsewhere) as elsewhere,
        ):
            told = await browser.post("/server/login", json={"username": admin.email, "password": admin.password})
            assert told.json()["authenticated"]
            elsewhere.cookies.update(browser.cookies)
            await pair.until_refused(partial(elsewhere.get, f"/func{PATH}"), partial(browser.post, "/server/logout"))

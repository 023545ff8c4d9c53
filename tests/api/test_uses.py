"""How often and when keypairs are used is written down once a minute for each, and shown with them."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from api.access.uses import EVERY_SECONDS, Uses
from infra.keypair_uses import KeypairUses, MemoryUses, PostgresUses, Use
from infra.postgres import Pool, Unavailable, connection
from tests.api.admin import AdminWorld, access_key
from tests.api.world import World


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


class Counting(MemoryUses):
    """Says how many rows were written; fails while it is `away`."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0
        self.away = False

    async def add(self, uses: Sequence[Use]) -> None:
        if self.away:
            raise Unavailable("away")
        self.written += len(uses)
        await super().add(uses)


def use(key: str, seconds: float, requests: int) -> Use:
    return Use(key, datetime.fromtimestamp(seconds, UTC), requests)


async def test_a_first_use_is_written_at_once_and_those_of_the_next_minute_together() -> None:
    clock, store = Clock(), Counting()
    uses = Uses(store, clock)
    uses.note("AKADA")
    await uses.tell()
    assert store.rows == {"AKADA": use("AKADA", 1_000_000, 1)}
    for _ in range(1000):
        clock.seconds += 0.05
        uses.note("AKADA")
        await uses.tell()
    assert store.written == 1
    clock.seconds += EVERY_SECONDS
    await uses.tell()
    assert (store.written, store.rows["AKADA"].requests) == (2, 1001)
    assert store.rows["AKADA"].last_used == datetime.fromtimestamp(1_000_050, UTC).replace(microsecond=0)
    await uses.tell()
    assert store.written == 2, "who does nothing is not written down"


async def test_uses_while_the_database_is_away_are_written_when_it_is_back() -> None:
    clock, store = Clock(), Counting()
    uses = Uses(store, clock)
    store.away = True
    uses.note("AKADA")
    with pytest.raises(Unavailable):
        await uses.tell()
    uses.note("AKADA")
    store.away = False
    clock.seconds += EVERY_SECONDS
    await uses.tell()
    assert store.rows["AKADA"].requests == 2


async def test_what_was_not_written_is_when_the_process_stops() -> None:
    store = Counting()
    uses = Uses(store)
    running = asyncio.create_task(uses.run())
    await asyncio.sleep(0)
    for _ in range(3):
        uses.note("AKADA")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert store.rows["AKADA"].requests == 3


@pytest.mark.cluster
async def test_several_processes_add_up_and_the_last_use_is_the_last(pool: Pool) -> None:
    stores: list[KeypairUses] = [PostgresUses(pool) for _ in range(4)]
    keys = [f"AK{number}" for number in range(50)]
    await asyncio.gather(
        *(store.add([use(key, number, 2) for key in keys[:: (-1) ** number]]) for number, store in enumerate(stores))
    )
    async with connection(pool) as db:
        rows = await (await db.execute("SELECT access_key, last_used, num_queries FROM keypair_uses")).fetchall()
    assert {Use(*row) for row in rows} == {use(key, 3, 8) for key in keys}


async def test_who_is_let_in_has_used_his_keypair_and_who_is_not_has_used_none(world: World) -> None:
    clock, store = Clock(), Counting()
    world.services.uses = Uses(store, clock)
    async with world.client() as ada, world.anonymous() as nobody:
        for _ in range(3):
            await ada.get("/auth")
        await nobody.get("/auth", headers={"Authorization": "BackendAI signMethod=HMAC-SHA256, credential=AKEVE:00"})
    await world.services.uses.tell()
    assert list(store.rows.values()) == [use("AKADA", clock.seconds, 3)]


@pytest.mark.cluster
@pytest.mark.asyncio(loop_scope="module")
async def test_keypairs_are_listed_with_their_use(admin: AdminWorld) -> None:
    await admin.ask("ada", "{ domain { name } }")
    query = (
        """query($email: String) { keypairs(email: $email) { access_key last_used num_queries concurrency_used } }"""
    )
    async with asyncio.timeout(10):
        while True:
            [adas] = (await admin.ask("root", query, {"email": "ada@example.org"}))["keypairs"]
            if adas["last_used"] is not None:
                break
            await asyncio.sleep(0.1)
    assert adas["access_key"] == access_key("ada")
    assert (adas["num_queries"], adas["concurrency_used"]) == (1, 1)
    never = (await admin.ask("root", query, {"email": "idle@example.org"}))["keypairs"]
    assert [(each["last_used"], each["num_queries"]) for each in never] == [(None, 0)]
    await PostgresUses(admin.pool).add([Use(access_key("root"), datetime.now(UTC), 1000)])
    listed = """{ keypair_list(limit: 1, offset: 0, filter: "last_used != null", order: "-num_queries") {
        items { access_key } } }"""
    assert (await admin.ask("root", listed))["keypair_list"]["items"][0]["access_key"] == access_key("root")

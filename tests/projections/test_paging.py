"""Pages that begin behind one another are the list, whatever it is sorted by and whatever comes meanwhile."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from infra.postgres import Connection, Pool, connection
from projections import listing
from projections.compute_sessions import ListedSession, compute_sessions
from projections.filtering import BadQuery
from projections.listing import Query
from tests.projections.story import Scribe, lives
from tests.projections.test_live import SETTINGS, fold_all, log_of, tables

__all__ = ["tables"]

pytestmark = pytest.mark.cluster


@pytest.fixture
async def db(tables: Pool) -> AsyncIterator[Connection]:
    """30 sessions of three owners; every tenth lives on, so that it has no end."""
    scribe = Scribe(SETTINGS)
    lives(scribe, 30, owners=3)
    await fold_all(await log_of(scribe), tables, contexts=("session",))
    async with connection(tables) as opened:
        yield opened


async def pages(db: Connection, order: str | None, limit: int, filter_: str | None = None) -> list[list[ListedSession]]:
    found, after = [], None
    while True:
        page = await compute_sessions(db, Query(filter_, order, limit, after=after))
        assert page.total == (await compute_sessions(db, Query(filter_))).total
        found.append(list(page.items))
        after = page.next
        if after is None:
            return found


ORDERS = (
    None,
    "name",
    "-name",
    "terminated_at",
    "-terminated_at",
    "terminated_at,-name",
    "-terminated_at,status,name",
    "access_key,-created_at",
    "user_email",
    "-user_email,access_key",
    "cluster_size",
    "agent_ids",
)


async def test_the_pages_behind_one_another_are_the_list(db: Connection) -> None:
    ended = 'status == "TERMINATED"'
    for order, filter_ in [*((order, None) for order in ORDERS), ("-name", ended)]:
        whole = list((await compute_sessions(db, Query(filter_, order))).items)
        for limit in (1, 7, 30) if order == "-terminated_at,status,name" else (7, 30):
            found = await pages(db, order, limit, filter_)
            assert [each for page in found for each in page] == whole, (order, limit)
            assert {len(page) for page in found[:-1]} <= {limit}
            assert found[-1], "the last page has a rest, and says that it is the last"


async def test_a_page_far_down_the_list_is_found_by_the_item_before_it(
    db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_NEAR", 3)
    for order in ORDERS:
        whole = list((await compute_sessions(db, Query(order=order))).items)
        for offset in (3, 4, 17, 27, 30, 31, 1000):
            page = await compute_sessions(db, Query(order=order, limit=3, offset=offset))
            assert (page.items, page.total) == (whole[offset : offset + 3], 30), (order, offset)
            assert (page.next is None) == (offset >= 27)


async def test_what_comes_meanwhile_moves_no_page(db: Connection) -> None:
    first = await compute_sessions(db, Query(limit=10))
    expected = list((await compute_sessions(db, Query(limit=10, offset=10))).items)
    await db.execute("DELETE FROM session_list WHERE session_id = %s", (first.items[3].session_id,))
    second = await compute_sessions(db, Query(limit=10, after=first.next))
    assert (second.items, second.total) == (expected, 29)


def handed(*told: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(told)).decode()


PLACE = ("2026-01-01", "x", "x")
BAD: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"after": ""}, "after", "malformed"),
    ({"after": "!!"}, "after", "malformed"),
    ({"after": "é"}, "after", "malformed"),
    ({"after": "A" * 100_000}, "after", "malformed"),
    ({"after": handed()}, "after", "malformed"),
    ({"after": handed("", 1, 2, 3)}, "after", "malformed"),
    ({"after": handed("", "yesterday's", "x", "x")}, "after", "malformed"),
    ({"after": handed("", "2026-01-01", "\x00", "x")}, "after", "malformed"),
    ({"after": handed("", "2026-01-01", "x")}, "after", "malformed"),
    ({"after": handed("", *PLACE), "order": "name"}, "after", "other_order"),
    ({"after": handed("", *PLACE), "offset": 1}, "offset", "with_after"),
)


async def test_what_is_no_cursor_is_told(db: Connection) -> None:
    for asked, field, rule in BAD:
        with pytest.raises(BadQuery) as raised:
            await compute_sessions(db, Query(**asked, limit=1))
        assert (raised.value.field, raised.value.rule) == (field, rule), asked
    assert (await compute_sessions(db, Query(limit=0))).next is None
    assert (await compute_sessions(db, Query(after=handed("", *PLACE), limit=1))).total == 30

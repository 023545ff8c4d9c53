"""Lists: pages, filters and orders in the client's words, what belongs to their items, and when they are read."""

import functools
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

import orjson
import pytest

from api.graphql import reading
from api.writing import POSITION
from domain.session.messages import ReportKernelProgress
from domain.session.status import KernelStatus
from domain.telemetry import PullProgress
from infra import live_stats
from infra.log import Partition, Position
from infra.postgres import Connection
from infra.topics import commands
from projections.listing import Query
from tests.api.admin import PEOPLE, AdminWorld, access_key, email, session_id
from tests.whole import AGENT, now

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

USERS = """query($limit: Int!, $offset: Int!, $status: String, $group_id: UUID, $filter: String, $order: String) {
    user_list(limit: $limit, offset: $offset, status: $status, group_id: $group_id, filter: $filter, order: $order) {
        items { username role } total_count } }"""


async def names(admin: AdminWorld, **variables: Any) -> tuple[list[str], int]:
    found = (await admin.ask("root", USERS, {"limit": 20, "offset": 0} | variables))["user_list"]
    return [each["username"] for each in found["items"]], found["total_count"]


async def test_a_page_tells_how_many_there_are_in_all(admin: AdminWorld) -> None:
    everybody = sorted(PEOPLE)
    assert await names(admin) == (everybody, len(everybody))
    assert await names(admin, limit=3, offset=2) == (everybody[2:5], len(everybody))
    assert await names(admin, limit=3, offset=100) == ([], len(everybody))


async def test_a_session_and_its_kernels_tell_what_they_were_asked_to_have(admin: AdminWorld) -> None:
    query = (
        "query($id: UUID!) { compute_session(id: $id) { resource_opts containers { resource_opts preopen_ports } } }"
    )
    found = (await admin.ask("ada", query, {"id": session_id("ada")}))["compute_session"]
    assert orjson.loads(found["resource_opts"]) == {"shmem": str(2**26)}
    assert [(orjson.loads(each["resource_opts"]), each["preopen_ports"]) for each in found["containers"]] == [
        ({"shmem": str(2**26)}, [8080])
    ]


async def test_while_an_image_is_pulled_it_is_told_how_far_it_has_come(admin: AdminWorld) -> None:
    query = "query($id: UUID!) { compute_session(id: $id) { status status_data containers { status_data } } }"

    async def told() -> tuple[str, Any, Any]:
        await admin.settled()
        found = (await admin.ask("kim", query, {"id": session_id("kim")}))["compute_session"]
        [kernel] = found["containers"]
        return found["status"], orjson.loads(found["status_data"]), orjson.loads(kernel["status_data"])

    kernel = {"owner": access_key("kim"), "session_id": session_id("kim"), "kernel_id": session_id("kim")}
    here = {"at": now(), "agent_id": AGENT, "incarnation": 1}
    for status in (KernelStatus.PREPARING, KernelStatus.PULLING):
        await admin.whole.give("session", ReportKernelProgress.model_validate(kernel | here | {"status": status}))
    assert await told() == ("PULLING", {}, {})
    pulled = PullProgress.model_validate(here | {"kernel_id": session_id("kim"), "done": 50, "total": 200})
    async with admin.pool.connection() as db:
        await live_stats.store(db, [], [pulled])
    assert await told() == ("PULLING", {"pull": {"done": 50, "total": 200}}, {"pull": {"done": 50, "total": 200}})
    prepared = ReportKernelProgress.model_validate(kernel | here | {"status": KernelStatus.PREPARED})
    await admin.whole.give("session", prepared)
    assert (await told())[1:] == ({}, {})


async def test_a_list_is_ordered_as_asked(admin: AdminWorld) -> None:
    assert (await names(admin, order="-username"))[0] == sorted(PEOPLE, reverse=True)
    by_role = await names(admin, order="+role,-username")
    assert by_role[0] == [
        who for _, who in sorted(((role, who) for who, (_, role) in PEOPLE.items()), key=_role_then_name_falling)
    ]
    query = '{ user_list(limit: 2, offset: 0, order_key: "username", order_asc: false) { items { username } } }'
    assert [each["username"] for each in (await admin.ask("root", query))["user_list"]["items"]] == ["watch", "root"]


def _role_then_name_falling(pair: tuple[str, str]) -> Any:
    return pair[0], [-ord(letter) for letter in pair[1]]


async def test_a_list_is_filtered_as_asked(admin: AdminWorld) -> None:
    assert await names(admin, filter='role == "admin" & domain_name == "away"') == (["lord"], 1)
    assert await names(admin, filter='email like "%im@%"') == (["kim"], 1)
    assert await names(admin, status="inactive") == ([], 0)
    broken = await admin.post("root", USERS, {"limit": 1, "offset": 0, "filter": "nobody == 1"})
    [error] = broken.json()["errors"]
    assert error["extensions"]["status"] == 400
    assert "nobody" in error["message"]


async def test_a_filter_never_widens_what_one_sees(admin: AdminWorld) -> None:
    query = (
        "query($filter: String) { user_list(limit: 20, offset: 0, filter: $filter) { items { username } total_count } }"
    )
    answer = await admin.ask("ada", query, {"filter": 'username == "eve" | username != "eve"'})
    assert answer["user_list"] == {"items": [{"username": "ada"}], "total_count": 1}


async def test_sessions_are_listed_by_status_and_by_keypair(admin: AdminWorld) -> None:
    query = """query($status: String, $access_key: String, $domain: String) {
        compute_session_list(limit: 20, offset: 0, status: $status, access_key: $access_key, domain_name: $domain) {
            items { name group_name user_email occupying_slots requested_slots } total_count } }"""

    async def sessions(**variables: Any) -> list[str]:
        found = (await admin.ask("root", query, variables))["compute_session_list"]
        return [each["name"] for each in found["items"]]

    assert await sessions(access_key=access_key("kim")) == ["session-of-kim"]
    assert await sessions(domain="home") == ["session-of-ada"]
    assert await sessions(status="TERMINATED,CANCELLED") == []
    assert len(await sessions(status="PENDING,SCHEDULED,PREPARING,PREPARED")) == 2
    [ada] = (await admin.ask("ada", query))["compute_session_list"]["items"]
    assert ada["user_email"] == email("ada")
    assert orjson.loads(ada["requested_slots"]) == {"cpu": "1", "mem": str(2**28)}


async def test_the_items_of_a_list_cost_no_query_each(admin: AdminWorld) -> None:
    query = """{ keypair_list(limit: 20, offset: 0) { total_count items {
        access_key projects user_info { full_name } compute_sessions { name containers { id agent } } } } }"""
    with _counted(admin) as opened:
        found = (await admin.ask("root", query))["keypair_list"]
    assert found["total_count"] == len(PEOPLE)
    by_key = {each["access_key"]: each for each in found["items"]}
    assert by_key[access_key("ada")]["projects"] == ["home-project"]
    assert by_key[access_key("ada")]["compute_sessions"][0]["containers"][0]["id"] == session_id("ada")
    assert by_key[access_key("eve")]["compute_sessions"] == []
    assert opened == [1] * 4  # the list, and one for each thing that its items have


async def test_users_have_their_projects_and_keypairs(admin: AdminWorld) -> None:
    with _counted(admin) as opened:
        found = await admin.ask("root", "{ users { username groups { name } keypairs { access_key } } }")
    kim = next(each for each in found["users"] if each["username"] == "kim")
    assert kim["groups"] == [{"name": "away-project"}]
    assert kim["keypairs"] == [{"access_key": access_key("kim")}]
    assert opened == [1] * 3


@pytest.mark.parametrize(
    "query",
    [
        "{ images { aliases installed_agents labels { key } resource_limits { key } } }",
        "{ agent_list(limit: 10, offset: 0) { items { installed_images } } }",
    ],
)
async def test_who_has_which_images_is_asked_once(admin: AdminWorld, query: str) -> None:
    with _counted(admin) as opened:
        await admin.ask("root", query)
    assert opened == [1] * 2


@contextmanager
def _counted(admin: AdminWorld) -> Iterator[list[int]]:
    """One for each time that the projections are asked."""
    known: Any = admin.services.known
    opened: list[int] = []
    before = known.connection

    def counted() -> AbstractAsyncContextManager[Connection]:
        opened.append(1)
        connection: AbstractAsyncContextManager[Connection] = before()
        return connection

    known.connection = counted
    try:
        yield opened
    finally:
        del known.connection


async def test_a_list_too_long_for_one_answer_is_refused_and_not_cut(
    admin: AdminWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = functools.partial(reading.user_list, query=Query(limit=len(PEOPLE) - 1))
    monkeypatch.setattr(reading, "user_list", few)
    [error] = (await admin.post("root", "{ users { username } }")).json()["errors"]
    assert "user_list" in error["message"]
    assert [each["username"] for each in (await admin.ask("lord", "{ users { username } }"))["users"]] == [
        "kim",
        "lord",
    ]


async def test_a_list_that_carries_a_position_waits_for_it(admin: AdminWorld) -> None:
    topic = admin.settings.topic_prefix + commands("directory")
    never = Position({Partition(topic, number): 10**9 for number in range(admin.settings.partitions)})
    async with admin.client("root", **{POSITION: str(never)}) as client:
        late = await client.post("/admin/gql", json={"query": "{ domains { name } }"})
        bad = await client.post("/admin/gql", json={"query": "{ domains { name } }"}, headers={POSITION: "x"})
    assert late.status_code == 504
    assert late.json()["retryable"] is True
    assert bad.status_code == 400


async def test_a_list_goes_on_behind_the_page_before(admin: AdminWorld) -> None:
    query = """query($after: String) { user_list(limit: 3, offset: 0, order: "email", after: $after) {
        items { email } total_count next } }"""
    found: list[str] = []
    after: str | None = None
    while after is not None or not found:
        page = (await admin.ask("root", query, {"after": after}))["user_list"]
        found += [each["email"] for each in page["items"]]
        after = page["next"]
        assert page["total_count"] == len(PEOPLE)
    assert found == sorted(email(who) for who in PEOPLE)
    wrong = await admin.post("root", query, {"after": "nonsense"})
    assert (wrong.status_code, "no cursor" in wrong.text) == (200, True)

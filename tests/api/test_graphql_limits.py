"""How large a query may be, what the schema tells of itself, and that nothing anybody sends is our fault."""

from typing import Any

import orjson
import pytest
from graphql import GraphQLError

from api.graphql.limits import COST_MAX, DEPTH_MAX, FIELDS_AT_ROOT_MAX, TEXT_MAX, check, parsed
from api.graphql.schema import SCHEMAS, make_schema
from tests.api.admin import AdminWorld


def refused(query: str, **variables: Any) -> str:
    with pytest.raises(GraphQLError) as raised:
        check(parsed(query), variables)
    return raised.value.message


def allowed(query: str, **variables: Any) -> None:
    check(parsed(query), variables)


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_query_may_be_only_so_deep() -> None:
    allowed("{ a " * DEPTH_MAX + "}" * DEPTH_MAX)
    assert "deep" in refused("{ a " * (DEPTH_MAX + 1) + "}" * (DEPTH_MAX + 1))


def test_a_query_may_be_only_so_long() -> None:
    assert "too long" in refused("{ a }" + " " * TEXT_MAX)
    assert "Syntax Error" in refused("{ " + "a " * 5000 + "}")


def test_a_query_nested_beyond_reason_is_refused() -> None:
    refused("{ a " * 1000 + "}" * 1000)
    refused("{ a(b: " + "[" * 1900)


def test_only_so_many_things_are_asked_for_at_once() -> None:
    aliases = [f"a{n}: domains {{ name }}" for n in range(FIELDS_AT_ROOT_MAX)]
    allowed(f"{{ {' '.join(aliases)} }}")
    assert "at once" in refused(f"{{ {' '.join(aliases)} again: domains {{ name }} }}")


def test_what_a_list_may_hold_counts_for_each_of_its_items() -> None:
    query = (
        "query($n: Int!) { keypair_list(limit: $n, offset: 0) { items { compute_sessions { containers { id } } } } }"
    )
    allowed(query, n=20)
    assert str(COST_MAX) in refused(query, n=1000)
    assert str(COST_MAX) in refused(query)  # whatever the default may be
    assert str(COST_MAX) in refused(query.replace("limit: $n", "limit: 99999999999999999999"))


def test_fragments_count_as_often_as_they_are_used() -> None:
    fragments = " ".join(f"fragment f{n} on T {{ ...f{n + 1} ...f{n + 1} }}" for n in range(9))
    bomb = f"{{ a {{ ...f0 }} }} {fragments} fragment f9 on T {{ {' '.join(f'x{n}: y' for n in range(300))} }}"
    assert str(COST_MAX) in refused(bomb)


def test_fragments_that_go_in_circles_end() -> None:
    assert "deep" in refused("{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }")


def test_nul_characters_are_refused() -> None:
    assert "NUL" in refused('{ domain(name: "a\\u0000b") { name } }')


# -- the schema --------------------------------------------------------------------------------------------------------


SCALARS = ("UUID", "DateTime", "BigInt", "JSONString")


async def test_introspection_is_a_setting() -> None:
    query = "{ __schema { queryType { name } } }"
    closed = await make_schema(introspection=False).execute(query)
    opened = await make_schema(introspection=True).execute(query)
    assert closed.errors
    assert closed.data is None
    assert opened.data == {"__schema": {"queryType": {"name": "Query"}}}


def test_names_stay_snake_case_and_scalars_are_the_clients() -> None:
    text = SCHEMAS[True].as_str()
    for name in (
        "total_count",
        "is_active: Boolean",
        "scalar UUID",
        "scalar DateTime",
        "scalar BigInt",
        "scalar JSONString",
    ):
        assert name in text
    assert "totalCount" not in text


# -- what is sent ------------------------------------------------------------------------------------------------------


@pytest.mark.cluster
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b'"x"', "body"),
        (b"{}", "query"),
        (b'{"query": 1}', "query"),
        (b'{"query": "{ domains { name } }", "variables": []}', "variables"),
        (b'{"query": "{ domains { name } }", "operationName": {}}', "operationName"),
        (b'{"query": "{ domains { name } }", "variables": {"x": "\\u0000"}}', "body"),
    ],
)
async def test_a_body_that_is_no_request_is_a_problem_that_names_the_field(
    admin: AdminWorld, body: bytes, field: str
) -> None:
    async with admin.client("ada") as client:
        answer = await client.post("/admin/gql", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["field"] == field


@pytest.mark.cluster
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "query",
    [
        "",
        "{",
        "{ nothing }",
        "query A { domains { name } } query B { domains { name } }",
        "subscription { domains { name } }",
        "{ domains { name { deeper } } }",
        '{ group(id: "no uuid") { name } }',
        "{ user_list(limit: -1, offset: 0) { total_count } }",
        "{ user_list(limit: 1001, offset: 0) { total_count } }",
        "{ user_list(limit: 1, offset: -1) { total_count } }",
        "{ user_list(limit: 99999999999, offset: 0) { total_count } }",
        '{ user_list(limit: 1, offset: 0, filter: "((") { total_count } }',
        '{ user_list(limit: 1, offset: 0, order: "+password_hash") { total_count } }',
        '{ user_list(limit: 1, offset: 0, order_key: "uuid; drop") { total_count } }',
        'mutation { create_domain(name: "x", props: {total_resource_slots: "no json"}) { ok } }',
        "{ __schema { types { name } } }",
    ],
)
async def test_a_query_that_cannot_be_answered_is_an_error_and_says_why(admin: AdminWorld, query: str) -> None:
    answer = await admin.post("root", query)
    assert answer.status_code == 200
    errors = answer.json()["errors"]
    assert errors[0]["message"]
    assert "Internal" not in errors[0]["message"]
    legacy = await admin.post("root", query, path="/admin/graphql")
    assert legacy.status_code == 400
    assert legacy.json()["type"].endswith("/graphql-error")


@pytest.mark.cluster
@pytest.mark.asyncio(loop_scope="module")
async def test_the_old_path_answers_without_a_wrapper(admin: AdminWorld) -> None:
    answer = await admin.post("ada", "{ keypair { user_id } }", path="/admin/graphql")
    assert answer.json() == {"keypair": {"user_id": "ada@example.org"}}


@pytest.mark.cluster
@pytest.mark.asyncio(loop_scope="module")
async def test_a_defect_of_ours_is_told_as_one_and_not_how_it_came(
    admin: AdminWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr("api.graphql.reading.domains", broken)
    answer = (await admin.post("ada", "{ domains { name } keypair { user_id } }")).json()
    assert answer["data"] == {"domains": None, "keypair": {"user_id": "ada@example.org"}}
    assert "secret detail" not in orjson.dumps(answer).decode()
    assert answer["errors"][0]["extensions"]["status"] == 500

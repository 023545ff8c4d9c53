"""Whatever is asked in the schema's own words, by anybody: an answer, and never a fault of ours."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis_graphql import mutations, nodes, queries

from api.graphql.schema import SCHEMAS
from tests.api.admin import HOME, PEOPLE, AdminWorld, session_id, user_id

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

_JSON = ["{}", '{"cpu": "1"}', '{"mem": "Infinity"}', '{"cpu": -1}', '{"local": ["x"]}', "[]", "null", "7", "{"]
_IDS = [HOME, user_id("ada"), session_id("ada"), "00000000-0000-0000-0000-000000000000", "none"]
_SCALARS = {
    "UUID": st.sampled_from(_IDS).map(nodes.String),
    "DateTime": st.datetimes().map(lambda at: nodes.String(at.isoformat())),
    "BigInt": st.integers(-(2**54), 2**54).map(nodes.Int),
    "JSONString": st.sampled_from(_JSON).map(nodes.String),
}
_FIELDS = {
    "query": (queries, SCHEMAS[True]._schema.query_type),
    "mutation": (mutations, SCHEMAS[True]._schema.mutation_type),
}


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind, (_, of) in _FIELDS.items() if of is not None for field in of.fields]
)
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_anything_that_is_asked_is_answered(
    admin: AdminWorld, kind: str, field: str, data: st.DataObject
) -> None:
    made, _ = _FIELDS[kind]
    who = data.draw(st.sampled_from([who for who in PEOPLE if who != "idle"]))
    query = data.draw(made(SCHEMAS[True].as_str(), fields=[field], custom_scalars=_SCALARS))
    answer = await admin.post(who, query)
    assert answer.status_code in {200, 400}, answer.text
    for error in answer.json().get("errors", ()):
        assert error.get("extensions", {}).get("status", 400) < 500, (error, query)

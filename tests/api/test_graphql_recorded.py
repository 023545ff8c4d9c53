"""What the public client was seen to ask (23.9.10 and 26.9.6), word for word, is answered in the shape it reads."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from graphql import FieldNode, OperationDefinitionNode, SelectionSetNode, parse

from tests.api.admin import AdminWorld, access_key, session_id
from tests.whole import AGENT

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

RECORDED = {each["name"]: each for each in orjson.loads((Path(__file__).parent / "recorded_graphql.json").read_bytes())}
PLACES = {"{SID}": session_id("ada"), "{EID}": session_id("nobody"), "AKX": access_key("kim"), "i-001": AGENT}
"""What stands in them for things that the recording's server had."""

JSON_FIELDS = {
    "available_slots",
    "occupied_slots",
    "occupying_slots",
    "total_resource_slots",
    "status_data",
    "resource_opts",
    "live_stat",
    "last_stat",
    "hardware_metadata",
    "local_config",
    "idle_checks",
    "allowed_vfolder_hosts",
}


@pytest.mark.parametrize("name", RECORDED)
async def test_what_was_recorded_is_answered_as_it_was_asked(admin: AdminWorld, name: str) -> None:
    asked = RECORDED[name]
    variables = _filled(asked["variables"])
    if "create_user" in asked["query"]:
        variables["input"]["domain_name"] = "home"
    data = await admin.ask("root", asked["query"], variables)
    _check(_selected(asked["query"]), data)


@pytest.mark.parametrize("name", [name for name in RECORDED if "adm_agent" not in name and "sdk_" not in name])
async def test_what_was_recorded_may_be_asked_by_users_too(admin: AdminWorld, name: str) -> None:
    asked = RECORDED[name]
    _check(_selected(asked["query"]), await admin.ask("ada", asked["query"], _filled(asked["variables"])))


async def test_sessions_and_agents_are_there(admin: AdminWorld) -> None:
    found = await admin.ask("root", RECORDED["c23-adm_sess_info"]["query"], {"id": session_id("ada")})
    session = found["compute_session"]
    assert session["name"] == "session-of-ada"
    assert session["containers"][0]["cluster_hostname"] == "main1"
    assert session["containers"][0]["registry"] == "registry.example"
    agents = await admin.ask("root", RECORDED["c23-adm_agents"]["query"], RECORDED["c23-adm_agents"]["variables"])
    assert [each["id"] for each in agents["agent_list"]["items"]] == [AGENT]
    assert orjson.loads(agents["agent_list"]["items"][0]["available_slots"])["cpu"] == "8"


def _filled(value: Any) -> Any:
    match value:
        case str():
            return PLACES.get(value, value)
        case dict():
            return {name: _filled(each) for name, each in value.items()}
        case _:
            return value


def _selected(query: str) -> SelectionSetNode:
    operation = parse(query).definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    return operation.selection_set


def _check(selection: SelectionSetNode, data: Any) -> None:
    """Every field that was asked for is there, under its name, and JSON is text that holds JSON."""
    if data is None:
        return
    if isinstance(data, list):
        for each in data:
            _check(selection, each)
        return
    for field in selection.selections:
        assert isinstance(field, FieldNode)
        name = field.name.value
        assert name in data
        if name in JSON_FIELDS and data[name] is not None:
            orjson.loads(data[name])
        if name == "total_count":
            assert isinstance(data[name], int)
        if field.selection_set is not None:
            _check(field.selection_set, data[name])

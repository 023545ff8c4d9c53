"""Sessions made from templates: what the request says replaces what the template says."""

from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from api.accounts.template_schema import Task
from api.http.problems import Problem
from api.sessions.from_templates import merged
from tests.api.test_templates import new
from tests.api.world import World

PATH = "/session/_/create-from-template"
TASK: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "taskTemplate",
    "metadata": {"name": "training", "tag": "gpu"},
    "spec": {
        "type": "batch",
        "kernel": {"image": "python:3.9", "environ": {"EPOCHS": 3, "A": "B"}, "run": {"startup": "python train.py"}},
        "resources": {"cpu": 2, "mem": "4g"},
    },
}
CLIENT: dict[str, Any] = {
    "tag": None,
    "domain": "default",
    "group": "default",
    "name": "pysdk-abcdefg",
    "enqueueOnly": True,
    "dependencies": None,
    "reuseIfExists": False,
    "starts_at": None,
    "config": {"mounts": []},
}
"""As client 23.9.10 sends it where nothing is asked for otherwise."""


def request(**told: Any) -> Any:
    return merged(Task.model_validate(TASK), {"domain": "default", "group": "default"}, told)


def test_without_a_word_the_session_is_what_the_template_says() -> None:
    asked = request()
    assert (asked.image, asked.session_type, asked.tag, asked.startup_command) == (
        "python:3.9",
        "batch",
        "gpu",
        "python train.py",
    )
    assert (asked.domain, asked.group) == ("default", "default")
    assert asked.config.environ == {"EPOCHS": "3", "A": "B"}
    assert asked.config.resources == {"cpu": "2", "mem": "4g"}


@pytest.mark.parametrize(
    ("told", "field", "value"),
    [
        ({"image": "r:4"}, "image", "r:4"),
        ({"lang": "r:4"}, "image", "r:4"),
        ({"type": "interactive"}, "session_type", "interactive"),
        ({"startupCommand": "ls"}, "startup_command", "ls"),
        ({"startup_command": "ls"}, "startup_command", "ls"),
        ({"tag": "mine"}, "tag", "mine"),
        ({"group": "other"}, "group", "other"),
    ],
)
def test_what_is_told_replaces_what_the_template_says(told: dict[str, str], field: str, value: str) -> None:
    assert getattr(request(**told), field) == value


def test_variables_and_amounts_are_replaced_as_a_whole_and_apart() -> None:
    asked = request(config={"environ": {"X": "Y"}, "scalingGroup": "special"})
    assert (asked.config.environ, asked.config.resources) == ({"X": "Y"}, {"cpu": "2", "mem": "4g"})
    assert asked.config.resource_group == "special"
    assert request(config={"environ": {}}).config.environ == {}


def test_who_says_where_folders_go_says_all_about_folders() -> None:
    task = {**TASK, "spec": {**TASK["spec"], "mounts": {"data": "/home/work/data", "models": None}}}
    place = {"domain": "default", "group": "default"}
    own = merged(Task.model_validate(task), place, {})
    assert (own.config.mounts, own.config.mount_map) == (["data", "models"], {"data": "/home/work/data"})
    asked = merged(Task.model_validate(task), place, {"config": {"mounts": []}})
    assert (asked.config.mounts, asked.config.mount_map) == ([], None)


def test_a_template_that_says_what_cannot_be_done_yet_is_refused_by_name() -> None:
    kernel = TASK["spec"]["kernel"] | {"git": {"repository": "https://example.org/x.git"}}
    with pytest.raises(Problem) as refused:
        merged(Task.model_validate({**TASK, "spec": {**TASK["spec"], "kernel": kernel}}), {}, {})
    assert refused.value.members["field"] == "template.spec.kernel.git"
    with pytest.raises(ValidationError, match="image"):
        merged(Task.model_validate({**TASK, "spec": {}}), {}, {})


async def kept(client: httpx.AsyncClient, payload: Any = TASK) -> str:
    """The id of a new template."""
    answer = await client.post("/template/session", json=new(payload))
    assert answer.status_code == 200, answer.text
    return str(answer.json()[0]["id"])


async def test_a_session_is_made_as_the_public_client_asks_for_it(world: World) -> None:
    async with world.client(**{"Idempotency-Key": '"one"'}) as ada:
        template_id = await kept(ada)
        del ada.headers["Idempotency-Key"]
        answer = await ada.post(PATH, json=CLIENT | {"template_id": template_id})
        assert answer.status_code == 201, answer.text
        assert (answer.json()["status"], answer.json()["created"]) == ("PENDING", True)
        shown = (await ada.get("/session/pysdk-abcdefg")).json()
    assert {name: shown[name] for name in ("image", "type", "tag", "occupyingSlots")} == {
        "image": "python:3.9",
        "type": "batch",
        "tag": "gpu",
        "occupyingSlots": {"cpu": "2", "mem": str(4 * 2**30)},
    }


async def test_only_ones_own_templates_make_sessions_and_admins_may_for_their_owner(world: World) -> None:
    async with world.client() as ada, world.client("eve") as eve, world.client("admin") as admin:
        template_id = await kept(ada)
        asked = CLIENT | {"template_id": template_id}
        for somebody in (eve, admin):
            answer = await somebody.post(PATH, json=asked)
            assert (answer.status_code, answer.json()["field"]) == (404, "template_id")
        assert (await admin.post(PATH, json=asked | {"owner_access_key": "AKADA"})).status_code == 201
        assert (await eve.post(PATH, json=asked | {"owner_access_key": "AKADA"})).status_code == 403
        assert (await ada.get("/session/pysdk-abcdefg")).json()["ownerAccessKey"] == "AKADA"


@pytest.mark.parametrize(
    ("told", "status", "field"),
    [
        ({"template_id": "nothing"}, 404, "template_id"),
        ({"template_id": None}, 400, "template_id"),
        ({"config": []}, 400, "config"),
        ({"config": {"resources": {"cpu": "many"}}}, 400, "config.resources.cpu"),
        ({"config": {"mounts": ["data"]}}, 404, "config.mounts.0"),
        ({"group": "nowhere"}, 400, "group"),
    ],
)
async def test_a_request_that_cannot_be_is_refused_by_name(
    world: World, told: dict[str, Any], status: int, field: str
) -> None:
    async with world.client() as ada:
        template_id = await kept(ada)
        answer = await ada.post(PATH, json=CLIENT | {"template_id": template_id} | told)
    assert answer.status_code == status, answer.text
    assert answer.json()["field"].startswith(field), "as deep as the rule that is broken"


async def test_a_template_of_a_cluster_makes_no_session(world: World) -> None:
    cluster = {
        "apiVersion": "v1",
        "kind": "clusterTemplate",
        "mode": "single-node",
        "metadata": {"name": "pair"},
        "spec": {"nodes": [{"role": "main", "session_template": "x"}]},
    }
    async with world.client() as ada:
        made = await ada.post("/template/cluster", json=new(cluster))
        answer = await ada.post(PATH, json=CLIENT | {"template_id": made.json()[0]["id"]})
    assert (answer.status_code, answer.json()["field"], answer.json()["rule"]) == (400, "template_id", "task")

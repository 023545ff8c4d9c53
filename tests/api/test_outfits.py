"""What a kernel is given when it starts: dotfiles, a script, an SSH identity, and the account for pulling its image."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from domain.messages import KernelId, SessionId
from infra.secrets import start_token
from infra.ssh_keys import public_of
from tests.api.neighbours import HOME
from tests.api.test_environ import command
from tests.api.world import World
from tests.whole import AGENT

pytestmark = pytest.mark.usefixtures("any_agent")

SESSION = SessionId(str(uuid4()))
SCRIPT = "pip install numpy\n"


async def asked(world: World, what: str, about: str = "", session_id: str = SESSION, **question: Any) -> httpx.Response:
    """As an agent asks."""
    about = about or str(uuid4())
    token = start_token(world.settings, AGENT, KernelId(about), SessionId(session_id))
    async with world.anonymous() as agent:
        headers = {"Authorization": f"Bearer {token}"}
        return await agent.post(f"/internal/{what}".format(about), json=question, headers=headers)


async def outfit(world: World, session_id: str = SESSION, **question: Any) -> dict[str, Any]:
    question = {"owner": "AKADA", "image": "python:3.9"} | question
    answer = await asked(world, "kernels/{}/outfit", session_id=session_id, **question)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_all_kernels_of_a_session_have_one_identity_and_no_others_have_it(world: World) -> None:
    first, again = await outfit(world), await outfit(world)
    other, of_admin = await outfit(world, str(uuid4())), await outfit(world, owner="AKADMIN")
    keys = [told["ssh"]["private"] for told in (first, other, of_admin)]
    assert first["ssh"] == again["ssh"]
    assert len({*keys, first["ssh"]["host_private"]}) == 4
    for half in ("", "host_"):
        assert public_of(first["ssh"][half + "private"]) == first["ssh"][half + "public"]
    records = [record.value for log in world.log._logs.values() for record in log.records]
    secret = first["ssh"]["private"].splitlines()[3].encode()
    assert not [value for value in records if secret in value]
    await world.services.keyring.forget("user-ada")
    assert (await outfit(world))["ssh"]["private"] != keys[0]


async def test_the_owner_logs_in_with_his_own_key_too(world: World) -> None:
    assert (await outfit(world))["ssh"]["authorized"] == []
    async with world.client() as ada:
        keys = (await ada.patch("/auth/ssh-keypair")).json()
    assert (await outfit(world))["ssh"]["authorized"] == [keys["ssh_public_key"].strip()]


async def test_his_own_dotfiles_go_before_the_projects_and_these_before_the_domains(world: World) -> None:
    files = {"/domain-config/dotfiles": "domain", "/group-config/dotfiles": "group", "/user-config/dotfiles": "user"}
    async with world.client("admin") as admin, world.client() as ada:
        for number, (path, who) in enumerate(files.items()):
            client = ada if who == "user" else admin
            whose = {"domain": {"domain": "default"}, "group": {"group": str(HOME)}, "user": {}}[who]
            for name in (".all", *[f".{each}" for each in list(files.values())[number:]]):
                file = {"path": name, "permission": "640", "data": f"of {who}"}
                answer = await client.post(path, json=file | whose)
                assert answer.status_code == 200, answer.text
    told = (await outfit(world, project_id=str(HOME)))["dotfiles"]
    assert {file["path"]: file["content"] for file in told} == {
        ".all": "of user",
        ".user": "of user",
        ".group": "of group",
        ".domain": "of domain",
    }
    assert {file["mode"] for file in told} == {"640"}
    told = (await outfit(world))["dotfiles"]
    assert {file["content"] for file in told} == {"of user", "of domain"}, "a session of no project"


async def test_a_bootstrap_script_is_told_to_its_session_alone(world: World) -> None:
    async with world.client() as ada:
        asked_for = command({}, spec={"image": "python:3.9", "slots": {"cpu": 1000}, "bootstrap_script": SCRIPT})
        answer = await ada.post("/refold/commands", json=asked_for)
        assert answer.status_code == 200, answer.text
    event = answer.json()["events"][0]
    sealed = event["spec"]["bootstrap_script"]
    told = await outfit(world, event["session_id"], bootstrap_script=sealed)
    assert told["bootstrap_script"] == SCRIPT
    question = {"owner": "AKADA", "image": "python:3.9", "bootstrap_script": sealed}
    elsewhere = await asked(world, "kernels/{}/outfit", **question)
    assert (elsewhere.status_code, elsewhere.json()["field"]) == (400, "bootstrap_script")
    as_variable = question | {"bootstrap_script": None, "environ": {"A": sealed}}
    assert (await asked(world, "kernels/{}/outfit", session_id=event["session_id"], **as_variable)).status_code == 400


async def test_an_owner_who_is_gone_is_told_to_the_agent_for_good(world: World) -> None:
    answer = await asked(world, "kernels/{}/outfit", owner="AKNOBODY", image="python:3.9")
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (410, "owner-gone")


@pytest.mark.parametrize("what", ["kernels/{}/outfit", "tasks/{}/account"])
async def test_the_account_of_a_registry_is_for_its_images_alone(world: World, what: str) -> None:
    async def account(image: str) -> Any:
        question = {"image": image} | ({"owner": "AKADA"} if "outfit" in what else {})
        return (await asked(world, what, **question)).json()["account"]

    whole = {"": "https://private.example", "type": "docker", "username": "refold", "password": "registry secret"}
    async with world.client("admin") as admin:
        for key, value in (("private.example", whole), ("open.example", "https://open.example")):
            answer = await admin.post("/config/set", json={"key": f"config/docker/registry/{key}", "value": value})
            assert answer.status_code == 200, answer.text
    assert await account("private.example/team/image:1") == {"username": "refold", "password": "registry secret"}
    assert await account("open.example/image:1") is None
    assert await account("python:3.9") is None
    await world.services.keyring.forget("registry:private.example")
    assert await account("private.example/team/image:1") is None, "its pull will tell"

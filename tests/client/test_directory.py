"""The public client, unchanged: its commands and its Python functions for what the directory keeps."""

import asyncio
import json
import socket
import textwrap
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.client.conftest import Client
from tests.stack import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

IMAGE = "fake/image"
TEMPLATE = """\
apiVersion: v1
kind: taskTemplate
metadata:
  name: training
spec:
  kernel:
    image: python:3.9
    environ: {TOKEN: a-token-of-the-template}
    run: {bootstrap: pip install a-private-package}
  resources: {cpu: 2, mem: 4g}
"""


async def called(client: Client, body: str) -> Any:
    """What a script that uses the client's functions says; `s` is its session."""
    script = "import json\nfrom ai.backend.client.session import Session\nwith Session() as s:\n"
    script += textwrap.indent(textwrap.dedent(body), "    ")
    process = await asyncio.create_subprocess_exec(
        str(client.program.parent / "python"),
        "-c",
        script,
        env=client.environment,
        cwd=client.home,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(output.decode().strip().splitlines()[-1])


async def test_config_tells_both_versions(client: Client) -> None:
    told = await client.run("config")
    assert "Server version: 23.09.10 (API: v7.20230615)" in told
    assert "Negotiated API version: (7, '20230615')" in told


async def test_dotfiles_are_created_listed_read_changed_and_deleted(client: Client, stack: Stack) -> None:
    stack.secrets |= {"export EDITOR=vi", "export EDITOR=ed"}
    source = client.home / "source"
    source.write_text("export EDITOR=vi\n")
    created = await client.run("dotfile", "create", ".bashrc", "-f", str(source), "--perm", "644")
    assert "Dotfile .bashrc created and ready" in created
    assert ".bashrc" in await client.run("dotfile", "list")
    assert "export EDITOR=vi" in await client.run("dotfile", "get", ".bashrc")
    source.write_text("export EDITOR=ed\n")
    assert "updated" in await client.run("dotfile", "update", ".bashrc", "-f", str(source), "--perm", "600")
    assert "export EDITOR=ed" in await client.run("dotfile", "get", ".bashrc")
    assert "deleted" in await client.run("dotfile", "delete", "-f", ".bashrc")
    assert "There is no dotfiles created yet" in await client.run("dotfile", "list")
    assert "404" in await client.run("dotfile", "get", ".bashrc", ends_with=1)


@pytest.mark.parametrize("whose", [["-d", "default", "-g", "default"], ["-d", "default"]])
async def test_dotfiles_of_projects_and_domains(client: Client, whose: list[str]) -> None:
    source = client.home / "source"
    source.write_text("x\n")
    assert "created" in await client.run("dotfile", "create", ".rc", "-f", str(source), *whose)
    assert ".rc" in await client.run("dotfile", "list", *whose)
    assert "x" in await client.run("dotfile", "get", ".rc", *whose)
    assert "updated" in await client.run("dotfile", "update", ".rc", "-f", str(source), *whose)
    assert "deleted" in await client.run("dotfile", "delete", "-f", ".rc", *whose)


async def test_templates_are_created_listed_read_changed_and_deleted(client: Client, stack: Stack) -> None:
    stack.secrets |= {"a-token-of-the-template", "a-private-package"}
    source = client.home / "template.yaml"
    source.write_text(TEMPLATE)
    created = await client.run("session-template", "create", "-f", str(source))
    assert "created and ready" in created
    template_id = created.split("Task template ")[1].split()[0]
    assert template_id in await client.run("session-template", "list")
    told = await client.run("session-template", "get", template_id)
    assert "name: training" in told
    assert "a-token-of-the-template" in told
    assert json.loads((await client.run("session-template", "get", template_id, "-f", "json")).splitlines()[-1])
    source.write_text(TEMPLATE.replace("training", "evaluating"))
    assert "updated" in await client.run("session-template", "update", template_id, "-f", str(source))
    assert "evaluating" in await client.run("session-template", "list")
    source.write_text(TEMPLATE.replace("    image: python:3.9\n", "    img: python:3.9\n"))
    refused = await client.run("session-template", "create", "-f", str(source), ends_with=1)
    assert "line 7" in refused
    assert "deleted" in await client.run("session-template", "delete", "-f", template_id)
    assert "There is no task templates created yet" in await client.run("session-template", "list")


async def test_an_announcement_is_made_read_and_taken_back(client: Client) -> None:
    assert "No announcements." in await client.run("admin", "announcement", "get")
    assert "Posted" in await client.run("admin", "announcement", "update", "-m", "Closed on Sunday")
    assert "Closed on Sunday" in await client.run("admin", "announcement", "get")
    told = await called(client, "s.Manager.update_announcement(False)\nprint(json.dumps(s.Manager.get_announcement()))")
    assert told == {"enabled": False, "message": ""}


async def test_a_frozen_manager_begins_no_session_until_it_is_unfrozen(client: Client) -> None:
    assert "running" in await client.run("admin", "manager", "status")
    assert "successfully frozen" in await client.run("admin", "manager", "freeze")
    assert "frozen" in await client.run("admin", "manager", "status")
    refused = await client.run("session", "create", "--name", "frozen1", IMAGE, ends_with=1)
    assert "frozen" in refused
    assert "successfully unfrozen" in await client.run("admin", "manager", "unfreeze")
    assert "is created and ready" in await client.run("session", "create", "--name", "thawed1", IMAGE)
    await client.run("rm", "thawed1")


async def test_slots_and_folder_types_are_listed(client: Client) -> None:
    slots = await client.run("admin", "resource", "query-slots")
    assert "cpu (count)" in slots
    assert "mem (bytes)" in slots
    types = await client.run("admin", "resource", "vfolder-types")
    assert {"user", "group"} <= set(types.split())
    await client.run("admin", "resource", "docker-registries")


async def test_presets_are_checked(client: Client, stack: Stack) -> None:
    async with stack.client() as admin:
        for name, cpu in (("small", 1000), ("huge", 10**9)):
            spec = {"resource_slots": {"cpu": cpu, "mem": 2**30}}
            made = await admin.post("/refold/commands", json={"type": "CreatePreset", "name": name, "spec": spec})
            assert made.status_code == 200, made.text
    listed = await called(client, "print(json.dumps(s.Resource.list()))")
    assert [each["name"] for each in listed["presets"]] == ["huge", "small"]
    told = await called(client, "print(json.dumps(s.Resource.check_presets()))")
    assert {each["name"]: each["allocatable"] for each in told["presets"]} == {"small": True, "huge": False}
    assert told["keypair_limits"]["cpu"] == "Infinity"
    assert told["scaling_group_remaining"]["cpu"] == "64"
    assert set(told) >= {"keypair_using", "keypair_remaining", "scaling_groups"}


async def test_what_went_wrong_in_clients_is_listed(client: Client, stack: Stack) -> None:
    report = {"severity": "error", "source": "webui", "message": "it broke", "context_lang": "js", "context_env": {}}
    async with stack.client() as admin:
        assert (await admin.post("/logs/error", json=report)).status_code == 200
    told = await client.run("server-logs", "list", "--mark-read")
    assert "Total log count: 1" in told
    assert "it broke" in told


async def test_resource_groups_that_may_be_used(client: Client) -> None:
    assert await called(client, "print(json.dumps(s.ScalingGroup.list_available('default')))") == [{"name": "default"}]


async def test_a_password_is_changed_with_the_old_one_only(client: Client, stack: Stack) -> None:
    old, new = stack.admin.password, "another horse, quite"
    stack.secrets.add(new)
    body = f"print(json.dumps(s.Auth.update_password({{}}, {new!r}, {new!r})))"
    with pytest.raises(AssertionError, match="this is not the password"):
        await called(client, body.format(repr("wrong")))
    assert await called(client, body.format(repr(old))) == {}


async def test_a_session_is_made_from_a_template(client: Client) -> None:
    kernel, resources = {"image": IMAGE}, {"cpu": 1, "mem": "256m"}
    spec = {"kernel": kernel, "resources": resources}
    template = json.dumps({"apiVersion": "v1", "kind": "taskTemplate", "metadata": {"name": "t"}, "spec": spec})
    told = await called(
        client,
        f"""
        template = s.SessionTemplate.create({template!r})
        made = s.ComputeSession.create_from_template(template.template_id, name="from-template", tag="mine")
        print(json.dumps([made.status, made.created, made.get_info()["image"], made.get_info()["tag"]]))
        made.destroy()
        template.delete()
        """,
    )
    assert told == ["RUNNING", True, IMAGE, "mine"]


async def test_registries_are_entered_by_the_keys_of_etcd(client: Client, stack: Stack) -> None:
    stack.secrets.add("the-registry-password")
    key = "config/docker/registry/cr.example.org"
    assert "Successfully set" in await client.run("admin", "etcd", "set", key, "https://cr.example.org")
    assert "Successfully set" in await client.run("admin", "etcd", "set", f"{key}/password", "the-registry-password")
    assert "https://cr.example.org" in await client.run("admin", "etcd", "get", key)
    assert "********" in await client.run("admin", "etcd", "get", "--prefix", key)
    assert "cr.example.org" in await client.run("admin", "resource", "docker-registries")
    assert "Successfully deleted" in await client.run("admin", "etcd", "delete", "--prefix", key)
    assert "null" in await client.run("admin", "etcd", "get", key)
    assert "cannot be set here" in await client.run("admin", "etcd", "set", "config/redis/addr", "x", ends_with=1)


async def test_what_was_used_is_told_by_project_and_over_time(client: Client) -> None:
    told = await called(
        client,
        """
        import datetime, time
        s.ComputeSession.get_or_create("fake/image", name="used1").destroy()
        today = datetime.datetime.now(datetime.timezone.utc)
        group = s.Group.from_name("default")[0]["id"]
        while not (month := s.Resource.usage_per_month(today.strftime("%Y%m"), [group])):
            time.sleep(0.1)
        period = s.Resource.usage_per_period(group, today.strftime("%Y%m01"), today.strftime("%Y%m%d"))
        print(json.dumps([
            [each["g_name"] for each in month],
            len(month[0]["c_infos"]) == len(period["c_infos"]),
            len(s.Resource.user_monthly_stats()),
            s.Resource.admin_monthly_stats()[-1]["num_sessions"]["unit_hint"],
            s.Resource.recalculate_usage(),
        ]))
        """,
    )
    assert told == [["default"], True, 2880, "count", {}]
    listed = await client.run("admin", "resource", "usage-per-month", f"{datetime.now(UTC):%Y%m}")
    assert "Group: default" in listed


async def test_agents_are_excluded_and_included_and_have_no_watcher(client: Client, stack: Stack) -> None:
    agent = stack.settings.agent_id or socket.gethostname()
    await client.run("admin", "manager", "scheduler", "exclude-agents", agent)
    waiting = await client.run("session", "create", "--name", "waits1", "--max-wait", "1", IMAGE)
    assert "still on the job queue" in waiting
    await client.run("admin", "manager", "scheduler", "include-agents", agent)
    async with stack.client() as admin, asyncio.timeout(20):
        while (await admin.get("/session/waits1")).json()["status"] != "RUNNING":
            await asyncio.sleep(0.1)
    await client.run("rm", "waits1")
    assert "alive" in await client.run("admin", "watcher", "status", agent)
    assert "as the service that it is" in await client.run("admin", "watcher", "agent-stop", agent, ends_with=1)


async def test_a_keypair_is_had_for_the_password(client: Client, stack: Stack) -> None:
    told = await called(
        client,
        f"""
        token = s.User.authorize({stack.admin.email!r}, "another horse, quite")
        print(json.dumps(token.content["access_key"]))
        """,
    )
    assert told == stack.admin.access_key

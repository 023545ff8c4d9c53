"""The public client, unchanged, for administrators: all that it asks and changes by GraphQL, by its Python functions,
and its commands that show it.
"""

from typing import Any

import pytest

from tests.client.conftest import Client
from tests.client.test_directory import called

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]


async def done(client: Client, body: str) -> dict[str, Any]:
    """What a script has put into `told`. Its `ok(…)` takes the answer of a change, which must have been made."""
    head = "told = {}\ndef ok(answer):\n    assert answer['ok'], answer\n    return answer\n"
    found: dict[str, Any] = await called(client, f"{head}{body}\nprint(json.dumps(told))")
    return found


async def test_domains_are_made_listed_changed_and_taken_away(client: Client) -> None:
    told = await done(
        client,
        """
ok(s.Domain.create("lab", description="a laboratory", total_resource_slots='{"cpu": "4"}'))
ok(s.Domain.update("lab", new_name="labs", description="laboratories"))
told["detail"] = s.Domain.detail("labs")
told["listed"] = [each["name"] for each in s.Domain.list()]
ok(s.Domain.delete("labs"))
told["deleted"] = s.Domain.detail("labs")["is_active"]
ok(s.Domain.purge("labs"))
told["purged"] = [each["name"] for each in s.Domain.list()]""",
    )
    assert told["detail"]["description"] == "laboratories"
    assert told["detail"]["total_resource_slots"] == '{"cpu":"4"}'
    assert "labs" in told["listed"]
    assert told["deleted"] is False
    assert told["purged"] == ["default"]
    assert "default" in await client.run("admin", "domain", "list")


async def test_projects_are_made_listed_changed_joined_and_taken_away(client: Client) -> None:
    told = await done(
        client,
        """
gid = ok(s.Group.create("default", "vision"))["group"]["id"]
ok(s.Group.update(gid, name="sight", description="seeing"))
told["detail"] = s.Group.detail(gid)
told["named"] = [each["id"] == gid for each in s.Group.from_name("sight")]
me = s.User.detail()["uuid"]
ok(s.Group.add_users(gid, [me]))
told["joined"] = [each["name"] for each in s.User.detail()["groups"]]
ok(s.Group.remove_users(gid, [me]))
told["left"] = [each["name"] for each in s.User.detail()["groups"]]
ok(s.Group.delete(gid))
ok(s.Group.purge(gid))
told["listed"] = [each["name"] for each in s.Group.list("default")]""",
    )
    assert (told["detail"]["name"], told["detail"]["description"]) == ("sight", "seeing")
    assert told["named"] == [True]
    assert "sight" in told["joined"]
    assert "sight" not in told["left"]
    assert told["listed"] == ["default"]
    assert "default" in await client.run("admin", "group", "list")


async def test_users_and_keypairs_are_made_listed_changed_and_taken_away(client: Client) -> None:
    told = await done(
        client,
        """
grace = "grace@example.org"
ok(s.User.create("default", grace, "a first password", username="grace"))
ok(s.User.update(grace, full_name="Grace H.", need_password_change=True))
told["user"] = s.User.detail(grace)
told["users"] = [each["email"] for each in s.User.paginated_list(filter='email == "grace@example.org"').items]
made = ok(s.KeyPair.create(grace, rate_limit=500))["keypair"]
told["secret"] = made["secret_key"]
key = made["access_key"]
ok(s.KeyPair.update(key, rate_limit=600))
ok(s.KeyPair.deactivate(key))
told["off"] = [each["access_key"] == key for each in s.KeyPair.list(grace, is_active=False)]
ok(s.KeyPair.activate(key))
ok(s.KeyPair.delete(key))
told["keypairs"] = len(s.KeyPair.list(grace))
ok(s.User.delete(grace))
told["deleted"] = [each["email"] for each in s.User.list(status="deleted")]
ok(s.User.purge(grace))
told["purged"] = [each["email"] for each in s.User.list()]""",
    )
    assert told["user"]["username"] == "grace"
    assert told["user"]["need_password_change"] is True
    assert told["users"] == told["deleted"] == ["grace@example.org"]
    assert len(told["secret"]) == 40
    assert told["off"] == [True]
    assert told["keypairs"] == 1
    assert "grace@example.org" not in told["purged"]
    assert client.environment["BACKEND_ACCESS_KEY"] in await client.run("admin", "keypair", "list")
    await client.run("admin", "user", "list")


async def test_what_is_refused_is_told(client: Client) -> None:
    told = await client.run("admin", "user", "add", "nowhere", "x@example.org", "password", ends_with=1)
    assert "no domain nowhere" in told


async def test_policies_are_made_listed_changed_and_taken_away(client: Client) -> None:
    told = await done(
        client,
        """
P = s.KeypairResourcePolicy
ok(P.create("small", default_for_unspecified="UNLIMITED", total_resource_slots="{}", max_session_lifetime=0,
    max_concurrent_sessions=3, max_concurrent_sftp_sessions=1, max_containers_per_session=1, idle_timeout=60,
    vfolder_host_perms="{}"))
ok(P.update("small", max_concurrent_sessions=7))
told["detail"] = P("AK").info("small")
ok(P.delete("small"))
told["listed"] = [each["name"] for each in P.list()]""",
    )
    assert told["detail"]["max_concurrent_sessions"] == 7
    assert told["listed"] == ["default"]
    assert "default" in await client.run("admin", "keypair-resource-policy", "list")


async def test_resource_groups_are_made_listed_changed_granted_and_taken_away(client: Client) -> None:
    told = await done(
        client,
        """
G = s.ScalingGroup
ok(G.create("gpus", driver="static", scheduler="fifo", is_public=False))
ok(G.update("gpus", description="with accelerators", scheduler_opts={"allowed_session_types": ["batch"]}))
told["detail"] = G.detail("gpus")
gid = s.Group.list("default")[0]["id"]
for change in (G.associate_domain, G.dissociate_domain):
    ok(change("gpus", "default"))
for change in (G.associate_group, G.dissociate_group):
    ok(change("gpus", gid))
ok(G.dissociate_all_domain("default"))
ok(G.dissociate_all_group(gid))
ok(G.delete("gpus"))
told["listed"] = [each["name"] for each in G.list()]""",
    )
    assert told["detail"]["description"] == "with accelerators"
    assert "gpus" not in told["listed"]
    assert "default" in await client.run("admin", "scaling-group", "list")


async def test_sessions_agents_and_images_are_listed(client: Client) -> None:
    told = await done(
        client,
        """
told["agents"] = [each["id"] for each in s.Agent.paginated_list().items]
told["sessions"] = s.ComputeSession.paginated_list().total_count
told["images"] = s.Image.list()
told["keypair"] = s.KeyPair("").info()["access_key"]""",
    )
    assert told["images"] == []
    assert told["keypair"] == client.environment["BACKEND_ACCESS_KEY"]
    await client.run("admin", "agent", "list")

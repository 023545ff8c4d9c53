"""Each thing that is administered is created, changed and taken away, in the words of the public client 23.9.10."""

from typing import Any

import httpx
import orjson
import pytest

from api.writing import POSITION
from infra.secrets import password_fits
from infra.signing import KeypairAuth
from tests.api.admin import HOME, AdminWorld, access_key, email, user_id

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

DONE = {"ok": True, "msg": "success"}


# -- domains and projects ----------------------------------------------------------------------------------------------


async def test_a_domain_is_created_changed_switched_off_and_purged(admin: AdminWorld) -> None:
    create = """
        mutation($name: String!, $input: DomainInput!) {
            create_domain(name: $name, props: $input) { ok msg domain {name} }
        }"""
    modify = """
        mutation($name: String!, $input: ModifyDomainInput!) {
            modify_domain(name: $name, props: $input) { ok msg }
        }"""
    slots = orjson.dumps({"cpu": "4", "mem": "8g", "cuda.device": "Infinity"}).decode()
    props = {"description": "", "is_active": True, "total_resource_slots": slots}
    told = await admin.ask("root", create, {"name": "lab", "input": props})
    assert told["create_domain"] == DONE | {"domain": {"name": "lab"}}
    hosts = orjson.dumps({"local": ["create-vfolder"]}).decode()
    change = {"name": "laboratory", "description": "x", "allowed_vfolder_hosts": hosts}
    assert (await admin.ask("root", modify, {"name": "lab", "input": change}))["modify_domain"] == DONE
    query = "query($name: String) { domain(name: $name) {description is_active total_resource_slots} }"
    lab = (await admin.ask("root", query, {"name": "laboratory"}))["domain"]
    assert (lab["description"], lab["is_active"]) == ("x", True)
    assert orjson.loads(lab["total_resource_slots"]) == {"cpu": "4", "mem": str(8 * 2**30), "cuda.device": "Infinity"}
    delete = "mutation($name: String!) { delete_domain(name: $name) { ok msg } }"
    purge = "mutation($name: String!) { purge_domain(name: $name) { ok msg } }"
    assert (await admin.ask("root", delete, {"name": "laboratory"}))["delete_domain"] == DONE
    assert (await admin.ask("root", query, {"name": "laboratory"}))["domain"]["is_active"] is False
    assert (await admin.ask("root", purge, {"name": "laboratory"}))["purge_domain"] == DONE
    assert (await admin.ask("root", query, {"name": "laboratory"}))["domain"] is None


async def test_a_project_is_created_changed_joined_left_and_purged(admin: AdminWorld) -> None:
    create = """
        mutation($name: String!, $input: GroupInput!) {
            create_group(name: $name, props: $input) { ok msg group {id domain_name name} }
        }"""
    modify = """
        mutation($gid: UUID!, $input: ModifyGroupInput!) { modify_group(gid: $gid, props: $input) { ok msg } }"""
    props = {
        "description": "",
        "is_active": True,
        "domain_name": "home",
        "total_resource_slots": None,
        "allowed_vfolder_hosts": None,
        "integration_id": None,
    }
    told = (await admin.ask("boss", create, {"name": "vision", "input": props}))["create_group"]
    gid = told["group"]["id"]
    assert told["ok"]
    assert told["group"] == {"id": gid, "domain_name": "home", "name": "vision"}
    change: dict[str, Any] = {"name": "sight", "description": "seeing"}
    assert (await admin.ask("boss", modify, {"gid": gid, "input": change}))["modify_group"] == DONE
    members = """
        query($status: String, $group: UUID) { users(status: $status, group_id: $group) { email groups { id } } }"""
    for mode, expected in (("add", [email("eve")]), ("remove", [])):
        change = {"user_update_mode": mode, "user_uuids": [user_id("eve")]}
        assert (await admin.ask("boss", modify, {"gid": gid, "input": change}))["modify_group"] == DONE
        found = (await admin.ask("boss", members, {"status": None, "group": gid}))["users"]
        assert [each["email"] for each in found] == expected
    by_name = (
        "query($name: String!, $domain_name: String) { groups_by_name(name: $name, domain_name: $domain_name) {id} }"
    )
    assert (await admin.ask("boss", by_name, {"name": "sight"}))["groups_by_name"] == [{"id": gid}]
    delete = "mutation($gid: UUID!) { delete_group(gid: $gid) { ok msg } }"
    purge = "mutation($gid: UUID!) { purge_group(gid: $gid) { ok msg } }"
    assert (await admin.ask("boss", delete, {"gid": gid}))["delete_group"] == DONE
    detail = "query($gid: UUID!) { group(id: $gid) {is_active description} }"
    assert (await admin.ask("boss", detail, {"gid": gid}))["group"] == {"is_active": False, "description": "seeing"}
    assert (await admin.ask("boss", purge, {"gid": gid}))["purge_group"] == DONE
    assert (await admin.ask("boss", detail, {"gid": gid}))["group"] is None


# -- people ------------------------------------------------------------------------------------------------------------

CREATE_USER = """
    mutation($email: String!, $input: UserInput!) {
        create_user(email: $email, props: $input) { ok msg user {domain_name email username uuid main_access_key} }
    }"""
MODIFY_USER = """
    mutation($email: String!, $input: ModifyUserInput!) { modify_user(email: $email, props: $input) { ok msg } }"""


def new_user(**props: Any) -> dict[str, Any]:
    return {
        "password": "a first password",
        "role": "user",
        "status": "active",
        "need_password_change": False,
        "description": "",
        "domain_name": "home",
        "totp_activated": False,
        "sudo_session_enabled": False,
    } | props


async def test_a_user_is_created_with_a_keypair_changed_switched_off_and_purged(admin: AdminWorld) -> None:
    props = new_user(username="grace", group_ids=[HOME])
    told = (await admin.ask("boss", CREATE_USER, {"email": "grace@example.org", "input": props}))["create_user"]
    assert told["ok"], told["msg"]
    main = told["user"].pop("main_access_key")
    assert told["user"] | {"uuid": None} == {
        "domain_name": "home",
        "email": "grace@example.org",
        "username": "grace",
        "uuid": None,
    }
    assert len(main) == 20
    assert main.startswith("AKIA")
    directory = admin.services.tail.directory
    grace = directory.user_by_email("grace@example.org")
    assert grace is not None
    assert grace.keypairs == (main,)
    assert password_fits(grace.password_hash, "a first password")
    change = {"full_name": "Grace H.", "password": "another password", "need_password_change": True, "group_ids": []}
    assert (await admin.ask("boss", MODIFY_USER, {"email": "GRACE@example.org", "input": change}))[
        "modify_user"
    ] == DONE
    query = "query($email: String) { user(email: $email) { full_name need_password_change status groups { name } } }"
    found = (await admin.ask("boss", query, {"email": "grace@example.org"}))["user"]
    assert found == {"full_name": "Grace H.", "need_password_change": True, "status": "active", "groups": []}
    grace = admin.services.tail.directory.user_by_email("grace@example.org")
    assert grace is not None
    assert password_fits(grace.password_hash, "another password")
    delete = "mutation($email: String!) { delete_user(email: $email) { ok msg } }"
    assert (await admin.ask("boss", delete, {"email": "grace@example.org"}))["delete_user"] == DONE
    found = (await admin.ask("boss", query, {"email": "grace@example.org"}))["user"]
    assert found["status"] == "deleted"
    purge = """
        mutation($email: String!, $input: PurgeUserInput!) { purge_user(email: $email, props: $input) { ok msg } }"""
    variables = {"email": "grace@example.org", "input": {"purge_shared_vfolders": False}}
    assert (await admin.ask("boss", purge, variables))["purge_user"] == DONE
    assert (await admin.ask("boss", query, {"email": "grace@example.org"}))["user"] is None


async def test_what_a_mutation_refuses_is_told_in_msg(admin: AdminWorld) -> None:
    taken = await admin.ask("boss", CREATE_USER, {"email": email("ada"), "input": new_user(username="other")})
    assert taken["create_user"]["ok"] is False
    assert taken["create_user"]["user"] is None
    assert email("ada") in taken["create_user"]["msg"]
    for props, told in (
        ({"username": "x", "role": "god"}, "role must be one of"),
        ({"username": "x", "status": "dead"}, "status must be one of"),
        ({"username": "x" * 65}, "username"),
        ({"username": "x", "password": ""}, "password"),
        ({"username": "x", "sudo_session_enabled": True}, "sudo"),
        ({"username": "x", "group_ids": ["nowhere"]}, "nowhere"),
    ):
        answer = await admin.ask("boss", CREATE_USER, {"email": "new@example.org", "input": new_user(**props)})
        assert answer["create_user"]["ok"] is False
        assert told in answer["create_user"]["msg"]
    assert admin.services.tail.directory.user_by_email("new@example.org") is None


async def test_a_keypair_is_created_changed_and_deleted_and_its_secret_told_once(admin: AdminWorld) -> None:
    create = """mutation($user_id: String!, $input: KeyPairInput!) {
        create_keypair(user_id: $user_id, props: $input) { ok msg keypair { access_key secret_key rate_limit } } }"""
    modify = """mutation($access_key: String!, $input: ModifyKeyPairInput!) {
        modify_keypair(access_key: $access_key, props: $input) { ok msg } }"""
    delete = "mutation($access_key: String!) {  delete_keypair(access_key: $access_key) {    ok msg  }}"
    props = {"is_active": True, "is_admin": False, "resource_policy": "default", "rate_limit": 77}
    told = (await admin.ask("boss", create, {"user_id": email("eve"), "input": props}))["create_keypair"]
    key, secret = told["keypair"]["access_key"], told["keypair"]["secret_key"]
    assert (told["ok"], told["keypair"]["rate_limit"], len(key), len(secret)) == (True, 77, 20, 40)
    listed = """query($email: String, $is_active: Boolean) {
        keypairs(email: $email, is_active: $is_active) { access_key secret_key is_active } }"""
    seen = {each["access_key"]: each for each in (await admin.ask("boss", listed, {"email": email("eve")}))["keypairs"]}
    assert seen[key]["secret_key"] is None
    own = {each["access_key"]: each for each in (await admin.ask("eve", listed, {"email": email("eve")}))["keypairs"]}
    assert own[key]["secret_key"] == secret
    async with httpx.AsyncClient(base_url=admin.url, auth=KeypairAuth(key, secret)) as client:
        assert (await client.post("/admin/gql", json={"query": "{ keypair { user_id } }"})).json() == {
            "data": {"keypair": {"user_id": email("eve")}}
        }
    off = {"is_active": False, "is_admin": None, "resource_policy": None, "rate_limit": None}
    assert (await admin.ask("boss", modify, {"access_key": key, "input": off}))["modify_keypair"] == DONE
    seen = {each["access_key"]: each for each in (await admin.ask("boss", listed, {"email": email("eve")}))["keypairs"]}
    assert seen[key]["is_active"] is False
    assert (await admin.ask("boss", delete, {"access_key": key}))["delete_keypair"] == DONE
    assert admin.services.tail.directory.identity(key) is None


async def test_no_secret_stands_in_the_log(admin: AdminWorld) -> None:
    create = (
        """mutation { create_keypair(user_id: "eve@example.org", props: {}) { keypair { access_key secret_key } } }"""
    )
    keypair = (await admin.ask("root", create))["create_keypair"]["keypair"]
    user = new_user(username="alan", password="a very secret password")
    await admin.ask("root", CREATE_USER, {"email": "alan@example.org", "input": user})
    group = """mutation { create_scaling_group(name: "proxied", props: {driver: "static", scheduler: "fifo",
        wsproxy_api_token: "a very secret token"}) { ok scaling_group { wsproxy_api_token } } }"""
    assert (await admin.ask("root", group))["create_scaling_group"] == {
        "ok": True,
        "scaling_group": {"wsproxy_api_token": None},
    }
    everything = b"".join(record.value for log in admin.log._logs.values() for record in log.records)
    for secret in (keypair["secret_key"], "a very secret password", "a very secret token"):
        assert secret.encode() not in everything
    assert keypair["access_key"].encode() in everything


# -- policies, resource groups, presets --------------------------------------------------------------------------------


async def test_a_keypair_policy_is_created_changed_and_deleted(admin: AdminWorld) -> None:
    create = """mutation($name: String!, $input: CreateKeyPairResourcePolicyInput!) {
        create_keypair_resource_policy(name: $name, props: $input) { ok msg resource_policy { name idle_timeout } } }"""
    modify = """mutation($name: String!, $input: ModifyKeyPairResourcePolicyInput!) {
        modify_keypair_resource_policy(name: $name, props: $input) {    ok msg  }}"""
    delete = "mutation($name: String!) {  delete_keypair_resource_policy(name: $name) {    ok msg  }}"
    props = {
        "default_for_unspecified": "UNLIMITED",
        "total_resource_slots": "{}",
        "max_session_lifetime": 0,
        "max_concurrent_sessions": 30,
        "max_concurrent_sftp_sessions": 10,
        "max_containers_per_session": 1,
        "idle_timeout": 1800,
        "allowed_vfolder_hosts": "{}",
    }
    told = (await admin.ask("root", create, {"name": "small", "input": props}))["create_keypair_resource_policy"]
    assert told == DONE | {"resource_policy": {"name": "small", "idle_timeout": 1800}}
    change = {"max_concurrent_sessions": 3, "total_resource_slots": '{"cpu": "2"}'}
    answer = await admin.ask("root", modify, {"name": "small", "input": change})
    assert answer["modify_keypair_resource_policy"] == DONE
    query = """query($name: String) { keypair_resource_policy(name: $name) {
        max_concurrent_sessions total_resource_slots max_containers_per_session } }"""
    found = (await admin.ask("root", query, {"name": "small"}))["keypair_resource_policy"]
    assert found == {
        "max_concurrent_sessions": 3,
        "total_resource_slots": '{"cpu":"2"}',
        "max_containers_per_session": 1,
    }
    assert (await admin.ask("root", delete, {"name": "small"}))["delete_keypair_resource_policy"] == DONE
    assert (await admin.ask("root", query, {"name": "small"}))["keypair_resource_policy"] is None
    used = (await admin.ask("root", delete, {"name": "default"}))["delete_keypair_resource_policy"]
    assert used["ok"] is False
    assert used["msg"]


@pytest.mark.parametrize("kind", ["User", "Project"])
async def test_policies_of_users_and_projects_are_created_changed_and_deleted(admin: AdminWorld, kind: str) -> None:
    field = f"{kind.lower()}_resource_policy"
    create = f"""mutation($name: String!, $input: Create{kind}ResourcePolicyInput!) {{
        create_{field}(name: $name, props: $input) {{ ok msg resource_policy {{ name max_vfolder_count }} }} }}"""
    modify = f"""mutation($name: String!, $input: Modify{kind}ResourcePolicyInput!) {{
        modify_{field}(name: $name, props: $input) {{ ok msg }} }}"""
    delete = f"mutation($name: String!) {{ delete_{field}(name: $name) {{ ok msg }} }}"
    query = f"query($name: String!) {{ {field}(name: $name) {{ max_vfolder_count max_quota_scope_size }} }}"
    told = await admin.ask("root", create, {"name": "few", "input": {"max_vfolder_count": 3}})
    assert told[f"create_{field}"] == DONE | {"resource_policy": {"name": "few", "max_vfolder_count": 3}}
    change = {"max_quota_scope_size": 2**40}
    assert (await admin.ask("root", modify, {"name": "few", "input": change}))[f"modify_{field}"] == DONE
    found = (await admin.ask("root", query, {"name": "few"}))[field]
    assert found == {"max_vfolder_count": 3, "max_quota_scope_size": 2**40}
    assert (await admin.ask("root", delete, {"name": "few"}))[f"delete_{field}"] == DONE
    assert (await admin.ask("root", query, {"name": "few"}))[field] is None


async def test_a_resource_group_is_created_changed_and_deleted(admin: AdminWorld) -> None:
    create = """mutation($name: String!, $input: CreateScalingGroupInput!) {
        create_scaling_group(name: $name, props: $input) { ok msg scaling_group {name} } }"""
    modify = """mutation($name: String!, $input: ModifyScalingGroupInput!) {
        modify_scaling_group(name: $name, props: $input) { ok msg } }"""
    delete = "mutation($name: String!) { delete_scaling_group(name: $name) { ok msg } }"
    props = {
        "description": "",
        "is_active": True,
        "is_public": True,
        "driver": "static",
        "scheduler": "fifo",
        "use_host_network": False,
        "wsproxy_addr": None,
        "wsproxy_api_token": None,
        "scheduler_opts": '{"allowed_session_types": ["batch"]}',
    }
    told = (await admin.ask("root", create, {"name": "gpus", "input": props}))["create_scaling_group"]
    assert told == DONE | {"scaling_group": {"name": "gpus"}}
    change = {"is_active": False, "wsproxy_addr": "http://proxy:1"}
    assert (await admin.ask("root", modify, {"name": "gpus", "input": change}))["modify_scaling_group"] == DONE
    query = "query($name: String) { scaling_group(name: $name) {is_active is_public wsproxy_addr scheduler_opts} }"
    found = (await admin.ask("root", query, {"name": "gpus"}))["scaling_group"]
    assert orjson.loads(found.pop("scheduler_opts")) == {"allowed_session_types": ["batch"]}
    assert found == {"is_active": False, "is_public": True, "wsproxy_addr": "http://proxy:1"}
    assert (await admin.ask("root", delete, {"name": "gpus"}))["delete_scaling_group"] == DONE
    assert (await admin.ask("root", query, {"name": "gpus"}))["scaling_group"] is None


GRANTS = {
    "domain": (
        "mutation($scaling_group: String!, $domain: String!) {"
        " %s(scaling_group: $scaling_group, domain: $domain) { ok msg } }",
        "query($domain: String!) { found: scaling_groups_for_domain(domain: $domain) { name } }",
        "mutation($domain: String!) { disassociate_all_scaling_groups_with_domain(domain: $domain) { ok msg } }",
        "home",
    ),
    "user_group": (
        "mutation($scaling_group: String!, $user_group: %s!) {"
        " %s(scaling_group: $scaling_group, user_group: $user_group) { ok msg } }",
        "query($user_group: String!) { found: scaling_groups_for_user_group(user_group: $user_group) { name } }",
        "mutation($user_group: UUID!) {"
        " disassociate_all_scaling_groups_with_group(user_group: $user_group) { ok msg } }",
        HOME,
    ),
    "keypair": (
        "mutation($scaling_group: String!, $access_key: String!) {"
        " %s(scaling_group: $scaling_group, access_key: $access_key) { ok msg } }",
        "query($access_key: String!) { found: scaling_groups_for_keypair(access_key: $access_key) { name } }",
        None,
        access_key("ada"),
    ),
}


@pytest.mark.parametrize("kind", GRANTS)
async def test_a_resource_group_is_granted_and_taken_back(admin: AdminWorld, kind: str) -> None:
    change, found, take_all, to = GRANTS[kind]
    variable = "access_key" if kind == "keypair" else kind
    about = {variable: to}
    both = about | {"scaling_group": "special"}

    def mutation(verb: str) -> str:
        name = f"{verb}_scaling_group_with_{kind}"
        of_type = "UUID" if verb == "associate" else "String"  # as the client declares them
        return change % ((of_type, name) if kind == "user_group" else name)

    async def granted() -> list[str]:
        return [each["name"] for each in (await admin.ask("root", found, about))["found"]]

    assert await granted() == []
    assert list((await admin.ask("root", mutation("associate"), both)).values()) == [DONE]
    assert await granted() == ["special"]
    assert list((await admin.ask("root", mutation("disassociate"), both)).values()) == [DONE]
    assert await granted() == []
    if take_all is not None:
        await admin.ask("root", mutation("associate"), both)
        assert list((await admin.ask("root", take_all, about)).values()) == [DONE]
        assert await granted() == []


async def test_a_preset_is_created_changed_and_deleted(admin: AdminWorld) -> None:
    create = """mutation($name: String!, $input: CreateResourcePresetInput!) {
        create_resource_preset(name: $name, props: $input) { ok msg resource_preset { name shared_memory } } }"""
    modify = """mutation($name: String!, $input: ModifyResourcePresetInput!) {
        modify_resource_preset(name: $name, props: $input) { ok msg } }"""
    delete = "mutation($name: String!) { delete_resource_preset(name: $name) { ok msg } }"
    props = {"resource_slots": '{"cpu": 2, "mem": "4g"}', "shared_memory": "64m"}
    told = (await admin.ask("root", create, {"name": "large", "input": props}))["create_resource_preset"]
    assert told == DONE | {"resource_preset": {"name": "large", "shared_memory": 2**26}}
    change = {"resource_slots": '{"cpu": 4, "mem": "4g"}'}
    assert (await admin.ask("root", modify, {"name": "large", "input": change}))["modify_resource_preset"] == DONE
    query = "query($name: String!) { resource_preset(name: $name) { resource_slots shared_memory } }"
    found = (await admin.ask("root", query, {"name": "large"}))["resource_preset"]
    assert orjson.loads(found["resource_slots"]) == {"cpu": "4", "mem": str(2**32)}
    assert (await admin.ask("root", delete, {"name": "large"}))["delete_resource_preset"] == DONE
    assert (await admin.ask("root", query, {"name": "large"}))["resource_preset"] is None


# -- how they are answered ---------------------------------------------------------------------------------------------


async def test_the_answer_carries_the_position_of_what_was_done(admin: AdminWorld) -> None:
    query = """mutation { one: create_domain(name: "first", props: {}) { ok }
                          two: create_domain(name: "second", props: {}) { ok domain { name created_at } } }"""
    response = await admin.post("root", query)
    assert response.json()["data"]["two"]["domain"]["name"] == "second"
    assert response.headers[POSITION]
    plain = await admin.post("root", "{ domains { name } }")
    assert POSITION not in plain.headers
    assert {"first", "second"} <= {each["name"] for each in plain.json()["data"]["domains"]}


async def test_who_knows_nothing_of_positions_sees_his_change_at_once(admin: AdminWorld) -> None:
    async with admin.client("root") as client:
        for number in range(10):
            change = f'mutation {{ modify_domain(name: "away", props: {{description: "{number}"}}) {{ ok }} }}'
            await client.post("/admin/gql", json={"query": change})
            seen = await client.post("/admin/gql", json={"query": '{ domain(name: "away") { description } }'})
            assert seen.json()["data"]["domain"] == {"description": str(number)}


async def test_a_change_that_is_none_is_done(admin: AdminWorld) -> None:
    query = 'mutation { modify_group(gid: "%s", props: {}) { ok msg } }' % HOME  # noqa: UP031 (braces)
    assert (await admin.ask("boss", query))["modify_group"] == DONE


async def test_under_a_key_of_the_clients_the_same_mutation_happens_once(admin: AdminWorld) -> None:
    query = 'mutation { create_domain(name: "once", props: {}) { ok msg } }'
    headers = {"Idempotency-Key": "k-1", "Content-Type": "application/json"}
    async with admin.client("root", **headers) as client:
        answers = [await client.post("/admin/gql", json={"query": query}) for _ in range(2)]
    assert [each.json()["data"]["create_domain"] for each in answers] == [DONE, DONE]


async def twice(admin: AdminWorld, key: str, query: str) -> list[Any]:
    """What a superadmin is answered who sends it under a key of his, and again."""
    async with admin.client("root", **{"Idempotency-Key": key}) as client:
        answers = [(await client.post("/admin/gql", json={"query": query})).json() for _ in range(2)]
    assert not [each["errors"] for each in answers if "errors" in each]
    return [each["data"] for each in answers]


async def test_a_user_who_is_created_again_under_the_same_key_is_there_once_with_one_keypair(admin: AdminWorld) -> None:
    query = """mutation { create_user(email: "once@example.org", props: {
        username: "once", password: "first", domain_name: "home", role: "admin", group_ids: []
    }) { ok msg user { uuid main_access_key keypairs { access_key is_admin } } } }"""
    before = len(admin.services.tail.directory.keypairs)
    first, again = await twice(admin, "u-1", query)
    assert first == again
    made = first["create_user"]
    assert (made["ok"], made["user"]["keypairs"]) == (
        True,
        [{"access_key": made["user"]["main_access_key"], "is_admin": True}],
    )
    assert len(admin.services.tail.directory.keypairs) == before + 1
    other = query.replace("first", "second")
    async with admin.client("root", **{"Idempotency-Key": "u-1"}) as client:
        refused = (await client.post("/admin/gql", json={"query": other})).json()["data"]["create_user"]
    assert not refused["ok"], "the key is that of another request"


async def test_a_secret_key_is_told_again_to_who_sends_the_same_request_again(admin: AdminWorld) -> None:
    query = """mutation { create_keypair(user_id: "%s", props: {rate_limit: 77, resource_policy: "default"}) {
        ok msg keypair { access_key secret_key } } }"""
    query %= email("kim")
    first, again = await twice(admin, "k-7", query)
    assert first == again
    told = first["create_keypair"]["keypair"]
    assert len(told["secret_key"]) == 40
    auth = KeypairAuth(told["access_key"], told["secret_key"])
    async with httpx.AsyncClient(base_url=admin.url, auth=auth) as kim:
        assert (await kim.get("/auth")).status_code == 200
    [other, _] = await twice(admin, "k-8", query)
    assert other["create_keypair"]["keypair"] != told


async def test_a_password_that_is_set_again_under_the_same_key_is_set_once(admin: AdminWorld) -> None:
    query = """mutation { modify_user(email: "%s", props: {full_name: "Eve E.", password: "once more"}) { ok msg } }"""
    first, again = await twice(admin, "p-1", query % email("eve"))
    assert first == again == {"modify_user": DONE}
    assert password_fits(admin.services.tail.directory.users[user_id("eve")].password_hash, "once more")

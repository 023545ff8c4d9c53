"""Who is answered what: each query and mutation of the schema, asked by everybody. What has no row here fails.

The mutations of the matrix are meant to be refused, or to change nothing, so that one world serves all of them.
"""

import itertools
from collections.abc import Mapping
from typing import Any, Final

import pytest
import pytest_asyncio

from api.graphql.schema import SCHEMAS
from tests.api.admin import AWAY, HOME, AdminWorld, access_key, email, session_id, user_id
from tests.api.gallery import DOOMED, PYTHON
from tests.api.shelves import folder_id
from tests.whole import AGENT

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

ROLES: Final = ("root", "boss", "watch", "ada", "kim", "lord")
"""Superadmin, domain admin, monitor, the user whose things these are, a user and an admin of another domain."""

ADA: Final = access_key("ada")
PAGE: Final = "limit: 50, offset: 0"
FOLDER: Final = folder_id("folder-of-ada")
MODEL: Final = folder_id("folder-of-home")
QUOTA: Final = f'quota_scope_id: "user:{user_id("ada")}", storage_host_name: "shelf:volume1"'

# What is asked for is ada's, or her domain's; each role gets `all` of it, or `none`, `forbidden`, or something else
# that it sees instead. The order is that of ROLES.
QUERIES: Final[Mapping[str, tuple[str, str]]] = (
    {
        "domain": ('domain(name: "home") { name }', "all all all all none none"),
        "domains": ("domains { name }", "away,home home home home away away"),
        "group": (f'group(id: "{HOME}") {{ name }}', "all all all all none none"),
        "groups": (
            "groups { name }",
            "away-project,home-project home-project home-project home-project away-project away-project",
        ),
        "groups_by_name": ('groups_by_name(name: "home-project") { name }', "all all all all none none"),
        "user": (f'user(email: "{email("ada")}") {{ username }}', "all all all all none none"),
        "user_from_uuid": (f'user_from_uuid(user_id: "{user_id("ada")}") {{ username }}', "all all all all none none"),
        "users": (
            "users { username }",
            "ada,boss,eve,idle,kim,lord,root,watch ada,boss,eve,idle,root,watch ada,boss,eve,idle,root,watch"
            " ada kim kim,lord",
        ),
        "user_list": (
            f"user_list({PAGE}) {{ items {{ username }} }}",
            "ada,boss,eve,idle,kim,lord,root,watch ada,boss,eve,idle,root,watch ada,boss,eve,idle,root,watch"
            " ada kim kim,lord",
        ),
        "keypair": (f'keypair(access_key: "{access_key("ada")}") {{ user_id }}', "all all all all none none"),
        "keypairs": (f'keypairs(email: "{email("ada")}") {{ user_id }}', "all all all all none none"),
        "keypair_list": (
            f'keypair_list({PAGE}, email: "{email("ada")}") {{ items {{ user_id }} }}',
            "all all all all none none",
        ),
        "keypair_resource_policy": ('keypair_resource_policy(name: "default") { name }', "all all all all all all"),
        "keypair_resource_policies": (
            "keypair_resource_policies { name }",
            "default,rare default,rare default,rare default default default,rare",
        ),
        "user_resource_policy": ('user_resource_policy(name: "default") { name }', "all all all all all all"),
        "user_resource_policies": ("user_resource_policies { name }", "all all all all all all"),
        "project_resource_policy": ('project_resource_policy(name: "default") { name }', "all all all all all all"),
        "project_resource_policies": ("project_resource_policies { name }", "all all all all all all"),
        "scaling_group": ('scaling_group(name: "homely") { name }', "all all all all none none"),
        "scaling_groups": (
            "scaling_groups { name }",
            "default,homely,special default,homely default,homely default,homely default default",
        ),
        "scaling_groups_for_domain": (
            'scaling_groups_for_domain(domain: "home") { name }',
            "all all all all none none",
        ),
        "scaling_groups_for_user_group": (
            f'scaling_groups_for_user_group(user_group: "{HOME}") {{ name }}',
            "all all all all none none",
        ),
        "scaling_groups_for_keypair": (
            f'scaling_groups_for_keypair(access_key: "{access_key("ada")}") {{ name }}',
            "all all all all none none",
        ),
        "resource_preset": ('resource_preset(name: "small") { name }', "all all all all all all"),
        "resource_presets": ("resource_presets { name }", "all all all all all all"),
        "agent": (f'agent(agent_id: "{AGENT}") {{ id }}', "all forbidden forbidden forbidden forbidden forbidden"),
        "agent_list": (
            f"agent_list({PAGE}) {{ items {{ id }} }}",
            "all forbidden forbidden forbidden forbidden forbidden",
        ),
        "compute_session": (f'compute_session(id: "{session_id("ada")}") {{ name }}', "all all all all none none"),
        "compute_session_list": (
            f"compute_session_list({PAGE}) {{ items {{ name }} }}",
            "session-of-ada,session-of-kim session-of-ada session-of-ada session-of-ada session-of-kim session-of-kim",
        ),
        "compute_container": (
            f'compute_container(id: "{session_id("ada")}") {{ cluster_hostname }}',
            "all all all all none none",
        ),
        "compute_container_list": (
            f'compute_container_list({PAGE}, session_id: "{session_id("ada")}") {{ items {{ cluster_hostname }} }}',
            "all all all all none none",
        ),
        "image": ('image(reference: "py") { name }', "all all all all none none"),
        "images": (
            "images { name }",
            "hidden/doomed,hidden/secret,library/ours,ops/pipeline,stable/python,stable/python"
            + 3 * " library/ours,ops/pipeline,stable/python,stable/python"
            + 2 * " library/ours",
        ),
        "container_registries": (
            "container_registries { hostname }",
            "all forbidden forbidden forbidden forbidden forbidden",
        ),
        "container_registry": (
            'container_registry(hostname: "cr.example.org") { hostname }',
            "all forbidden forbidden forbidden forbidden forbidden",
        ),
        "vfolder": (f'vfolder(id: "{FOLDER}") {{ name }}', "all all all all none none"),
        "vfolder_list": (f"vfolder_list({PAGE}) {{ items {{ name }} }}", "all all all all none none"),
        "vfolder_own_list": (
            f"vfolder_own_list({PAGE}) {{ items {{ name }} }}",
            "none none none folder-of-ada none none",
        ),
        "vfolder_invited_list": (
            f"vfolder_invited_list({PAGE}) {{ items {{ name }} }}",
            "none none none none none none",
        ),
        "vfolder_project_list": (
            f"vfolder_project_list({PAGE}) {{ items {{ name }} }}",
            "all all all all none none",
        ),
        "quota_scope": (
            f'quota_scope(storage_host_name: "shelf:volume1", quota_scope_id: "user:{user_id("ada")}") {{ id }}',
            "all all all all none none",
        ),
        "model_card": (f'model_card(id: "{MODEL}") {{ name }}', "all all all all none none"),
        "model_cards": ("model_cards { edges { node { name } } }", "all all all all none none"),
    }
    | {
        name: (query, "none forbidden forbidden forbidden forbidden forbidden")
        for name, query in {
            "storage_volume": 'storage_volume(id: "x") { id }',
            "storage_volume_list": f"storage_volume_list({PAGE}) {{ items {{ id }} }}",
        }.items()
    }
    | {
        name: (query, "none none none none none none")
        for name, query in {
            "endpoint": f'endpoint(endpoint_id: "{HOME}") {{ name }}',
            "endpoint_list": f"endpoint_list({PAGE}) {{ items {{ name }} }}",
        }.items()
    }
)

SUPERADMINS: Final = "done forbidden forbidden forbidden forbidden forbidden"

BY_ID: Final = "done done forbidden forbidden forbidden missing"
"""Who is no admin is told that he is not one, whatever the id; to another domain's admin it is not there."""

BY_EMAIL: Final = "done done forbidden missing missing missing"
"""Who does not see the user is told that he is not there."""

POLICY: Final = (
    '{default_for_unspecified: "LIMITED", total_resource_slots: "{}", max_concurrent_sessions: 1,'
    " max_containers_per_session: 1, idle_timeout: 1}"
)

REGISTRY_PROPS: Final = '{url: "https://example.org", type: "docker"}'
AGENTS: Final = f'target_agents: "{AGENT}"'

NEW_USER: Final = '{username: "$new@x", password: "p", domain_name: "home"}'

TARGETS: Final[Mapping[str, str]] = {
    "$domain": 'create_domain(name: "$new", props: {})',
    "$project": 'create_group(name: "$new", props: {domain_name: "home"}) { group { id } }',
    "$user": f'create_user(email: "$new@x", props: {NEW_USER}) {{ user {{ email }} }}',
    "$keypair": f'create_keypair(user_id: "{email("eve")}", props: {{}}) {{ keypair {{ access_key }} }}',
    "$policy": f'create_keypair_resource_policy(name: "$new", props: {POLICY})',
    "$of_users": 'create_user_resource_policy(name: "$new", props: {})',
    "$of_projects": 'create_project_resource_policy(name: "$new", props: {})',
    "$group": 'create_scaling_group(name: "$new", props: {driver: "static", scheduler: "fifo"})',
    "$preset": 'create_resource_preset(name: "$new", props: {resource_slots: "{}"})',
    "$alias": f'alias_image(alias: "$new", target: "{PYTHON}")',
    "$registry": f'create_container_registry(hostname: "$new", props: {REGISTRY_PROPS})',
}
"""What a mutation is about is made for each role anew, in the domain `home`."""

MUTATIONS: Final[Mapping[str, tuple[str, str]]] = {
    "create_domain": ('(name: "$new", props: {})', SUPERADMINS),
    "modify_domain": ('(name: "$domain", props: {description: "x"})', SUPERADMINS),
    "delete_domain": ('(name: "$domain")', SUPERADMINS),
    "purge_domain": ('(name: "$domain")', SUPERADMINS),
    "create_group": ('(name: "$new", props: {domain_name: "home"})', BY_ID),
    "modify_group": ('(gid: "$project", props: {description: "x", domain_name: "home"})', BY_ID),
    "delete_group": ('(gid: "$project")', BY_ID),
    "purge_group": ('(gid: "$project")', BY_ID),
    "create_user": (f'(email: "$new@x", props: {NEW_USER})', BY_ID),
    "modify_user": ('(email: "$user", props: {full_name: "A"})', BY_EMAIL),
    "delete_user": ('(email: "$user")', BY_EMAIL),
    "purge_user": ('(email: "$user")', BY_EMAIL),
    "create_keypair": ('(user_id: "$user", props: {})', BY_EMAIL),
    "modify_keypair": ('(access_key: "$keypair", props: {rate_limit: 999})', BY_ID),
    "delete_keypair": ('(access_key: "$keypair")', BY_ID),
    "create_keypair_resource_policy": (f'(name: "$new", props: {POLICY})', SUPERADMINS),
    "modify_keypair_resource_policy": ('(name: "$policy", props: {idle_timeout: 5})', SUPERADMINS),
    "delete_keypair_resource_policy": ('(name: "$policy")', SUPERADMINS),
    "create_user_resource_policy": ('(name: "$new", props: {})', SUPERADMINS),
    "modify_user_resource_policy": ('(name: "$of_users", props: {})', SUPERADMINS),
    "delete_user_resource_policy": ('(name: "$of_users")', SUPERADMINS),
    "create_project_resource_policy": ('(name: "$new", props: {})', SUPERADMINS),
    "modify_project_resource_policy": ('(name: "$of_projects", props: {})', SUPERADMINS),
    "delete_project_resource_policy": ('(name: "$of_projects")', SUPERADMINS),
    "create_scaling_group": ('(name: "$new", props: {driver: "static", scheduler: "fifo"})', SUPERADMINS),
    "modify_scaling_group": ('(name: "$group", props: {description: "x"})', SUPERADMINS),
    "delete_scaling_group": ('(name: "$group")', SUPERADMINS),
    "associate_scaling_group_with_domain": ('(domain: "home", scaling_group: "$group")', SUPERADMINS),
    "associate_scaling_group_with_user_group": (f'(user_group: "{HOME}", scaling_group: "$group")', SUPERADMINS),
    "associate_scaling_group_with_keypair": ('(access_key: "$keypair", scaling_group: "$group")', SUPERADMINS),
    "disassociate_scaling_group_with_domain": ('(domain: "home", scaling_group: "$group")', SUPERADMINS),
    "disassociate_scaling_group_with_user_group": (f'(user_group: "{HOME}", scaling_group: "$group")', SUPERADMINS),
    "disassociate_scaling_group_with_keypair": ('(access_key: "$keypair", scaling_group: "$group")', SUPERADMINS),
    "disassociate_all_scaling_groups_with_domain": ('(domain: "away")', SUPERADMINS),
    "disassociate_all_scaling_groups_with_group": (f'(user_group: "{AWAY}")', SUPERADMINS),
    "create_resource_preset": ('(name: "$new", props: {resource_slots: "{}"})', SUPERADMINS),
    "modify_resource_preset": ('(name: "$preset", props: {})', SUPERADMINS),
    "delete_resource_preset": ('(name: "$preset")', SUPERADMINS),
    "rescan_images": ("", SUPERADMINS),
    "preload_image": (f'(reference: "py", {AGENTS})', SUPERADMINS),
    "unload_image": (f'(reference: "py", {AGENTS})', SUPERADMINS),
    "forget_image": (f'(reference: "{DOOMED}")', SUPERADMINS),
    "clear_images": ('(registry: "vault.example.org")', SUPERADMINS),
    "alias_image": (f'(alias: "$new", target: "{PYTHON}")', SUPERADMINS),
    "dealias_image": ('(alias: "$alias")', SUPERADMINS),
    "modify_image": ('(target: "py", props: {supported_accelerators: ["cuda"]})', SUPERADMINS),
    "create_container_registry": (f'(hostname: "$new", props: {REGISTRY_PROPS})', SUPERADMINS),
    "modify_container_registry": ('(hostname: "$registry", props: {ssl_verify: false})', SUPERADMINS),
    "delete_container_registry": ('(hostname: "$registry")', SUPERADMINS),
    "set_quota_scope": (f"({QUOTA}, props: {{hard_limit_bytes: 5}})", SUPERADMINS),
    "unset_quota_scope": (f"({QUOTA})", SUPERADMINS),
}

FIELDS: Final = {
    "Query": SCHEMAS[True]._schema.query_type,
    "Mutation": SCHEMAS[True]._schema.mutation_type,
}


async def test_every_query_and_mutation_of_the_schema_has_a_row() -> None:
    assert set(QUERIES) == set(_fields("Query"))
    assert set(MUTATIONS) == set(_fields("Mutation"))


def _fields(name: str) -> Mapping[str, Any]:
    found = FIELDS[name]
    assert found is not None
    fields: Mapping[str, Any] = found.fields
    return fields


# -- what is asked -----------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asked(admin: AdminWorld) -> AdminWorld:
    """With a policy that nobody has, and a resource group that is for all of `home` in each of the three ways."""
    grants = {"domain": ("domain", "home"), "user_group": ("user_group", HOME), "keypair": ("access_key", ADA)}
    made = [
        f'create_keypair_resource_policy(name: "rare", props: {POLICY})',
        'create_scaling_group(name: "homely", props: {driver: "static", scheduler: "fifo", is_public: false})',
        *(
            f'associate_scaling_group_with_{kind}(scaling_group: "homely", {name}: "{to}")'
            for kind, (name, to) in grants.items()
        ),
    ]
    for each in made:
        assert await _outcome(admin, "root", each) == "done"
    return admin


@pytest.mark.parametrize("name", QUERIES)
async def test_who_sees_what(asked: AdminWorld, name: str) -> None:
    query, expected = QUERIES[name]
    told = [await _told(asked, who, query) for who in ROLES]
    everything = told[0]
    wanted = [everything if each == "all" else "" if each == "none" else each for each in expected.split()]
    assert dict(zip(ROLES, told, strict=True)) == dict(zip(ROLES, wanted, strict=True))
    if "all" in expected:
        assert everything


async def _told(admin: AdminWorld, who: str, query: str) -> str:
    """The names that he is answered; nothing for null."""
    response = await admin.post(who, "{ %s }" % query)  # noqa: UP031 (braces)
    assert response.status_code == 200, response.text
    answer = response.json()
    if "errors" in answer:
        [error] = answer["errors"]
        return "forbidden" if error["extensions"]["status"] == 403 else str(error)
    [found] = answer["data"].values()
    if isinstance(found, dict):
        found = found.get("items", [edge["node"] for edge in found["edges"]] if "edges" in found else found)
    if found is None:
        return ""
    return ",".join(sorted(str(next(iter(each.values()))) for each in (found if isinstance(found, list) else [found])))


@pytest.mark.parametrize("name", MUTATIONS)
async def test_who_may_change_what(admin: AdminWorld, name: str) -> None:
    arguments, expected = MUTATIONS[name]
    told = {}
    for who in ROLES:
        told[who] = await _outcome(admin, who, name + await _with_targets(admin, arguments))
    assert told == dict(zip(ROLES, expected.split(), strict=True))


async def _with_targets(admin: AdminWorld, text: str) -> str:
    for target, making in TARGETS.items():
        if f'"{target}"' in text:
            new = f"t{next(_numbers)}"
            answer = await admin.ask("root", _mutation(making.replace("$new", new), "ok msg"))
            [made] = answer.values()
            [known] = [each for key, each in made.items() if key not in {"ok", "msg"}] or [{"name": new}]
            text = text.replace(target, next(iter(known.values())))
    return text.replace("$new", f"t{next(_numbers)}")


async def _outcome(admin: AdminWorld, who: str, mutation: str) -> str:
    """`done`, `forbidden`, `missing`, or the reason."""
    answer = await admin.ask(who, _mutation(mutation, "ok msg"))
    [told] = answer.values()
    if told["ok"]:
        return "done"
    if told["msg"].startswith("no "):
        return "missing"
    forbidding = ("is for superadmins", "is for admins", "a monitor changes nothing")
    return "forbidden" if told["msg"].endswith(forbidding) else str(told["msg"])


def _mutation(text: str, more: str) -> str:
    """`more` is asked for beside what the text asks for by itself."""
    head, brace, rest = text.rpartition(") {")
    return "mutation { %s }" % (f"{head}) {{ {more} {rest}" if brace else f"{text} {{ {more} }}")


_numbers = itertools.count(1)


# -- who is nobody -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/admin/gql", "/admin/graphql"])
async def test_anonymous_and_inactive_keypairs_are_turned_away(admin: AdminWorld, path: str) -> None:
    body = {"query": "{ domains { name } }"}
    async with admin.anonymous() as anonymous, admin.client("idle") as idle:
        answers = [await anonymous.post(path, json=body), await idle.post(path, json=body)]
    assert [answer.status_code for answer in answers] == [401, 401]


async def test_another_tenants_user_is_refused_in_the_words_for_nobody(admin: AdminWorld) -> None:
    mutations = (
        ('modify_user(email: "%s", props: {full_name: "x"})', email("kim"), "nobody@example.org"),
        ('delete_keypair(access_key: "%s")', access_key("kim"), access_key("nobody")),
        ('modify_group(gid: "%s", props: {domain_name: "nowhere"})', AWAY, user_id("nobody")),
    )
    for mutation, there, nowhere in mutations:
        told = []
        for name in (there, nowhere):
            answer = await admin.ask("boss", _mutation(mutation % name, "ok msg"))
            [outcome] = answer.values()
            told.append((outcome["ok"], outcome["msg"].replace(name, "")))
        assert told[0] == told[1]
        assert told[0][0] is False


async def test_secret_keys_are_told_to_their_owners_only(admin: AdminWorld) -> None:
    query = "keypair_list(limit: 1000, offset: 0) { items { user_id secret_key } }"
    for who in ROLES:
        answer = await admin.ask(who, "{ %s }" % query)  # noqa: UP031 (braces)
        told = {each["user_id"] for each in answer["keypair_list"]["items"] if each["secret_key"] is not None}
        assert told == {email(who)}


async def test_where_kernels_run_is_told_to_superadmins_only(admin: AdminWorld) -> None:
    query = f'{{ compute_session(id: "{session_id("ada")}") {{ agent_ids containers {{ agent }} }} }}'
    told = {who: (await admin.ask(who, query))["compute_session"] for who in ("root", "boss", "ada")}
    assert told == {
        "root": {"agent_ids": [AGENT], "containers": [{"agent": AGENT}]},
        "boss": {"agent_ids": None, "containers": [{"agent": None}]},
        "ada": {"agent_ids": None, "containers": [{"agent": None}]},
    }

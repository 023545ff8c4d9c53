"""The directory's tables: what they show is what the directory knows, and every question about it has its answer."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.directory.folding import evolve
from domain.directory.messages import DirectoryEvents
from domain.directory.messages.groups import GranteeKind
from domain.directory.messages.keypairs import CreateKeypair, KeypairSpec
from domain.directory.messages.personal import DotfileScope, TemplateKind
from domain.directory.state import Directory
from domain.messages import AccessKey, Command
from infra.postgres import Pool, connection
from projections.catalogue import PROJECTIONS
from projections.directory import cluster, groups, keypairs, personal, policies, tenants, users
from projections.directory.folding import DIRECTORY
from projections.directory.policies import PolicyKind
from projections.filtering import BadQuery
from projections.listing import Query
from projections.reading import read
from projections.rebuild import rebuild, verify
from projections.table import AnyTable, Rows
from tests.projections import images, people
from tests.projections.people import ADA, ADAS, BOB, EVE, EVES, HASHED, SEALED, SIGN_IN, VISION
from tests.projections.story import START, Scribe, lives
from tests.projections.test_folds import placed
from tests.projections.test_live import SETTINGS, fold_all, hashes, log_of, tables

__all__ = ["tables"]

CHOICES = people.commands()


def told(commands: list[Command]) -> tuple[Directory, Rows, set[str]]:
    """The state and the rows after these, and what happened."""
    scribe = Scribe(SETTINGS)
    for command in commands:
        scribe.settle("directory", [command])
    state, rows, types = Directory(), Rows(DIRECTORY.tables, complete=True), set()
    for record in placed(scribe.written):
        told = read("directory", record)
        assert not isinstance(told, str)
        DIRECTORY.fold(rows, told)
        types.add(type(told.event).__name__)
        if isinstance(told.event, DirectoryEvents.__origin__):  # type: ignore[attr-defined]
            state = evolve(state, told.event)
    return state, rows, types


def present(rows: Rows, table: AnyTable) -> Mapping[Any, Any]:
    return {key: row for key, row in rows.known[table].items() if row is not None}


def agree(state: Directory, rows: Rows) -> None:
    """Each row says what the state says."""
    domains, projects = present(rows, tenants.DOMAINS), present(rows, tenants.PROJECTS)
    members, pairs = present(rows, users.USERS), present(rows, keypairs.KEYPAIRS)
    domain_of = {row.number: row.name for row in domains.values()}
    project_of = {row.number: row.project_id for row in projects.values()}
    keypair_of = {row.number: row.access_key for row in pairs.values()}

    assert {name for (name,) in domains} == set(state.domains)
    for name, domain in state.domains.items():
        row = domains[name,]
        assert shown(row, domain.spec.model_dump(mode="json"))
        assert (row.created_at, row.modified_at) == (domain.created_at, domain.modified_at)
    assert {key for (key,) in projects} == set(state.projects)
    for project_id, project in state.projects.items():
        row = projects[project_id,]
        assert shown(row, project.spec.model_dump(mode="json"))
        assert (row.name, domain_of[row.domain_number]) == (project.name, project.domain)
        assert (row.project_type, row.modified_at) == (project.project_type, project.modified_at)
    assert {key for (key,) in members} == set(state.users)
    for user_id, user in state.users.items():
        row = members[user_id,]
        assert shown(row, user.spec.model_dump(mode="json", exclude={"domain"}))
        assert (row.email, domain_of[row.domain_number]) == (user.email, user.spec.domain)
        assert [project_of[number] for number in row.project_numbers] == list(user.projects)
        assert row.totp_activated == (user.totp_secret is not None)
        assert (row.created_at, row.modified_at) == (user.created_at, user.modified_at)
    assert {key for (key,) in pairs} == set(state.keypairs)
    for access_key, keypair in state.keypairs.items():
        row = pairs[access_key,]
        assert shown(row, keypair.spec.model_dump(mode="json"))
        assert row.user_id == keypair.user_id
        assert row.ssh_public_key == (keypair.ssh.public_key if keypair.ssh else None)
        assert row.modified_at == keypair.modified_at
    for table, known in (
        (policies.KEYPAIR_POLICIES, state.keypair_policies),
        (policies.USER_POLICIES, state.user_policies),
        (policies.PROJECT_POLICIES, state.project_policies),
    ):
        assert {name: row.spec for (name,), row in present(rows, table).items()} == {
            name: spec.model_dump(mode="json") for name, spec in known.items()
        }
    listed = present(rows, groups.RESOURCE_GROUPS)
    assert {key for (key,) in listed} == set(state.groups)
    for name, group in state.groups.items():
        row = listed[name,]
        assert shown(row, group.spec.model_dump(mode="json", exclude={"wsproxy_api_token"}))
        assert {
            *((GranteeKind.DOMAIN, domain_of[number]) for number in row.domain_numbers),
            *((GranteeKind.PROJECT, project_of[number]) for number in row.project_numbers),
            *((GranteeKind.KEYPAIR, keypair_of[number]) for number in row.keypair_numbers),
        } == group.grantees
    assert {(key[0] or None, key[1]) for key in present(rows, groups.PRESETS)} == set(state.presets)
    for (group_name, name), preset in state.presets.items():
        row = rows.known[groups.PRESETS][group_name or "", name]
        assert shown(row, preset.model_dump(mode="json"))
    templates = present(rows, personal.TEMPLATES)
    assert {key for (key,) in templates} == set(state.templates)
    for template_id, template in state.templates.items():
        row = templates[template_id,]
        assert shown(row, template.model_dump(mode="json", exclude={"domain", "body"}))
        assert domain_of[row.domain_number] == template.domain
    kept = {
        **{(DotfileScope.DOMAIN, row.name): row.dotfiles for row in domains.values()},
        **{(DotfileScope.PROJECT, row.project_id): row.dotfiles for row in projects.values()},
        **{(DotfileScope.KEYPAIR, row.access_key): row.dotfiles for row in pairs.values()},
    }
    assert {key: files for key, files in kept.items() if files} == {
        key: {path: {"mode": file.mode, "size": file.size} for path, file in files.items()}
        for key, files in state.dotfiles.items()
    }
    [said] = present(rows, cluster.CLUSTER).values() or [None]
    if said is not None:
        assert (said.announcement_enabled, said.announcement) == (
            state.announcement.enabled,
            state.announcement.message,
        )
        assert said.manager_status == state.manager_status
    images.agree(state, rows)


def shown(row: Any, fields: Mapping[str, Any]) -> bool:
    return {name: getattr(row, name) for name in fields} == fields


def test_after_everything_that_can_happen_the_rows_say_what_the_directory_knows() -> None:
    state, rows, types = told(CHOICES)
    agree(state, rows)
    assert set(state.domains) == {"institute", "lab"}
    assert {each.__name__ for each in all_events()} <= types


def all_events() -> list[type]:
    return list(DirectoryEvents.__origin__.__args__)  # type: ignore[attr-defined]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(CHOICES), max_size=60), st.integers(0, len(CHOICES)))
def test_after_any_history_the_rows_say_what_the_directory_knows(others: list[Command], first: int) -> None:
    state, rows, _ = told([*CHOICES[:first], *others])
    agree(state, rows)


# -- on a real Postgres ------------------------------------------------------------------------------------------------


@pytest.fixture
def story() -> Scribe:
    scribe = Scribe(SETTINGS)
    people.everything(scribe)
    return scribe


@pytest.fixture
async def known(story: Scribe, tables: Pool) -> Pool:
    """In whose tables all of the story is."""
    await fold_all(await log_of(story), tables, contexts=("directory",))
    return tables


@pytest.mark.cluster
@pytest.mark.parametrize(("batch", "kept_rows"), [(1, 1), (3, 1), (500, 20_000)])
async def test_live_folds_of_any_size_and_rebuilds_are_the_same(
    tables: Pool, story: Scribe, batch: int, kept_rows: int
) -> None:
    log = await log_of(story)
    await fold_all(log, tables, batch=batch, contexts=("directory",), kept_rows=kept_rows)
    assert (await verify(SETTINGS, log, tables, DIRECTORY)).identical
    before = await hashes(tables)
    await rebuild(SETTINGS, log, tables, DIRECTORY)
    assert await hashes(tables) == before


@pytest.mark.cluster
async def test_no_secret_is_in_any_table(known: Pool) -> None:
    async with connection(known) as db:
        looked_at = 0
        for projection in PROJECTIONS.values():
            for table in projection.tables:
                cursor = await db.execute(f"SELECT t::text FROM {table.name} t".encode())
                for (text,) in await cursor.fetchall():
                    looked_at += 1
                    for secret in (HASHED, "argon2", SEALED, SIGN_IN):
                        assert secret not in text
    assert looked_at > 30


@pytest.mark.cluster
async def test_questions_about_domains_and_projects(known: Pool) -> None:
    async with connection(known) as db:
        page = await tenants.domains(db)
        assert ([each.name for each in page.items], page.total) == (["institute", "lab"], 2)
        renamed = await tenants.domain(db, "institute")
        assert renamed is not None
        assert (renamed.description, renamed.resource_groups) == ("of sound", ["gpus"])
        assert renamed.allowed_vfolder_hosts == {"local:volume1": ["create-vfolder"]}
        assert renamed.created_at == START
        assert await tenants.domain(db, "club") is None

        page_of_projects = await tenants.projects(db, domain="institute")
        assert [each.name for each in page_of_projects.items] == ["vision"]
        assert (await tenants.projects(db, domain="lab")).total == 0  # the new domain of the old name
        vision = await tenants.project(db, VISION)
        assert vision is not None
        assert (vision.domain, vision.resource_groups) == ("institute", ["gpus"])
        assert await tenants.project_by_name(db, "institute", "vision") == vision
        assert await tenants.projects_by_ids(db, [VISION, "p-none"]) == {VISION: vision}
        assert (await tenants.projects(db, user_id=ADA)).items == [vision]
        assert (await tenants.projects(db, user_id=EVE, types=["general"])).items == []
        memberships = await tenants.projects_of_users(db, [ADA, EVE, "u-none"])
        assert {user: [each.project for each in of] for user, of in memberships.items()} == {
            ADA: ["vision"], EVE: [], "u-none": [],
        }  # fmt: skip


@pytest.mark.cluster
async def test_questions_about_users(known: Pool) -> None:
    async with connection(known) as db:
        ada, eve = (await users.users(db)).items
        assert (ada.username, ada.role, ada.domain, ada.active) == ("ada", "superadmin", "institute", True)
        assert (eve.status, eve.active, eve.full_name, eve.totp_activated) == ("deleted", False, "Eve Adams", True)
        assert eve.main_access_key == EVES
        assert (await users.users(db, active=True)).items == [ada]
        assert (await users.users(db, statuses=["deleted"], domain="institute")).items == [eve]
        assert (await users.users(db, domain="lab")).items == []
        assert (await users.users(db, project_id=VISION)).items == [ada]
        assert (await users.users(db, project_id="p-sound")).items == []
        assert await users.user(db, EVE) == eve
        assert await users.user_by_email(db, "EVE@example.ORG") == eve
        assert await users.user(db, BOB) is None
        assert await users.users_by_ids(db, [EVE, ADA, BOB]) == {ADA: ada, EVE: eve}
        page = await users.users(db, Query('role == "ADMIN" & email ilike "%EXAMPLE.org"', "-email", 1, 0))
        assert (page.items, page.total) == ([eve], 1)
        history = await users.sign_ins(db, EVE)
        assert [(each.what, each.client, each.failures) for each in history] == [
            ("signed-out", None, 0), ("failed", "192.0.2.8", 1), ("signed-in", "192.0.2.7", 0),
        ]  # fmt: skip
        assert await users.sign_ins(db, EVE, limit=1, offset=1) == [history[1]]


@pytest.mark.cluster
async def test_questions_about_keypairs(tables: Pool, story: Scribe) -> None:
    busy_key = AccessKey("AK000000000000000000")
    spec = KeypairSpec(resource_policy="plain")
    story.settle(
        "directory",
        [CreateKeypair(at=START, access_key=busy_key, user_id=ADA, secret_sealed=SEALED, spec=spec)],
    )
    lives(story, 20, owners=1)
    await fold_all(await log_of(story), tables, contexts=("directory", "session"))
    async with connection(tables) as db:
        busy, adas, eves = (await keypairs.keypairs(db)).items
        assert (adas.access_key, adas.email, adas.full_name) == (ADAS, "Ada@example.org", "Ada")
        assert (adas.domain, adas.rate_limit, adas.num_queries, adas.last_used) == ("institute", 1000, 0, None)
        assert (busy.access_key, busy.concurrency_used, adas.concurrency_used) == (busy_key, 2, 0)
        assert adas.ssh_public_key == "ssh-ed25519 BBBB ada"
        assert (eves.active, eves.is_admin) == (False, True)
        assert (await keypairs.keypairs(db, active=False)).items == [eves]
        assert (await keypairs.keypairs(db, email="ada@EXAMPLE.org")).items == [busy, adas]
        assert (await keypairs.keypairs(db, domain="institute", user_id=EVE)).items == [eves]
        assert (await keypairs.keypairs(db, domain="lab")).total == 0
        assert await keypairs.keypair(db, EVES) == eves
        assert await keypairs.keypairs_by_access_keys(db, [EVES, "AKADA2"]) == {EVES: eves}
        assert await keypairs.keypairs_of_users(db, [ADA, BOB]) == {ADA: [busy, adas], BOB: []}
        used = await keypairs.keypairs(db, Query("concurrency_used > 1", "-concurrency_used", 10))
        assert used.items == [busy]


@pytest.mark.cluster
async def test_questions_about_policies(known: Pool) -> None:
    async with connection(known) as db:
        for kind, field, value in (
            (PolicyKind.KEYPAIR, "max_concurrent_sessions", 7),
            (PolicyKind.USER, "max_vfolder_count", 3),
            (PolicyKind.PROJECT, "max_network_count", 3),
        ):
            [plain] = (await policies.policies(db, kind)).items
            assert (plain.name, plain.spec[field]) == ("plain", value)
            assert plain.modified_at - plain.created_at == timedelta(hours=1)
            assert await policies.policy(db, kind, "plain") == plain
            assert await policies.policy(db, kind, "short-lived") is None
            assert await policies.policies_by_names(db, kind, ["plain", "none"]) == {"plain": plain}


@pytest.mark.cluster
async def test_questions_about_resource_groups_and_presets(known: Pool) -> None:
    async with connection(known) as db:
        [gpus] = (await groups.resource_groups(db)).items
        assert (gpus.name, gpus.public, gpus.wsproxy_addr, gpus.description) == ("gpus", False, "http://proxy", "fast")
        assert gpus.scheduler_opts == {"a": {"b": 1}}
        assert (await groups.resource_groups(db, domain="institute", active=True)).items == [gpus]
        assert (await groups.resource_groups(db, domain="lab")).items == []
        assert (await groups.resource_groups(db, project_id=VISION)).items == [gpus]
        assert (await groups.resource_groups(db, access_key=EVES)).items == []
        assert (await groups.resource_groups(db, name="cpus")).items == []
        assert await groups.resource_group(db, "gpus") == gpus
        assert await groups.resource_groups_by_names(db, ["gpus", "cpus"]) == {"gpus": gpus}

        everywhere, in_gpus = (await groups.presets(db)).items
        assert (everywhere.resource_group, everywhere.shared_memory) == (None, None)
        assert (in_gpus.resource_group, in_gpus.shared_memory) == ("gpus", 1 << 20)
        assert in_gpus.resource_slots == {"cpu": 1000, "mem": 1 << 30}
        assert (await groups.presets(db, resource_group="gpus")).total == 2
        assert (await groups.presets(db, resource_group="cpus")).items == [everywhere]
        assert await groups.preset(db, "small") == everywhere
        assert await groups.preset(db, "small", "gpus") == in_gpus
        assert await groups.preset(db, "small", "cpus") is None


@pytest.mark.cluster
async def test_questions_about_templates_dotfiles_and_the_cluster(known: Pool) -> None:
    async with connection(known) as db:
        [template] = (await personal.templates(db, kind=TemplateKind.TASK, owner=ADA, project_id=VISION)).items
        assert (template.name, template.project) == ("renamed", "vision")
        assert (template.domain, template.owner_email) == ("institute", "Ada@example.org")
        assert await personal.template(db, "t-1") == template
        assert (await personal.templates(db, kind=TemplateKind.CLUSTER)).total == 0
        assert (await personal.templates(db, domain="lab")).total == 0
        for scope, owner in (
            (DotfileScope.DOMAIN, "institute"),
            (DotfileScope.PROJECT, VISION),
            (DotfileScope.KEYPAIR, ADAS),
        ):
            assert await personal.dotfiles(db, scope, owner) == {".vimrc": {"mode": "600", "size": 6}}
        assert await personal.dotfiles(db, DotfileScope.DOMAIN, "lab") == {}
        assert await personal.dotfiles(db, DotfileScope.KEYPAIR, "AKNONE") == {}
        said = await cluster.cluster(db)
        assert said is not None
        assert (said.announcement_enabled, said.announcement, said.manager_status) == (True, "tea at five", "frozen")


@pytest.mark.cluster
async def test_a_page_is_cut_from_a_stable_order_and_says_how_many_there_are(tables: Pool) -> None:
    scribe = Scribe(SETTINGS)
    people.thousands(scribe, 40)
    await fold_all(await log_of(scribe), tables, contexts=("directory",))
    async with connection(tables) as db:
        seen = []
        for offset in range(0, 48, 8):
            page = await users.users(db, Query(order="-domain_name", limit=8, offset=offset))
            assert page.total == 40
            seen += [(each.domain, each.email) for each in page.items]
        assert len(seen) == 40
        assert seen == sorted(sorted(seen, key=lambda each: each[1]), key=lambda each: each[0], reverse=True)
        some = await users.users(db, Query(limit=3), project_id="p-1-0")
        assert (len(some.items), some.total) == (3, 8)
        nothing = await users.users(db, Query(limit=0))
        assert (nothing.items, nothing.total) == ([], 40)
        for wrong in (Query(limit=-1), Query(limit=1001), Query(offset=-1), Query(offset=2**40)):
            with pytest.raises(BadQuery):
                await users.users(db, wrong)

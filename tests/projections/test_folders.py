"""The tables of folders: what they show is what their owners know, and everybody is told what he may do where."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.messages import AccessKey, UserId
from domain.vfolder.messages import FolderEvents
from domain.vfolder.messages.common import FolderSpec, ScopeCommand, Work
from domain.vfolder.messages.reports import (
    CloseScope,
    MountFolder,
    ReportFolderFailed,
    ReportFolderPurged,
    ReportFolderReady,
    SetScopeLimits,
    UnmountFolder,
)
from domain.vfolder.messages.requests import (
    AcceptInvitation,
    CancelInvitation,
    ChangeInvitation,
    CloneFolder,
    CreateFolder,
    InviteToFolder,
    LeaveFolder,
    PurgeFolder,
    RejectInvitation,
    RemoveMember,
    RenameFolder,
    RestoreFolder,
    SetFolderOptions,
    SetMember,
    TransferFolder,
    TrashFolder,
)
from domain.vfolder.mounts import FolderRef, Permission
from domain.vfolder.state import Folders
from infra.postgres import Pool, connection
from projections.filtering import BadQuery
from projections.folders import listed, seen
from projections.folders.folding import PROJECTION
from projections.folders.rows import FOLDERS, INVITATIONS, JOINED, MEMBERS, MOUNTS, RECEIVED
from projections.folders.rows import SCOPES as OWNERS
from projections.folders.seen import Viewer
from projections.listing import Query
from projections.rebuild import rebuild, verify
from projections.table import AnyTable, Rows
from tests.api.known_folders import MemoryFolders
from tests.projections.folders import (
    ADA,
    BOB,
    EVE,
    HOST,
    LIMITS,
    SCOPES,
    STORE,
    TEAM,
    FolderStory,
    everything,
    folder_id,
    invitation_id,
    session_id,
)
from tests.projections.story import Scribe
from tests.projections.test_folds import folded, placed
from tests.projections.test_live import SETTINGS, fold_all, hashes, log_of, tables

__all__ = ["tables"]

VIEWERS = (Viewer(ADA, (TEAM,), (STORE,)), Viewer(BOB, (), (STORE,)), Viewer(EVE, (TEAM, STORE), (STORE,)))


def told() -> FolderStory:
    story = FolderStory(Scribe(SETTINGS))
    everything(story)
    return story


def rows_of(story: FolderStory) -> Rows:
    return folded(placed(story.scribe.written))


def of(rows: Rows, table: AnyTable, scope: str) -> dict[Any, Any]:
    """The rows of one owner, by the rest of their key."""
    return {key[1:]: row for key, row in rows.known[table].items() if row is not None and key[0] == scope}


def agree(scope: str, state: Folders, rows: Rows) -> None:
    """Each row says what the owner's state says."""
    listed = {key[0]: row for key, row in of(rows, FOLDERS, scope).items() if row.status != "delete-complete"}
    assert set(listed) == set(state.folders)
    members: dict[Any, Any] = {}
    mounts: dict[Any, Any] = {}
    for each, folder in state.folders.items():
        row = listed[each]
        spec = folder.spec
        assert (row.name, row.host, row.phase, row.status) == (folder.name, spec.host, folder.phase, folder.status)
        assert (row.permission, row.cloneable, row.quota_bytes) == (spec.permission, spec.cloneable, spec.quota_bytes)
        assert (row.used_bytes, row.files, row.created_at) == (folder.used_bytes, folder.files, folder.created_at)
        assert (row.purge_at, row.given_to, row.message or "") == (folder.purge_at, folder.to, folder.message)
        assert (set(row.mounted_by), set(row.copied_to)) == (set(folder.mounts), set(folder.held_for))
        assert f"{'user' if row.user_id else 'project'}:{row.user_id or row.project_id}" == scope
        members |= {(each, user_id): permission for user_id, permission in folder.members.items()}
        mounts |= {(each, session): owner for session, owner in folder.mounts.items()}
    assert {key: row.permission for key, row in of(rows, MEMBERS, scope).items()} == members
    assert {key: row.owner for key, row in of(rows, MOUNTS, scope).items()} == mounts
    assert {
        key[0]: (row.folder_id, row.invitee, row.permission) for key, row in of(rows, INVITATIONS, scope).items()
    } == {key: (one.folder_id, one.invitee, one.permission) for key, one in state.invitations.items()}
    assert {
        key[0]: (row.folder_id, row.name, row.permission, row.accepted)
        for key, row in of(rows, RECEIVED, scope).items()
    } == {key: (one.folder.folder_id, one.name, one.permission, one.accepted) for key, one in state.received.items()}
    assert {key[0]: (row.owner_scope, row.name) for key, row in of(rows, JOINED, scope).items()} == {
        key: (one.folder.scope, one.name) for key, one in state.joined.items()
    }
    [owner] = of(rows, OWNERS, scope).values() or [None]
    limits = None if state.limits is None else state.limits.model_dump(mode="json")
    assert (
        (limits, dict(state.quotas), state.closed) == (None, {}, False)
        if owner is None
        else ((owner.limits, owner.quotas, owner.closed) == (limits, dict(state.quotas), state.closed))
    )


def test_after_everything_that_can_happen_the_rows_say_what_the_owners_know() -> None:
    story = told()
    rows = rows_of(story)
    for scope, state in story.states.items():
        agree(scope, state, rows)
    all_events = {each.__name__ for each in FolderEvents.__origin__.__args__}  # type: ignore[attr-defined]
    assert all_events - story.happened == set()


_NAMES = ("one", "two")
_USERS = (ADA, BOB, EVE)
_LESS = st.sampled_from(list(Permission))
_FOLDERS = st.sampled_from([folder_id(name) for name in ("a", "b", "c")])
_INVITATIONS = st.sampled_from([invitation_id(name) for name in ("a", "b", "c")])
_SPECS = st.sampled_from([FolderSpec(host=HOST), FolderSpec(host=HOST, cloneable=True, unmanaged_path="/x")])


@st.composite
def _commands(draw: st.DrawFn) -> tuple[type[ScopeCommand], str, dict[str, Any]]:
    """Anything that may be said to the folders of three users and a project."""
    scope, other = draw(st.sampled_from(SCOPES[:4])), draw(st.sampled_from(SCOPES[:4]))
    folder, invitation, user = draw(_FOLDERS), draw(_INVITATIONS), draw(st.sampled_from(_USERS))
    permission, name, spec = draw(_LESS), draw(st.sampled_from(_NAMES)), draw(_SPECS)
    source = FolderRef(scope=other, folder_id=draw(_FOLDERS), host=HOST)
    inviter = UserId(scope.partition(":")[2])
    session = session_id(draw(st.sampled_from(_NAMES)))
    mount = {"session_id": session, "owner": AccessKey("AK"), "user_id": user, "permission": Permission.RO}
    given = {"folder_id": folder}
    choices: list[tuple[Any, str, dict[str, Any]]] = [
        (CreateFolder, scope, given | {"name": name, "spec": spec}),
        (CloneFolder, scope, given | {"name": name, "spec": spec, "source": source}),
        (RenameFolder, scope, given | {"name": name}),
        (SetFolderOptions, scope, given | {"permission": permission, "cloneable": True}),
        (TrashFolder, scope, given | {"retention_seconds": 60.0}),
        (RestoreFolder, scope, given),
        (PurgeFolder, scope, given),
        (
            InviteToFolder,
            scope,
            given | {"invitation_id": invitation, "inviter": inviter, "invitee": user, "permission": permission},
        ),
        (ChangeInvitation, scope, {"invitation_id": invitation, "permission": permission}),
        (CancelInvitation, scope, {"invitation_id": invitation}),
        (AcceptInvitation, scope, {"invitation_id": invitation}),
        (RejectInvitation, scope, {"invitation_id": invitation}),
        (SetMember, scope, given | {"user_id": user, "permission": permission}),
        (RemoveMember, scope, given | {"user_id": user}),
        (LeaveFolder, scope, given),
        (TransferFolder, scope, given | {"to": other}),
        (MountFolder, scope, given | mount),
        (UnmountFolder, scope, given | {"session_id": session}),
        (ReportFolderReady, scope, given),
        (ReportFolderPurged, scope, given),
        (ReportFolderFailed, scope, given | {"work": draw(st.sampled_from(list(Work))), "message": "x"}),
        (CloseScope, scope, {}),
    ]
    chosen: tuple[Any, str, dict[str, Any]] = draw(st.sampled_from(choices))
    return chosen


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(_commands(), st.integers(0, 3)), max_size=80), st.booleans())
def test_after_any_history_the_rows_say_what_the_owners_know(choices: list[Any], busy: bool) -> None:
    story = FolderStory(Scribe(SETTINGS), busy=busy)
    for scope in SCOPES[:4]:
        story.give(SetScopeLimits, scope, limits=LIMITS)
    for name, user in (("a", BOB), ("b", EVE)):  # to begin with: folders that others are invited to
        given = {"folder_id": folder_id(name)}
        story.give(CreateFolder, SCOPES[0], **given, name=name, spec=FolderSpec(host=HOST, cloneable=True))
        story.give(ReportFolderReady, SCOPES[0], **given)
        invite = given | {"invitation_id": invitation_id(name), "inviter": ADA, "invitee": user}
        story.give(InviteToFolder, SCOPES[0], **invite, permission=Permission.RO)
    for (kind, scope, fields), later in choices:
        story.handle(kind(at=story.now, scope=scope, **fields))
        for _ in range(min(later, len(story.waiting))):
            story.handle(story.waiting.popleft())
    rows = rows_of(story)
    for scope, state in story.states.items():
        agree(scope, state, rows)


# -- on a real Postgres ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def story() -> FolderStory:
    return told()


@pytest.fixture
async def known(story: FolderStory, tables: Pool) -> Pool:
    """In whose tables all of the story is."""
    await fold_all(await log_of(story.scribe), tables, contexts=("vfolder",))
    return tables


@pytest.mark.cluster
async def test_live_folds_of_small_batches_and_rebuilds_are_the_same(tables: Pool, story: FolderStory) -> None:
    log = await log_of(story.scribe)
    await fold_all(log, tables, batch=3, contexts=("vfolder",), kept_rows=1)
    assert (await verify(SETTINGS, log, tables, PROJECTION)).identical
    before = await hashes(tables)
    await rebuild(SETTINGS, log, tables, PROJECTION)
    assert await hashes(tables) == before


@pytest.mark.cluster
async def test_everybody_is_told_what_he_may_do_where(known: Pool) -> None:
    async with connection(known) as db:
        ada, bob, eve = [await seen.folders_of(db, viewer) for viewer in VIEWERS]
    assert {(each.name, each.granted, each.relation) for each in ada} == {
        ("data", "wd", "owner"),  # whatever it grants to others
        ("offered", "wd", "owner"),
        ("left", "wd", "owner"),
        ("trashed", "wd", "owner"),
        ("back", "wd", "owner"),
        ("kept", "wd", "owner"),
        ("team", "rw", "project"),
        ("model", "ro", "store"),  # whatever its members may
    }
    assert ada[-1].name == "trashed"
    assert {(each.name, each.granted, each.relation) for each in bob} == {
        ("data", "wd", "owner"),
        ("shared", "ro", "member"),  # its new name was taken
        ("given", "rw", "member"),  # whoever has it now
        ("model", "ro", "store"),
    }
    assert {(each.name, each.granted, each.relation) for each in eve} == {
        ("given", "wd", "owner"),
        ("kept", "wd", "owner"),
        ("clone", "wd", "owner"),
        ("no-clone", "wd", "owner"),
        ("team", "ro", "project"),  # less than the other members
        ("model", "rw", "project"),
    }


@pytest.mark.cluster
async def test_what_is_asked_in_tests_is_answered_as_postgres_answers(known: Pool, story: FolderStory) -> None:
    memory = MemoryFolders(rows_of(story))
    scopes = [*story.states, "user:nobody"]
    ids = [row.folder_id for row in await memory.everywhere()]
    async with connection(known) as db:
        for viewer in VIEWERS:
            assert await seen.folders_of(db, viewer) == await memory.of(viewer)
            for name in ("data", "shared", "model", "nothing"):
                assert await seen.named(db, viewer, name) == await memory.named(viewer, name)
            for each in [*ids, folder_id("purged")]:
                assert await seen.seen(db, viewer, each) == await memory.seen(viewer, each)
            assert await seen.received(db, viewer.user_id) == await memory.received(viewer.user_id)
            assert await seen.automatic(db, viewer.user_id) == await memory.automatic(viewer.user_id)
            assert await seen.sent(db, viewer.user_id) == await memory.sent(viewer.user_id)
        for each in [*ids, folder_id("purged"), folder_id("nothing")]:
            assert await seen.by_id(db, each) == await memory.by_id(each)
            assert await seen.mounts_of_folder(db, each) == await memory.mounts_of_folder(each)
        assert await seen.everywhere(db) == await memory.everywhere()
        assert await seen.everywhere(db, [SCOPES[0]]) == await memory.everywhere([SCOPES[0]])
        assert await seen.members(db, ids) == await memory.members(ids)
        assert await seen.mounts_of_session(db, session_id("now")) == await memory.mounts_of_session(session_id("now"))
        standing = next(iter(story.states[SCOPES[0]].invitations))
        for invitation in (standing, "nothing"):
            assert await seen.invitation(db, invitation) == await memory.invitation(invitation)
        for scope in scopes:
            assert await seen.owner(db, scope) == await memory.owner(scope)
            assert await seen.usage(db, scope) == await memory.usage(scope)
    assert len(await memory.everywhere()) > 10
    assert (await memory.usage(SCOPES[0]))[HOST].used_bytes == 2000 + 5 * 1000  # what is in the trash counts


@pytest.mark.cluster
async def test_a_folder_that_changes_hands_is_one_folder_all_the_while(tables: Pool) -> None:
    story = FolderStory(Scribe(SETTINGS))
    for scope in SCOPES[:3]:
        story.give(SetScopeLimits, scope, limits=LIMITS)
    story.give(CreateFolder, SCOPES[0], folder_id=folder_id("x"), name="x", spec=FolderSpec(host=HOST))
    invite = {"folder_id": folder_id("x"), "invitation_id": invitation_id("x"), "inviter": ADA, "invitee": EVE}
    story.give(InviteToFolder, SCOPES[0], **invite, permission=Permission.RO)
    story.give(AcceptInvitation, SCOPES[2], invitation_id=invitation_id("x"))
    begin = TransferFolder(at=story.now, scope=SCOPES[0], folder_id=folder_id("x"), to=SCOPES[1])
    story.handle(begin)
    story.handle(story.waiting.popleft())  # taken, and not yet given
    await fold_all(await log_of(story.scribe), tables, contexts=("vfolder",))
    async with connection(tables) as db:
        found = await seen.by_id(db, folder_id("x"))
        assert found is not None
        assert (found.user_id, found.status) == (BOB, "ready")
        assert [row.user_id for row in await seen.everywhere(db)] == [BOB]
        assert await seen.folders_of(db, VIEWERS[0]) == []
        assert [each.user_id for each in await seen.folders_of(db, VIEWERS[2])] == [BOB]
        assert (await listed.everyones(db)).total == 1


@pytest.mark.cluster
async def test_lists_are_filtered_sorted_and_paged(known: Pool) -> None:
    async def names(query: Query, **scopes: Any) -> list[str]:
        async with connection(known) as db:
            return [each.name for each in (await listed.seen(db, VIEWERS[0], query, **scopes)).items]

    assert await names(Query(filter='usage_mode == "MODEL"')) == ["model"]
    assert await names(Query(filter='status == "delete-pending" | permission == "rw"', order="-name")) == [
        "trashed",
        "team",
    ]
    assert await names(Query(filter='ownership_type == "group" & cloneable == true')) == ["model", "team"]
    assert await names(Query(filter="cur_size > 1500")) == ["data"]
    assert await names(Query(order="-created_at", limit=2, offset=1), relations=["owner"]) == ["back", "trashed"]
    assert await names(Query(), project_id=TEAM) == ["team"]
    with pytest.raises(BadQuery, match="status is one of"):
        await names(Query(filter='status == "lost"'))
    async with connection(known) as db:
        first = await listed.seen(db, VIEWERS[0], Query(limit=3))
        second = await listed.seen(db, VIEWERS[0], Query(limit=100, after=first.next))
        assert (first.total, len(first.items) + len(second.items)) == (8, 8)
        mine = await listed.everyones(db, user_id=ADA)
        assert {each.name for each in mine.items} == {"data", "offered", "left", "trashed", "back", "kept"}
        assert [each.name for each in (await listed.of_users(db, [EVE, "nobody"]))[EVE]] == [
            "clone", "given", "kept", "no-clone",
        ]  # fmt: skip

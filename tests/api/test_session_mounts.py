"""Folders in sessions: which are asked for, who may have them, and that it is looked at again when a kernel starts."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from api.http.problems import Problem
from api.sessions.mounts import AskedMounts, placed, refuse_overlaps
from domain.directory.messages.keypairs import CreateKeypair, KeypairSpec
from domain.directory.messages.tenants import CreateProject, ModifyDomain, ProjectType
from domain.directory.messages.users import CreateUser, UserSpec
from domain.messages import AccessKey, ProjectId, UserId
from domain.vfolder.messages.common import FolderSpec, InvitationId, ScopeCommand, ScopeLimits
from domain.vfolder.messages.reports import ReportFolderReady, SetScopeLimits
from domain.vfolder.messages.requests import AcceptInvitation, CreateFolder, InviteToFolder, RemoveMember, SetMember
from domain.vfolder.mounts import FolderId, Mount, Permission, Scope, project_scope, user_scope
from infra.keyring import Keyring
from infra.postgres import Unavailable
from infra.signing import KeypairAuth
from tests.api.neighbours import HOME, directed
from tests.api.test_outfits import asked
from tests.api.test_session_options import new, requested
from tests.api.world import World
from tests.whole import an_id, now

HOST = "local:volume1"
ANN, BEN = UserId(an_id("ann")), UserId(an_id("ben"))
MINE, HIS, TEAMS = user_scope(ANN), user_scope(BEN), project_scope(HOME)
OTHERS = ProjectId(an_id("another project"))
STORE = ProjectId(an_id("a store"))
LIMITS = ScopeLimits(hosts={HOST: ("create-vfolder", "mount-in-session")})


@dataclass
class Home:
    """Where ann and ben live, who are in the same project. `ann` signs as her."""

    world: World
    ann: httpx.AsyncClient

    async def give(self, *commands: ScopeCommand) -> None:
        for command in commands:
            await self.world.whole.give("vfolder", command)

    async def folder(self, name: str, scope: Scope = MINE, *, ready: bool = True, **spec: Any) -> FolderId:
        folder_id = FolderId(an_id(f"{scope}/{name}"))
        about = {"at": now(), "scope": scope, "folder_id": folder_id}
        await self.give(CreateFolder(**about, name=name, spec=FolderSpec(host=HOST, **spec)))
        if ready:
            await self.give(ReportFolderReady(**about))
        await self.until(lambda row: row.folder_id == folder_id and (row.phase == "ready") is ready)
        return folder_id

    async def until(self, there: Callable[[Any], bool]) -> None:
        async with asyncio.timeout(5):
            while not any(there(row) for row in await self.world.known.folders.everywhere()):
                await asyncio.sleep(0.01)

    async def lent(self, name: str, permission: Permission) -> FolderId:
        """By ben to ann."""
        folder_id, invitation = await self.folder(name, HIS), InvitationId(an_id(f"invitation {name}"))
        about = {"at": now(), "scope": HIS, "folder_id": folder_id, "invitation_id": invitation}
        await self.give(InviteToFolder(**about, inviter=BEN, invitee=ANN, permission=permission))
        await self.heard(lambda: self.world.known.folders.received(ANN))
        await self.give(AcceptInvitation(at=now(), scope=MINE, invitation_id=invitation))
        await self.until(lambda row: row.folder_id == folder_id and ANN in row.member_ids)
        return folder_id

    async def heard(self, what: Callable[[], Any]) -> None:
        async with asyncio.timeout(5):
            while not await what():
                await asyncio.sleep(0.01)

    async def asks(self, **config: Any) -> Sequence[Mount]:
        """The mounts of a session that is asked for with that."""
        answer = await self.ann.post("/session", json=new(**config) | {"name": None})
        assert answer.status_code == 201, answer.text
        return requested(self.world, answer.json()["sessionId"]).mounts

    async def refused(self, **config: Any) -> tuple[int, str, str | None]:
        """Status, field and rule."""
        answer = await self.ann.post("/session", json=new(**config) | {"name": None})
        told = answer.json()
        assert answer.status_code >= 400, answer.text
        return answer.status_code, told["field"], told.get("rule")


def _allowing(*permissions: str) -> ModifyDomain:
    """Everybody may do this on the host, and nothing else."""
    return ModifyDomain(at=now(), name="default", changes={"allowed_vfolder_hosts": {HOST: permissions}})


@pytest.fixture
async def home(world: World) -> Any:
    keyring = Keyring(world.settings, world.keys)
    commands: list[Any] = [
        CreateProject(at=now(), project_id=OTHERS, name="another", domain="default"),
        CreateProject(at=now(), project_id=STORE, name="store", domain="default", project_type=ProjectType.MODEL_STORE),
        _allowing("create-vfolder", "mount-in-session"),
    ]
    for name, user_id in (("ann", ANN), ("ben", BEN)):
        access_key = f"AK{name.upper()}"
        sealed = await keyring.seal(user_id, "secret", access_key)
        commands += [
            CreateUser(
                at=now(),
                user_id=user_id,
                email=f"{name}@example.org",
                spec=UserSpec(username=name, domain="default"),
                password_hash="$argon2id$x",
                projects=(HOME, OTHERS),
            ),
            CreateKeypair(
                at=now(), access_key=AccessKey(access_key), user_id=user_id, secret_sealed=sealed, spec=KeypairSpec()
            ),
        ]
    await directed(world, *commands)
    async with httpx.AsyncClient(base_url=world.url, auth=KeypairAuth("AKANN", "secret"), timeout=20) as ann:
        there = Home(world, ann)
        for scope in (MINE, HIS, TEAMS, project_scope(OTHERS), project_scope(STORE)):
            await there.give(SetScopeLimits(at=now(), scope=scope, limits=LIMITS))
        yield there


def where(mounts: Sequence[Mount]) -> dict[str, tuple[str, str, str]]:
    return {mount.path: (mount.name, mount.subpath, mount.permission.value) for mount in mounts}


async def test_a_folder_is_meant_by_its_name_or_its_id_and_goes_where_it_is_told(home: Home) -> None:
    data, models = await home.folder("data"), await home.folder("models")
    home_of = "/home/work/"
    assert where(await home.asks(mounts=["data", "models:/models"])) == {
        home_of + "data": ("data", "", "wd"),
        "/models": ("models", "", "wd"),
    }
    parts = ["data/train:in/train", "data/test//x/:in/test", f"{models.replace('-', '')}"]
    assert where(await home.asks(mounts=parts, mount_options={"data/train": {"permission": "ro"}})) == {
        home_of + "in/train": ("data", "train", "ro"),
        home_of + "in/test": ("data", "test/x", "wd"),
        home_of + "models": ("models", "", "wd"),
    }
    [mount] = await home.asks(mounts=["data"], mount_map={"data": "/srv/data"})
    assert (mount.path, mount.folder.folder_id, mount.folder.scope, mount.user_id) == ("/srv/data", data, MINE, ANN)
    by_id = {"mount_ids": [data], "mount_id_map": {data: "here"}, "mount_options": {data: {"permission": "rw"}}}
    assert where(await home.asks(**by_id)) == {home_of + "here": ("data", "", "rw")}


async def test_a_session_shows_its_folders(home: Home) -> None:
    folder_id = await home.folder("data")
    answer = await home.ann.post("/session", json=new(mounts=["data/x:y"]) | {"name": "has"})
    home.ann.headers["X-Refold-Position"] = answer.headers["X-Refold-Position"]
    shown = (await home.ann.get("/session/has")).json()
    assert shown["mounts"] == ["data"]
    assert shown["vfolderMounts"] == [
        {
            "name": "data",
            "vfid": folder_id,
            "host": HOST,
            "vfsubpath": "x",
            "kernel_path": "/home/work/y",
            "mount_perm": "wd",
        }
    ]


async def test_nobody_gets_more_than_he_was_granted(home: Home) -> None:
    await home.lent("lent", Permission.RO)
    await home.folder("hidden", HIS)
    assert where(await home.asks(mounts=["lent"])) == {"/home/work/lent": ("lent", "", "ro")}
    asks = {"mounts": ["lent"], "mount_options": {"lent": {"permission": "rw"}}}
    assert await home.refused(**asks) == (403, "config.mounts.0", "permission")
    for hidden in ("hidden", an_id(f"{HIS}/hidden"), "nothing", an_id("nothing")):
        assert (await home.refused(mounts=[hidden]))[:2] == (404, "config.mounts.0")
    await directed(home.world, _allowing("create-vfolder"))
    assert await home.refused(mounts=["lent"]) == (403, "config.mounts.0", "mount-in-session")


async def test_a_projects_folder_goes_into_its_own_sessions_and_a_stores_into_everybodys(home: Home) -> None:
    await home.folder("ours", TEAMS, permission=Permission.RO)
    await home.folder("theirs", project_scope(OTHERS))
    await home.folder("bert", project_scope(STORE))
    mounts = await home.asks(mounts=["ours", "bert"])
    assert where(mounts) == {"/home/work/ours": ("ours", "", "ro"), "/home/work/bert": ("bert", "", "ro")}
    assert [mount.by_project for mount in mounts] == [True, True]
    assert await home.refused(mounts=["theirs"]) == (400, "config.mounts.0", "other_project")


async def test_a_folder_that_is_not_there_yet_is_not_mounted(home: Home) -> None:
    await home.folder("making", ready=False)
    assert (await home.refused(mounts=["making"]))[0] == 409


async def test_dot_folders_of_ones_own_come_by_themselves(home: Home) -> None:
    await home.folder("data")
    await home.folder(".ssh")
    await home.folder(".cache")
    await home.lent(".bashrc.d", Permission.RO)
    await home.folder(".team", TEAMS)
    await home.folder(".making", ready=False)
    assert sorted(where(await home.asks())) == ["/home/work/.cache", "/home/work/.ssh"]
    there = where(await home.asks(mounts=["data:.cache"]))
    assert sorted(there) == ["/home/work/.cache", "/home/work/.ssh"]
    assert there["/home/work/.cache"][0] == "data", "what is asked for goes before it"


async def test_while_the_database_is_away_sessions_go_without_dot_folders_but_not_without_what_they_ask_for(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.folder("data")
    await home.folder(".ssh")

    async def away(*_: object) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(home.world.known.folders, "automatic", away)
    assert await home.asks() == ()
    assert (await home.ann.post("/session", json=new(mounts=["data"]) | {"name": None})).status_code == 503


async def test_where_a_dotfile_is_no_folder_goes(home: Home) -> None:
    await home.folder("data")
    file = {"path": ".config/tool", "permission": "600", "data": "x"}
    assert (await home.ann.post("/user-config/dotfiles", json=file)).status_code == 200
    for path in (".config/tool", ".config/tool/more"):
        assert await home.refused(mounts=[f"data:{path}"]) == (400, "config.mounts", "dotfile")
    assert where(await home.asks(mounts=["data:.config"])), "the file is written into the folder"


async def test_a_command_makes_no_mount_of_its_own(home: Home) -> None:
    """What people write into a `Mount` beside folder, part, path and permission has no effect."""
    mine, his = await home.folder("data"), await home.folder("his", HIS)
    ref = {"scope": MINE, "folder_id": mine, "host": HOST}
    told = {"folder": ref, "user_id": ANN, "name": "data", "path": "/home/work/x/", "permission": "ro"}
    spec = {"image": "python:3.9", "slots": {"cpu": 1000, "mem": 2**28}}
    order = {"type": "RequestSession", "owner": "AKANN", "name": "told", "spec": spec}

    async def given(mount: dict[str, Any]) -> httpx.Response:
        return await home.ann.post("/refold/commands", json=order | {"spec": spec | {"mounts": [mount]}})

    forged = told | {"folder": ref | {"scope": HIS, "host": "other:volume"}, "user_id": BEN, "by_project": True}
    answer = await given(forged | {"unmanaged_path": "/etc", "name": "other"})
    assert answer.status_code == 200, answer.text
    [mount] = answer.json()["events"][0]["spec"]["mounts"]
    right = {"subpath": "", "by_project": False, "unmanaged_path": None, "path": "/home/work/x"}
    assert mount == told | right
    for field, wrong, status in (
        ("folder", {"scope": HIS, "folder_id": his, "host": HOST}, 404),
        ("path", "/etc", 400),
        ("path", "/home/work/../x", 400),
        ("subpath", "../x", 400),
    ):
        answer = await given(told | {field: wrong})
        assert (answer.status_code, answer.json()["field"].split(".")[:2]) == (status, ["spec", "mounts"]), answer.text


@pytest.mark.usefixtures("any_agent")
async def test_what_may_be_done_in_a_folder_is_looked_at_again_when_a_kernel_starts(home: Home) -> None:
    folder_id = await home.lent("lent", Permission.RW)
    [mount] = await home.asks(mounts=["lent"])
    question: dict[str, Any] = {"owner": "AKANN", "image": "python:3.9", "mounts": [mount.model_dump(mode="json")]}

    async def told() -> httpx.Response:
        return await asked(home.world, "kernels/{}/outfit", **question)

    assert (await told()).json()["mounts"] == question["mounts"]
    about = {"at": now(), "scope": HIS, "folder_id": folder_id, "user_id": ANN}
    await home.give(SetMember(**about, permission=Permission.RO))
    await home.heard(lambda: _lent_as(home, folder_id, "ro"))
    assert (await told()).json()["mounts"][0]["permission"] == "ro"
    await home.give(RemoveMember(**about))
    await home.heard(lambda: _lent_as(home, folder_id, None))
    answer = await told()
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (403, "mount-refused")
    assert "lent: you have no folder" in answer.json()["detail"]


async def _lent_as(home: Home, folder_id: FolderId, permission: str | None) -> bool:
    members = await home.world.known.folders.members([folder_id])
    return [each.permission for each in members] == ([] if permission is None else [permission])


async def test_a_system_session_can_be_asked_for(home: Home) -> None:
    answer = await home.ann.post("/session", json=new() | {"name": "sftp", "type": "system", "startupCommand": None})
    assert answer.status_code == 201, answer.text
    answer = await home.ann.post("/session", json=new() | {"name": "more", "type": "system", "startupCommand": None})
    assert answer.status_code == 412, "the policy allows one"
    assert await home.asks() == (), "and others beside it"


# -- how it is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "field", "rule"),
    [
        ({"mounts": ["data:/etc"]}, "config.mounts.0", "reserved"),
        ({"mounts": ["data:../x"]}, "config.mounts.0", "path"),
        ({"mounts": ["data:a\x00b"]}, "config.mounts.0", "path"),
        ({"mounts": ["x", "data/../../other"]}, "config.mounts.1", "subpath"),
        ({"mounts": ["data//etc"]}, "config.mounts.0", "subpath"),
        ({"mounts": ["data:x"], "mount_map": {"data": "y"}}, "config.mounts.0", "placed_twice"),
        ({"mount_map": {"data": "y"}}, "config.mount_map.data", "not_asked_for"),
        ({"mounts": ["data"], "mount_options": {"x": {}}}, "config.mount_options.x", "not_asked_for"),
        ({"mounts": list("abc"), "mount_ids": list("def")}, "config.mount_ids.2", "count"),
    ],
)
def test_mounts_that_cannot_be_are_refused_by_name(told: dict[str, Any], field: str, rule: str) -> None:
    with pytest.raises(Problem) as refused:
        AskedMounts.model_validate(told).wanted()
    assert (refused.value.members["field"], refused.value.members["rule"]) == (field, rule)


@pytest.mark.parametrize(
    "path", ["/", "/home", "/home/work", "/home/config", "/home/other/x", "/usr/local", "/tmp", "."]
)
def test_no_folder_goes_where_something_else_is(path: str) -> None:
    with pytest.raises(Problem):
        placed(path, "x")


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("a//b/./c/", "/home/work/a/b/c"),
        ("//data", "/data"),
        ("/tmp/x", "/tmp/x"),
        ("/home/work/.ssh", "/home/work/.ssh"),
    ],
)
def test_a_path_is_relative_to_the_home_or_absolute(path: str, where: str) -> None:
    assert placed(path, "x") == where


def test_one_folder_does_not_go_into_another() -> None:
    refuse_overlaps([("/a", "x"), ("/ab", "y")])
    for other in ("/a", "/a/b", "/"):
        with pytest.raises(Problem) as refused:
            refuse_overlaps([("/a", "x"), (other, "y")])
        assert refused.value.members["field"] == "y"

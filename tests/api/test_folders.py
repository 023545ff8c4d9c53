"""Folders by their routes, on real disks: ada has some, eve is invited, dora is the admin of both, zoe a stranger."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import pytest
import pytest_asyncio

from api.folders.storage_problems import refusal
from domain.directory.messages.policies import ModifyUserPolicy
from domain.directory.messages.tenants import CreateProject, ModifyDomain, ProjectType
from domain.directory.messages.users import JoinProject
from domain.messages import ProjectId, UserId
from domain.vfolder.mounts import project_scope, user_scope
from tests.api import neighbours
from tests.api.neighbours import client_of, directed
from tests.api.storing import EVERYTHING, HOST, Storing, storing
from tests.api.world import World
from tests.whole import an_id, now

pytestmark = pytest.mark.asyncio(loop_scope="module")

STORE: Final = ProjectId(an_id("store"))
_number: Final = itertools.count(1)


@dataclass
class Desk:
    """A client for each."""

    world: World
    clients: Mapping[str, httpx.AsyncClient]
    storage: Storing

    def __getattr__(self, who: str) -> httpx.AsyncClient:
        return self.clients[who]

    async def folder(self, who: str = "ada", **fields: Any) -> dict[str, Any]:
        """A new one."""
        answer = await self.clients[who].post("/folders", json={"name": f"f{next(_number)}", "host": HOST} | fields)
        assert answer.status_code == 201, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def joined(self, perm: str = "rw", **fields: Any) -> dict[str, Any]:
        """One of ada's that eve has accepted."""
        folder = await self.folder(**fields)
        await self.ada.post(f"/folders/{folder['name']}/invite", json={"perm": perm, "emails": ["eve@example.org"]})
        [invitation] = (await self.eve.get("/folders/invitations/list")).json()["invitations"]
        answer = await self.eve.post("/folders/invitations/accept", json={"inv_id": invitation["id"]})
        assert answer.status_code == 200, answer.text
        return folder

    async def allowed(self, scope: str, host: str) -> None:
        """Once the owner's policies have reached what decides about his folders."""
        async with asyncio.timeout(10):
            while host not in ((await self.world.known.folders.owner(scope)).limits or {}).get("hosts", {}):
                await asyncio.sleep(0.01)

    def root(self, folder: Mapping[str, Any]) -> Path:
        return self.storage.folder(folder["id"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    folder = tmp_path_factory.mktemp("folders")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        world = await enter(World(folder).started())
        storage = await enter(storing(world.settings, world.log, folder))
        await neighbours.move_in(world)
        await directed(
            world,
            ModifyDomain(at=now(), name="default", changes={"allowed_vfolder_hosts": EVERYTHING}),
            ModifyDomain(at=now(), name="nextdoor", changes={"allowed_vfolder_hosts": EVERYTHING}),
            CreateProject(
                at=now(), project_id=STORE, name="store", domain="default", project_type=ProjectType.MODEL_STORE
            ),
        )
        clients = {who: await enter(world.client(who)) for who in ("admin", "ada", "eve")}
        clients |= {who: await enter(client_of(world, who)) for who in ("dora", "mona", "zoe")}
        desk = Desk(world, clients, storage)
        for who in ("user-admin", "user-ada", "user-eve", "user-dora", "user-zoe"):
            await desk.allowed(user_scope(UserId(who)), HOST)
        await desk.allowed(project_scope(neighbours.HOME), HOST)
        await desk.allowed(project_scope(STORE), HOST)
        yield desk


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


# -- made, changed, thrown away ----------------------------------------------------------------------------------------


async def test_a_new_folder_is_on_its_disk_when_it_is_answered_for(desk: Desk) -> None:
    folder = await desk.folder(quota="1g", cloneable=True)
    assert folder["status"] == "ready"
    assert desk.root(folder).is_dir()
    told = (await desk.ada.get(f"/folders/{folder['name']}")).json()
    assert len(told["id"]) == 32
    assert told["id"] == folder["id"]
    assert {name: told[name] for name in ("is_owner", "permission", "type", "max_size", "cloneable", "numFiles")} == {
        "is_owner": True,
        "permission": "wd",
        "type": "user",
        "max_size": 2**30,
        "cloneable": True,
        "numFiles": 0,
    }


async def test_a_repeated_request_makes_one_folder(desk: Desk) -> None:
    body, headers = {"name": f"f{next(_number)}", "host": HOST}, {"Idempotency-Key": f"key-{next(_number)}"}
    first, second = [await desk.ada.post("/folders", json=body, headers=headers) for _ in range(2)]
    assert (first.status_code, first.json()) == (second.status_code, second.json())


async def test_a_folder_is_found_by_its_name_and_its_id_with_dashes_and_without(desk: Desk) -> None:
    folder = await desk.folder()
    plain = folder["id"]
    dashed = "-".join((plain[:8], plain[8:12], plain[12:16], plain[16:20], plain[20:]))
    for reference in (folder["name"], plain, dashed, plain.upper()):
        assert (await desk.ada.get(f"/folders/{reference}")).json()["id"] == plain
    told = await desk.ada.request("GET", "/folders/_/id", json={"name": folder["name"]})
    assert told.json()["id"] == plain


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": "a/b"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "_"}, "name"),
        ({"name": "invitations"}, "name"),
        ({"name": "0" * 32}, "name"),
        ({"host": "nowhere:volume1"}, "host"),
        ({"host": "local"}, "host"),
        ({"quota": "much"}, "quota"),
        ({"quota": -1}, "quota"),
        ({"usage_mode": "else"}, "usage_mode"),
        ({"permission": "all"}, "permission"),
        ({"unmanaged_path": "relative"}, "unmanaged_path"),
    ],
)
async def test_a_folder_that_cannot_be_is_refused_with_the_field(desk: Desk, wrong: dict[str, Any], field: str) -> None:
    answer = await desk.ada.post("/folders", json={"name": "proper", "host": HOST} | wrong)
    assert problem(answer)[0] == 400, answer.text
    assert answer.json()["field"] == field


async def test_two_folders_of_one_owner_never_have_one_name(desk: Desk) -> None:
    folder = await desk.folder()
    again = await desk.ada.post("/folders", json={"name": folder["name"], "host": HOST})
    assert problem(again) == (400, "vfolder-already-exists")
    assert (await desk.eve.post("/folders", json={"name": folder["name"], "host": HOST})).status_code == 201


async def test_more_folders_than_the_policy_allows_are_406(desk: Desk) -> None:
    count = len((await desk.zoe.get("/folders")).json())
    await directed(desk.world, ModifyUserPolicy(at=now(), name="default", changes={"max_vfolder_count": count + 1}))
    try:
        await desk.folder("zoe")
        for _ in range(50):  # until the policy has reached the folders' own context
            answer = await desk.zoe.post("/folders", json={"name": f"f{next(_number)}", "host": HOST})
            if answer.status_code != 201:
                break
            await asyncio.sleep(0.02)
        assert problem(answer) == (406, "too-many-vfolders")
    finally:
        await directed(desk.world, ModifyUserPolicy(at=now(), name="default", changes={"max_vfolder_count": 100}))


async def test_a_host_that_no_policy_of_ones_own_allows_is_403(desk: Desk) -> None:
    answer = await desk.ada.post("/folders", json={"name": "elsewhere", "host": "local:volume2"})
    assert problem(answer) == (403, "host-permission-missing")
    assert (await desk.ada.get("/folders/_/hosts")).json()["allowed"] == [HOST]


async def test_only_a_superadmin_makes_a_folder_of_a_path_on_hosts(desk: Desk) -> None:
    body = {"name": "raw", "unmanaged_path": "/mnt/raw"}
    assert problem(await desk.ada.post("/folders", json=body)) == (403, "generic-forbidden")
    made = await desk.admin.post("/folders", json=body)
    assert (made.status_code, made.json()["unmanaged_path"]) == (201, "/mnt/raw")
    assert problem(await desk.admin.get("/folders/raw/files")) == (409, "folder-unmanaged")


async def test_a_folder_gets_another_name_and_other_options(desk: Desk) -> None:
    folder = await desk.folder()
    new = f"f{next(_number)}"
    assert (await desk.ada.post(f"/folders/{folder['name']}/rename", json={"new_name": new})).status_code == 201
    assert problem(await desk.ada.get(f"/folders/{folder['name']}")) == (404, "folder-not-found")
    options = {"cloneable": True, "permission": "ro"}
    assert (await desk.ada.post(f"/folders/{new}/update-options", json=options)).status_code == 201
    told = (await desk.ada.get(f"/folders/{new}")).json()
    assert (told["cloneable"], told["permission"]) == (True, "wd")  # an owner's own is never less
    assert problem(await desk.ada.post(f"/folders/{new}/update-options", json={}))[0] == 400


async def test_what_is_thrown_away_can_be_taken_back_and_purged(desk: Desk) -> None:
    folder = await desk.folder()
    assert (await desk.ada.delete(f"/folders/{folder['name']}")).status_code == 204
    told = (await desk.ada.get(f"/folders/{folder['id']}")).json()
    assert told["status"] == "delete-pending"
    assert told["purge_at"]
    assert problem(await desk.ada.get(f"/folders/{folder['name']}/files")) == (409, "folder-not-ready")
    back = await desk.ada.post("/folders/restore-from-trash-bin", json={"id": folder["id"]})
    assert back.status_code == 200, back.text
    assert (await desk.ada.get(f"/folders/{folder['name']}/files")).status_code == 200
    assert problem(await desk.ada.post("/folders/purge", json={"vfolder_id": folder["id"]})) == (
        409,
        "folder-not-trashed",
    )
    assert (await desk.ada.request("DELETE", "/folders", json={"id": folder["id"]})).status_code == 204
    assert (await desk.ada.post("/folders/delete-from-trash-bin", json={"id": folder["id"]})).status_code == 204
    async with asyncio.timeout(10):
        while desk.root(folder).exists():
            await asyncio.sleep(0.01)


async def test_a_purge_has_a_task_that_whoever_asked_for_it_may_follow(desk: Desk) -> None:
    folder = await desk.folder()
    await desk.ada.delete(f"/folders/{folder['name']}")
    answer = await desk.ada.post("/folders/delete-from-trash-bin", json={"id": folder["id"]})
    assert (answer.status_code, answer.content) == (204, b"")
    task = {"task_id": answer.headers["X-Refold-Task"]}
    assert "task_done" in (await desk.ada.get("/events/background-task", params=task)).text
    assert not desk.root(folder).exists()
    assert problem(await desk.eve.get("/events/background-task", params=task))[0] == 404


async def test_what_is_in_the_trash_gives_its_name_up(desk: Desk) -> None:
    folder = await desk.folder()
    await desk.ada.delete(f"/folders/{folder['name']}")
    other = await desk.folder(name=folder["name"])
    assert (await desk.ada.get(f"/folders/{folder['name']}")).json()["id"] == other["id"]
    taken = await desk.ada.post("/folders/restore-from-trash-bin", json={"id": folder["id"]})
    assert problem(taken) == (400, "vfolder-already-exists")
    body = {"id": folder["id"], "new_name": f"f{next(_number)}"}
    assert (await desk.ada.post("/folders/restore-from-trash-bin", json=body)).status_code == 200


async def test_a_clone_has_the_same_files_and_a_task_that_its_owner_may_follow(desk: Desk) -> None:
    source = await desk.folder()
    (desk.root(source) / "a.txt").write_text("hello")
    body = {"target_name": f"f{next(_number)}", "target_host": HOST, "usage_mode": "general", "permission": "rw"}
    clone = f"/folders/{source['name']}/clone"
    assert problem(await desk.ada.post(clone, json=body)) == (403, "folder-not-cloneable")
    await desk.ada.post(f"/folders/{source['name']}/update-options", json={"cloneable": True})
    answer = await desk.ada.post(clone, json=body)
    assert answer.status_code == 200, answer.text
    task = {"task_id": answer.json()["bgtask_id"]}
    told = await desk.ada.get("/events/background-task", params=task)
    assert "task_done" in told.text
    assert (desk.root(answer.json()) / "a.txt").read_text() == "hello"
    assert problem(await desk.eve.get("/events/background-task", params=task))[0] == 404


# -- files -------------------------------------------------------------------------------------------------------------


async def brought(client: httpx.AsyncClient, reference: str, path: str, content: bytes) -> httpx.Response:
    """As the public client brings a file."""
    body = {"path": path, "size": len(content)}
    ticket = await client.post(f"/folders/{reference}/request-upload", json=body)
    if ticket.status_code != 200 or not content:
        return ticket
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream",
    }
    async with httpx.AsyncClient() as plain:
        return await plain.patch(
            ticket.json()["url"], params={"token": ticket.json()["token"]}, content=content, headers=headers
        )


async def fetched(client: httpx.AsyncClient, reference: str, **body: Any) -> httpx.Response:
    ticket = await client.post(f"/folders/{reference}/request-download", json=body)
    if ticket.status_code != 200:
        return ticket
    async with httpx.AsyncClient() as plain:
        return await plain.get(ticket.json()["url"], params={"token": ticket.json()["token"]})


async def test_files_are_brought_listed_changed_fetched_and_deleted(desk: Desk) -> None:
    folder = await desk.folder()
    at = f"/folders/{folder['name']}"
    assert (await desk.ada.post(f"{at}/mkdir", json={"path": "d/e"})).status_code == 201
    assert (await desk.ada.post(f"{at}/mkdir", json={"path": ["x", "y"]})).status_code == 201
    assert (await brought(desk.ada, folder["name"], "d/a.txt", b"hello")).status_code == 204
    assert (await brought(desk.ada, folder["name"], "empty", b"")).status_code == 200
    assert (await fetched(desk.ada, folder["name"], path="d/a.txt")).content == b"hello"
    moved = await desk.ada.post(f"{at}/move-file", json={"src": "d/a.txt", "dst": "b.txt"})
    renamed = await desk.ada.post(f"{at}/rename-file", json={"target_path": "b.txt", "new_name": "c.txt"})
    assert (moved.status_code, renamed.status_code) == (200, 200)
    told = (await desk.ada.request("GET", f"{at}/files", json={"path": "."})).json()
    assert [(each["name"], each["type"]) for each in told["items"]] == [
        ("c.txt", "FILE"),
        ("d", "DIRECTORY"),
        ("empty", "FILE"),
        ("x", "DIRECTORY"),
        ("y", "DIRECTORY"),
    ]
    older = orjson.loads(told["files"])
    assert [(each["filename"], each["size"]) for each in older[:1]] == [("c.txt", 5)]
    page = (await desk.ada.get(f"{at}/files", params={"limit": 2})).json()
    rest = (await desk.ada.get(f"{at}/files", params={"after": page["next"]})).json()
    assert [each["name"] for each in page["items"] + rest["items"]] == ["c.txt", "d", "empty", "x", "y"]
    doomed = {"files": ["d", "x"], "recursive": False}
    assert problem(await desk.ada.request("DELETE", f"{at}/delete-files", json=doomed))[0] == 400
    answer = await desk.ada.request("DELETE", f"{at}/delete-files", json=doomed | {"recursive": True})
    assert answer.status_code == 200, answer.text
    assert sorted(path.name for path in desk.root(folder).iterdir()) == ["c.txt", "empty", "y"]
    assert {operation.actor for operation in desk.storage.told} == {"keypair:AKADA"}


async def test_what_a_storage_service_refuses_is_told_in_its_words(desk: Desk) -> None:
    folder = await desk.folder()
    at = f"/folders/{folder['name']}"
    assert problem(await desk.ada.get(f"{at}/files", params={"path": "nothing"}))[0] == 404
    for path in ("../x", "/etc/passwd", "a/../../x"):
        answer = await desk.ada.post(f"{at}/mkdir", json={"path": path})
        assert (problem(answer)[0], answer.json()["field"]) == (400, "path"), path
    await desk.ada.post(f"{at}/mkdir", json={"path": "d"})
    assert problem(await desk.ada.post(f"{at}/mkdir", json={"path": "d"}))[0] == 409
    assert (await desk.ada.post(f"{at}/mkdir", json={"path": "d", "exist_ok": True})).status_code == 201


@pytest.mark.parametrize(
    ("status", "told", "answered"),
    [
        (507, {"type": "x/no-room", "title": "No room"}, (507, "no-room")),
        (409, {"type": "x/exists", "title": "It is there"}, (409, "exists")),
        (401, {"type": "x/storage-pass", "title": "No"}, (502, "storage-broken")),
        (404, {"detail": "another program"}, (502, "storage-broken")),
        (503, {"type": "x/overloaded", "title": "Busy"}, (503, "storage-unavailable")),
    ],
)
async def test_what_is_wrong_between_api_and_storage_service_is_not_blamed_on_who_asks(
    status: int, told: dict[str, str], answered: tuple[int, str]
) -> None:
    problem = refusal("local", status, orjson.dumps(told))
    assert (problem.status, problem.kind) == answered


async def test_a_storage_service_that_is_away_is_a_503_that_may_be_tried_again(desk: Desk) -> None:
    folder = await desk.folder()
    known = desk.world.settings.storage["local"]
    desk.world.settings.storage["local"] = dict.fromkeys(known, "http://127.0.0.1:1")
    try:
        answer = await desk.ada.get(f"/folders/{folder['name']}/files")
        assert problem(answer) == (503, "storage-unavailable")
        assert answer.json()["retryable"] is True
        assert (await desk.ada.get("/folders/_/hosts")).json()["volume_info"] == {}
    finally:
        desk.world.settings.storage["local"] = known


async def test_where_one_may_only_read_one_changes_nothing(desk: Desk) -> None:
    folder = await desk.joined("ro")
    await brought(desk.ada, folder["name"], "a.txt", b"hello")
    assert (await fetched(desk.eve, folder["name"], path="a.txt")).content == b"hello"
    at = f"/folders/{folder['id']}"
    for answer in (
        await brought(desk.eve, folder["id"], "b.txt", b"x"),
        await desk.eve.post(f"{at}/mkdir", json={"path": "d"}),
        await desk.eve.post(f"{at}/move-file", json={"src": "a.txt", "dst": "b.txt"}),
        await desk.eve.post(f"{at}/rename-file", json={"target_path": "a.txt", "new_name": "b.txt"}),
        await desk.eve.request("DELETE", f"{at}/delete-files", json={"files": ["a.txt"]}),
        await desk.eve.delete(at),
        await desk.eve.post(f"{at}/rename", json={"new_name": "mine"}),
        await desk.eve.post(f"{at}/invite", json={"perm": "ro", "emails": ["mona@example.org"]}),
    ):
        assert problem(answer) == (403, "generic-forbidden"), answer.request.url
    await desk.eve.post(f"{at}/leave")


async def test_a_stranger_finds_neither_a_folder_nor_what_is_in_it(desk: Desk) -> None:
    folder = await desk.folder()
    for client in (desk.eve, desk.zoe):
        for reference in (folder["name"], folder["id"]):
            at = f"/folders/{reference}"
            for answer in (await client.get(at), await client.get(f"{at}/files"), await client.delete(at)):
                assert problem(answer) == (404, "folder-not-found")
    assert folder["id"] not in (await desk.zoe.get("/folders", params={"all": "true"})).text


async def test_an_admin_manages_folders_of_his_domain_and_looks_into_none_of_its_users(desk: Desk) -> None:
    folder = await desk.folder()
    at = f"/folders/{folder['id']}"
    assert folder["id"] in (await desk.dora.get("/folders", params={"all": "true"})).text
    assert folder["id"] not in (await desk.dora.get("/folders")).text
    assert problem(await desk.dora.get(f"{at}/files")) == (403, "generic-forbidden")
    assert (await desk.admin.get(f"{at}/files")).status_code == 200
    assert (await desk.dora.delete(at)).status_code == 204
    foreign = await desk.folder("zoe")
    assert problem(await desk.dora.get(f"/folders/{foreign['id']}")) == (404, "folder-not-found")


# -- several -----------------------------------------------------------------------------------------------------------


async def test_who_accepts_an_invitation_has_the_folder_with_what_was_granted(desk: Desk) -> None:
    folder = await desk.folder()
    invite = f"/folders/{folder['name']}/invite"
    body = {"perm": "rw", "user_ids": ["eve@example.org", "nobody@example.org", "ada@example.org"]}
    assert (await desk.ada.post(invite, json=body)).json() == {"invited_ids": ["eve@example.org"]}
    assert (await desk.ada.post(invite, json=body)).json() == {"invited_ids": []}
    [sent] = (await desk.ada.get("/folders/invitations/list-sent")).json()["invitations"]
    [received] = (await desk.eve.get("/folders/invitations/list")).json()["invitations"]
    assert received["id"] == sent["id"]
    assert (received["inviter"], received["vfolder_name"], received["perm"]) == (
        "ada@example.org",
        folder["name"],
        "rw",
    )
    assert problem(await desk.eve.get(f"/folders/{folder['id']}"))[0] == 404
    accepted = await desk.eve.post("/folders/invitations/accept", json={"inv_id": received["id"]})
    assert accepted.status_code == 200, accepted.text
    told = (await desk.eve.get(f"/folders/{folder['name']}")).json()
    assert (told["is_owner"], told["permission"], told["user"]) == (False, "rw", "user-ada")
    [shared] = (await desk.ada.get("/folders/_/shared", params={"vfolder_id": folder["id"]})).json()["shared"]
    assert (shared["shared_to"], shared["perm"], shared["owner"]) == (
        {"uuid": "user-eve", "email": "eve@example.org"},
        "rw",
        "ada@example.org",
    )
    change = {"vfolder": folder["id"], "user": "user-eve", "perm": "ro"}
    assert (await desk.ada.post("/folders/_/shared", json=change)).status_code == 200
    assert (await desk.eve.get(f"/folders/{folder['name']}")).json()["permission"] == "ro"
    assert (await desk.eve.post(f"/folders/{folder['name']}/leave", json={})).status_code == 200
    assert problem(await desk.eve.get(f"/folders/{folder['id']}"))[0] == 404
    assert (await desk.ada.get("/folders/_/shared", params={"vfolder_id": folder["id"]})).json() == {"shared": []}


async def test_an_invitation_is_changed_taken_back_and_rejected(desk: Desk) -> None:
    folder = await desk.folder()
    invite = f"/folders/{folder['name']}/invite"
    body = {"perm": "ro", "emails": ["eve@example.org"]}
    await desk.ada.post(invite, json=body)
    [sent] = (await desk.ada.get("/folders/invitations/list-sent")).json()["invitations"]
    update = f"/folders/invitations/update/{sent['id']}"
    assert problem(await desk.eve.post(update, json={"perm": "wd"})) == (404, "invitation-not-found")
    assert problem(await desk.ada.post(update, json={}))[0] == 400
    assert (await desk.ada.post(update, json={"perm": "rw"})).status_code == 200
    [sent] = (await desk.ada.get("/folders/invitations/list-sent")).json()["invitations"]
    assert sent["perm"] == "rw"
    delete = {"inv_id": sent["id"]}
    assert problem(await desk.zoe.request("DELETE", "/folders/invitations/delete", json=delete))[0] == 404
    assert (await desk.ada.request("DELETE", "/folders/invitations/delete", json=delete)).status_code == 200
    await desk.ada.post(invite, json=body)
    [received] = (await desk.eve.get("/folders/invitations/list")).json()["invitations"]
    delete = {"inv_id": received["id"]}
    assert (await desk.eve.request("DELETE", "/folders/invitations/delete", json=delete)).status_code == 200
    assert problem(await desk.eve.post("/folders/invitations/accept", json=delete)) == (404, "invitation-not-found")


async def test_who_has_a_folder_of_that_name_cannot_accept_another(desk: Desk) -> None:
    folder = await desk.folder()
    await desk.folder("eve", name=folder["name"])
    await desk.ada.post(f"/folders/{folder['name']}/invite", json={"perm": "ro", "emails": ["eve@example.org"]})
    [received] = (await desk.eve.get("/folders/invitations/list")).json()["invitations"]
    accept = await desk.eve.post("/folders/invitations/accept", json={"inv_id": received["id"]})
    assert problem(accept) == (400, "vfolder-already-exists")
    await desk.eve.request("DELETE", "/folders/invitations/delete", json={"inv_id": received["id"]})


async def test_an_owner_takes_his_folder_away_from_a_member_and_does_not_leave_it(desk: Desk) -> None:
    folder = await desk.joined()
    leave = f"/folders/{folder['name']}/leave"
    assert problem(await desk.ada.post(leave, json={}))[0] == 400
    assert problem(await desk.eve.post(leave, json={"shared_user_uuid": "user-ada"}))[0] == 403
    assert (await desk.ada.post(leave, json={"shared_user_uuid": "user-eve"})).status_code == 200
    assert problem(await desk.eve.get(f"/folders/{folder['id']}"))[0] == 404


async def test_a_project_folder_is_its_members_and_its_admins_to_share(desk: Desk) -> None:
    name = f"f{next(_number)}"
    body = {"name": name, "group": "default", "permission": "ro"}
    assert problem(await desk.ada.post("/folders", json=body)) == (403, "generic-forbidden")
    folder = await desk.folder("dora", **body)
    assert (folder["ownership_type"], folder["user"], folder["group"]) == ("group", None, neighbours.HOME)
    seen = (await desk.ada.get(f"/folders/{name}")).json()
    assert (seen["is_owner"], seen["permission"], seen["group_name"]) == (False, "ro", "default")
    share = {"permission": "rw", "emails": ["ada@example.org", "zoe@example.org"]}
    assert problem(await desk.ada.post(f"/folders/{name}/share", json=share)) == (403, "generic-forbidden")
    shared = await desk.dora.post(f"/folders/{name}/share", json=share)
    assert (shared.status_code, shared.json()) == (201, {"shared_emails": ["ada@example.org"]})
    assert (await desk.ada.get(f"/folders/{name}")).json()["permission"] == "rw"
    assert (await desk.eve.get(f"/folders/{name}")).json()["permission"] == "ro"
    unshared = await desk.dora.request("DELETE", f"/folders/{name}/unshare", json={"emails": ["ada@example.org"]})
    assert unshared.json() == {"unshared_emails": ["ada@example.org"]}
    assert (await desk.ada.get(f"/folders/{name}")).json()["permission"] == "ro"
    assert problem(await desk.ada.post(f"/folders/{name}/leave", json={}))[0] == 400
    assert problem(await desk.dora.post(f"/folders/{name}/invite", json=share))[0] == 400
    own = await desk.folder()
    assert problem(await desk.ada.post(f"/folders/{own['name']}/share", json=share))[0] == 400


async def test_models_of_the_store_are_for_everybody_to_read_and_to_clone(desk: Desk) -> None:
    body = {"name": f"f{next(_number)}", "group": "store", "host": HOST}
    assert problem(await desk.admin.post("/folders", json=body))[0] == 400  # only models
    await directed(desk.world, JoinProject(at=now(), user_id=UserId("user-dora"), project_id=STORE))
    model = await desk.folder("dora", **body, usage_mode="model")
    seen = (await desk.zoe.get(f"/folders/{model['name']}")).json()
    assert (seen["permission"], seen["cloneable"], seen["is_owner"]) == ("ro", True, False)
    body = {"target_name": f"f{next(_number)}", "usage_mode": "model"}
    clone = await desk.zoe.post(f"/folders/{model['name']}/clone", json=body)
    assert clone.status_code == 200, clone.text


async def test_an_admin_gives_a_folder_to_another_owner(desk: Desk) -> None:
    folder = await desk.folder()
    body = {"vfolder": folder["id"], "user_email": "eve@example.org"}
    change = "/folders/_/change-ownership"
    assert problem(await desk.ada.post(change, json=body)) == (403, "generic-forbidden")
    assert problem(await desk.dora.post(change, json=body | {"user_email": "zoe@example.org"})) == (
        404,
        "user-not-found",
    )
    assert (await desk.dora.post(change, json=body)).status_code == 200
    assert (await desk.eve.get(f"/folders/{folder['name']}")).json()["is_owner"] is True
    assert problem(await desk.ada.get(f"/folders/{folder['id']}"))[0] == 404
    back = body | {"user_email": "ada@example.org"}
    await desk.folder(name=folder["name"])
    assert problem(await desk.dora.post(change, json=back)) == (409, "folder-not-taken")


# -- hosts -------------------------------------------------------------------------------------------------------------


async def test_a_host_permission_that_is_taken_away_counts_at_once(desk: Desk) -> None:
    folder = await desk.folder()
    at = f"/folders/{folder['name']}"
    less = {HOST: ("create-vfolder", "mount-in-session")}
    await directed(desk.world, ModifyDomain(at=now(), name="default", changes={"allowed_vfolder_hosts": less}))
    try:
        for answer, rule in (
            (await brought(desk.ada, folder["name"], "a", b"x"), "upload-file"),
            (await fetched(desk.ada, folder["name"], path="a"), "download-file"),
            (await desk.ada.post(f"{at}/rename", json={"new_name": "x"}), "modify-vfolder"),
            (await desk.ada.delete(at), "delete-vfolder"),
            (await desk.ada.post(f"{at}/invite", json={"perm": "ro", "emails": ["eve@example.org"]}), "invite-others"),
        ):
            assert (problem(answer), answer.json()["rule"]) == ((403, "host-permission-missing"), rule)
        assert (await desk.ada.get(f"{at}/files")).status_code == 200
    finally:
        everything = ModifyDomain(at=now(), name="default", changes={"allowed_vfolder_hosts": EVERYTHING})
        await directed(desk.world, everything)


async def test_hosts_say_what_they_are_and_how_full(desk: Desk) -> None:
    told = (await desk.ada.get("/folders/_/hosts")).json()
    assert told["default"] == HOST
    assert told["volume_info"][HOST]["backend"]
    assert (await desk.admin.get("/folders/_/all_hosts")).json()["allowed"] == [HOST]
    metric = await desk.admin.request("GET", "/folders/_/perf-metric", json={"folder_host": HOST})
    assert metric.json()["metric"]["capacity_bytes"] > 0
    assert (await desk.admin.get("/folders/_/mounts")).json()["storage_proxy"]["mounts"] == [HOST]
    for path in ("all_hosts", "perf-metric?folder_host=local:volume1", "mounts", "fstab"):
        assert problem(await desk.ada.get(f"/folders/_/{path}"))[0] == 403
    for method in ("POST", "DELETE"):
        body = {"name": "x", "fs_location": "y"}
        answer = await desk.admin.request(method, "/folders/_/mounts", json=body)
        assert problem(answer) == (403, "mounting-not-allowed")
    assert (await desk.ada.get("/folders/_/allowed_types")).json() == ["user", "group"]


async def test_a_superadmin_says_how_much_an_owner_may_have_on_a_host(desk: Desk) -> None:
    folder = await desk.folder("zoe")
    about = {"folder_host": HOST, "id": folder["id"]}
    body = about | {"input": {"size_bytes": 5}}
    assert problem(await desk.zoe.post("/folders/_/quota", json=body))[0] == 403
    assert (await desk.admin.post("/folders/_/quota", json=body)).json() == {"size_bytes": 5}
    assert (await desk.zoe.get("/folders/_/quota", params=about)).json()["data"]["limit_bytes"] == 5
    assert (await brought(desk.zoe, folder["name"], "a", b"x" * 9)).status_code == 507
    assert (await brought(desk.zoe, folder["name"], "a", b"x" * 4)).status_code == 204
    usage = (await desk.zoe.get("/folders/_/usage", params=about)).json()
    assert usage == {"used_bytes": 4, "file_count": 1}
    other = about | {"folder_host": "local:volume2"}
    assert problem(await desk.zoe.get("/folders/_/used-bytes", params=other))[0] == 400

"""The public client, unchanged, for folders: what is theirs, what they share, and what they give away."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.client.conftest import Client
from tests.client.folders import ADA, HOST, People, folder_stack, id_of, on_disk, two_people
from tests.stack import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

ADMIN = "admin@refold.test"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(kafka: str, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with folder_stack(kafka, database, tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(stack: Stack, client: Client, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[People]:
    async with two_people(stack, client, tmp_path_factory.mktemp("ada")) as them:
        yield them


async def names(people: People, *, of_ada: bool = False, which: str = "list") -> set[str]:
    """Of the folders that one of them is shown."""
    told = await (people.ada if of_ada else people.admin).run("--output=json", "vfolder", which)
    return {each["name"] for each in json.loads(told)["items"]}


async def test_hosts_and_kinds_of_folders_are_told(people: People) -> None:
    told = await people.ada.run("vfolder", "list-hosts")
    assert f"Default vfolder host: {HOST}" in told
    assert f"Usable hosts: {HOST}" in told
    assert "user" in await people.ada.run("vfolder", "list-allowed-types")
    assert f"Mounted hosts: {HOST}" in await people.admin.run("admin", "vfolder", "list-hosts")


async def test_a_folder_is_made_shown_changed_renamed_and_thrown_away(people: People, stack: Stack) -> None:
    ada = people.ada
    made = await ada.run("vfolder", "create", "papers", HOST, "-p", "ro", "-m", "data")
    assert 'Virtual folder "papers" is created.' in made
    told = await ada.run("vfolder", "info", "papers")
    for line in ("- Owner: True", "- Permission: wd", "- Status: ready", "- Usage Mode: data", "- Number of files: 0"):
        assert line in told
    assert "Updated." in await ada.run("vfolder", "update-options", "papers", "-p", "rw", "--set-cloneable", "true")
    assert "- Clone Allowed: True" in await ada.run("vfolder", "info", "papers")
    assert "Renamed." in await ada.run("vfolder", "rename", "papers", "articles")
    assert {"articles"} == await names(people, of_ada=True) == await names(people, of_ada=True, which="list-own")
    folder_id = await id_of(ada, "articles")
    place = on_disk(stack, folder_id)
    assert place.is_dir()
    assert "Deleted." in await ada.run("vfolder", "delete", "articles")
    assert "- Status: delete-pending" in await ada.run("vfolder", "info", "articles")  # it is in the trash
    assert place.is_dir()
    await ada.run("vfolder", "create", "articles", HOST)  # and has given up its name
    assert await id_of(ada, "articles") != folder_id


async def test_what_is_wrong_is_said(people: People) -> None:
    create = ("vfolder", "create")
    await people.ada.run(*create, "once", HOST)
    assert "once" in await people.ada.run(*create, "once", HOST, ends_with=1)
    assert "name" in await people.ada.run(*create, "no/slashes", HOST, ends_with=1)
    assert "host" in await people.ada.run(*create, "elsewhere", "local:nowhere", ends_with=1)
    assert "permission" in await people.ada.run(*create, "strange", HOST, "-p", "xx", ends_with=1)
    assert "superadmin" in await people.ada.run(*create, "outside", "/etc", "--unmanaged", ends_with=1)
    assert "404" in await people.admin.run("vfolder", "info", "once", ends_with=1)  # it is hers
    assert "404" in await people.ada.run("vfolder", "delete", "nothing", ends_with=1)


async def test_an_invitation_is_accepted_lived_with_and_left(people: People) -> None:
    admin, ada = people.admin, people.ada
    await admin.run("vfolder", "create", "shared", HOST)
    (admin.home / "note.txt").write_text("from the owner")
    await admin.run("vfolder", "upload", "shared", "note.txt")
    assert f"- {ADA}" in await admin.run("vfolder", "invite", "shared", ADA, "-p", "ro")
    assert "No invitations." in await admin.run("vfolder", "invitations")
    told = await ada.run("vfolder", "invitations", typed="1\na\n")
    assert f"{ADMIN}, " in told
    assert "read-only" in told
    assert "You can now access vfolder shared" in told
    assert "shared" in await names(people, of_ada=True, which="list-invited")
    info = await ada.run("vfolder", "info", "shared")
    assert "- Owner: False" in info
    assert "- Permission: ro" in info
    await ada.run("vfolder", "download", "shared", "note.txt")
    assert (ada.home / "note.txt").read_text() == "from the owner"
    (ada.home / "answer.txt").write_text("from the guest")
    await ada.run("vfolder", "upload", "shared", "answer.txt", ends_with=1)
    await ada.run("vfolder", "rm", "shared", "note.txt", typed="y\n", ends_with=1)
    await ada.run("vfolder", "rename", "shared", "mine", ends_with=1)
    await ada.run("vfolder", "delete", "shared", ends_with=1)

    folder_id = await id_of(admin, "shared")
    change = ("admin", "vfolder", "update-shared-vf-permission", folder_id, people.ada_id, "-p", "rw")
    assert "Updated." in await admin.run(*change)
    await ada.run("vfolder", "upload", "shared", "answer.txt")
    assert "answer.txt" in await admin.run("vfolder", "ls", "shared")
    told = await admin.run("admin", "vfolder", "shared-vfolder-info", folder_id)
    assert 'Virtual folder "shared"' in told
    assert "- Permission: rw" in told
    assert 'Virtual folder "shared"' in await admin.run("admin", "vfolder", "list-shared-vfolders")

    assert "Left the shared" in await ada.run("vfolder", "leave", "shared")
    assert "404" in await ada.run("vfolder", "info", "shared", ends_with=1)
    assert "You cannot leave a virtual folder you own" in await admin.run("vfolder", "leave", "shared")


async def test_an_invitation_the_other_way_is_rejected_then_accepted_and_taken_back(people: People) -> None:
    admin, ada = people.admin, people.ada
    await ada.run("vfolder", "create", "hers", HOST)
    await ada.run("vfolder", "invite", "hers", ADMIN)
    assert "vfolder invitation rejected: hers" in await admin.run("vfolder", "invitations", typed="1\nr\n")
    assert "No invitations." in await admin.run("vfolder", "invitations")
    await ada.run("vfolder", "invite", "hers", ADMIN, "-p", "wd")
    assert "You can now access vfolder hers" in await admin.run("vfolder", "invitations", typed="1\na\n")
    assert "- Permission: wd" in await admin.run("vfolder", "info", "hers")
    folder_id, me = await id_of(ada, "hers"), (await admin.called("print(s.User.detail()['uuid'])")).split()[-1]
    remove = ("admin", "vfolder", "remove-shared-vf-permission", folder_id, me)
    assert "Removed." in await ada.run(*remove)
    assert "404" in await admin.run("vfolder", "info", "hers", ends_with=1)


async def test_a_folder_of_a_project_is_everybodys_in_it_as_far_as_it_is_shared(people: People) -> None:
    admin, ada = people.admin, people.ada
    await admin.run("vfolder", "create", "common", HOST, "-g", "default", "-p", "ro")
    assert "common" in await names(people, of_ada=True, which="list-project")
    told = await ada.run("vfolder", "info", "common")
    assert "- Ownership Type: group" in told
    assert "- Permission: ro" in told
    (ada.home / "line.txt").write_text("one")
    await ada.run("vfolder", "upload", "common", "line.txt", ends_with=1)
    assert f"- {ADA}" in await admin.run("vfolder", "share", "common", ADA, "-p", "rw")
    await ada.run("vfolder", "upload", "common", "line.txt")
    assert f"- {ADA}" in await admin.run("vfolder", "unshare", "common", ADA)
    assert "- Permission: ro" in await ada.run("vfolder", "info", "common")
    assert "You cannot leave a group virtual folder." in await ada.run("vfolder", "leave", "common")


async def test_a_clone_has_what_its_source_had(people: People, stack: Stack) -> None:
    ada = people.ada
    await ada.run("vfolder", "create", "source", HOST)
    assert "Clone is not allowed" in await ada.run("vfolder", "clone", "source", "copy", HOST)
    await ada.run("vfolder", "update-options", "source", "--set-cloneable", "true")
    (ada.home / "deep").mkdir()
    (ada.home / "deep" / "data.bin").write_bytes(bytes(range(256)) * 1000)
    await ada.run("vfolder", "upload", "source", "-r", "deep")
    assert "Cloning the vfolder is complete." in await ada.run("vfolder", "clone", "source", "copy", HOST)
    copy = on_disk(stack, await id_of(ada, "copy"))
    assert (copy / "deep" / "data.bin").read_bytes() == (ada.home / "deep" / "data.bin").read_bytes()
    assert "- Status: ready" in await ada.run("vfolder", "info", "copy")


async def test_a_folder_is_given_away_and_moves_no_bytes(people: People, stack: Stack) -> None:
    admin, ada = people.admin, people.ada
    await admin.run("vfolder", "create", "gift", HOST)
    folder_id = await id_of(admin, "gift")
    before = on_disk(stack, folder_id).stat().st_ino
    given = await admin.run("admin", "vfolder", "change-vfolder-ownership", folder_id, ADA)
    assert f"goes to User:{ADA}" in given
    assert "- Owner: True" in await ada.run("vfolder", "info", "gift")
    assert "404" in await admin.run("vfolder", "info", "gift", ends_with=1)
    assert on_disk(stack, folder_id).stat().st_ino == before


async def test_administrators_see_all_folders_and_the_storage(people: People) -> None:
    everything = await people.admin.run("--output=json", "admin", "vfolder", "list")
    assert {"once", "hers"} <= {each["name"] for each in json.loads(everything)["items"]}
    listed = await people.admin.called("print(json.dumps([each['name'] for each in s.VFolder.list(list_all=True)]))")
    assert {"once", "hers"} <= set(json.loads(listed))
    assert HOST in await people.admin.run("admin", "storage", "list")
    assert HOST in await people.admin.run("admin", "storage", "info", HOST)
    assert "bytes" in await people.admin.run("admin", "vfolder", "perf-metric", HOST)
    assert "manager" in await people.admin.run("admin", "vfolder", "list-mounts")
    await people.admin.run("admin", "vfolder", "get-fstab-contents")
    for refused in (("mount-host", "nfs:/x", "new"), ("umount-host", "new")):
        assert "storage" in await people.admin.run("admin", "vfolder", *refused, ends_with=1)
        assert "403" in await people.ada.run("admin", "vfolder", *refused, ends_with=1)


async def test_lists_are_filtered_and_ordered(people: People) -> None:
    for name in ("list-b", "list-a", "other"):
        await people.ada.run("vfolder", "create", name, HOST)
    narrow = ("--filter", 'name like "list-%" & status == "READY"', "--order", "-name")
    for which in ("list", "list-own"):
        told = await people.ada.run("--output=json", "vfolder", which, *narrow)
        assert [each["name"] for each in json.loads(told)["items"]] == ["list-b", "list-a"]
    told = await people.ada.run("--output=json", "vfolder", "list-own", *narrow, "--limit", "1", "--offset", "1")
    assert json.loads(told)["items"][0]["name"] == "list-a"


FUNCTIONS = """
s.VFolder.create("made", host="local:volume1", cloneable=True)
folder = s.VFolder("made")
Path("sub").mkdir()
Path("sub/file.txt").write_text("from a script")
folder.upload(["sub/file.txt"], basedir=Path.cwd(), dst_dir="versions/v1")
told = {"files": [each["name"] for each in folder.list_files("versions/v1/sub")["items"]]}
Path("back/versions/v1/sub").mkdir(parents=True)
folder.download(["versions/v1/sub/file.txt"], basedir="back")
told["back"] = Path("back/versions/v1/sub/file.txt").read_text()
folder.move_file("versions/v1/sub/file.txt", "file.txt")
folder.delete_files(["versions"], recursive=True)
told["left"] = [each["filename"] for each in json.loads(folder.list_files()["files"])]
told["before"] = [each["name"] for each in s.VFolder.list()]
s.VFolder.delete_by_id(folder.info()["id"])
told["after"] = [each["name"] for each in s.VFolder.list() if each["status"] == "ready"]
print(json.dumps(told))
"""


async def test_the_functions_of_the_client_do_what_its_commands_do(people: People) -> None:
    told = json.loads((await people.ada.called("from pathlib import Path\n" + FUNCTIONS.strip())).splitlines()[-1])
    assert told["files"] == ["file.txt"]
    assert told["back"] == "from a script"
    assert told["left"] == ["file.txt"]
    assert "made" in told["before"]
    assert "made" not in told["after"]


async def test_models_are_made_listed_shown_and_taken_away(people: People) -> None:
    ada = people.ada
    assert "Created the model." in await ada.run("model", "create", "bert", HOST)
    listed = await ada.run("--output=json", "model", "list")
    assert [each["name"] for each in json.loads(listed)["items"]] == ["bert"]
    await ada.run("vfolder", "mkdir", "bert", "versions/v2")
    told = await ada.run("model", "info", "bert")
    assert "v2" in told
    folder_id = await id_of(ada, "bert")
    assert "Model deleted." in await ada.run("model", "rm", folder_id)
    assert "- Status: delete-pending" in await ada.run("vfolder", "info", "bert")


async def test_what_the_newer_client_was_seen_to_ask_is_done(people: People, stack: Stack) -> None:
    del people  # one of them is invited
    async with stack.client() as client:
        made = await _asked(client, "POST", "/folders", {"name": "newer", "host": HOST, "permission": "rw"})
        found = await _asked(client, "GET", "/folders/_/id", {"name": "newer"})
        assert found["id"] == made["id"]
        place, folder_id = on_disk(stack, found["id"]), found["id"].replace("-", "")
        here = f"/folders/{folder_id}"
        assert (await _asked(client, "GET", here))["name"] == "newer"
        await _asked(client, "POST", f"{here}/mkdir", {"path": ["newdir"], "parents": True, "exist_ok": False})
        assert (place / "newdir").is_dir()
        await _asked(client, "POST", f"{here}/request-upload", {"path": "a.txt", "size": 0})
        await _asked(client, "POST", f"{here}/move-file", {"src": "a.txt", "dst": "b.txt"})
        await _asked(client, "POST", f"{here}/rename-file", {"target_path": "b.txt", "new_name": "c.txt"})
        files = await _asked(client, "GET", f"{here}/files?path=.")
        assert [each["name"] for each in files["items"]] == ["c.txt", "newdir"]
        await _asked(client, "DELETE", f"{here}/delete-files", {"files": ["c.txt"], "recursive": True})
        await _asked(client, "POST", f"{here}/update-options", {"cloneable": True, "permission": "ro"})
        await _asked(client, "POST", f"{here}/invite", {"perm": "ro", "user_ids": [ADA]})
        copy = {"target_name": "newer-copy", "target_host": HOST, "usage_mode": "general", "permission": "rw"}
        assert (await _asked(client, "POST", f"{here}/clone", copy))["bgtask_id"]
        await _asked(client, "POST", f"{here}/rename", {"new_name": "newest"})


async def test_the_newer_client_throws_away_brings_back_and_purges_by_id(stack: Stack) -> None:
    async with stack.client() as client:
        made = await _asked(client, "POST", "/folders", {"name": "thrown", "host": HOST, "permission": "rw"})
        place, which = on_disk(stack, made["id"]), {"id": made["id"].replace("-", "")}
        for change in (("DELETE", "/folders"), ("POST", "/folders/restore-from-trash-bin"), ("DELETE", "/folders")):
            await _asked(client, *change, which)
        assert (await _asked(client, "GET", "/folders/_/id", {"name": "thrown"}))["id"] == made["id"]
        await _asked(client, "POST", "/folders/delete-from-trash-bin", which)
        async with asyncio.timeout(30):
            while (await _asked(client, "GET", f"/folders/{made['id']}"))["status"] != "delete-complete":
                await asyncio.sleep(0.1)
        assert not place.exists()
        assert (await client.request("GET", "/folders/_/id", json={"name": "thrown"})).status_code == 404


async def _asked(client: httpx.AsyncClient, method: str, path: str, body: Any = None) -> dict[str, Any]:
    answer = await client.request(method, path, json=body)
    assert answer.is_success, answer.text
    told: dict[str, Any] = answer.json() if answer.content else {}
    return told

"""Folders in kernels: at their path, with their owner, no more than was granted, and nothing beside them."""

import asyncio
import errno
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from agents.devices.plugin import Misconfigured
from agents.given import kits
from agents.given.folders import Folders
from agents.process import mounting
from agents.process.runtime import ProcessRuntime
from agents.runtime import MountRefused, Runtime, StartFailed, Task
from domain.messages import UserId
from domain.outfits import Outfit
from domain.vfolder.mounts import FolderId, FolderRef, Mount, Permission, folder_path
from tests.agents.test_kernels_given import OWNER, PORT, SSH
from tests.agents.test_runners_in_kernels import connected, listening
from tests.agents.worlds import DOCKER_SOCKET, DockerWorld, ProcessWorld

HOST = "local:volume1"
PR_SET_DUMPABLE = 4
NOT_HERE = 77
USER = UserId("00000000-0000-0000-0000-0000000000aa")
in_kernels = pytest.mark.parametrize(
    "runtime", ["process", pytest.param("docker", marks=pytest.mark.docker)], indirect=True
)


class Shelf:
    """A volume, and folders in it as a storage service makes them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders = Folders({HOST: root / "volume"}, [root / "others"])

    def folder(self, name: str = "data", permission: Permission = Permission.RW, **more: object) -> Mount:
        folder_id = FolderId(str(uuid4()))
        place = self.root / "volume" / folder_path(folder_id)
        place.mkdir(parents=True)
        if os.geteuid() == 0:
            os.chown(place, 1000, 1000)
        reference = FolderRef(scope=f"user:{USER}", folder_id=folder_id, host=HOST)
        told = {"path": f"/home/work/{name}", "permission": permission} | more
        return Mount.model_validate({"folder": reference, "user_id": USER, "name": name} | told)

    def at(self, mount: Mount) -> Path:
        return self.root / "volume" / folder_path(mount.folder.folder_id)


@pytest.fixture
def shelf(host_folder: Path) -> Shelf:
    return Shelf(host_folder / "shelf")


@pytest.fixture
async def runtime(
    request: pytest.FixtureRequest, host_folder: Path, stock: Path, shelf: Shelf
) -> AsyncIterator[tuple[Runtime, Task]]:
    """And a task for it."""
    if request.param == "process":
        process = ProcessRuntime(host_folder, folders=shelf.folders)
        yield process, ProcessWorld(host_folder).task()
        for running in await process.list():
            await process.stop(running.kernel_id, running.incarnation, timedelta(0))
        return
    if not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket")
    world = DockerWorld(host_folder, stock)
    docker = world.open(folders=shelf.folders)
    yield docker, world.task()
    await docker.close()
    await world.clear()


def having(task: Task, *mounts: Mount, script: str | None = None) -> Task:
    command = task.command if script is None else ["sh", "-c", script]
    return replace(task, outfit=Outfit(mounts=mounts), command=command)


async def printed(runtime: Runtime, task: Task) -> list[str]:
    await runtime.start(task)
    await runtime.wait(task.kernel_id, task.incarnation)
    lines = (await runtime.output(task.kernel_id)).decode().splitlines()
    await runtime.remove(task.kernel_id, task.incarnation)
    return lines


@in_kernels
async def test_a_folder_is_its_users_and_what_is_written_stays(runtime: tuple[Runtime, Task], shelf: Shelf) -> None:
    here, task = runtime
    data = shelf.folder(path="/home/work/in/side")
    (shelf.at(data) / "before").write_text("from elsewhere\n")
    if os.geteuid() == 0:
        os.chown(shelf.at(data) / "before", 1000, 1000)
    script = (
        "cd in/side && cat before && echo more >> before && mkdir new && stat -c %u:%a . .. | sed s/^$(id -u):/me:/"
    )
    assert await printed(here, having(task, data, script=script)) == ["from elsewhere", "me:755", "me:755"]
    assert (shelf.at(data) / "before").read_text() == "from elsewhere\nmore\n"
    assert (shelf.at(data) / "new").stat().st_uid == shelf.at(data).stat().st_uid, "the owner is everybody's"


@in_kernels
async def test_read_only_really_is(runtime: tuple[Runtime, Task], shelf: Shelf) -> None:
    here, task = runtime
    data = shelf.folder(permission=Permission.RO)
    (shelf.at(data) / "file").write_text("safe\n")
    (shelf.at(data) / "file").chmod(0o666)
    shelf.at(data).chmod(0o777)
    attempts = ["echo x > data/file", "rm data/file", "mkdir data/new", "chmod 700 data", "touch data/file"]
    attempts += ["mount -o remount,rw data", "umount data", "echo x > /proc/self/cwd/data/file", "mv data other"]
    script = "; ".join(f"({attempt}) 2>/dev/null && echo done: '{attempt}'" for attempt in attempts) + "; cat data/file"
    assert await printed(here, having(task, data, script=script)) == ["safe"]


@in_kernels
async def test_a_part_of_a_folder_is_all_there_is_of_it(runtime: tuple[Runtime, Task], shelf: Shelf) -> None:
    here, task = runtime
    part = shelf.folder("data", subpath="a/b")
    (shelf.at(part) / "a" / "b" / "inner").mkdir(parents=True)
    (shelf.at(part) / "a" / "above").touch()
    assert await printed(here, having(task, part, script="ls data; ls data/..  | grep above")) == ["inner"]
    assert not here_parts(shelf), "nothing of it stays mounted"
    assert (shelf.at(part) / "a" / "b" / "inner").is_dir()


def here_parts(shelf: Shelf) -> list[Path]:
    return list((shelf.root.parent / "parts").glob("*"))


@in_kernels
async def test_no_part_leads_out_of_its_folder(runtime: tuple[Runtime, Task], shelf: Shelf) -> None:
    here, task = runtime
    data = shelf.folder()
    (shelf.at(data) / "a").mkdir()
    (shelf.at(data) / "file").touch()
    (shelf.at(data) / "link").symlink_to("/etc")
    (shelf.at(data) / "a" / "link").symlink_to("../..")
    for part in ("link", "a/link", "../..", "/etc", "missing", "file", "a/../../.."):
        with pytest.raises(MountRefused, match="there is no folder"):
            await here.start(having(task, data.model_copy(update={"subpath": part})))
    assert not await here.list()
    assert not here_parts(shelf)


@in_kernels
async def test_what_the_user_made_of_his_home_leads_no_mount_astray(
    runtime: tuple[Runtime, Task], shelf: Shelf
) -> None:
    here, task = runtime
    await printed(here, having(task, script="ln -s /etc data"))
    with pytest.raises(StartFailed):
        await here.start(replace(having(task, shelf.folder()), incarnation=2))


@in_kernels
async def test_a_folder_of_no_volume_lies_where_the_operator_allows_it(
    runtime: tuple[Runtime, Task], shelf: Shelf
) -> None:
    here, task = runtime
    (shelf.root / "others" / "set").mkdir(parents=True)
    (shelf.root / "others" / "set" / "images").touch()
    (shelf.root / "others" / "link").symlink_to("/etc")
    lies = shelf.folder(permission=Permission.RO, unmanaged_path=str(shelf.root / "others" / "set"))
    assert await printed(here, having(task, lies, script="ls data")) == ["images"]
    for path in ("/etc", str(shelf.root / "others" / "link"), str(shelf.root / "others" / ".." / "volume")):
        with pytest.raises(StartFailed):
            await here.start(having(replace(task, incarnation=2), lies.model_copy(update={"unmanaged_path": path})))


@in_kernels
async def test_a_volume_that_is_not_here_is_a_start_that_failed(runtime: tuple[Runtime, Task], shelf: Shelf) -> None:
    here, task = runtime
    data = shelf.folder()
    shelf.at(data).rmdir()
    with pytest.raises(StartFailed, match="data cannot be found in local:volume1"):
        await here.start(having(task, data))
    elsewhere = data.model_copy(update={"folder": data.folder.model_copy(update={"host": "other:volume"})})
    with pytest.raises(StartFailed, match="other:volume is not on this host"):
        await here.start(having(task, elsewhere))


@pytest.mark.docker
@pytest.mark.parametrize("runtime", ["docker"], indirect=True)
async def test_containers_find_folders_also_outside_their_home(runtime: tuple[Runtime, Task], shelf: Shelf) -> None:
    here, task = runtime
    models = shelf.folder("models", path="/models")
    (shelf.at(models) / "weights").touch()
    assert await printed(here, having(task, models, script="ls /models")) == ["weights"]


@pytest.mark.docker
@pytest.mark.parametrize("runtime", ["docker"], indirect=True)
async def test_of_a_container_that_cannot_be_made_nothing_stays_mounted(
    runtime: tuple[Runtime, Task], shelf: Shelf
) -> None:
    here, task = runtime
    part = shelf.folder(subpath="a")
    (shelf.at(part) / "a").mkdir()
    with pytest.raises(StartFailed):
        await here.start(replace(having(task, part), cpu_millis=10**9))  # more processors than any host has
    assert not here_parts(shelf)


@pytest.mark.docker
@pytest.mark.parametrize("runtime", ["docker"], indirect=True)
async def test_files_come_into_a_folder_by_sftp(runtime: tuple[Runtime, Task], shelf: Shelf, tmp_path: Path) -> None:
    if kits.ssh_kit(tmp_path) is None:
        pytest.skip("there is no OpenSSH server on this host")
    here, task = runtime
    data, lent = shelf.folder(), shelf.folder("lent", Permission.RO)
    shelf.at(lent).chmod(0o777)
    task = replace(task, outfit=Outfit.model_validate({"ssh": SSH, "mounts": (data, lent)}))
    await here.start(task)
    await listening(here, task)
    with connected(here, task) as client:
        await asyncio.to_thread(client.call, "service-start", service="sshd", ports=[PORT])
    (tmp_path / "key").write_text(OWNER.private)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "file").write_text("carried")
    options = [
        "-oStrictHostKeyChecking=no",
        "-oUserKnownHostsFile=/dev/null",
        "-i",
        str(tmp_path / "key"),
        "-F",
        "none",
    ]
    command = ["sftp", *options, f"-oPort={PORT}", "-b", "-", f"work@{await here.address(task.kernel_id)}"]
    orders = f"-put {tmp_path}/file lent/file\nput {tmp_path}/file data/file\nrename data/file data/there\nls data\n"

    def send() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, input=orders, capture_output=True, text=True, timeout=30, check=False)

    done = await asyncio.to_thread(send)
    assert "data/there" in done.stdout, done.stderr
    assert (shelf.at(data) / "there").read_text() == "carried"
    assert (shelf.at(data) / "there").stat().st_uid == shelf.at(data).stat().st_uid
    assert not list(shelf.at(lent).iterdir())


@pytest.mark.parametrize("runtime", ["process"], indirect=True)
async def test_processes_find_folders_in_their_home_alone(runtime: tuple[Runtime, Task], shelf: Shelf) -> None:
    here, task = runtime
    with pytest.raises(StartFailed, match="is not in the home"):
        await here.start(having(task, shelf.folder(path="/models")))


def test_kernels_of_an_ordinary_user_see_their_folders_and_nobody_else_does(shelf: Shelf, host_folder: Path) -> None:
    data, home = shelf.folder(permission=Permission.RO), host_folder / "home"
    (shelf.at(data) / "file").write_text("there")
    home.mkdir()
    told = {"root": str(shelf.root), "path": str(shelf.at(data).relative_to(shelf.root)), "part": ""}
    if (child := os.fork()) == 0:
        try:
            if os.geteuid() == 0:
                os.chown(home, 1000, 1000)
                os.setgroups([])
                os.setgid(1000)
                os.setuid(1000)
                mounting.libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # its files in /proc are root's otherwise
            mounting.mount_folders([told | {"at": "in/data", "read_only": True}], str(home), None)
            there = home / "in" / "data"
            os._exit(there.joinpath("file").read_text() != "there" or not os.statvfs(there).f_flag & os.ST_RDONLY)
        except OSError as error:
            os._exit(NOT_HERE if error.errno == errno.EPERM else 1)
        finally:
            os._exit(2)
    if (code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])) == NOT_HERE:
        pytest.skip("nobody may have a user namespace here")
    assert code == 0
    assert not list((home / "in" / "data").iterdir())


def test_where_nobody_can_mount_anything_a_folder_that_may_be_written_to_is_linked(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounting, "_own_namespace", lambda _uid: False)
    told = {"root": str(shelf.root), "path": "x", "part": "y", "at": "in/data", "read_only": False}
    for _ in range(2):
        mounting.mount_folders([told], str(tmp_path), None)
    assert (tmp_path / "in" / "data").readlink() == shelf.root / "x" / "y"
    for not_possible, uid in ((told | {"read_only": True}, None), (told, 12345)):
        with pytest.raises(OSError, match="cannot be mounted on this host"):
            mounting.mount_folders([not_possible], str(tmp_path), uid)


def test_an_agent_says_which_volumes_are_on_its_host() -> None:
    folders = Folders.of({HOST: "/srv/volume1"}, "/data, /more")
    assert folders.capabilities() == ("volume:local:volume1", "unmanaged-folders")
    assert Folders.of({}, "").capabilities() == ()
    for volumes, unmanaged in (({"volume1": "/srv"}, ""), ({HOST: "srv"}, ""), ({}, "data")):
        with pytest.raises(Misconfigured):
            Folders.of(volumes, unmanaged)

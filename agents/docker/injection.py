"""What containers get of their host: a home that outlives them, a runner, programs, and a user.

    <folder>/scratch/<kernel id>/home/       /home/work in all incarnations of the kernel
    <folder>/scratch/<kernel id>/config/     /home/config, read-only: see `agents/given/belongings.py`
    <folder>/sockets/<kernel id>/…           /run/refold: see `agents/given/injection.py`
    <folder>/code/…                          /opt/refold/…, read-only: the runner, and the kits (`agents/given/kits.py`)
    <folder>/looks/…                         what is known of each image: see `agents/docker/looks.py`
    <folder>/users/<image id>/               /etc/passwd and /etc/group, read-only: the image's, and `work`
    folders of volumes                       see `agents/docker/folders.py`

The runner's Python is the image's (3.8 or newer, with its standard library), or else the agent's own, as a kit. Where
neither works, a kernel runs the image's own program or the given command, as it is, and has no runner.

Files for a kernel must belong to its user. As root the agent gives them to user 1000, as an ordinary user it runs its
kernels under its own id. Where the daemon maps user ids (rootless, or `userns-remap`) neither would be that user's, and
where it does not see the agent's folder under the same path (a daemon on another host) there is nothing to share:
kernels then have no runner, no folders, and no home but their container's.
"""

import asyncio
import os
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import aiodocker
import structlog

from agents.docker import users as container_users
from agents.docker.container import Injected, bind
from agents.docker.folders import DockerFolders
from agents.docker.looks import Candidate, DockerLooks, Look, NotShared
from agents.given import belongings
from agents.given.homes import Homes
from agents.given.injection import SOCKET_NAME, Places, Sockets, install, runner_command
from agents.given.kits import Kit, python_kit, ssh_kit
from agents.runtime import StartFailed, Task
from domain.vfolder.mounts import HOME

CODE: Final = "/opt/refold/runner"
CONFIG: Final = "/home/config"
SOCKETS: Final = "/run/refold"

_log = structlog.get_logger("agents")


class DockerInjection:
    """For the containers of one daemon."""

    def __init__(
        self, docker: aiodocker.Docker, folder: Path, deployment: str, scratch_bytes_max: int, folders: DockerFolders
    ) -> None:
        """Raises Misconfigured."""
        self._docker = docker
        self._folder = folder.absolute()
        self._scratch = self._folder / "scratch"
        self._homes = Homes(self._scratch, scratch_bytes_max)
        self._folders = folders
        self._codes = self._folder / "code"
        self._looks = DockerLooks(docker, self._folder / "looks", deployment)
        self.sockets = Sockets(self._folder / "sockets")
        self._user = (1000, 1000) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        self._shares: bool | None = None
        self._opening = asyncio.Lock()
        self._making = asyncio.Lock()
        self._code: Path | None = None
        self._ssh: Kit | None = None
        self._python: Kit | None = None
        self._scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._homes.check()

    async def of(self, task: Task) -> Injected:
        """Makes what a task's container is to find. May be repeated. Raises `StartFailed`, `MountRefused`."""
        image = await self._docker.images.inspect(task.image)
        if not await self._shared():
            return self._nothing(task)
        async with self._making:
            if (code := self._code) is None:
                self._ssh = await asyncio.to_thread(ssh_kit, self._codes)
                code = self._code = await asyncio.to_thread(install, self._codes)
        try:
            own = Candidate("python3", [bind(code, CODE, read_only=True)])
            look = await self._looks.at(image["Id"], CODE, code.name, own, self._brought)
        except NotShared:
            _log.warning("the Docker daemon does not see the agent's folder: its kernels have no runner")
            self._shares = False
            return self._nothing(task)
        try:
            mounts = await asyncio.to_thread(self._make, task, image["Id"], look)
        except OSError as error:
            raise StartFailed(f"the kernel's files cannot be made: {error}") from error
        user = "{}:{}".format(*self._user)
        kit = await self._own_python() if look.is_brought else None
        if look.python is None or (look.is_brought and kit is None):
            self._without_runner(task)
            return Injected(user, mounts)
        sockets = await asyncio.to_thread(self.sockets.make, task.kernel_id, task.incarnation, self._owner)
        mounts += [bind(sockets, SOCKETS), bind(code, CODE, read_only=True)]
        mounts += [bind(each.folder, each.place, read_only=True) for each in (kit, self._ssh) if each is not None]
        labels = image["Config"].get("Labels") or {}
        places = Places(
            CODE,
            f"{SOCKETS}/{SOCKET_NAME}",
            HOME,
            CONFIG,
            None if self._ssh is None else self._ssh.place,
            # Of a session on several hosts the network may be the hosts' own, on which anybody might come.
            web_terminal=len({peer.agent_id for peer in task.peers}) <= 1,
        )
        return Injected(user, mounts, runner_command(look.python, places, labels, task.command))

    def _nothing(self, task: Task) -> Injected:
        self._without_runner(task)
        if task.outfit.mounts:
            raise StartFailed("the Docker daemon of this host sees no files of its own host as the agent does")
        return Injected()

    def _without_runner(self, task: Task) -> None:
        """Nobody would run the script that the kernel's owner counts on."""
        if task.outfit.bootstrap_script is not None:
            raise StartFailed("there is nothing on this host that could run a bootstrap script in this image")

    def release(self, kernel_id: str, incarnation: int) -> None:
        """It has ended: its socket goes, and what was secret; its files stay."""
        self.sockets.remove(kernel_id, incarnation)
        belongings.forget(self._scratch / kernel_id / "config", incarnation)
        self._folders.release(kernel_id, incarnation)
        self._homes.release(kernel_id, incarnation)

    def tidy(self, before: datetime, keep: Collection[str], forgotten: Collection[str]) -> Collection[str]:
        """Deletes the files of kernels that are forgotten, and of those to which nothing happened since before then;
        the ids of all of them."""
        old = set(forgotten)
        for folder in self._scratch.iterdir():
            if folder.name in old or (folder.name not in keep and _started_at(folder) < before.timestamp()):
                self._folders.forget(folder.name)
                self._homes.delete(folder.name)
                old.add(folder.name)
        return old

    def _make(self, task: Task, image_id: str, look: Look) -> list[Mapping[str, Any]]:
        home = self._homes.make(task.kernel_id, task.incarnation, self._owner)
        config = self._scratch / task.kernel_id / "config"
        belongings.write(config, task, place=CONFIG, owner=self._owner)
        passwd, group = self._users(image_id, look)
        return [
            bind(home, HOME),
            bind(config, CONFIG, read_only=True),
            bind(passwd, "/etc/passwd", read_only=True),
            bind(group, "/etc/group", read_only=True),
            *self._folders.make(task, home, self._owner),
        ]

    @property
    def _owner(self) -> tuple[int, int] | None:
        """To whom files have to be given that kernels own."""
        return self._user if os.geteuid() == 0 else None

    def _users(self, image_id: str, look: Look) -> tuple[Path, Path]:
        folder = self._folder / "users" / image_id.rpartition(":")[2]
        user_id, group_id = self._user
        texts = {
            folder / "passwd": container_users.passwd(look.passwd, user_id, group_id, HOME, look.shell),
            folder / "group": container_users.group(look.group, group_id),
        }
        for path, text in texts.items():
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                draft = path.with_suffix(f".{os.urandom(4).hex()}")
                draft.write_text(text)
                draft.chmod(0o444)
                draft.replace(path)
        passwd, group = texts
        return passwd, group

    async def _brought(self) -> Candidate | None:
        """The agent's own Python, to be tried out."""
        kit = await self._own_python()
        if kit is None or self._code is None:
            return None
        mounts = [bind(self._code, CODE, read_only=True), bind(kit.folder, kit.place, read_only=True)]
        return Candidate(kit.program("python3"), mounts)

    async def _own_python(self) -> Kit | None:
        async with self._making:
            if self._python is None:
                self._python = await asyncio.to_thread(python_kit, self._codes)
        return self._python

    async def _shared(self) -> bool:
        """Whether files can be shared with containers at all."""
        async with self._opening:
            if self._shares is None:
                await self._looks.clear()
                options = (await self._docker.system.info()).get("SecurityOptions") or ()
                self._shares = not any("name=rootless" in option or "name=userns" in option for option in options)
                if not self._shares:
                    _log.warning("the Docker daemon maps user ids: its kernels have no runner")
        return self._shares


def _started_at(scratch: Path) -> float:
    """When the kernel was last started, in seconds since 1970."""
    try:
        return (scratch / "config" / "resource.txt").stat().st_mtime
    except FileNotFoundError:
        return scratch.stat().st_mtime

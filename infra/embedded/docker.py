"""A Docker Engine of our own for development and tests, and a small base image made without any registry.

`PrivateDocker` installs Debian's packages where they are missing, then runs a containerd and a dockerd whose
data, socket and images lie in the data folder. Debian and root only. In the foreground:

    python -m infra.embedded.docker --data-dir .refold
"""

import asyncio
import contextlib
import os
import shutil
import signal
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from infra.embedded import base_image, debian
from infra.embedded.folder import CannotStart, make_folder

PACKAGES = {
    "dockerd": "docker.io",
    "iptables": "iptables",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "sshd": "openssh-server",  # what sessions are given it is made of (`agents/given/kits.py`)
    "ssh": "openssh-client",
}
"""What must be there, by the program it brings."""
SOCKET_PATH_MAX = 100  # the system's limit is 107 characters
READY_SECONDS_MAX = 60.0
STOP_SECONDS = 20.0
POOLS = "base=172.16.0.0/12,size=22"
"""A thousand bridges of a thousand addresses. By itself Docker has room for some thirty, and each cluster session has
one. What the host has a route to already is passed over."""


class PrivateDocker:
    """One engine over one data folder. Stop it, or it goes on without us: the next start finds and takes
    it."""

    def __init__(self, data_dir: Path, *, apart: bool = False) -> None:
        """`apart`: in a network of its own that nothing leads into or out of, so that it may run beside another engine.

        Raises CannotStart where there is no Debian or we are not root.
        """
        if not debian.possible():
            raise CannotStart("a private Docker Engine can only be installed on Debian and as root")
        self.folder = data_dir.absolute() / "docker"
        self.socket = self.folder / "docker.sock"
        if len(str(self.socket)) > SOCKET_PATH_MAX:
            raise CannotStart(f"the path {self.socket} is too long for a socket; choose a shorter data folder")
        # Sockets and mounts of what runs: short paths, and gone after a reboot.
        self._run = Path("/run") / f"refold-{zlib.crc32(os.fsencode(self.folder)):08x}"
        self._log = self.folder / "docker.log"
        self._network = self._run / "network" if apart else None

    async def start(self) -> Path:
        """The socket, once the engine answers on it. Installs what is missing first. Raises CannotStart, also where an
        engine of somebody else works in the same network: the one that starts deletes the other's rules and bridge."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        is_up = await self._answers()
        if not is_up and self._network is None and (rival := self._rival()) is not None:
            raise CannotStart(
                f"a Docker Engine runs on this host already (process {rival}), and a second one would break its "
                "networks: use that one, or stop it"
            )
        await debian.install(PACKAGES, self._log)
        if is_up:
            return self.socket
        # After a crash half of an engine may be left, with containers that run on: only what is missing is started.
        self._run.mkdir(exist_ok=True, mode=0o711)
        if self._network is not None and str(self._network) not in _mounts_under(self._run):
            self._network.touch()
            await self._run_program("unshare", f"--net={self._network}", "ip", "link", "set", "lo", "up")
        containerd = self._run / "containerd.sock"
        if not list(self._processes("containerd")):
            containerd.unlink(missing_ok=True)
            await self._spawn(
                _exists(containerd),
                *("containerd", "--config", "/dev/null", "--log-level", "warn", "--address", str(containerd)),
                *("--root", str(self.folder / "containerd"), "--state", str(self._run / "containerd")),
            )
        await self._end(signal.SIGTERM, list(self._processes("dockerd")))
        (self._run / "docker.pid").unlink(missing_ok=True)
        await self._spawn(
            self._answers,
            *("dockerd", "--host", f"unix://{self.socket}", "--group", "root", "--log-level", "warn"),
            *("--containerd", str(containerd), "--data-root", str(self.folder / "data")),
            *("--exec-root", str(self._run / "docker"), "--pidfile", str(self._run / "docker.pid")),
            *("--live-restore", "--userland-proxy=false", "--icc=false", "--default-address-pool", POOLS),
        )
        return self.socket

    async def stop(self) -> None:
        """Ends the containers, the engine and everything it mounted. Images and stopped containers stay."""
        with contextlib.suppress(CannotStart):
            if list(self._processes("")):
                await self.start()  # only a daemon that answers can end its containers in order
                if running := (await self._docker("ps", "-q")).split():
                    await self._docker("stop", "-t", "2", *running)
                await self._docker("network", "prune", "-f")
        await self._end_processes()
        for mount in _mounts_under(self.folder, self._run):
            await self._run_program("umount", "-l", mount)
        shutil.rmtree(self._run, ignore_errors=True)
        self.socket.unlink(missing_ok=True)
        if self._network is None and _has_bridge() and self._rival() is None:
            await self._run_program("ip", "link", "delete", "docker0")

    async def kill(self) -> None:
        """Ends the daemon with -9, as a crash would. Containers run on (live restore)."""
        await self._end(signal.SIGKILL, list(self._processes("dockerd")))

    async def base_image(self) -> str:
        """The name of the image that sessions start from, made if need be. Raises CannotStart."""
        return await base_image.have(self._docker, self.folder.parent / "images", self.folder, self._log)

    async def _docker(self, *arguments: str) -> str:
        return await self._run_program("docker", "-H", f"unix://{self.socket}", *arguments)

    async def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        try:
            async with asyncio.timeout(10):
                await self._docker("version")
        except (CannotStart, TimeoutError):
            return False
        return True

    async def _run_program(self, *argv: str) -> str:
        """What it printed. Raises CannotStart with its last line if it failed."""
        return await debian.run(self._log, *argv)

    async def _spawn(self, ready: Callable[[], Awaitable[bool]], program: str, *arguments: str) -> None:
        """Starts a daemon and waits until it is ready. Raises CannotStart with its last line."""
        within = () if self._network is None else ("nsenter", f"--net={self._network}")
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *within,
                shutil.which(program, path=debian.PATH) or program,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; containers are ended in order by `stop`
                env=debian.environ(),
            )
        end = time.monotonic() + READY_SECONDS_MAX
        while not await ready():
            if time.monotonic() > end or process.returncode is not None:
                raise CannotStart(f"{program} did not start: {self._last_words()}")
            await asyncio.sleep(0.05)

    async def _end_processes(self) -> None:
        for name, number in (("dockerd", signal.SIGTERM), ("containerd", signal.SIGTERM), ("", signal.SIGKILL)):
            await self._end(number, list(self._processes(name)))

    async def _end(self, number: signal.Signals, pids: Sequence[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        end = time.monotonic() + STOP_SECONDS
        while True:
            if not any(_alive(pid) for pid in pids) or time.monotonic() > end:
                return
            await asyncio.sleep(0.05)

    def _processes(self, name: str) -> Iterator[int]:
        """Ours are those with our run folder among their arguments: daemon, containerd and its shims."""
        mark = os.fsencode(self._run) + b"/"
        for pid in _pids():
            with contextlib.suppress(OSError):
                argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if any(word.startswith(mark) for word in argv[1:]) and argv[0].endswith(name.encode()) and _alive(pid):
                    yield pid

    def _rival(self) -> int | None:
        """The process of a dockerd in this network that is not ours."""
        own, network = set(self._processes("dockerd")), Path("/proc/self/ns/net").stat().st_ino
        for pid in _pids():
            with contextlib.suppress(OSError):
                process = Path(f"/proc/{pid}")
                if (
                    (process / "comm").read_text().strip() == "dockerd"
                    and (process / "ns/net").stat().st_ino == network
                    and pid not in own
                    and _alive(pid)
                ):
                    return pid
        return None

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        return lines[-1] if lines else f"see {self._log}"


def _pids() -> Iterator[int]:
    return map(int, filter(str.isdigit, os.listdir("/proc")))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _exists(path: Path) -> Callable[[], Awaitable[bool]]:
    async def exists() -> bool:
        return await asyncio.to_thread(path.exists)

    return exists


def _has_bridge() -> bool:
    return Path("/sys/class/net/docker0").exists()


def _mounts_under(*folders: Path) -> Sequence[str]:
    """Innermost first."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted(
        (mount for mount in mounts if any(Path(mount).is_relative_to(each) for each in folders)), reverse=True
    )


async def _serve(data_dir: Path) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    docker = PrivateDocker(data_dir)
    try:
        await docker.start()
        print(f"REFOLD_DOCKER_SOCKET={docker.socket}\nREFOLD_TEST_DOCKER={docker.socket}", flush=True)
        debian.console.print(f"Base image: {await docker.base_image()}")
        await stopped.wait()
    finally:
        await docker.stop()


def main(data_dir: Annotated[Path, typer.Option(help="Folder of its data.")] = Path(".refold")) -> None:
    """Runs a private Docker Engine until Ctrl-C, and prints how to reach it."""
    try:
        asyncio.run(_serve(make_folder(data_dir)))
    except CannotStart as error:
        debian.console.print(f"infra.embedded.docker: {error}", style="red")
        raise SystemExit(1) from None


if __name__ == "__main__":
    typer.run(main)

"""Two Docker Engines that take each other for neighbours in a network: each in network and mount namespaces of its own,
which go with it, with whatever it did there. Root only."""

import asyncio
import io
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiodocker

NEEDED = ("dockerd", "docker", "containerd", "ip", "nsenter", "unshare", "iptables")
IMAGE = "empty:1"
"""There is nothing in it. `bare` gives a container the host's programs."""
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
READY_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Engine:
    """`address`: under which its neighbour finds it."""

    docker: aiodocker.Docker
    address: str
    pid: int

    def inside(self, *command: str) -> str:
        """What a program prints that sees the engine's network."""
        done = subprocess.run(
            ["nsenter", f"--net=/proc/{self.pid}/ns/net", *command], capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr


def lacking() -> str | None:
    """Why there can be no such engines here."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    return f"needs {', '.join(missing)}" if missing else None


def bare(config: dict[str, Any]) -> dict[str, Any]:
    """The same container, of the empty image."""
    mounts = [
        {"Type": "bind", "Source": os.path.realpath(path), "Target": path, "ReadOnly": True}
        for path in ("/usr", "/lib", "/lib64")
        if os.path.exists(path)
    ]
    return {**config, "Image": IMAGE, "HostConfig": {**config["HostConfig"], "Mounts": mounts}}


@asynccontextmanager
async def swarm(folder: Path) -> AsyncIterator[Sequence[Engine]]:
    """Both are managers of it."""
    async with AsyncExitStack() as stack:
        first, second = await asyncio.gather(
            *(_engine(stack, folder / str(number), f"10.99.0.{number}") for number in (1, 2))
        )
        _connect(first, second)
        await first.docker.swarm.init(advertise_addr=first.address)
        token = (await first.docker.swarm.inspect())["JoinTokens"]["Manager"]
        await second.docker.swarm.join(
            remote_addrs=[f"{first.address}:2377"], join_token=token, advertise_addr=second.address
        )
        yield first, second


async def _engine(stack: AsyncExitStack, folder: Path, address: str) -> Engine:
    process = _spawn(folder)
    docker = aiodocker.Docker(f"unix://{folder}/sock")
    stack.push_async_callback(_end, process)
    stack.push_async_callback(docker.close)
    async with asyncio.timeout(READY_SECONDS_MAX):
        while True:
            assert process.poll() is None, f"dockerd ended: see {folder}/log"
            with suppress(aiodocker.DockerError):
                await docker.version()
                break
            await asyncio.sleep(0.1)
    await asyncio.to_thread(_import_nothing, folder)
    return Engine(docker, address, process.pid)


def _spawn(folder: Path) -> "subprocess.Popen[bytes]":
    folder.mkdir()
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [
                *("unshare", "--net", "--mount", "sh", "-c", 'ip link set lo up; exec dockerd "$@"', "dockerd"),
                *("--host", f"unix://{folder}/sock", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/run"),
                *("--pidfile", f"{folder}/pid", "--bridge=none", "--userland-proxy=false", "--log-level=error"),
            ],
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": PATH},
        )


def _import_nothing(folder: Path) -> None:
    tar = io.BytesIO()
    tarfile.open(fileobj=tar, mode="w").close()
    command = ["docker", "-H", f"unix://{folder}/sock", "import", "-", IMAGE]
    subprocess.run(command, input=tar.getvalue(), capture_output=True, check=True)


def _connect(first: Engine, second: Engine) -> None:
    names = ("veth1", "veth2")
    ends = [["name", name, "netns", str(engine.pid)] for name, engine in zip(names, (first, second), strict=True)]
    subprocess.run(["ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1]], check=True)
    for name, engine in zip(names, (first, second), strict=True):
        engine.inside("ip", "address", "add", f"{engine.address}/24", "dev", name)
        engine.inside("ip", "link", "set", name, "up")


async def _end(process: "subprocess.Popen[bytes]") -> None:
    """It ends its containers and its containerd."""
    process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(process.wait)

"""What real kernels find of what they were given: a user, keys, dotfiles, a script, programs, and each other by ssh."""

import asyncio
import io
import os
import re
import subprocess
import tarfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import aiodocker
import pytest

from agents.docker import users as container_users
from agents.docker.runtime import DockerRuntime
from agents.given import kits
from agents.runtime import Runtime, Task
from domain.messages import AgentId, KernelId
from domain.outfits import Outfit
from domain.placements import Peer
from infra import ssh_keys
from tests.agents.test_runners_in_kernels import connected, containers, image_of, in_kernels, listening, run
from tests.agents.worlds import DOCKER_SOCKET, DockerWorld, World

__all__ = ["containers"]

SESSION, HOST, OWNER = (ssh_keys.made(bytes([number]) * 32) for number in (1, 2, 3))
SSH = {
    "private": SESSION.private,
    "public": SESSION.public,
    "host_private": HOST.private,
    "host_public": HOST.public,
    "authorized": [OWNER.public],
}
PORT = 2200

as_process = pytest.mark.parametrize("world", ["process"], indirect=True)
"""For what the runner does by itself, wherever it is."""


def given(task: Task, **outfit: object) -> Task:
    return replace(task, outfit=Outfit.model_validate({"ssh": SSH} | outfit))


async def shell(runtime: Runtime, task: Task, command: str) -> str:
    """What a shell command prints in the kernel, also what it complains of."""
    outcome = await run(runtime, task, "", mode="batch", options={"exec": command}, wait_ms=20000)
    return "".join(text for _, text in outcome.console)


@in_kernels
async def test_a_kernel_begins_with_what_it_was_given(world: World, runtime: Runtime) -> None:
    files = [
        {"path": ".config/tool/settings", "mode": "640", "content": "a = 1\n"},
        {"path": "/etc/nobody-may", "mode": "644", "content": ""},
    ]
    script = "#!/bin/sh\ngrep -c a .config/tool/settings; ls id_container; echo made > made"
    task = given(world.task("cat made"), dotfiles=files, bootstrap_script=script)
    await runtime.start(task)
    assert (await runtime.wait(task.kernel_id, 1)).exit_code == 0
    printed = (await runtime.output(task.kernel_id)).decode()
    assert "1\nid_container\n" in printed, "the script comes after the files"
    assert printed.endswith("made\n"), "and before the command"
    assert "/etc/nobody-may cannot be written" in printed
    [home] = world.folder.glob(f"scratch/{task.kernel_id}/home")
    modes = {name: (home / name).stat().st_mode & 0o777 for name in (".config/tool/settings", "id_container")}
    assert modes == {".config/tool/settings": 0o640, "id_container": 0o600}
    assert (home / "id_container").read_text() == SESSION.private
    await runtime.remove(task.kernel_id, 1)
    assert {path.name for path in (home.parent / "config").iterdir()} == {"resource.txt", ".incarnation"}


@as_process
async def test_a_bootstrap_script_that_fails_ends_the_kernel(world: World, runtime: Runtime) -> None:
    task = given(world.task("echo never"), bootstrap_script="echo no such thing >&2; exit 9")
    await runtime.start(task)
    assert (await runtime.wait(task.kernel_id, 1)).exit_code == 9
    lines = (await runtime.output(task.kernel_id)).decode().splitlines()
    assert lines[-2] == "no such thing"
    assert lines[-1].endswith("bootstrap.sh ended with exit code 9")


@as_process
async def test_what_the_user_made_of_his_home_is_repaired_and_leads_nowhere(
    world: World, runtime: Runtime, tmp_path: Path
) -> None:
    task = given(world.task())
    await runtime.start(task)
    await shell(runtime, task, "mkdir -p .ssh; echo x > .ssh/id_mine; chmod 777 .ssh .ssh/id_mine")
    await shell(runtime, task, f"rm id_container; ln -s {tmp_path}/elsewhere id_container")
    await runtime.stop(task.kernel_id, 1, timedelta(seconds=5))
    again = replace(given(task, dotfiles=[{"path": ".ssh/more", "mode": "600", "content": "y"}]), incarnation=2)
    await runtime.start(again)
    assert await shell(runtime, again, "stat -c %a .ssh .ssh/id_mine; cat .ssh/more") == "700\n600\ny"
    assert not (tmp_path / "elsewhere").exists()
    assert (await shell(runtime, again, "head -c 10 id_container")) == SESSION.private[:10]


# -- containers ----------------------------------------------------------------------------------------------------


def main_and_sub(world: DockerWorld) -> tuple[Task, Task]:
    """Two kernels of a session on this host."""
    first = given(world.task())
    second = replace(given(world.task()), session_id=first.session_id, hostname="sub1")
    peers = [Peer(hostname=task.hostname, kernel_id=KernelId(task.kernel_id), agent_id=AgentId("a"), host="")
             for task in (first, second)]  # fmt: skip
    return (
        replace(first, peers=peers, environ={"BACKENDAI_CLUSTER_HOST": "main1"}),
        replace(second, peers=peers, environ={"BACKENDAI_CLUSTER_HOST": "sub1", "ODD": "a \"b\" $c 'd' \\e #f"}),
    )


@pytest.fixture
def with_sshd(tmp_path: Path) -> None:
    if kits.ssh_kit(tmp_path) is None:
        pytest.skip("there is no OpenSSH server on this host")


@pytest.fixture
async def pair(containers: tuple[DockerWorld, DockerRuntime]) -> tuple[DockerRuntime, Task, Task]:
    world, runtime = containers
    main, sub = main_and_sub(world)
    without = await image_of(world, "rm -f /usr/bin/ssh* /usr/sbin/sshd /usr/bin/python3*")
    sub = replace(sub, image=without)
    for task in (main, sub):
        await runtime.start(task)
    for task in (main, sub):
        await listening(runtime, task)
    return runtime, main, sub


@pytest.mark.docker
@pytest.mark.usefixtures("with_sshd")
async def test_kernels_of_a_session_log_into_each_other_without_a_password(
    pair: tuple[DockerRuntime, Task, Task], tmp_path: Path
) -> None:
    runtime, main, sub = pair
    told = await shell(runtime, main, "ssh sub1 'hostname; whoami; pwd; echo \"$BACKENDAI_CLUSTER_HOST $ODD\"'")
    assert told == "sub1\nwork\n/home/work\nsub1 a \"b\" $c 'd' \\e #f\n"
    assert await shell(runtime, sub, "ssh main1 hostname; ssh sub1 hostname") == "main1\nsub1\n"
    assert "verification failed" in await shell(runtime, main, "ssh -oHostKeyAlias=stranger sub1 true 2>&1")
    assert (await shell(runtime, sub, "ssh -tt main1 'test -t 0 && tty'")).startswith("/dev/pts/")

    # -- and its owner does, from outside, with either key
    host = await runtime.address(sub.kernel_id)
    keys = {"session": SESSION.private, "owner": OWNER.private, "stranger": ssh_keys.made(b"\4" * 32).private}
    for name, key in keys.items():
        (tmp_path / name).write_text(key)
        (tmp_path / name).chmod(0o600)

    def outside(program: str, key: str, *words: str, **more: object) -> subprocess.CompletedProcess[str]:
        options = ["-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oBatchMode=yes", "-F", "none"]
        command = [program, *options, "-i", str(tmp_path / key), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, **more)  # type: ignore[call-overload, no-any-return]

    at = [f"-oPort={PORT}", f"work@{host}"]
    for key in ("session", "owner"):
        assert (await asyncio.to_thread(outside, "ssh", key, *at, "whoami")).stdout == "work\n"
    assert "Permission denied" in (await asyncio.to_thread(outside, "ssh", "stranger", *at, "whoami")).stderr
    (tmp_path / "file").write_text("carried")
    there = [f"-oPort={PORT}", str(tmp_path / "file"), f"work@{host}:by-scp"]
    assert (await asyncio.to_thread(outside, "scp", "owner", *there)).returncode == 0
    batch = await asyncio.to_thread(outside, "sftp", "owner", "-b", "-", *at, input="rename by-scp by-sftp\nls\n")
    assert "by-sftp" in batch.stdout
    forwarded = await asyncio.to_thread(outside, "ssh", "owner", "-W", f"127.0.0.1:{PORT}", *at)
    assert forwarded.stdout.startswith("SSH-2.0"), "a port of the kernel, through it"


@pytest.mark.docker
@pytest.mark.usefixtures("with_sshd")
async def test_a_kernel_alone_has_an_sshd_once_it_is_wanted(containers: tuple[DockerWorld, DockerRuntime]) -> None:
    world, runtime = containers
    task = given(world.task())
    await runtime.start(task)
    listens = "python3 -c 'import socket; print(socket.socket().connect_ex((\"127.0.0.1\", 2200)))'"
    assert await shell(runtime, task, listens) != "0\n"
    with connected(runtime, task) as client:
        for _ in range(2):
            answer = await asyncio.to_thread(client.call, "service-start", service="sshd", ports=[PORT])
            assert (answer["ports"], answer["running"]) == ([PORT], True)
    assert await shell(runtime, task, listens) == "0\n"
    assert await shell(runtime, task, "whoami; id -gn; echo ~work") == "work\nwork\n/home/work\n"


async def nothing_at_all(world: DockerWorld) -> str:
    """An image with an empty folder in it."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        folder = tarfile.TarInfo("etc")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
    name = {"fromSrc": "-", "repo": f"refold/{world.deployment}", "tag": "1"}
    async with (
        aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker,
        docker.session.post(f"{docker.docker_host}/images/create", params=name, data=archive.getvalue()) as answer,
    ):
        assert answer.status == 200, await answer.text()
    return f"docker.io/refold/{world.deployment}:1"


@pytest.mark.docker
async def test_an_image_with_nothing_in_it_runs_code_all_the_same(
    containers: tuple[DockerWorld, DockerRuntime],
) -> None:
    world, runtime = containers
    task = given(replace(world.task(), image=await nothing_at_all(world)))
    await runtime.start(task)
    told = await run(runtime, task, "import sys, ssl, pwd; print(sys.executable, pwd.getpwuid(1000).pw_name)")
    assert told.printed() == "/opt/refold/python/bin/python3 work\n"


# -- words -----------------------------------------------------------------------------------------------------------


def test_whoever_had_the_id_or_the_name_gives_it_up() -> None:
    image = (
        "root:x:0:0:root:/root:/bin/bash\nubuntu:x:1000:1000::/home/ubuntu:/bin/bash\nwork:x:7:7::/:/bin/sh\nbroken\n"
    )
    assert container_users.passwd(image, 1000, 1000, "/home/work", "/bin/ash") == (
        "root:x:0:0:root:/root:/bin/bash\nwork:x:1000:1000:work:/home/work:/bin/ash\n"
    )
    assert container_users.passwd("", 5, 6, "/h", "/bin/sh").startswith("root:x:0:0:")
    assert container_users.group("root:x:0:\nubuntu:x:1000:\n", 1000) == "root:x:0:\nubuntu:x:1000:\n"
    assert container_users.group("root:x:0:\nwork:x:7:\n", 1000) == "root:x:0:\nwork:x:1000:\n"


def test_a_host_without_an_ssh_server_has_no_kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kits, "_SSH_PROGRAMS", ("sshd-that-nobody-has",))
    assert kits.ssh_kit(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_programs_of_a_kit_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    kit = kits.ssh_kit(tmp_path)
    if kit is None:
        pytest.skip("there is no OpenSSH server on this host")
    made = kit.folder.stat().st_mtime_ns
    assert kits.ssh_kit(tmp_path) == kit
    assert kit.folder.stat().st_mtime_ns == made
    loader = next(kit.folder.glob("lib/ld-*"))
    environ = {"LD_DEBUG": "files", "LD_LIBRARY_PATH": "/usr/lib"}
    command: list[str | Path] = [loader, "--library-path", kit.folder / "lib", kit.folder / "bin" / "ssh", "-V"]
    loaded = subprocess.run(command, capture_output=True, text=True, env=environ, check=True).stderr
    libraries = set(re.findall(r"calling init: (\S+)", loaded))
    assert len(libraries) > 3
    assert {os.path.dirname(path) for path in libraries} == {str(kit.folder / "lib")}

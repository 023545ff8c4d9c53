"""`infra/up`: all of Refold on one machine, from nothing to a session that has run, in one command.

Servers the environment names (REFOLD_KAFKA, REFOLD_DATABASE) are used; the others are started here, with their data
under one folder. What is started here is watched, restarted when it crashes, and stopped in reverse order at the end.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from infra.embedded import base_image, stack, status_line
from infra.embedded.folder import CannotStart, held, is_free, make_folder, ports
from infra.embedded.keys import Credentials, admin_credentials, shared_secrets
from infra.embedded.storage import own_storage
from infra.first_session import run_first_session
from infra.log import LogError
from infra.postgres import DatabaseError
from infra.secrets import SecretError
from infra.settings import Settings, settings
from infra.setup import Admin, set_up
from infra.signing import KeypairAuth
from infra.supervise import Child, Crash, Supervisor

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS_MAX = 60.0
SERVICES = {  # in the order they start: name, and what `python -m` gets
    "shards": ("workers", "--part", "shards"),
    "handlers": ("workers", "--part", "handlers"),  # apart, so that a crash of Faust stops no decision
    "api": ("api",),
    "proxy": ("api.proxy",),
    "storage": ("api.storage",),
    "agent": ("agents",),
}

app = typer.Typer(add_completion=False)
console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


class RuntimeChoice(StrEnum):
    """What the agent starts kernels with; `auto` takes Docker where a daemon answers."""

    AUTO = "auto"
    DOCKER = "docker"
    PROCESS = "process"
    FAKE = "fake"


@dataclass
class Installation:
    """Everything chosen before the first process starts. `services`: names of what is started here."""

    data_dir: Path
    servers: stack.Stack
    services: list[str]
    endpoint: str
    admin: Credentials
    once: bool
    is_serving: bool = False


def choose(data_dir: Path, port: int, runtime: RuntimeChoice, once: bool) -> Installation:
    """Chooses servers, ports and secrets, and puts them into our environment, which every process inherits."""
    host = settings().api_host
    if port == 0:
        port = ports(data_dir, "api")["api"]
    elif not is_free(port, host):
        raise CannotStart(f"port {port} is in use by another program; choose another one with --port")
    if not {"REFOLD_MASTER_KEY", "REFOLD_INTERNAL_KEY"} <= os.environ.keys():
        os.environ |= shared_secrets(data_dir)
    endpoint = f"http://{host}:{port}"
    if "REFOLD_PROXY_URL" not in os.environ:
        proxy_port = ports(data_dir, "proxy")["proxy"]
        os.environ |= {
            "REFOLD_PROXY_PORT": str(proxy_port),
            "REFOLD_PROXY_URL": f"http://{settings().proxy_host}:{proxy_port}",
        }
    services = [name for name in SERVICES if name != "storage" or "REFOLD_STORAGE" not in os.environ]
    if "storage" in services:
        os.environ |= Settings.model_construct(**own_storage(data_dir, settings())).environment()
    os.environ |= {
        "REFOLD_DATA_DIR": str(data_dir),
        "REFOLD_API_PORT": str(port),
        "REFOLD_API_URL": endpoint,
        "REFOLD_AGENT_RUNTIME": _runtime(runtime),
        "PYTHONUNBUFFERED": "1",  # a log line is in its file when it was written
    }
    return Installation(
        data_dir=data_dir,
        servers=stack.choose(data_dir, os.environ),
        services=services,
        endpoint=endpoint,
        admin=admin_credentials(data_dir, endpoint),
        once=once,
    )


def _runtime(choice: RuntimeChoice) -> str:
    if choice is not RuntimeChoice.AUTO:
        return choice.value
    socket = settings().docker_socket
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket), timeout=2.0) as docker:
            docker.get("http://docker/_ping").raise_for_status()
    except httpx.HTTPError:
        console.print(f"Kernels run as processes: no Docker daemon answers on {socket}.")
        return RuntimeChoice.PROCESS.value
    console.print(f"Kernels run in Docker: a daemon answers on {socket}.")
    return RuntimeChoice.DOCKER.value


async def up(installation: Installation) -> bool:
    """Starts everything, runs a first session, and serves until cancelled (or not, with `once`).

    Returns whether that session ended as wanted.
    """
    async with Supervisor(installation.data_dir / "logs", report=_report) as supervisor:
        # 1. the servers
        await _timed("Kafka and Postgres", installation.servers.start(supervisor))
        os.environ |= installation.servers.addresses()
        settings.cache_clear()  # it was read before these were known

        # 2. what must be in them
        await _timed("topics, tables and administrator", _set_up(installation.admin))

        # 3. Refold itself
        await _timed("workers, api, app proxy, storage and agent", _start_services(installation, supervisor))

        # 4. proof that it works
        admin = installation.admin
        went_well = await run_first_session(
            installation.endpoint, admin.access_key, admin.secret_key, console.print, await _first_image()
        )
        if installation.once:
            return went_well

        # 5. from now on
        installation.is_serving = True
        console.print(
            f"Refold serves at {installation.endpoint}  (its pages: {installation.endpoint}/docs)\n"
            f"The administrator's keys: set -a; . {_shown(installation.data_dir / 'admin.env')}\n"
            f"Logs: {_shown(installation.data_dir / 'logs')}"
        )
        names = [*(server.name for server in installation.servers.embedded), *installation.services]
        await status_line.show(console, supervisor, names, installation.endpoint)
        return went_well


async def _set_up(admin: Credentials) -> None:
    try:
        await set_up(settings(), Admin(admin.email, admin.password, admin.access_key, admin.secret_key))
    except (LogError, DatabaseError, SecretError) as error:
        raise CannotStart(str(error)) from error


async def _start_services(installation: Installation, supervisor: Supervisor) -> None:
    for name in installation.services:
        await supervisor.start(Child(name, (sys.executable, "-P", "-m", *SERVICES[name]), cwd=ROOT))
    end = time.monotonic() + READY_SECONDS_MAX
    auth = KeypairAuth(installation.admin.access_key, installation.admin.secret_key)
    doors = [each["internal"] for each in settings().storage.values() if "storage" in installation.services]
    async with httpx.AsyncClient(base_url=installation.endpoint, timeout=5.0) as client:
        while True:
            try:
                for asked in ("/ready", *(f"{door}/ready" for door in doors)):
                    (await client.get(asked)).raise_for_status()
                # and the administrator's commands have had their outcome
                (await client.get("/manager/announcement", auth=auth)).raise_for_status()
                return
            except httpx.HTTPError as error:
                missing = error.response.text if isinstance(error, httpx.HTTPStatusError) else str(error)
            if time.monotonic() > end:
                raise CannotStart(f"not ready within {READY_SECONDS_MAX:g} s ({missing}); see {supervisor.logs}")
            await asyncio.sleep(0.1)


async def _first_image() -> str:
    """Something with a shell: our own base image where it is (other runtimes ask for none), else a small public one."""
    if settings().agent_runtime == "docker":
        transport = httpx.AsyncHTTPTransport(uds=settings().docker_socket)
        async with httpx.AsyncClient(transport=transport, timeout=5.0) as docker:
            if (await docker.get(f"http://docker/images/{base_image.NAME}/json")).is_success:
                return base_image.NAME
        return "busybox:1.37"
    return base_image.NAME


async def _timed(what: str, doing: Awaitable[None]) -> None:
    started = time.monotonic()
    with console.status(f"Starting: {what}"):
        await doing
    console.print(f"{what[0].upper()}{what[1:]}: ready in {time.monotonic() - started:.1f} s")


def _report(crash: Crash) -> None:
    errors.print(str(crash), style="yellow", markup=False)


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


async def _until_told_to_stop(installation: Installation) -> bool:
    """`up`, ended by SIGINT or SIGTERM. A second signal is ignored: stopping has its own bound."""
    loop = asyncio.get_running_loop()
    work = asyncio.ensure_future(up(installation))

    def stop() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: None)
        work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    return await work


@app.command()
def main(
    data_dir: Annotated[Path, typer.Option(envvar="REFOLD_DATA_DIR", help="Folder of everything that is kept.")] = Path(
        ".refold"
    ),
    once: Annotated[bool, typer.Option("--once", help="Stop after the first session.")] = False,
    port: Annotated[
        int, typer.Option(envvar="REFOLD_API_PORT", min=0, max=65535, help="Port of the api; 0 takes a free one.")
    ] = 8081,
    runtime: Annotated[
        RuntimeChoice, typer.Option(envvar="REFOLD_AGENT_RUNTIME", help="What kernels run in.")
    ] = RuntimeChoice.AUTO,
) -> None:
    """Starts Refold on this machine: Kafka, Postgres, workers, api and an agent; then runs a first session.

    With --once it stops after that, and its exit code says whether the session ended as wanted. Otherwise it serves
    until Ctrl-C. What is in the data folder goes on where it was.
    """
    installation = None
    try:
        data_dir = make_folder(data_dir)
        with held(data_dir):
            _log_to(data_dir / "logs")
            installation = choose(data_dir, port, runtime, once)
            went_well = asyncio.run(_until_told_to_stop(installation))
    except CannotStart as error:
        errors.print(f"infra/up: {error}", style="red", markup=False)
        raise typer.Exit(1) from None
    except OSError as error:
        errors.print(f"infra/up: {error.strerror or error}: {error.filename or data_dir}", style="red", markup=False)
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Stopped.")
        raise typer.Exit(0 if installation is not None and installation.is_serving else 130) from None
    raise typer.Exit(0 if went_well else 1)


def _log_to(logs: Path) -> None:
    """Keeps what client libraries log off the terminal."""
    logs.mkdir(mode=0o700, exist_ok=True)
    logging.basicConfig(
        filename=logs / "up.log", level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


if __name__ == "__main__":
    app(prog_name="infra/up")

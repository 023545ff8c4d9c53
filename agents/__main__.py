"""`python -m agents`: the program on each GPU host."""

import asyncio
import fcntl
import os
import platform
import signal
import socket
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import typer
import uvloop
from prometheus_client import REGISTRY

from agents.daemon import Daemon
from agents.devices.host import HostDevices, take_stock
from agents.devices.plugin import Misconfigured
from agents.devices.watch import watch_devices
from agents.docker.runtime import DockerRuntime
from agents.door.serving import kernel_routes
from agents.door.uses import Uses
from agents.fake.runtime import FakeRuntime
from agents.given.folders import Folders
from agents.given.outfits import asking
from agents.journal import Journal
from agents.measuring.exporting import Measured
from agents.measuring.sampling import Sampler
from agents.orders import FencedOut
from agents.process.runtime import ProcessRuntime
from agents.runtime import Runtime
from agents.telling import Telling
from domain.messages import AgentId
from domain.scheduling.messages import AgentProfile
from infra.kafka import KafkaLog
from infra.sending import Sender
from infra.settings import Settings, settings
from infra.telemetry import configure_logging, serve_health

_log = structlog.get_logger("agents")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main() -> None:
    """Run a Refold agent until it is told to stop; what it started runs on. Settings: REFOLD_* (see README).

    It ends with code 78 when another agent of its name was started: then it should not be started again by itself.
    """
    configure_logging(settings(), "agent")
    try:
        uvloop.run(_run(settings()))
    except* FencedOut as fenced:
        _log.error(str(fenced.exceptions[0]))
        code = os.EX_CONFIG
    else:
        return
    raise typer.Exit(code)


async def _run(config: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    agent_id = AgentId(config.agent_id or socket.gethostname())
    folder = config.data_dir / "agents" / agent_id
    with _alone(folder):
        devices = HostDevices()
        try:
            runtime = _runtime(config, agent_id, folder, devices)
        except Misconfigured as error:
            raise SystemExit(str(error)) from error
        journal = Journal(folder / "journal.sqlite")
        uses = Uses()
        daemon: Daemon | None = None

        async def ready() -> str | None:
            return None if daemon and daemon.registered.is_set() else "the agent has not registered yet"

        try:
            async with (
                KafkaLog(config) as log,
                asking(config, agent_id, config.api_url) as outfits,
                serve_health(
                    config.agent_host, config.agent_port, ready, kernel_routes(config, agent_id, runtime, uses)
                ) as port,
            ):
                profile = await profile_of(config, runtime, devices, f"http://{config.agent_host}:{port}")
                sender = Sender(config, log, f"refold/agent/{agent_id}")
                daemon = Daemon(config, agent_id, profile, log, sender, runtime, outfits, journal)
                _log.info("agent started", agent=agent_id, runtime=runtime.name, slots=profile.slots, port=port)
                tell = Telling(config, agent_id, log).tell
                sampler = Sampler(agent_id, runtime, devices, journal, uses, tell, config.agent_sample_seconds)
                REGISTRY.register(Measured(lambda: sampler.latest))
                offer = partial(_offer, daemon, profile, devices)
                watching = watch_devices(devices, offer, config.agent_sample_seconds)
                running = asyncio.create_task(_all(daemon.run(), sampler.run(), watching))
                stopped = asyncio.create_task(stop.wait())
                await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    await running
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await daemon.retire()
        finally:
            await runtime.close()
            await devices.close()
            journal.close()
    _log.info("agent stopped, its kernels run on", agent=agent_id)


async def _offer(daemon: Daemon, profile: AgentProfile, devices: HostDevices) -> None:
    now = {"slots": devices.slots, "devices": devices.devices, "faults": devices.faults}
    await daemon.offer(profile.model_copy(update=now))


async def _all(*loops: Coroutine[Any, Any, None]) -> None:
    """Until one of them fails, which ends the others, or this is cancelled."""
    async with asyncio.TaskGroup() as group:
        for loop in loops:
            group.create_task(loop)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two agents of one name on one host would stop each other's kernels."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SystemExit(f"an agent already runs on {folder}") from None
        yield


def _runtime(config: Settings, agent_id: AgentId, folder: Path, devices: HostDevices) -> Runtime:
    """Raises Misconfigured."""
    folders = _folders(config)
    match config.agent_runtime:
        case "docker":
            return DockerRuntime(
                config.docker_socket,
                folder,
                deployment=f"{config.deployment}-{agent_id}",  # an agent must not take another one's kernels for strays
                grant=devices.grant,
                log_bytes_max=config.agent_log_bytes_max,
                scratch_bytes_max=config.agent_scratch_bytes_max,
                cluster_network=config.agent_cluster_network,
                folders=folders,
            )
        case "process":
            if config.agent_scratch_bytes_max:
                raise Misconfigured("REFOLD_AGENT_SCRATCH_BYTES_MAX: only the docker runtime limits homes")
            return ProcessRuntime(
                folder, grant=devices.grant, log_bytes_max=config.agent_log_bytes_max, folders=folders
            )
        case "fake":
            return FakeRuntime(folder, log_bytes_max=config.agent_log_bytes_max)


def _folders(config: Settings) -> Folders:
    """Raises Misconfigured."""
    return Folders.of(config.agent_volumes, config.agent_unmanaged_paths)


async def profile_of(config: Settings, runtime: Runtime, devices: HostDevices, address: str) -> AgentProfile:
    """What the agent offers."""
    try:
        await take_stock(devices, config, runtime.capacity)
    except Misconfigured as error:
        raise SystemExit(str(error)) from error
    return AgentProfile(
        resource_group=config.agent_group,
        architecture=platform.machine(),
        slots=devices.slots,
        devices=devices.devices,
        faults=devices.faults,
        formats=devices.formats,
        address=address,
        runtime=runtime.name,
        capabilities=(*await runtime.capabilities(), *_folders(config).capabilities()),
    )


if __name__ == "__main__":
    app()

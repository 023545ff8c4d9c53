"""`python -m agents`: the program on each GPU host."""

import asyncio
import fcntl
import platform
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
import typer
import uvloop

from agents.daemon import Daemon
from agents.devices.host import HostDevices, take_stock
from agents.devices.plugin import Misconfigured
from agents.docker import DockerRuntime
from agents.environ import asking
from agents.fake import FakeRuntime
from agents.journal import Journal
from agents.process import ProcessRuntime
from agents.runtime import Runtime
from agents.serving import kernel_routes
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
    """Run a Refold agent until it is told to stop; what it started runs on. Settings: REFOLD_* (see README)."""
    configure_logging(settings(), "agent")
    uvloop.run(_run(settings()))


async def _run(config: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    agent_id = AgentId(config.agent_id or socket.gethostname())
    folder = config.data_dir / "agents" / agent_id
    with _alone(folder):
        devices = HostDevices()
        runtime = _runtime(config, agent_id, folder, devices)
        journal = Journal(folder / "journal.sqlite")
        daemon: Daemon | None = None

        async def ready() -> str | None:
            return None if daemon and daemon.registered.is_set() else "the agent has not registered yet"

        async with (
            KafkaLog(config) as log,
            asking(config, config.api_url) as environs,
            serve_health(config.agent_host, config.agent_port, ready, kernel_routes(config, runtime)) as port,
        ):
            profile = await _profile(config, runtime, devices, f"http://{config.agent_host}:{port}")
            sender = Sender(config, log, f"refold/agent/{agent_id}")
            daemon = Daemon(config, agent_id, profile, log, sender, runtime, environs, journal)
            _log.info("agent started", agent=agent_id, runtime=runtime.name, slots=profile.slots, port=port)
            running = asyncio.create_task(daemon.run())
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await daemon.retire()
        await runtime.close()
        await devices.close()
        journal.close()
    _log.info("agent stopped, its kernels run on", agent=agent_id)


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
    match config.agent_runtime:
        case "docker":
            return DockerRuntime(
                config.docker_socket,
                folder,
                deployment=f"{config.deployment}-{agent_id}",  # an agent must not take another one's kernels for strays
                grant=devices.grant,
                log_bytes_max=config.agent_log_bytes_max,
            )
        case "process":
            return ProcessRuntime(folder, grant=devices.grant, log_bytes_max=config.agent_log_bytes_max)
        case "fake":
            return FakeRuntime(folder, log_bytes_max=config.agent_log_bytes_max)


async def _profile(config: Settings, runtime: Runtime, devices: HostDevices, address: str) -> AgentProfile:
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
        address=address,
        runtime=runtime.name,
    )


if __name__ == "__main__":
    app()

"""`python -m agents.fleet`: many simulated agents in one process, each as the real one but for what it runs.

They have the fake runtime, journals in memory, and one reader of the orders for all of them. What the control plane
sees is what as many hosts would show it: registrations, heartbeats, and reports of kernels that do what their image and
command say (`agents/fake/runtime.py`). An agent of a fleet that starts again knows nothing of the one before.
"""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Final

import aiohttp
import structlog
import typer
import uvloop

from agents.__main__ import profile_of
from agents.daemon import Daemon
from agents.devices.host import HostDevices
from agents.fake.runtime import FakeRuntime
from agents.given.outfits import Outfits
from agents.journal import Journal
from domain.messages import AgentId
from domain.scheduling.messages import AgentProfile
from infra.kafka import KafkaLog
from infra.log import Log, LogError, NewRecord, Partition, Reader, Record, Writer
from infra.sending import Sender
from infra.settings import Settings, settings
from infra.telemetry import configure_logging, serve_health
from infra.topics import PLACEMENTS, partition_of

_log = structlog.get_logger("agents")

_STARTS_AT_ONCE: Final = 100  # registrations under way: hosts do not all boot in the same millisecond
_RETRY_SECONDS: Final = 1.0
_ASKING: Final = aiohttp.ClientTimeout(total=10)
_APPEND_SECONDS: Final = 60.0  # what thousands of hosts say at once goes through one connection here

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(count: Annotated[int, typer.Option(help="How many agents there are.", min=1, max=100_000)] = 100) -> None:
    """Run simulated agents until told to stop. Settings: REFOLD_AGENT_* (see README); a number follows their name."""
    configure_logging(settings(), "fleet")
    uvloop.run(_run(settings(), count))


async def _run(config: Settings, count: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    names = [AgentId(f"{config.agent_id or 'simulated'}-{number:05}") for number in range(1, count + 1)]
    daemons: list[Daemon] = []

    async def ready() -> str | None:
        waiting = count - sum(daemon.registered.is_set() for daemon in daemons)
        return f"{waiting} agents have not registered yet" if waiting else None

    async with (
        KafkaLog(config.model_copy(update={"append_timeout": _APPEND_SECONDS})) as log,
        aiohttp.ClientSession(timeout=_ASKING, cookie_jar=aiohttp.DummyCookieJar()) as http,
        serve_health(config.agent_host, config.agent_port, ready) as port,
        sharing(config, log, names) as logs,
    ):
        profile = await _profile(config, f"http://{config.agent_host}:{port}")
        _log.info("fleet starts", agents=count, slots=profile.slots, port=port)
        running = asyncio.create_task(_sail(config, profile, logs, http, daemons))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    _log.info("fleet stopped")


async def _profile(config: Settings, address: str) -> AgentProfile:
    """The same for all of them."""
    devices = HostDevices()
    try:
        runtime = FakeRuntime(config.data_dir / "agents" / "fleet")
        return await profile_of(config, runtime, devices, address)
    finally:
        await devices.close()


async def _sail(
    config: Settings,
    profile: AgentProfile,
    logs: Mapping[AgentId, "_AgentLog"],
    http: aiohttp.ClientSession,
    daemons: list[Daemon],
) -> None:
    """Until one of them fails, or this is cancelled. `daemons` gets those that were started."""
    turn = asyncio.Semaphore(_STARTS_AT_ONCE)

    async def until_registered(daemon: Daemon) -> None:
        try:
            await daemon.registered.wait()
        finally:
            turn.release()

    async with asyncio.TaskGroup() as group:
        for agent_id, log in logs.items():
            await turn.acquire()
            own = config.model_copy(update={"agent_id": agent_id})
            runtime = FakeRuntime(config.data_dir / "agents" / agent_id, log_bytes_max=config.agent_log_bytes_max)
            sender = Sender(own, log, f"refold/agent/{agent_id}")
            outfits = Outfits(own, agent_id, config.api_url, http)
            daemon = Daemon(own, agent_id, profile, log, sender, runtime, outfits, log.journal())
            daemons.append(daemon)
            group.create_task(daemon.run())
            group.create_task(until_registered(daemon))


# -- the log of many ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def sharing(config: Settings, log: Log, names: Sequence[AgentId]) -> AsyncIterator[Mapping[AgentId, "_AgentLog"]]:
    """A log for each of them, over one reader that begins where the orders end now. Raises `LogError`."""
    places = {name: partition_of(config, PLACEMENTS, name) for name in names}
    ends = dict(await log.ends(sorted(set(places.values()), key=str)))
    logs = {name: _AgentLog(log, place, ends[place]) for name, place in places.items()}
    reading = asyncio.create_task(_read(log, ends, {name.encode(): each for name, each in logs.items()}))
    try:
        yield logs
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _read(log: Log, places: dict[Partition, int], logs: Mapping[bytes, "_AgentLog"]) -> None:
    while True:
        try:
            async with log.reader(places) as reader:
                while True:
                    for record in await reader.batch(at_most=1000, within=1.0):
                        if (addressee := logs.get(record.key)) is not None:
                            addressee.deliver(record)
                    places = {place: reader.position(place) for place in places}
        except LogError as error:
            _log.warning("orders cannot be read", reason=str(error))
            await asyncio.sleep(_RETRY_SECONDS)


class _AgentLog:
    """The log as one agent of a fleet sees it: what it reads are its own orders, from `start` on."""

    def __init__(self, log: Log, place: Partition, start: int) -> None:
        self._log = log
        self._place = place
        self._next = self._start = start
        self._box: asyncio.Queue[Record] = asyncio.Queue()

    def deliver(self, record: Record) -> None:
        self._box.put_nowait(record)

    def journal(self) -> Journal:
        """Of an agent that has read all orders before `start`, and knows that none of them is its own any more."""
        journal = Journal(Path(":memory:"))
        with journal.changes():
            journal.set_fact("journal", random.SystemRandom().getrandbits(48))
            journal.set_fact("next_order", self._start)
        return journal

    # -- as infra.log.Log ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def reader(self, starts: Mapping[Partition, int]) -> AsyncIterator[Reader]:
        """Goes on where the last one was left."""
        assert list(starts) == [self._place], "an agent reads its orders, and nothing else"
        yield self

    async def batch(self, at_most: int, within: float) -> Sequence[Record]:
        records: list[Record] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                records.append(await self._box.get())
        while len(records) < at_most and not self._box.empty():
            records.append(self._box.get_nowait())
        if records:
            self._next = records[-1].offset + 1
        return records

    def position(self, partition: Partition) -> int:  # noqa: ARG002
        return self._next

    async def append(self, records: Sequence[NewRecord]) -> Sequence[int]:
        return await self._log.append(records)

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return await self._log.ends(partitions)

    async def starts(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return await self._log.starts(partitions)

    @asynccontextmanager
    async def writer(self, transactional_id: str) -> AsyncIterator[Writer]:
        async with self._log.writer(transactional_id) as writer:
            yield writer


if __name__ == "__main__":
    app()

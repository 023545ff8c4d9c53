"""A whole Refold without its doors, in one process on the log in memory: every shard, and one agent."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from agents.daemon import Daemon
from agents.fake.runtime import FakeRuntime
from agents.given.outfits import Outfits, asking
from agents.journal import Journal
from agents.runtime import Runtime
from domain.context import AnyContext
from domain.contexts import CONTEXTS
from domain.messages import AccessKey, AgentId, Command, SessionId
from domain.outfits import Outfit
from domain.placements import StartKernel
from domain.scheduling.messages import AgentProfile
from domain.session.messages import Limits, RequestSession, Seat, SessionSpec, SetSessionLimits
from infra.decoding import Told, read_event
from infra.envelope import Cause, record_of
from infra.log import Log, Partition, read_until
from infra.memory_log import MemoryLog
from infra.sending import Sender
from infra.settings import Settings
from infra.topics import all_topics, commands, events, partition_of
from workers.shard import Shard

OWNER = AccessKey("AKIAIOSFODNN7EXAMPLE")
AGENT = AgentId("agent-1")
PROFILE = AgentProfile(
    resource_group="default",
    slots={"cpu": 8000, "mem": 2**34},
    address="http://127.0.0.1:0",
    runtime="fake",
    capabilities=("cluster:single-node", "cluster:multi-node"),
)


def an_id(name: str) -> str:
    """A UUID for a name; the same one each time."""
    return str(uuid5(UUID(int=0), name))


def now() -> datetime:
    return datetime.now(UTC)


class Nothing(Outfits):
    """Where there is no api, kernels are given nothing."""

    def __init__(self) -> None:
        pass

    async def of(self, order: StartKernel) -> Outfit:  # noqa: ARG002
        return Outfit()

    async def account(self, task_id: str, image: str) -> None:  # noqa: ARG002
        return None


class Whole:
    """`settings.partitions` is 1: every key is in the one partition."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings = Settings.model_validate(
            {"partitions": 1, "agent_heartbeat_seconds": 0.05, "agent_id": AGENT} | settings
        )
        self.api_url: str | None = None
        self.folder = folder
        self.log = MemoryLog(
            {self.settings.topic_prefix + topic.name: topic.partitions for topic in all_topics(self.settings)}
        )
        self.given: list[str] = []
        self.daemon: Daemon
        """Of the agent that was started last."""

    @asynccontextmanager
    async def shards(self, contexts: Mapping[str, AnyContext] = CONTEXTS, by: str = "worker") -> AsyncIterator[None]:
        async with _running(*(Shard(self.settings, self.log, context, 0, by).run() for context in contexts.values())):
            yield

    @asynccontextmanager
    async def agent(
        self, profile: AgentProfile = PROFILE, *, host: str = "", log: Log | None = None, **fake: Any
    ) -> AsyncIterator[FakeRuntime]:
        """An agent that is killed when the block ends: it says no goodbye, and its kernels run on.

        `host`: which of several it is started on. `log`: how it reaches the log.
        """
        runtime = FakeRuntime(self.folder / host / "runtime", **fake)
        async with self.agent_with(runtime, profile, host=host, log=log):
            yield runtime

    @asynccontextmanager
    async def agent_with(
        self, runtime: Runtime, profile: AgentProfile = PROFILE, *, host: str = "", log: Log | None = None
    ) -> AsyncIterator[None]:
        """The same, with another runtime, which is left open."""
        journal = Journal(self.folder / host / "journal.sqlite")
        log = log or self.log
        sender = Sender(self.settings, log, "test")
        try:
            async with self._outfits() as outfits:
                self.daemon = Daemon(self.settings, AGENT, profile, log, sender, runtime, outfits, journal)
                async with _running(self.daemon.run()):
                    yield
        finally:
            for task in asyncio.all_tasks():
                if task.get_name().startswith("kernel "):
                    task.cancel()
            await asyncio.sleep(0)
            journal.close()

    @asynccontextmanager
    async def _outfits(self) -> AsyncIterator[Outfits]:
        """Those of the api, if there is one."""
        async with asking(self.settings, AGENT, self.api_url or "http://nowhere") as outfits:
            yield outfits if self.api_url else Nothing()

    async def give(self, context: str, command: Command, name: str | None = None) -> str:
        """Append a command; its id."""
        command_id = an_id(name or f"command {len(self.given)}")
        place = partition_of(self.settings, commands(context), command.key)
        cause = Cause("test", command_id, command_id)
        await self.log.append([record_of(command, command_id, "test", cause, place, command.key)])
        self.given.append(command_id)
        return command_id

    async def admit(self, **limits: Any) -> None:
        allowed = Limits.model_validate({"max_concurrent_sessions": 100, "max_kernels_per_session": 8} | limits)
        await self.give("session", SetSessionLimits(at=now(), owner=OWNER, limits=allowed))

    async def request(self, name: str, *, kernels: int = 1, **spec: Any) -> SessionId:
        """Ask for a session of the fake runtime; what it does follows from its image or startup command."""
        session_id = SessionId(an_id(f"session {name}"))
        seats = tuple(
            Seat.model_validate(
                {
                    "kernel_id": session_id if index == 0 else an_id(f"kernel {name} {index}"),
                    "role": "sub" if index else "main",
                    "index": index or 1,
                }
            )
            for index in range(kernels)
        )
        asked = {"image": "fake/image", "slots": {"cpu": 1000, "mem": 2**28}} | spec
        await self.give(
            "session",
            RequestSession(
                at=now(),
                owner=OWNER,
                session_id=session_id,
                name=name,
                spec=SessionSpec.model_validate(asked),
                kernels=seats,
            ),
        )
        return session_id

    async def told(self, context: str = "session", subject: str | None = None) -> Sequence[Told]:
        """Everything the context has said, or what it said about one thing."""
        place = Partition(self.settings.topic_prefix + events(context), 0)
        starts, ends = await self.log.starts([place]), await self.log.ends([place])
        everything = [
            read_event(CONTEXTS[context], record)
            async for batch in read_until(self.log, starts, ends)
            for record in batch
        ]
        return [each for each in everything if subject is None or each.event.subject == subject]

    async def until(self, session_id: SessionId, kind: str, status: str | None = None, times: int = 1) -> Told:
        """Wait for the session's event of that type (and status); the `times`th."""
        async with asyncio.timeout(10):
            while True:
                found = [
                    each
                    for each in await self.told(subject=session_id)
                    if type(each.event).__name__ == kind and status in (None, getattr(each.event, "status", None))
                ]
                if len(found) >= times:
                    return found[times - 1]
                await asyncio.sleep(0.005)


@asynccontextmanager
async def _running(*loops: Any) -> AsyncIterator[None]:
    """Run loops in the background; if one of them fails, so does the block."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end

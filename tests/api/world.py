"""An api over a whole Refold in memory: real HTTP on a free port, shards, projections as dictionaries."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from api.app import Outside, Servers, make_app
from api.http.deps import Services
from api.http.sockets import MESSAGE_BYTES_MAX
from api.known import Known
from domain.contexts import CONTEXTS
from domain.directory.messages.common import DirectoryCommand
from domain.directory.messages.groups import CreateResourceGroup
from domain.directory.messages.keypairs import CreateKeypair, KeypairSpec
from domain.directory.messages.policies import (
    CreateKeypairPolicy,
    CreateProjectPolicy,
    CreateUserPolicy,
    KeypairPolicySpec,
)
from domain.directory.messages.tenants import CreateDomain, CreateProject
from domain.directory.messages.users import CreateUser, Role, UserSpec
from domain.messages import AccessKey, Cell, ProjectId, UserId
from domain.slots import total
from infra.keypair_uses import KeypairUses, MemoryUses
from infra.keyring import Keyring, MemoryKeys
from infra.live_stats import Measured
from infra.log import Log, Partition, Position
from infra.memory_log import MemoryLog
from infra.postgres import Connection, Unavailable
from infra.request_counts import MemoryCounts
from infra.secrets import new_key
from infra.settings import Settings
from infra.signing import KeypairAuth
from infra.topics import events
from projections import agents, command_outcomes
from projections.agents import AGENTS, AgentRow
from projections.capacity import Capacity, Held
from projections.command_outcomes import COMMAND_OUTCOMES, OutcomeRow
from projections.folders import folding as folders
from projections.reading import commands_of, read
from projections.session_history import SESSION_HISTORY, HistoryRow
from projections.session_list import KERNEL_LIST, SESSION_LIST, KernelRow, SessionRow
from projections.sessions import SESSIONS
from projections.table import Json, Rows
from tests.api.known_folders import MemoryFolders
from tests.whole import Whole, now
from workers.shard import Shard

KEYS = {"admin": ("AKADMIN", "admin-secret"), "ada": ("AKADA", "ada-secret"), "eve": ("AKEVE", "eve-secret")}
_PROJECTIONS = (SESSIONS, agents.PROJECTION, folders.PROJECTION, command_outcomes.PROJECTION)


class MemoryKnown:
    """The real folds, into dictionaries. `paused` holds it where it is."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._rows = Rows([table for each in _PROJECTIONS for table in each.tables], complete=True)
        self.folders = MemoryFolders(self._rows)
        self._history: list[HistoryRow] = []
        self._outcomes: list[OutcomeRow] = []
        self._places = {
            Partition(settings.topic_prefix + events(name), number): 0
            for name in CONTEXTS
            for number in range(settings.partitions)
        }
        self._settled: Counter[Partition] = Counter()
        self.stats: list[Measured] = []
        self._moved = asyncio.Event()
        self.resumed = asyncio.Event()
        self.resumed.set()

    async def run(self) -> None:
        async with self._log.reader(self._places) as reader:
            while True:
                batch = await reader.batch(500, 0.5)
                await self.resumed.wait()
                for record in batch:
                    context = record.partition.topic.rsplit(".", 2)[-2]
                    told = read(context, record)
                    assert not isinstance(told, str)
                    for projection in _PROJECTIONS:
                        if context in projection.contexts:
                            projection.fold(self._rows, told)
                    self._history += self._rows.changed[SESSION_HISTORY].values()
                    self._outcomes += self._rows.changed[COMMAND_OUTCOMES].values()
                    self._rows.saved()
                    if told.command_offset is not None:
                        self._settled[commands_of(record.partition)] = told.command_offset + 1
                    self._places[record.partition] = record.offset + 1
                self._moved.set()
                self._moved = asyncio.Event()

    def _sessions(self) -> list[SessionRow]:
        rows = [row for row in self._rows.known[SESSION_LIST].values() if row is not None]
        return sorted(rows, key=lambda row: (row.ended_at is None, row.requested_at), reverse=True)

    async def find(self, owner: str, reference: str) -> SessionRow | None:
        own = [row for row in self._sessions() if row.owner == owner]
        exact = [row for row in own if reference in {row.session_id, row.name}]
        living = [row for row in own if row.ended_at is None]
        begins = [row for row in living if row.name.startswith(reference) or row.session_id.startswith(reference)]
        if exact:
            return exact[0]
        return begins[0] if len(begins) == 1 else None

    async def by_id(self, session_id: str) -> SessionRow | None:
        return next((row for row in self._sessions() if row.session_id == session_id), None)

    async def by_name(self, owner: str, name: str) -> SessionRow | None:
        return next((row for row in self._sessions() if (row.owner, row.name) == (owner, name)), None)

    async def named_since(self, owner: str, name: str, offset: int) -> Sequence[SessionRow]:
        return [
            row
            for row in self._sessions()
            if (row.owner, row.name) == (owner, name) and (row.ended_at is None or row.last_offset >= offset)
        ]

    async def beginning(self, owner: str, prefix: str) -> Sequence[SessionRow]:
        living = [row for row in self._sessions() if row.owner == owner and row.ended_at is None]
        return [row for row in living if row.name.startswith(prefix) or row.session_id.startswith(prefix)][:10]

    async def kernels(self, session: SessionRow) -> Sequence[KernelRow]:
        rows = self._rows.known[KERNEL_LIST]
        return [rows[(session.owner, session.session_id, kernel_id)] for kernel_id in session.kernels]

    async def detail(self, owner: str, reference: str) -> tuple[SessionRow, Sequence[KernelRow]] | None:
        session = await self.find(owner, reference)
        return None if session is None else (session, await self.kernels(session))

    async def measured(self, kernels: Sequence[KernelRow]) -> Sequence[Measured]:
        return [each for each in self.stats if each.kernel_id in {kernel.kernel_id for kernel in kernels}]

    async def history(self, session: SessionRow, start: int) -> Sequence[HistoryRow]:
        return [row for row in self._history if row.session_id == session.session_id and row.log_offset >= start]

    async def agent(self, agent_id: str) -> AgentRow | None:
        return next((row for row in self._rows.known[AGENTS].values() if row and row.agent_id == agent_id), None)

    async def outcomes(self, command_id: str) -> Sequence[OutcomeRow]:
        rows = [row for row in self._outcomes if row.command_id == command_id]
        return sorted(rows, key=lambda row: row.command_offset)

    async def places(self) -> Mapping[Partition, int]:
        return {place: offset for place, offset in self._places.items() if place.topic.endswith("session.events")}

    async def wait_for(self, position: Position, timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout):
                while any(offset > self._reached(place) for place, offset in position.offsets.items()):
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    def _reached(self, place: Partition) -> int:
        return self._settled[place] if place.topic.endswith("commands") else self._places[place]

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        raise Unavailable("what is asked of the database itself is tested with one")

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        return {"sessions": Counter(row.status for row in self._sessions() if row.ended_at is None)}

    async def slot_formats(self, group: str | None = None) -> Mapping[str, Json]:
        agents = [agent for agent in self._rows.known[AGENTS].values() if agent is not None]
        mine = [agent for agent in agents if group in (None, agent.resource_group)]
        return {slot: told for agent in mine for slot, told in agent.formats.items()}

    async def slot_names(self, group: str | None = None) -> frozenset[str]:
        rows = [row for row in self._rows.known[AGENTS].values() if row and group in (None, row.resource_group)]
        return frozenset(name for row in rows if row.status != "REMOVED" for name in row.slots)

    async def capacity(
        self, *, owner: str, domain: str, project_id: str | None, owners: Sequence[str], groups: Sequence[str]
    ) -> Capacity:
        placed = [row for row in self._sessions() if row.ended_at is None and row.status != "PENDING"]

        def held(rows: Iterable[SessionRow]) -> dict[str, int]:
            return total([row.slots for row in rows for _ in range(row.cluster_size)])

        of_domain = [row for row in placed if row.domain == domain]
        used_in = {row.resource_group for row in placed if row.owner in owners}
        return Capacity(
            await self.slot_names(),
            Held(
                held(row for row in placed if row.owner == owner),
                held(row for row in of_domain if row.project_id == project_id),
                held(of_domain),
            ),
            {
                group: held(row for row in placed if row.owner in owners and row.resource_group == group)
                for group in used_in
            },
            [
                (row.resource_group, row.free)
                for row in self._rows.known[AGENTS].values()
                if row and row.status == "ALIVE" and row.resource_group in groups
            ],
        )


class World:
    """`client("ada")` signs with her keypair; `whole` is everything behind the doors."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        keys = {"master_key": new_key(), "internal_key": "k" * 40}
        self.whole = Whole(folder, **(keys | {"partitions": 2, "outcome_timeout": 5.0} | settings))
        self.settings = self.whole.settings
        self.known = MemoryKnown(self.settings, self.whole.log)
        self.counts = MemoryCounts()
        self.keys = MemoryKeys()
        self.uses: KeypairUses = MemoryUses()
        self.url = ""
        self.services: Services

    @property
    def log(self) -> MemoryLog:
        return self.whole.log

    @property
    def projections(self) -> Known:
        """What the api asks."""
        return self.known

    def client(self, who: str = "ada", **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, auth=KeypairAuth(*KEYS[who]), headers=headers, timeout=20)

    def anonymous(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=20)

    @asynccontextmanager
    async def started(self) -> AsyncIterator["World"]:
        """Shards, projections, the directory's people, and the api."""
        async with self.shards(), self.running(self.known.run()):
            for command in await people(Keyring(self.settings, self.keys)):
                await self.whole.give("directory", command)
            async with self.api() as (self.url, self.services):
                self.whole.api_url = self.url
                yield self

    @asynccontextmanager
    async def shards(self) -> AsyncIterator[None]:
        numbers = range(self.settings.partitions)
        shards = [
            Shard(self.settings, self.log, each, n, "worker").run() for each in CONTEXTS.values() for n in numbers
        ]
        async with self.running(*shards):
            yield

    @asynccontextmanager
    async def running(self, *loops: Any) -> AsyncIterator[None]:
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

    @asynccontextmanager
    async def api(self, log: Log | None = None) -> AsyncIterator[tuple[str, Services]]:
        """Another api process, as it were: its URL, and what it has inside."""

        app = make_app(self.settings, self.outside(log))
        async with serving(app) as url:
            services: Services = app.state.services
            assert await services.tail.wait_started(5)
            yield url, services

    def outside(self, log: Log | None = None) -> Outside:
        """What an api process finds outside of itself."""

        @asynccontextmanager
        async def outside(_: Settings) -> AsyncIterator[Servers]:
            there = asyncio.Event()
            there.set()
            yield Servers(log or self.whole.log, self.projections, self.counts, self.keys, self.uses, there)

        return outside

    @asynccontextmanager
    async def elsewhere(self, who: str = "ada", log: Log | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """Signs requests to another api process."""
        async with self.api(log) as (url, _), self.client(who) as client:
            client.base_url = url
            yield client


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        return nullcontext()  # signals are the test runner's


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    config = uvicorn.Config(
        app,
        port=0,
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES_MAX,
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(5):
        while not server.started:
            await asyncio.sleep(0.001)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        app.state.services.stopping = True
        app.state.services.tail.live.wake_all()
        server.should_exit = True
        await serving


async def people(keyring: Keyring) -> list[DirectoryCommand]:
    """A domain with a project, a resource group and three people, one of them an admin; eve's quota is small."""
    project = ProjectId("00000000-0000-0000-0000-00000000000a")
    many = KeypairPolicySpec(max_concurrent_sessions=10_000, max_containers_per_session=8)
    few = KeypairPolicySpec(max_concurrent_sessions=2, max_containers_per_session=2)
    commands: list[DirectoryCommand] = [
        CreateKeypairPolicy(at=now(), name="default", spec=many),
        CreateKeypairPolicy(at=now(), name="small", spec=few),
        CreateUserPolicy(at=now(), name="default"),
        CreateProjectPolicy(at=now(), name="default"),
        CreateDomain(at=now(), name="default"),
        CreateProject(at=now(), project_id=project, name="default", domain="default"),
        CreateProject(at=now(), project_id=ProjectId("other"), name="other", domain="default"),
        CreateResourceGroup(at=now(), name="default", cell=Cell("default")),
    ]
    for name, (access_key, secret_key) in KEYS.items():
        user_id = UserId(f"user-{name}")
        commands += [
            CreateUser(
                at=now(),
                user_id=user_id,
                email=f"{name}@example.org",
                spec=UserSpec(username=name, role=Role.SUPERADMIN if name == "admin" else Role.USER, domain="default"),
                password_hash="$argon2id$x",
                projects=(project,),
            ),
            CreateKeypair(
                at=now(),
                access_key=AccessKey(access_key),
                user_id=user_id,
                secret_sealed=await keyring.seal(user_id, secret_key, access_key),
                spec=KeypairSpec(resource_policy="small" if name == "eve" else "default"),
            ),
        ]
    return commands

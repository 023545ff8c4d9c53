"""A whole Refold behind the admin API: the log in memory, the projections in a real Postgres, people of two tenants.

In the domain `home`: a superadmin (root), its admin (boss), two users (ada, eve), a monitor (watch) and one whose
keypair is off (idle). In the domain `away`: its admin (lord) and a user (kim).
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
from pydantic import SecretStr

from api.known import Known, Projections
from api.writing import POSITION
from domain.contexts import CONTEXTS
from domain.directory.messages.common import DirectoryCommand
from domain.directory.messages.groups import CreatePreset, CreateResourceGroup, PresetSpec, ResourceGroupSpec
from domain.directory.messages.keypairs import CreateKeypair, KeypairSpec
from domain.directory.messages.policies import (
    CreateKeypairPolicy,
    CreateProjectPolicy,
    CreateUserPolicy,
    KeypairPolicySpec,
)
from domain.directory.messages.tenants import CreateDomain, CreateProject
from domain.directory.messages.users import CreateUser, Role, UserSpec
from domain.messages import AccessKey, Cell, KernelId, ProjectId, SessionId, UserId
from domain.scheduling.messages import RegisterAgent
from domain.session.messages import RequestSession, Seat, SessionSpec
from infra.keypair_uses import PostgresUses
from infra.keyring import Keyring
from infra.log import Partition, Position
from infra.postgres import Pool, migrate, open_pool
from infra.secrets import hash_password
from infra.signing import KeypairAuth
from projections.catalogue import of_context
from projections.live import Projector
from projections.reading import events_topic
from projections.rebuild import set_up
from projections.waiting import waiting
from tests.api.gallery import images
from tests.api.shelves import folders
from tests.api.world import World
from tests.whole import AGENT, PROFILE, an_id, now

PEOPLE: Mapping[str, tuple[str, Role]] = {
    "root": ("home", Role.SUPERADMIN),
    "boss": ("home", Role.ADMIN),
    "ada": ("home", Role.USER),
    "eve": ("home", Role.USER),
    "watch": ("home", Role.MONITOR),
    "idle": ("home", Role.USER),
    "lord": ("away", Role.ADMIN),
    "kim": ("away", Role.USER),
}
HOME, AWAY = ProjectId(an_id("project home")), ProjectId(an_id("project away"))


def access_key(who: str) -> AccessKey:
    return AccessKey(f"AKIA{who.upper():X<16}")


def user_id(who: str) -> UserId:
    return UserId(an_id(f"user {who}"))


def email(who: str) -> str:
    return f"{who}@example.org"


def session_id(who: str) -> SessionId:
    """Of the session that he has."""
    return SessionId(an_id(f"session of {who}"))


class AdminWorld(World):
    """`ask("root", query)` is what he is answered; everything that was done before is in it."""

    def __init__(self, folder: Path, database: str, **settings: Any) -> None:
        super().__init__(folder, database=SecretStr(database), **settings)
        self.pool: Pool
        self._postgres: Projections
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._reached = ""

    @property
    def projections(self) -> Known:
        return self._postgres

    @asynccontextmanager
    async def started(self) -> AsyncIterator["AdminWorld"]:
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            self.pool = await enter(open_pool(self.settings))
            async with self.pool.connection() as db:
                await migrate(db)
            await set_up(self.settings, self.log, self.pool)
            self.uses = PostgresUses(self.pool)
            self._postgres = Projections(self.settings, self.pool, await enter(waiting(self.settings)))
            await enter(self.shards())
            await enter(self.running(*(self._fold(context) for context in CONTEXTS)))
            for command in [*await people(Keyring(self.settings, self.keys)), *images()]:
                await self.whole.give("directory", command)
            await self.settled()
            register = RegisterAgent(at=now(), agent_id=AGENT, cell=Cell("default"), incarnation=1, profile=PROFILE)
            await self.whole.give("scheduling", register)
            for who in ("ada", "kim"):
                await self.whole.give("session", session_of(who))
            for each in folders(user_id("ada"), HOME):
                await self.whole.give("vfolder", each)
            await self.settled()
            self.url, self.services = await enter(self.api())
            for who in PEOPLE:
                self._clients[who] = await enter(self.client(who))
            yield self

    def client(self, who: str = "ada", **headers: str) -> httpx.AsyncClient:
        auth = KeypairAuth(access_key(who), f"secret of {who}")
        return httpx.AsyncClient(base_url=self.url, auth=auth, headers=headers, timeout=20)

    async def ask(self, who: str, query: str, variables: Mapping[str, Any] | None = None) -> Any:
        """The data he is answered; without errors."""
        response = await self.post(who, query, variables)
        assert response.status_code == 200, response.text
        told = response.json()
        assert "errors" not in told, told["errors"]
        return told["data"]

    async def post(
        self, who: str, query: str, variables: Mapping[str, Any] | None = None, path: str = "/admin/gql"
    ) -> httpx.Response:
        """What was changed by others before is seen."""
        body = orjson.dumps({"query": query, "variables": variables or {}})
        headers = {"Content-Type": "application/json"} | ({POSITION: self._reached} if self._reached else {})
        response = await self._clients[who].post(path, content=body, headers=headers)
        self._reached = response.headers.get(POSITION, self._reached)
        return response

    async def settled(self) -> None:
        """Everything has happened that follows from what was given, and Postgres knows it."""
        while True:
            position = self._end()
            assert await self.projections.wait_for(position, 10)
            if self._end() == position:
                return

    def _end(self) -> Position:
        logs = self.log._logs.items()
        return Position({place: log.records[-1].offset + 1 for place, log in logs if log.records})

    async def _fold(self, context: str) -> None:
        projector = Projector(context, of_context(context), self.log, self.pool)
        topic = events_topic(self.settings, context)
        places = {Partition(topic, number): 0 for number in range(self.settings.partitions)}
        async with self.log.reader(places) as reader:
            while True:
                if records := await reader.batch(500, 0.5):
                    await projector.fold(records)


async def people(keyring: Keyring) -> list[DirectoryCommand]:
    """The two tenants, with what they may use: the group `default` is everybody's, `special` nobody's."""
    hashed = hash_password("a password of theirs")
    preset = PresetSpec(resource_slots={"cpu": 1000, "mem": 2**30}, shared_memory=2**26)
    commands: list[DirectoryCommand] = [
        CreateKeypairPolicy(
            at=now(), name="default", spec=KeypairPolicySpec(max_concurrent_sessions=30, max_containers_per_session=8)
        ),
        CreateUserPolicy(at=now(), name="default"),
        CreateProjectPolicy(at=now(), name="default"),
        CreateResourceGroup(at=now(), name="default", cell=Cell("default")),
        CreateResourceGroup(at=now(), name="special", spec=ResourceGroupSpec(public=False)),
        CreatePreset(at=now(), name="small", spec=preset),
        CreateDomain(at=now(), name="home"),
        CreateDomain(at=now(), name="away"),
        CreateProject(at=now(), project_id=HOME, name="home-project", domain="home"),
        CreateProject(at=now(), project_id=AWAY, name="away-project", domain="away"),
    ]
    for who, (domain, role) in PEOPLE.items():
        commands += [
            CreateUser(
                at=now(),
                user_id=user_id(who),
                email=email(who),
                spec=UserSpec(username=who, full_name=f"{who.title()} Example", role=role, domain=domain),
                password_hash=hashed,
                projects=(HOME if domain == "home" else AWAY,),
            ),
            CreateKeypair(
                at=now(),
                access_key=access_key(who),
                user_id=user_id(who),
                secret_sealed=await keyring.seal(user_id(who), f"secret of {who}", access_key(who)),
                spec=KeypairSpec(active=who != "idle"),
            ),
        ]
    return commands


def session_of(who: str) -> RequestSession:
    domain = PEOPLE[who][0]
    return RequestSession(
        at=now(),
        owner=access_key(who),
        session_id=session_id(who),
        name=f"session-of-{who}",
        spec=SessionSpec(
            image="registry.example/python:3.11",
            slots={"cpu": 1000, "mem": 2**28},
            domain=domain,
            project=f"{domain}-project",
            project_id=HOME if domain == "home" else AWAY,
            shm_bytes=2**26,
            preopen_ports=(8080,),
        ),
        kernels=(Seat(kernel_id=KernelId(session_id(who)), role="main", index=1),),
    )

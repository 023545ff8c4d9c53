"""Real histories for projections: what the contexts decide, in the records their shards would write."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_OID, uuid5

from domain.contexts import CONTEXTS
from domain.directory.messages.groups import CreateResourceGroup
from domain.directory.messages.keypairs import CreateKeypair, KeypairChanges, ModifyKeypair
from domain.directory.messages.policies import (
    CreateKeypairPolicy,
    CreateProjectPolicy,
    CreateUserPolicy,
    KeypairPolicyChanges,
    KeypairPolicySpec,
    ModifyKeypairPolicy,
)
from domain.directory.messages.tenants import CreateDomain, CreateProject
from domain.directory.messages.users import CreateUser, JoinProject, ModifyUser, UserChanges, UserSpec, UserStatus
from domain.messages import AccessKey, AgentId, Cell, Command, KernelId, ProjectId, SessionId, UserId
from domain.scheduling.messages import AgentProfile, RegisterAgent
from domain.session.messages import (
    Assignment,
    Limits,
    PlaceSession,
    ReportKernelExited,
    ReportKernelProgress,
    ReportKernelStarted,
    RequestSession,
    Seat,
    SessionSpec,
    SetSessionLimits,
    TerminateSession,
)
from domain.session.status import KernelStatus
from infra.envelope import Cause, record_of
from infra.log import Log, NewRecord, Partition, Record
from infra.settings import Settings
from infra.topics import commands, events, number_of
from tests.domain.world import World
from workers.settle import Memory, absorb, settle

START = datetime(2026, 1, 1, tzinfo=UTC)


class Scribe:
    """Does what shards do, without a log: commands go in, the records of the events topics come out."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.written: list[list[NewRecord]] = []
        """By transaction."""
        self._memories: dict[Partition, Memory] = {}
        self._offsets: defaultdict[Partition, int] = defaultdict(int)

    def topics(self) -> dict[str, int]:
        return {self.settings.topic_prefix + events(name): self.settings.partitions for name in CONTEXTS}

    def partition(self, context: str, key: str) -> Partition:
        number = number_of(key, self.settings.partitions)
        return Partition(self.settings.topic_prefix + events(context), number)

    def settle(self, context: str, given: Sequence[Command], command_id: str | None = None) -> list[NewRecord]:
        """The events of these commands of one boundary key, as one transaction."""
        place = self.partition(context, given[0].key)
        memory = self._memories.setdefault(place, Memory(CONTEXTS[context], 10_000))
        batch = []
        for command in given:
            source = Partition(self.settings.topic_prefix + commands(context), place.number)
            offset = self._offsets[source]
            self._offsets[source] += 1
            name = command_id or str(uuid5(NAMESPACE_OID, f"{source}@{offset}"))
            new = record_of(command, name, "test", Cause("user:ada", name, name), source, command.key)
            batch.append(Record(new.partition, offset, new.key, new.headers, new.value))
        settlement = settle(self.settings, memory, place, batch)
        absorb(memory, settlement)
        records = [record for record in settlement.records if record.partition == place]
        self.written.append(records)
        return records


class WrittenWorld(World):
    """A cluster whose every event is written down."""

    def __init__(self, scribe: Scribe) -> None:
        self.scribe = scribe
        super().__init__()

    def handle(self, name: str, command: Command) -> None:
        super().handle(name, command)
        self.scribe.settle(name, [command])


def lives(scribe: Scribe, count: int, owners: int = 8, start: datetime = START) -> None:
    """`count` sessions of one kernel each, from request to end; every tenth lives on. About 17 records a session."""
    names = [AccessKey(f"AK{n:018}") for n in range(owners)]
    for owner in names:
        allowed = Limits(max_concurrent_sessions=10**6, max_kernels_per_session=8)
        scribe.settle("session", [SetSessionLimits(at=start, owner=owner, limits=allowed)])
    for n in range(count):
        scribe.settle("session", list(life(n, names[n % owners], start + timedelta(seconds=n))))


def life(n: int, owner: AccessKey, at: datetime) -> Iterable[Command]:
    session_id = SessionId(str(uuid5(NAMESPACE_OID, f"session {owner} {n}")))
    kernel_id = KernelId(str(uuid5(NAMESPACE_OID, f"kernel {owner} {n}")))
    agent_id = AgentId(f"agent-{n % 50}")
    about = {"owner": owner, "session_id": session_id}
    spec = SessionSpec(
        image="registry.example/python:3.11-ubuntu22.04",
        slots={"cpu": 1000, "mem": 1 << 30},
        project_id=ProjectId("p-default"),
        environ={"LANG": "Qy5VVEYtOA==", "TEAM": "dmlzaW9u"},
    )
    seat = Seat(kernel_id=kernel_id, role="main", index=1)
    yield RequestSession(at=at, **about, name=f"train-{n}", spec=spec, kernels=(seat,))
    place = Assignment(kernel_id=kernel_id, agent_id=agent_id, devices={"cuda.device": {f"gpu-{n % 8}": 1000}})
    yield PlaceSession(at=at, **about, attempt=1, assignments=(place,))
    report = {**about, "kernel_id": kernel_id, "incarnation": 1, "agent_id": agent_id}
    for seconds, status in enumerate(
        (KernelStatus.PREPARING, KernelStatus.PULLING, KernelStatus.PREPARED, KernelStatus.CREATING)
    ):
        yield ReportKernelProgress.model_validate({"at": at + timedelta(seconds=seconds), **report, "status": status})
    yield ReportKernelStarted(at=at + timedelta(seconds=5), **report, runtime_id=f"c{n:063}")
    if n % 10:
        yield TerminateSession(at=at + timedelta(seconds=60), **about)
        yield ReportKernelExited(at=at + timedelta(seconds=61), **report, exit_code=137, how="killed")


def agents(scribe: Scribe, count: int) -> None:
    profile = AgentProfile(
        resource_group="default", slots={"cpu": 64000, "mem": 1 << 38}, address="http://a:1", runtime="fake"
    )
    for n in range(count):
        register = RegisterAgent(
            at=START, cell=Cell("default"), agent_id=AgentId(f"agent-{n}"), incarnation=1, profile=profile
        )
        scribe.settle("scheduling", [register])


def directory(scribe: Scribe) -> None:
    """A domain, a project, a user in it with a keypair; then some changes."""
    few = KeypairPolicySpec(max_concurrent_sessions=3, max_containers_per_session=8)
    hashed = "$argon2id$v=19$m=16,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo"
    user, project, key = UserId("u-1"), ProjectId("p-1"), AccessKey("AKIAADA")
    given: list[Command] = [
        CreateKeypairPolicy(at=START, name="default", spec=few),
        CreateUserPolicy(at=START, name="default"),
        CreateProjectPolicy(at=START, name="default"),
        CreateDomain(at=START, name="default"),
        CreateProject(at=START, project_id=project, name="vision", domain="default"),
        CreateUser(
            at=START,
            user_id=user,
            email="Ada@example.org",
            spec=UserSpec(username="ada", domain="default"),
            password_hash=hashed,
        ),
        JoinProject(at=START, user_id=user, project_id=project),
        CreateKeypair(at=START, access_key=key, user_id=user, secret_sealed="c2VjcmV0"),
        CreateResourceGroup(at=START, name="default", cell=Cell("default")),
    ]
    for command in given:
        scribe.settle("directory", [command])
    later = START + timedelta(hours=1)
    wider = KeypairPolicyChanges(max_concurrent_sessions=5)
    off = UserChanges(status=UserStatus.INACTIVE)
    scribe.settle("directory", [ModifyKeypairPolicy(at=later, name="default", changes=wider)])
    scribe.settle("directory", [ModifyKeypair(at=later, access_key=key, changes=KeypairChanges(active=False))])
    scribe.settle("directory", [ModifyUser(at=later, user_id=user, changes=off)])


async def write(log: Log, transactions: Iterable[Sequence[NewRecord]]) -> None:
    """Put them into the log, each transaction by its partition's writer."""
    by_partition: defaultdict[Partition, list[Sequence[NewRecord]]] = defaultdict(list)
    for records in transactions:
        if records:
            by_partition[records[0].partition].append(records)
    for partition, all_of_it in by_partition.items():
        async with log.writer(f"test-{partition}") as writer:
            for records in all_of_it:
                await writer.commit(records)

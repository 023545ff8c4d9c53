"""Three users, a project and a storage service in one small world, where messages between any two may be late.

What one sends to another arrives once and in order; everything else in any order that the choices say. A crash is seen
by nobody: whoever starts again folds his events.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from domain.context import Alarm
from domain.directory.messages.tasks import ReportTaskEnd, StartTask
from domain.messages import Refused, SessionId, Unneeded
from domain.session.messages import RefuseMount
from domain.vfolder.consequences import VFOLDER
from domain.vfolder.messages import FolderCommands, FolderEvents
from domain.vfolder.messages.common import FolderSpec, ScopeLimits, Work
from domain.vfolder.messages.life import (
    FolderCloneBegun,
    FolderCreated,
    FolderHoldRefused,
    FolderMountRefused,
    FolderPurging,
)
from domain.vfolder.messages.reports import (
    CloseScope,
    MountFolder,
    ReportFolderFailed,
    ReportFolderPurged,
    ReportFolderReady,
    ReportFolderUsage,
    SetScopeLimits,
    UnmountFolder,
)
from domain.vfolder.messages.requests import SetQuota
from domain.vfolder.messages.sharing import AdmissionRefused, FolderLeft, InvitationRejected, TakingRefused
from domain.vfolder.mounts import FolderId, user_scope
from domain.vfolder.phases import NAMED, Phase
from domain.vfolder.state import Folders
from tests.domain.folder_ledger import Asked, FolderLedger
from tests.domain.folder_people import ASKED, HOSTS, PERMISSIONS, SCOPES, USERS

LIMITS = ScopeLimits(max_folders=8, max_bytes=200, hosts=dict.fromkeys(HOSTS, ("create-vfolder",)))
ANSWERS = (
    AdmissionRefused,
    FolderHoldRefused,
    FolderMountRefused,
    TakingRefused,
    InvitationRejected,
    FolderLeft,
)
"""What may be said twice to whoever asks twice: it changes nothing where it is said."""


@dataclass
class FolderWorld:
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    states: dict[str, Folders] = field(default_factory=dict)
    history: dict[str, list[FolderEvents]] = field(default_factory=dict)
    channels: dict[tuple[str, str], deque[FolderCommands]] = field(default_factory=dict)
    alarms: dict[str, Alarm] = field(default_factory=dict)
    work: list[tuple[str, str, Work]] = field(default_factory=list)
    """What the storage service has read and not yet done: scope, folder, and what."""
    sessions: dict[SessionId, tuple[str, str]] = field(default_factory=dict)
    """Those that live, with scope and folder of what they asked for."""
    tasks: dict[str, int] = field(default_factory=dict)
    """Background task → how often it has ended."""
    ledger: FolderLedger = field(default_factory=FolderLedger)
    made: int = 0

    def __post_init__(self) -> None:
        for scope in SCOPES:
            self.send("directory", SetScopeLimits(at=self.now, scope=scope, limits=LIMITS))
        self.deliver_all()

    # -- a shard -------------------------------------------------------------------------------------------------------

    def handle(self, command: FolderCommands) -> None:
        command = VFOLDER.commands.validate_json(command.model_dump_json())
        if isinstance(command, MountFolder):
            self.ledger.asked[command.session_id] = Asked(command.user_id, command.by_project)
        state = self.states.get(command.scope, VFOLDER.empty)
        try:
            events = VFOLDER.decide(command, state)
        except (Refused, Unneeded):
            return
        for event in events:
            assert VFOLDER.events.validate_json(event.model_dump_json()) == event
            self.ledger.note(event)
            for send in VFOLDER.consequences(event, state):
                self.take(command.scope, send.message)
            if (alarm := VFOLDER.alarm(event, state)) is not None:
                self.alarms[alarm.subject] = alarm
            self._storage_reads(event)
            state = VFOLDER.evolve(state, event)
            self.history.setdefault(command.scope, []).append(event)
        self.states[command.scope] = state
        self._again_changes_nothing(command, state)
        self._every_name_stands_for_one(state)

    def take(self, sender: str, message: Any) -> None:
        match message:
            case RefuseMount():
                self.end_session(message.session_id)
            case StartTask():
                assert message.task_id not in self.tasks, "started twice"
                self.tasks[message.task_id] = 0
            case ReportTaskEnd():
                self.tasks[message.task_id] += 1
            case _:
                self.send(sender, message)

    def send(self, sender: str, command: FolderCommands) -> None:
        self.channels.setdefault((sender, command.scope), deque()).append(command)

    def deliver(self, channel: tuple[str, str]) -> None:
        command = self.channels[channel].popleft()
        if not self.channels[channel]:
            del self.channels[channel]
        self.handle(command)

    def crash(self) -> None:
        """Everybody starts again, and knows what he has written."""
        for scope, events in self.history.items():
            state = VFOLDER.empty
            for event in events:
                state = VFOLDER.evolve(state, VFOLDER.events.validate_json(event.model_dump_json()))
            assert state == self.states[scope]
            self.states[scope] = state

    def _again_changes_nothing(self, command: FolderCommands, state: Folders) -> None:
        try:
            events = VFOLDER.decide(command, state)
        except (Refused, Unneeded):
            return
        assert all(isinstance(event, ANSWERS) for event in events), f"{command} twice: {events}"

    def _every_name_stands_for_one(self, state: Folders) -> None:
        called = [(folder.name, folder_id) for folder_id, folder in state.folders.items() if folder.phase in NAMED]
        called += [(joined.name, folder_id) for folder_id, joined in state.joined.items()]
        called += [(each.name, each.folder.folder_id) for each in state.received.values() if each.accepted]
        assert len({name for name, _ in called}) == len(called), called
        assert dict(called) == dict(state.names)

    # -- the storage service -------------------------------------------------------------------------------------------

    def _storage_reads(self, event: FolderEvents) -> None:
        match event:
            case FolderCreated(source=None, spec=FolderSpec(unmanaged_path=None)):
                self.work.append((event.scope, event.folder_id, Work.CREATE))
            case FolderCloneBegun():
                self.work.append((event.scope, event.folder_id, Work.CLONE))
            case FolderPurging():
                self.work.append((event.scope, event.folder_id, Work.PURGE))
            case _:
                pass

    def let_storage_work(self, random: Random, fails: float = 0.1) -> None:
        """It may do a thing twice, having died before it said so."""
        if not self.work:
            return
        number = random.randrange(len(self.work))
        scope, folder_id, work = self.work[number] if random.random() < 0.2 else self.work.pop(number)
        about: Any = {"at": self.now, "scope": scope, "folder_id": folder_id}
        if random.random() < fails:
            self.send("storage", ReportFolderFailed(**about, work=work, message="disk"))
        elif work is Work.PURGE:
            self.send("storage", ReportFolderPurged(**about))
        else:
            self.send("storage", ReportFolderReady(**about, used_bytes=random.randrange(40), files=1))

    def measure(self, random: Random) -> None:
        scope, folder_id = self.any_folder(random)
        size = random.randrange(60)
        self.send(
            "storage",
            ReportFolderUsage(at=self.now, scope=scope, folder_id=folder_id, used_bytes=size, files=1),
        )

    # -- sessions ------------------------------------------------------------------------------------------------------

    def start_session(self, random: Random) -> None:
        self.made += 1
        session_id, user_id = SessionId(f"s{self.made}"), random.choice(USERS)
        scope, folder_id = self.any_folder(random)
        if random.random() < 0.5 and scope.startswith("user:"):
            user_id = scope.partition(":")[2]
        by_project = scope.startswith("project:") and random.random() < 0.7
        self.sessions[session_id] = (scope, folder_id)
        mount = MountFolder.model_validate(
            {
                "at": self.now,
                "scope": scope,
                "folder_id": folder_id,
                "session_id": session_id,
                "owner": user_id,
                "user_id": user_id,
                "permission": random.choice(PERMISSIONS),
                "by_project": by_project,
            }
        )
        self.send("sessions", mount)

    def end_some_session(self, random: Random) -> None:
        if self.sessions:
            self.end_session(random.choice(sorted(self.sessions)))

    def end_session(self, session_id: SessionId) -> None:
        if (asked := self.sessions.pop(session_id, None)) is not None:
            scope, folder_id = asked
            self.send(
                "sessions",
                UnmountFolder(at=self.now, scope=scope, folder_id=FolderId(folder_id), session_id=session_id),
            )

    # -- people --------------------------------------------------------------------------------------------------------

    def any_folder(self, random: Random) -> tuple[str, FolderId]:
        """An owner and a folder, mostly one of his."""
        folders = [(scope, folder_id) for scope, state in sorted(self.states.items()) for folder_id in state.folders]
        if not folders:
            return SCOPES[0], FolderId("missing")
        scope, folder_id = random.choice(sorted(folders))
        return (random.choice(SCOPES) if random.random() < 0.1 else scope), folder_id

    def any_id(self) -> FolderId:
        self.made += 1
        return FolderId(f"00000000-0000-0000-0000-{self.made:012x}")

    def ask(self, random: Random) -> None:
        self.made += 1
        command = random.choice(ASKED)(self, random)
        if command is not None:
            self.send(f"user {self.made}", command)

    def govern(self, random: Random) -> None:
        scope = random.choice(SCOPES)
        limits = None if random.random() < 0.1 else LIMITS
        commands: list[FolderCommands] = [
            SetScopeLimits(at=self.now, scope=scope, limits=limits),
            SetQuota(at=self.now, scope=scope, host=HOSTS[0], max_bytes=random.choice((None, 30, 1000))),
        ]
        if random.random() < 0.03:
            commands = [CloseScope(at=self.now, scope=scope)]
        self.send("directory", random.choice(commands))

    def pass_time(self, random: Random) -> None:
        due = sorted((alarm.due, subject) for subject, alarm in self.alarms.items() if alarm.due)
        if not due or random.random() < 0.5:
            self.now += timedelta(seconds=10)
            return
        when, subject = due[0]
        self.now = max(self.now, when)
        command: Any = self.alarms.pop(subject).command
        self.send("clock", command)

    def deliver_some(self, random: Random) -> None:
        for _ in range(random.randrange(1, 6)):
            if self.channels:
                self.deliver(random.choice(sorted(self.channels)))

    def step(self, seed: int) -> None:
        random = Random(seed)
        random.choice(_ACTIONS)(self, random)

    # -- the end -------------------------------------------------------------------------------------------------------

    def deliver_all(self) -> None:
        while self.channels:
            self.deliver(min(self.channels))

    def settle(self) -> None:
        """Every message arrives, and the storage service does all it was told."""
        self.deliver_all()
        while self.work:
            self.let_storage_work(Random(0), fails=0)
            self.deliver_all()

    def end_all_sessions(self) -> None:
        for session_id in sorted(self.sessions):
            self.end_session(session_id)
        self.settle()

    def at_rest(self) -> None:
        """Nothing hangs, and any two who have to do with a folder say the same of it."""
        owner_of: dict[str, str] = {}
        for scope, state in self.states.items():
            assert all(not each.accepted for each in state.received.values()), "an acceptance was never answered"
            for folder_id, folder in state.folders.items():
                assert folder.phase in (Phase.READY, Phase.BROKEN, Phase.TRASHED, Phase.PURGE_FAILED), folder
                assert not folder.held_for, "held for ever"
                assert owner_of.setdefault(folder_id, scope) == scope, "two owners"
                assert set(folder.mounts) <= set(self.sessions), "mounted by what has ended"
                if state.closed:
                    assert folder.mounts or folder.phase is Phase.PURGE_FAILED, "outlives its owner"
        self._members_agree(owner_of)
        self._invitations_agree()
        assert all(ends == 1 for ends in self.tasks.values()), self.tasks
        self._bytes_agree(owner_of)

    def _members_agree(self, owner_of: dict[str, str]) -> None:
        by_owners = {
            (user_scope(user_id), folder_id, scope, folder.moves)
            for scope, state in self.states.items()
            if scope.startswith("user:")
            for folder_id, folder in state.folders.items()
            for user_id in folder.members
        }
        by_members = {
            (scope, folder_id, joined.folder.scope, joined.moves)
            for scope, state in self.states.items()
            for folder_id, joined in state.joined.items()
        }
        assert by_owners == by_members, "ghosts"
        assert all(owner_of[folder_id] == owner for _, folder_id, owner, _ in by_members)

    def _invitations_agree(self) -> None:
        by_owners = {
            (each.invitation_id, user_scope(each.invitee), scope, each.permission)
            for scope, state in self.states.items()
            for each in state.invitations.values()
        }
        by_invitees = {
            (each.invitation_id, scope, each.folder.scope, each.permission)
            for scope, state in self.states.items()
            for each in state.received.values()
        }
        assert by_owners == by_invitees, "lost"

    def _bytes_agree(self, owner_of: dict[str, str]) -> None:
        for scope, state in self.states.items():
            used = sum(state.used_bytes(host) for host in HOSTS)
            assert used == sum(self.ledger.sizes.get(each, 0) for each, owner in owner_of.items() if owner == scope)
        owners = {folder_id: [owner] for folder_id, owner in owner_of.items()}
        assert {each: known for each, known in self.ledger.owners.items() if known} == owners


_Action = Callable[[FolderWorld, Random], None]
_ACTIONS: list[_Action] = [
    *[FolderWorld.deliver_some] * 6,
    *[FolderWorld.let_storage_work] * 3,
    *[FolderWorld.ask] * 7,
    FolderWorld.measure,
    FolderWorld.start_session,
    FolderWorld.end_some_session,
    FolderWorld.govern,
    FolderWorld.pass_time,
]
"""Each as often as it is likely."""

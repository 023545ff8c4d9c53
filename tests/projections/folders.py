"""Histories of folders: what their owners decide, with everything that follows from it in the scopes of others."""

from collections import defaultdict, deque
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import NAMESPACE_OID, uuid5

from domain.context import Send
from domain.contexts import CONTEXTS
from domain.messages import AccessKey, Command, Event, Refused, SessionId, Unneeded, UserId
from domain.vfolder.messages.between import ReceiveInvitation
from domain.vfolder.messages.common import FolderSpec, InvitationId, ScopeCommand, ScopeLimits
from domain.vfolder.messages.life import FolderCloneBegun, FolderCreated, FolderPurging
from domain.vfolder.messages.reports import (
    CloseScope,
    MountFolder,
    ReportFolderPurged,
    ReportFolderReady,
    ReportFolderUsage,
    SetScopeLimits,
    UnmountFolder,
)
from domain.vfolder.messages.requests import (
    AcceptInvitation,
    CancelInvitation,
    ChangeInvitation,
    CloneFolder,
    CreateFolder,
    InviteToFolder,
    LeaveFolder,
    PurgeFolder,
    RejectInvitation,
    RemoveMember,
    RenameFolder,
    RestoreFolder,
    SetFolderOptions,
    SetMember,
    SetQuota,
    TransferFolder,
    TrashFolder,
)
from domain.vfolder.mounts import FolderId, FolderRef, Permission, UsageMode, project_scope, user_scope
from domain.vfolder.phases import Phase
from domain.vfolder.state import Folders
from tests.projections.story import START, Scribe

HOST: Final = "local:volume1"
RO, RW, WD = Permission.RO, Permission.RW, Permission.WD


def uuid(what: str) -> str:
    return str(uuid5(NAMESPACE_OID, what))


ADA, BOB, EVE = (UserId(uuid(name)) for name in ("ada", "bob", "eve"))
TEAM, STORE = uuid("project team"), uuid("project store")
SCOPES: Final = (*map(user_scope, (ADA, BOB, EVE)), project_scope(TEAM), project_scope(STORE))
LIMITS: Final = ScopeLimits(max_bytes=10**9, hosts={HOST: ("create-vfolder",)})


def folder_id(name: str) -> FolderId:
    return FolderId(uuid(f"folder {name}"))


def invitation_id(name: str) -> InvitationId:
    return InvitationId(uuid(f"invitation {name}"))


def session_id(name: str) -> SessionId:
    return SessionId(uuid(f"session {name}"))


class FolderStory:
    """Gives commands to the shards of a scribe, and the commands that follow from them, and knows all owners' states.

    `busy`: a storage service does at once what there is to do. `happened`: the types of all events.
    """

    def __init__(self, scribe: Scribe, *, busy: bool = True) -> None:
        self.scribe = scribe
        self.states: defaultdict[str, Folders] = defaultdict(Folders)
        self.happened: set[str] = set()
        self.waiting: deque[Command] = deque()
        self._busy = busy
        self._hours = 0

    def give(self, kind: type[ScopeCommand], scope: str, **fields: Any) -> None:
        """With all that follows."""
        self.handle(kind(at=self.now, scope=scope, **fields))
        while self.waiting:
            self.handle(self.waiting.popleft())

    @property
    def now(self) -> datetime:
        """Later than whenever it was asked before."""
        self._hours += 1
        return START + timedelta(hours=self._hours)

    def handle(self, command: Command) -> None:
        """The command alone; what follows from it waits."""
        context, scope = CONTEXTS["vfolder"], command.key
        self.scribe.settle("vfolder", [command])
        try:
            events = context.decide(command, self.states[scope])
        except (Refused, Unneeded):
            return
        for event in events:
            before = self.states[scope]
            self.happened.add(type(event).__name__)
            self.states[scope] = context.evolve(before, event)
            sends: list[Send] = list(context.consequences(event, before))
            self.waiting += [send.message for send in sends if send.to == "vfolder"]  # type: ignore[misc]
            if self._busy:
                self.waiting += self._work(event)

    def _work(self, event: Event) -> list[Command]:
        """What a storage service says to that."""
        match event:
            case FolderCreated(source=None) | FolderCloneBegun():
                about = {"at": event.at, "scope": event.scope, "folder_id": event.folder_id}
                return [ReportFolderReady(**about, used_bytes=1000, files=3)]
            case FolderPurging():
                return [ReportFolderPurged(at=event.at, scope=event.scope, folder_id=event.folder_id)]
            case _:
                return []


def everything(story: FolderStory) -> None:
    """Every event happens. What is left at the end is told by the tests that ask for it."""
    give = story.give
    ada, bob, eve, team, store = SCOPES
    for scope in SCOPES:
        give(SetScopeLimits, scope, limits=LIMITS)
    give(SetQuota, ada, host=HOST, max_bytes=5000)
    give(SetQuota, bob, host=HOST, max_bytes=5000)
    give(SetQuota, bob, host=HOST, max_bytes=None)
    plain = FolderSpec(host=HOST, creator="ada@example.org")

    def create(scope: str, name: str, spec: FolderSpec = plain) -> None:
        give(CreateFolder, scope, folder_id=folder_id(name), name=name, spec=spec)

    def invite(name: str, invitee: UserId, permission: Permission = RW) -> InvitationId:
        invitation = invitation_id(f"{name} {invitee}")
        about = {"folder_id": folder_id(name), "invitation_id": invitation, "inviter": ADA, "invitee": invitee}
        give(InviteToFolder, ada, **about, permission=permission)
        return invitation

    # ada's `shared`: bob reads in it, and calls it so because he has a `data` of his own; eve is invited.
    create(ada, "shared")
    give(ReportFolderUsage, ada, folder_id=folder_id("shared"), used_bytes=2000, files=7)
    first = invite("shared", BOB)
    give(ChangeInvitation, ada, invitation_id=first, permission=RO)
    give(AcceptInvitation, bob, invitation_id=first)
    create(bob, "data")
    give(RenameFolder, ada, folder_id=folder_id("shared"), name="data")
    invite("shared", EVE)

    # Invitations end in every way.
    create(ada, "offered")
    give(RejectInvitation, eve, invitation_id=invite("offered", EVE))
    give(CancelInvitation, ada, invitation_id=invite("offered", BOB))
    late, offered = invitation_id("late"), FolderRef(scope=ada, folder_id=folder_id("offered"), host=HOST)
    told = {"invitation_id": late, "folder": offered, "name": "late", "inviter": ADA, "permission": RW}
    give(ReceiveInvitation, bob, **told)
    give(AcceptInvitation, bob, invitation_id=late)

    # Members go.
    create(ada, "left")
    for invitee, scope in ((BOB, bob), (EVE, eve)):
        give(AcceptInvitation, scope, invitation_id=invite("left", invitee))
    give(LeaveFolder, bob, folder_id=folder_id("left"))
    give(RemoveMember, ada, folder_id=folder_id("left"), user_id=EVE)

    # The team's folder: all read and write in it, but eve, who only reads.
    create(team, "team", plain.model_copy(update={"cloneable": True}))
    give(SetMember, team, folder_id=folder_id("team"), user_id=EVE, permission=RO)
    create(store, "model", plain.model_copy(update={"usage_mode": UsageMode.MODEL}))
    give(SetFolderOptions, store, folder_id=folder_id("model"), permission=RW, cloneable=True)

    # Copies: one is there, one was refused.
    source = FolderRef(scope=store, folder_id=folder_id("model"), host=HOST)
    give(CloneFolder, eve, folder_id=folder_id("clone"), name="clone", spec=plain, source=source)
    private = FolderRef(scope=ada, folder_id=folder_id("left"), host=HOST)
    give(CloneFolder, eve, folder_id=folder_id("no-clone"), name="no-clone", spec=plain, source=private)

    # The trash: one is in it, one came back under another name, one is purged.
    for name in ("trashed", "restored", "purged"):
        create(ada, name)
        give(TrashFolder, ada, folder_id=folder_id(name), retention_seconds=3600.0)
    give(RestoreFolder, ada, folder_id=folder_id("restored"), name="back")
    give(PurgeFolder, ada, folder_id=folder_id("purged"))

    # A folder changes hands, with its member; another cannot.
    create(ada, "given")
    give(AcceptInvitation, bob, invitation_id=invite("given", BOB))
    give(AcceptInvitation, eve, invitation_id=invite("given", EVE))
    give(TransferFolder, ada, folder_id=folder_id("given"), to=eve)
    create(ada, "kept")
    create(eve, "kept-by-eve")
    give(RenameFolder, eve, folder_id=folder_id("kept-by-eve"), name="kept")
    give(TransferFolder, ada, folder_id=folder_id("kept"), to=eve)

    # Sessions: one has `data`, one had it, one may not.
    mount = {"folder_id": folder_id("shared"), "owner": AccessKey("AKIABOB"), "user_id": BOB}
    for name, permission in (("now", RO), ("before", RO), ("never", RW)):
        give(MountFolder, ada, **mount, session_id=session_id(name), permission=permission)
    give(UnmountFolder, ada, folder_id=folder_id("shared"), session_id=session_id("before"))

    # A user is purged.
    gone = user_scope(uuid("gone"))
    give(SetScopeLimits, gone, limits=LIMITS)
    create(gone, "of-the-gone")
    give(CloseScope, gone)


def phase_of(story: FolderStory, scope: str, name: str) -> Phase:
    return story.states[scope].folders[folder_id(name)].phase

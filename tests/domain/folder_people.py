"""What people may ask about folders, told by chance, so that it mostly means something."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from domain.directory.messages.tasks import TaskId
from domain.messages import AccessKey, UserId
from domain.vfolder.messages import FolderCommands
from domain.vfolder.messages.common import FolderSpec, InvitationId, PurgeTask
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
    TransferFolder,
    TrashFolder,
)
from domain.vfolder.mounts import FolderRef, Permission, project_scope, user_scope

if TYPE_CHECKING:
    from tests.domain.folder_world import FolderWorld

USERS = ("ada", "eve", "bob")
SCOPES = (*map(user_scope, USERS), project_scope("team"))
NAMES = ("data", "models", "more", "other", ".rc")
HOSTS = ("local:one", "local:two")
PERMISSIONS = tuple(Permission)


def create(world: "FolderWorld", random: Random) -> FolderCommands:
    spec = FolderSpec(
        host=random.choice(HOSTS),
        permission=random.choice(PERMISSIONS),
        cloneable=random.random() < 0.8,
        unmanaged_path="/data" if random.random() < 0.1 else None,
    )
    about: Any = {"at": world.now, "scope": random.choice(SCOPES), "folder_id": world.any_id()}
    if random.random() < 0.3:
        owner, source_id = world.any_folder(random)
        source = FolderRef(scope=owner, folder_id=source_id, host=HOSTS[0])
        return CloneFolder(**about, name=random.choice(NAMES), spec=spec, source=source, asker="AKIA")
    return CreateFolder(**about, name=random.choice(NAMES), spec=spec)


def change(world: "FolderWorld", random: Random) -> FolderCommands:
    scope, folder_id = world.any_folder(random)
    about: Any = {"at": world.now, "scope": scope, "folder_id": folder_id}
    commands: list[Callable[[], FolderCommands]] = [
        lambda: RenameFolder(**about, name=random.choice(NAMES)),
        lambda: SetFolderOptions(**about, permission=random.choice(PERMISSIONS), cloneable=random.random() < 0.8),
        lambda: TrashFolder(**about, retention_seconds=random.choice((0, 60, 3600))),
        lambda: RestoreFolder(**about, name=random.choice((None, *NAMES))),
        lambda: PurgeFolder(**about),
        lambda: PurgeFolder(**about, task=PurgeTask(asker=AccessKey("AKIA"), task_id=TaskId(f"t{world.made}"))),
        *[lambda: TransferFolder(**about, to=random.choice(SCOPES))] * 4,
    ]
    return random.choice(commands)()


def share(world: "FolderWorld", random: Random) -> FolderCommands:
    scope, folder_id = world.any_folder(random)
    about: Any = {"at": world.now, "scope": scope, "folder_id": folder_id}
    who, permission = UserId(random.choice(USERS)), random.choice(PERMISSIONS)
    world.made += 1
    commands: list[Callable[[], FolderCommands]] = [
        *[
            lambda: InviteToFolder(
                **about,
                invitation_id=InvitationId(f"i{world.made}"),
                inviter=UserId("ada"),
                invitee=who,
                permission=permission,
            )
        ]
        * 4,
        lambda: SetMember(**about, user_id=who, permission=permission),
        lambda: RemoveMember(**about, user_id=who),
        lambda: LeaveFolder(at=world.now, scope=user_scope(who), folder_id=folder_id),
    ]
    return random.choice(commands)()


def answer(world: "FolderWorld", random: Random) -> FolderCommands | None:
    """By those who are invited, mostly yes; sometimes by the inviter."""
    standing = [(scope, each) for scope, state in sorted(world.states.items()) for each in sorted(state.received)]
    if not standing:
        return None
    scope, invitation_id = random.choice(standing)
    about: Any = {"at": world.now, "invitation_id": invitation_id}
    inviter = world.states[scope].received[invitation_id].folder.scope
    commands: list[Callable[[], FolderCommands]] = [
        *[lambda: AcceptInvitation(scope=scope, **about)] * 4,
        lambda: RejectInvitation(scope=scope, **about),
        lambda: CancelInvitation(scope=inviter, **about),
        lambda: ChangeInvitation(scope=inviter, **about, permission=random.choice(PERMISSIONS)),
    ]
    return random.choice(commands)()


ASKED: list[Callable[["FolderWorld", Random], FolderCommands | None]] = [
    *[create] * 2,
    *[change] * 3,
    *[share] * 4,
    *[answer] * 5,
]
"""Each as often as it is likely."""

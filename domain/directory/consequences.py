"""What follows from an event of the directory.

The sessions of a keypair and the folders of a user or project are told what they may do now; agents get orders about
images.
"""

from collections.abc import Iterable, Sequence

from domain.context import PLACEMENTS, Alarm, Context, Send
from domain.directory.decider import decide
from domain.directory.folder_limits import folder_limits, whose_limits
from domain.directory.folding import evolve
from domain.directory.messages import COMMANDS, EVENTS, DirectoryCommands, DirectoryEvents
from domain.directory.messages.keypairs import KeypairCreated, KeypairDeleted, KeypairModified
from domain.directory.messages.policies import KeypairPolicyPut
from domain.directory.messages.tasks import (
    CommitSession,
    CopyFolder,
    DeleteFolder,
    PassTaskDeadline,
    PreloadImages,
    ScanRegistries,
    TaskEnded,
    TaskProgressed,
    TaskStarted,
    UnloadImages,
)
from domain.directory.messages.tenants import DomainModified, ProjectPurged
from domain.directory.messages.users import UserModified, UserPurged
from domain.directory.state import Directory
from domain.messages import AccessKey
from domain.placements import CommitKernel, PullImages, RemoveImages, StopImageTask
from domain.session.messages import SetSessionLimits
from domain.vfolder.messages.reports import CloseScope, SetScopeLimits
from domain.vfolder.mounts import project_scope, user_scope

NAME = "directory"


def consequences(event: DirectoryEvents, before: Directory) -> Sequence[Send]:
    match event:
        case TaskStarted():
            return _image_orders(event)
        case TaskEnded():
            return _stops(event, before)
        case UserPurged():
            return [Send("vfolder", CloseScope(at=event.at, scope=user_scope(event.user_id)))]
        case ProjectPurged():
            return [Send("vfolder", CloseScope(at=event.at, scope=project_scope(event.project_id)))]
        case _:
            return [*_limits(event, before), *_folder_limits(event, before)]


def alarm(event: DirectoryEvents, _before: Directory) -> Alarm | None:
    """A background task has a deadline. What else expires is seen to be so when it is asked for."""
    match event:
        case TaskStarted() | TaskProgressed():
            due = event.deadline
            return Alarm(event.task_id, due, PassTaskDeadline(at=due, task_id=event.task_id, deadline=due))
        case TaskEnded():
            return Alarm(event.task_id, None)
        case _:
            return None


def _image_orders(event: TaskStarted) -> Sequence[Send]:
    match event.work:
        case PreloadImages(references=references, agents=agents):
            order: type[PullImages] | type[RemoveImages] = PullImages
        case UnloadImages(references=references, agents=agents):
            order = RemoveImages
        case CommitSession(agent_id=agent_id, references=references) as work:
            commit = CommitKernel(
                at=event.at,
                agent_id=agent_id,
                task_id=event.task_id,
                references=references,
                owner=work.owner,
                session_id=work.session_id,
                kernel_id=work.kernel_id,
                labels=work.labels,
                push=work.push,
            )
            return [Send(PLACEMENTS, commit)]
        case ScanRegistries() | CopyFolder() | DeleteFolder():  # a worker sees to it, or a storage service
            return []
    return [
        Send(PLACEMENTS, order(at=event.at, agent_id=agent_id, task_id=event.task_id, references=references))
        for agent_id in agents
    ]


def _stops(event: TaskEnded, before: Directory) -> Sequence[Send]:
    """Who is still at work need not be."""
    return [
        Send(PLACEMENTS, StopImageTask(at=event.at, agent_id=agent_id, task_id=event.task_id))
        for agent_id in before.tasks[event.task_id].agents_at_work
    ]


def _limits(event: DirectoryEvents, before: Directory) -> Sequence[Send]:
    concerned = list(_concerned(event, before))
    if not concerned:
        return []
    now = evolve(before, event)
    limits = {access_key: now.limits(access_key) for access_key in concerned}
    return [
        Send("session", SetSessionLimits(at=event.at, owner=access_key, limits=allowed))
        for access_key, allowed in limits.items()
        if allowed != before.limits(access_key)
    ]


def _folder_limits(event: DirectoryEvents, before: Directory) -> Sequence[Send]:
    users, projects = whose_limits(event, before)
    if not users and not projects:
        return []
    was, now = folder_limits(before, users, projects), folder_limits(evolve(before, event), users, projects)
    scopes = [*map(user_scope, users), *map(project_scope, projects)]
    return [
        Send("vfolder", SetScopeLimits(at=event.at, scope=scope, limits=now.get(scope)))
        for scope in scopes
        if now.get(scope) != was.get(scope)
    ]


def _concerned(event: DirectoryEvents, before: Directory) -> Iterable[AccessKey]:
    """Whose limits may be others now. Of a user that is purged, each keypair is deleted first."""
    match event:
        case KeypairCreated() | KeypairModified() | KeypairDeleted():
            return [event.access_key]
        case UserModified():
            return before.users[event.user_id].keypairs
        case KeypairPolicyPut():
            return sorted(key for key, each in before.keypairs.items() if each.spec.resource_policy == event.name)
        case DomainModified():
            users = sorted(user_id for user_id, user in before.users.items() if user.spec.domain == event.name)
            return [access_key for user_id in users for access_key in before.users[user_id].keypairs]
        case _:
            return []


DIRECTORY: Context[DirectoryCommands, DirectoryEvents, Directory] = Context(
    name=NAME,
    commands=COMMANDS,
    events=EVENTS,
    empty=Directory(),
    decide=decide,
    evolve=evolve,
    consequences=consequences,
    alarm=alarm,
)

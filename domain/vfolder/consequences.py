"""What follows from an event of a folder: the next word of a process between two owners, and the end of its trash."""

from collections.abc import Sequence

from domain.context import Alarm, Context, Send
from domain.directory.messages.tasks import CopyFolder, DeleteFolder, ReportTaskEnd, StartTask, TaskEnd, TaskId
from domain.session.messages import RefuseMount
from domain.vfolder.decider import decide
from domain.vfolder.folding import evolve
from domain.vfolder.messages import COMMANDS, EVENTS, FolderCommands, FolderEvents
from domain.vfolder.messages.life import (
    FolderCreated,
    FolderFailed,
    FolderMountRefused,
    FolderPurged,
    FolderPurging,
    FolderReady,
    FolderRestored,
    FolderTrashed,
)
from domain.vfolder.messages.reports import PassTrashDeadline
from domain.vfolder.mounts import FolderRef
from domain.vfolder.processes import to_owners
from domain.vfolder.state import Folders

NAME = "vfolder"


def consequences(event: FolderEvents, before: Folders) -> Sequence[Send]:
    return [*_to_other_contexts(event, before), *(Send(NAME, command) for command in to_owners(event, before))]


def alarm(event: FolderEvents, _before: Folders) -> Alarm | None:
    """What is in the trash is purged when its time is over."""
    match event:
        case FolderTrashed(purge_at=due):
            passed = PassTrashDeadline(at=due, scope=event.scope, folder_id=event.folder_id, deadline=due)
            return Alarm(event.folder_id, due, passed)
        case FolderRestored() | FolderPurging():
            return Alarm(event.folder_id, None)
        case _:
            return None


def _to_other_contexts(event: FolderEvents, before: Folders) -> Sequence[Send]:
    match event:
        case FolderMountRefused():
            refusal = RefuseMount(at=event.at, owner=event.owner, session_id=event.session_id, message=event.message)
            return [Send("session", refusal)]
        case FolderCreated():
            return _copy_begins(event)
        case FolderPurging():
            return _purge_begins(event, before)
        case FolderReady() | FolderFailed() | FolderPurged():
            return _end_of_task(event, before)
        case _:
            return []


def _copy_begins(event: FolderCreated) -> Sequence[Send]:
    """How far a copy is, whoever asked for it sees as a background task, whose progress its storage service tells."""
    if event.source is None or event.asker is None:
        return []
    target = FolderRef(scope=event.scope, folder_id=event.folder_id, host=event.spec.host)
    work = CopyFolder(owner=event.asker, source=event.source, target=target)
    return [Send("directory", StartTask(at=event.at, task_id=TaskId(event.folder_id), work=work))]


def _purge_begins(event: FolderPurging, before: Folders) -> Sequence[Send]:
    """So does whoever asked for a purge."""
    if event.task is None:
        return []
    work = DeleteFolder(owner=event.task.asker, folder=before.folders[event.folder_id].ref(event.scope))
    return [Send("directory", StartTask(at=event.at, task_id=event.task.task_id, work=work))]


def _end_of_task(event: FolderReady | FolderFailed | FolderPurged, before: Folders) -> Sequence[Send]:
    task_id = before.folders[event.folder_id].task_id
    if task_id is None:
        return []
    end, message = (TaskEnd.FAILED, event.message) if isinstance(event, FolderFailed) else (TaskEnd.DONE, "")
    return [Send("directory", ReportTaskEnd(at=event.at, task_id=task_id, end=end, message=message))]


VFOLDER: Context[FolderCommands, FolderEvents, Folders] = Context(
    name=NAME,
    commands=COMMANDS,
    events=EVENTS,
    empty=Folders(),
    decide=decide,
    evolve=evolve,
    consequences=consequences,
    alarm=alarm,
)

"""Background tasks: each has exactly one end, and so has what each agent has to do of it.

What is reported of a task that has ended comes too late, and is nothing.
"""

from dataclasses import replace
from datetime import datetime
from typing import Final

from domain.directory.deciding.references import Events, known_registry, proper_id
from domain.directory.messages.images import ImageFacts, ImageRegistered
from domain.directory.messages.tasks import (
    TASK_SILENCE_SECONDS,
    CancelTask,
    CommitSession,
    FolderWork,
    PartState,
    PassTaskDeadline,
    ReportTaskEnd,
    ReportTaskProgress,
    ScanRegistries,
    StartTask,
    TaskCommands,
    TaskEnd,
    TaskEnded,
    TaskProgressed,
    TaskReports,
    TaskStarted,
    Work,
)
from domain.directory.state import Directory
from domain.directory.tasks import Part, Task
from domain.messages import AgentId, Refused, later

_MESSAGE_MAX: Final = 2000


def decide(command: TaskCommands | TaskReports, state: Directory) -> Events:
    match command:
        case StartTask():
            return _start(command, state)
        case CancelTask():
            return _cancel(command, state)
        case ReportTaskProgress():
            return _progress(command, state)
        case ReportTaskEnd():
            return _report_end(command, state)
        case PassTaskDeadline():
            return _pass_deadline(command, state)


def without_agent(agent_id: AgentId, at: datetime, state: Directory) -> Events:
    """The agent is gone for good: what it still had to do has failed."""
    return [
        event
        for task in sorted(state.tasks.values(), key=lambda each: each.task_id)
        if task.open and agent_id in task.agents_at_work
        for event in _part(task, agent_id, Part(PartState.FAILED, task.parts[agent_id].done, "the agent is gone"), at)
    ]


def _start(command: StartTask, state: Directory) -> Events:
    proper_id(command.task_id, "task_id")
    work = _once_each(command.work)
    existing = state.tasks.get(command.task_id)
    if existing is not None:
        if existing.work == work:
            return []
        raise Refused("task_exists", f"the task {command.task_id} is another one", "task_id")
    if isinstance(work, ScanRegistries):
        for name in work.registries:
            known_registry(name, state, "work.registries")
    if isinstance(work, CommitSession) and (going_on := state.commit_of(work.session_id)) is not None:
        raise Refused("commit_going_on", f"an image is made of it already, by the task {going_on.task_id}", "session")
    return [TaskStarted(at=command.at, task_id=command.task_id, work=work, deadline=_deadline(command.at))]


def _once_each(work: Work) -> Work:
    """The work without repetitions."""
    if isinstance(work, CommitSession | FolderWork):
        return work
    if isinstance(work, ScanRegistries):
        return work.model_copy(update={"registries": tuple(dict.fromkeys(work.registries))})
    once = {"references": tuple(dict.fromkeys(work.references)), "agents": tuple(dict.fromkeys(work.agents))}
    return work.model_copy(update=once)


def _cancel(command: CancelTask, state: Directory) -> Events:
    task = state.tasks.get(command.task_id)
    if task is None:
        raise Refused("unknown_task", f"no task {command.task_id}", "task_id")
    if task.open and isinstance(task.work, FolderWork):
        raise Refused("task_goes_on", "a folder that is being copied or deleted cannot be left half", "task_id")
    return [_ended(task, TaskEnd.CANCELLED, "cancelled", command.at)] if task.open else []


def _progress(command: ReportTaskProgress, state: Directory) -> Events:
    """Counts never go back: who starts over after a restart repeats what was counted."""
    task = _open_task(command, state)
    if task is None:
        return []
    if command.agent_id is None:
        done = max(task.done, command.done)
        total = max(command.total or task.total, done) if command.total or task.total else 0
        if (done, total, command.message, _deadline(command.at)) == (
            task.done,
            task.total,
            task.message,
            task.deadline,
        ):
            return []
        return [_progressed(task, done, total, command.message, command.at)]
    part = task.parts[command.agent_id]
    if part.ended:
        return []
    now = Part(PartState.GOING_ON, min(max(part.done, command.done), _share(task)), command.message)
    if now == part and _deadline(command.at) == task.deadline:
        return []
    return _part(task, command.agent_id, now, command.at)


def _report_end(command: ReportTaskEnd, state: Directory) -> Events:
    task = _open_task(command, state)
    if task is None:
        return []
    if command.agent_id is None:
        return [_ended(task, command.end, command.message, command.at)]
    part = task.parts[command.agent_id]
    if part.ended:
        return []
    if command.end is TaskEnd.DONE:
        done = _part(task, command.agent_id, Part(PartState.DONE, _share(task), command.message), command.at)
        return [*_made(task, command, state), *done]
    return _part(task, command.agent_id, Part(PartState.FAILED, part.done, command.message), command.at)


def _made(task: Task, command: ReportTaskEnd, state: Directory) -> Events:
    """From now on sessions may start from what was committed."""
    image = command.image
    if not isinstance(task.work, CommitSession) or image is None or image.reference != task.work.reference:
        return []
    facts = ImageFacts(
        registry=state.registry_of(image.reference),
        digest=image.digest,
        size_bytes=image.size_bytes,
        # What the agent read in the image may say anything of whose it is.
        labels={**image.labels, **task.work.labels},
    )
    return [ImageRegistered(at=command.at, reference=image.reference, architecture=image.architecture, facts=facts)]


def _pass_deadline(command: PassTaskDeadline, state: Directory) -> Events:
    task = state.tasks.get(command.task_id)
    if task is None or not task.open or task.deadline != command.deadline:
        return []
    silent = f" from {', '.join(task.agents_at_work)}" if task.parts else ""
    return [_ended(task, TaskEnd.FAILED, f"nothing was heard{silent} for {TASK_SILENCE_SECONDS:.0f} s", command.at)]


def _open_task(command: ReportTaskProgress | ReportTaskEnd, state: Directory) -> Task | None:
    """The task, if a report about it still means something."""
    task = state.tasks.get(command.task_id)
    if task is None or not task.open:
        return None
    if (command.agent_id in task.parts) if task.parts else (command.agent_id is None):
        return task
    raise Refused("unknown_part", f"{command.agent_id or 'a worker'} has no part of {command.task_id}", "agent_id")


def _part(task: Task, agent_id: AgentId, part: Part, at: datetime) -> Events:
    """Where an agent's part stands now; with the last part the task ends, and has failed if any of them has."""
    now = replace(task, parts=task.parts.set(agent_id, part))
    done = sum(each.done for each in now.parts.values())
    progressed = _progressed(task, done, task.total, part.message, at).model_copy(
        update={"agent_id": agent_id, "part": part.state, "part_done": part.done}
    )
    if now.agents_at_work:
        return [progressed]
    failed = [f"{agent}: {each.message}" for agent, each in sorted(now.parts.items()) if each.state is PartState.FAILED]
    if not failed:
        return [progressed, _ended(now, TaskEnd.DONE, "", at)]
    message = f"{len(failed)} of {len(now.parts)} agents failed: {'; '.join(failed)}"
    return [progressed, _ended(now, TaskEnd.FAILED, message, at)]


def _progressed(task: Task, done: int, total: int, message: str, at: datetime) -> TaskProgressed:
    deadline = max(task.deadline, _deadline(at))
    return TaskProgressed(at=at, task_id=task.task_id, done=done, total=total, message=message, deadline=deadline)


def _ended(task: Task, end: TaskEnd, message: str, at: datetime) -> TaskEnded:
    return TaskEnded(at=at, task_id=task.task_id, end=end, message=message[:_MESSAGE_MAX])


def _share(task: Task) -> int:
    """How many images each agent of the task has to see to."""
    return task.total // len(task.parts)


def _deadline(at: datetime) -> datetime:
    return later(at, TASK_SILENCE_SECONDS)

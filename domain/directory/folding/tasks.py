"""Background tasks."""

from dataclasses import replace
from datetime import datetime

from domain.directory.messages.tasks import TASK_KEPT_SECONDS, TaskEnded, TaskEvents, TaskProgressed, TaskStarted
from domain.directory.state import Directory
from domain.directory.tasks import Part, Task, started
from domain.messages import later


def evolve(state: Directory, event: TaskEvents) -> Directory:
    match event:
        case TaskStarted():
            return _with(_without_old(state, event.at), started(event.task_id, event.work, event.at, event.deadline))
        case TaskProgressed():
            return _with(state, _progressed(state.tasks[event.task_id], event))
        case TaskEnded():
            ended = replace(state.tasks[event.task_id], end=event.end, ended_at=event.at, message=event.message)
            return _with(state, ended)


def _with(state: Directory, task: Task) -> Directory:
    return replace(state, tasks=state.tasks.set(task.task_id, task))


def _progressed(task: Task, event: TaskProgressed) -> Task:
    parts = task.parts
    if event.agent_id is not None:
        part = Part(event.part, event.part_done, event.message)
        parts = parts.set(event.agent_id, part)
    return replace(
        task, done=event.done, total=event.total, message=event.message, deadline=event.deadline, parts=parts
    )


def _without_old(state: Directory, now: datetime) -> Directory:
    old = [
        task.task_id
        for task in state.tasks.values()
        if task.ended_at is not None and later(task.ended_at, TASK_KEPT_SECONDS) < now
    ]
    tasks = state.tasks
    for task_id in old:
        tasks = tasks.delete(task_id)
    return replace(state, tasks=tasks)

"""`GET /events/background-task`: how far a background task is, until it has ended.

What is told is how the task stands, not each step it took: who reads slowly skips steps, and never an end.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from typing import Annotated, Final
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.access.auth import Caller as Signer
from api.access.authority import is_superadmin, may_act_for
from api.http.deps import All, Caller, Services
from api.http.problems import refused
from api.http.sse import DOCUMENTED, check_room, is_public_client, streamed
from api.writing import now
from domain.directory.consequences import DIRECTORY
from domain.directory.messages.common import KEY
from domain.directory.messages.tasks import TASK_KEPT_SECONDS, TaskId
from domain.directory.tasks import Task
from infra.log import Position
from infra.topics import events, partition_of

router = APIRouter(tags=["events"])

HEARTBEAT_SECONDS: Final = 15.0
_LOOK_AROUND_SECONDS: Final = 1.0  # how long a process that stops may wait for its streams
_FIRST_AFTER_SECONDS: Final = 0.3
"""The public client fails on an event that comes along with the head of the answer: it stops its spinner for it, which
has not begun yet."""

_KEPT: Final = timedelta(seconds=TASK_KEPT_SECONDS)
_CLOSE: Final = b"event: server_close\ndata: {}\n\n"

Id = Annotated[str, Query(max_length=64, description="Of the task, as the mutation that began it told.")]


@router.get("/events/background-task", response_class=Response, responses=DOCUMENTED)
async def background_task_events(
    request: Request,
    caller: Caller,
    all_: All,
    task_id: Id = "",
    task_id_in_manual: Annotated[str, Query(alias="taskId", max_length=64)] = "",
) -> Response:
    """`task_updated` now and at each step, then `task_done`, `task_failed` or `task_cancelled`, then `server_close`.

    A task that has ended is remembered for 24 hours. Background tasks are superadmins' own, but for the commits of
    sessions, which are their owners'; nobody else sees any.
    To the public client the events are `bgtask_…`, as it knows them.
    """
    task_id = task_id or task_id_in_manual
    task = await _found(task_id, all_)
    if not _may_follow(task, caller, all_):
        raise _unknown(task_id)
    check_room(all_, caller)
    is_known_client = is_public_client(request)
    chunks = _told_late(task, all_) if is_known_client else _told(task, "task", all_)
    return streamed(chunks, caller, all_, says_retry=not is_known_client)


def _may_follow(task: Task, caller: Signer, all_: Services) -> bool:
    owner = None if task.owner is None else all_.tail.directory.identity(task.owner)
    return is_superadmin(caller.identity) or (owner is not None and may_act_for(caller.identity, owner))


async def _found(text: str, all_: Services) -> Task:
    """Also one that another process has just begun. Raises `Problem` (404)."""
    try:
        task_id = TaskId(str(UUID(text)))
    except ValueError:
        raise _unknown(text) from None
    task = _kept(task_id, all_)
    if task is None:
        place = partition_of(all_.settings, events(DIRECTORY.name), KEY)
        end = Position(dict(await all_.log.ends([place])))
        await all_.tail.directory_at(end, all_.settings.read_timeout)
        task = _kept(task_id, all_)
    if task is None:
        raise _unknown(text)
    return task


def _kept(task_id: TaskId, all_: Services) -> Task | None:
    """The directory forgets ended tasks when it comes to it; for clients they are gone in time."""
    task = all_.tail.directory.tasks.get(task_id)
    is_gone = task is not None and task.ended_at is not None and now() - task.ended_at > _KEPT
    return None if is_gone else task


async def _told_late(task: Task, all_: Services) -> AsyncGenerator[bytes, None]:
    """As the public client needs it."""
    await asyncio.sleep(_FIRST_AFTER_SECONDS)
    async with aclosing(_told(task, "bgtask", all_)) as chunks:
        async for chunk in chunks:
            yield chunk


async def _told(task: Task, prefix: str, all_: Services) -> AsyncGenerator[bytes, None]:
    before: Task | None = None
    told_at = time.monotonic()
    while not all_.stopping:
        more_read = all_.tail.more_read
        task = all_.tail.directory.tasks.get(task.task_id, task)
        if task is not before:
            before, told_at = task, time.monotonic()
            yield _chunk(task, prefix)
            if task.end is not None:
                yield _CLOSE
                return
        elif time.monotonic() - told_at > HEARTBEAT_SECONDS:
            told_at = time.monotonic()
            yield b": \n\n"
        try:
            async with asyncio.timeout(_LOOK_AROUND_SECONDS):
                await more_read.wait()
        except TimeoutError:
            continue


def _chunk(task: Task, prefix: str) -> bytes:
    data = {
        "task_id": task.task_id,
        "message": task.message,
        "current_progress": task.done,
        "total_progress": task.total,
    }
    name = f"{prefix}_{task.end or 'updated'}"
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data))


def _unknown(task_id: str) -> Exception:
    return refused("unknown_task", f"no background task {task_id[:64]}", "task_id")

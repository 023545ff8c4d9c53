"""Sessions, in the shapes the public client uses: ask for one, look at it, restart, rename and end it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api import stats
from api.access.auth import Caller as Signer
from api.access.authority import authorize
from api.http.answers import accepted_for_later, json
from api.http.deps import All, Caller, Known, Services, known_at
from api.http.door import BODY, HEADERS, caller_of
from api.http.problems import invalid, session_not_found
from api.sessions.commands import request_session
from api.sessions.environ import Given, with_given
from api.sessions.images import shown_services
from api.sessions.live import STARTED_OR_ENDED
from api.sessions.mounting import with_mounts
from api.sessions.requests import NewSession, parse_new_session
from api.writing import POSITION, Result, accepted, command_id_of, now, wants_async
from domain.messages import Command, SessionId
from domain.session.messages import RenameSession, RequestSession, RestartSession, TerminateSession
from domain.slots import show
from infra.live_stats import Measured
from infra.log import Position
from infra.postgres import Unavailable
from infra.topics import events, partition_of
from projections.session_list import KernelRow, SessionRow

router = APIRouter(tags=["sessions"])

T = TypeVar("T")

_CONTEXT: Final = "session"
_PENDING: Final = "PENDING"
_TIMED_OUT: Final = "TIMEOUT"
_REFERENCE_MAX: Final = 128


@router.post("/session", status_code=201)
@router.post("/session/create", status_code=201, include_in_schema=False)
async def create(request: Request) -> Response:
    """Ask for a session. 201: it is new; 200: one of that name and image lives already (`reuseIfExists`).

    Unless `enqueueOnly`, the answer comes when it runs or has ended, or after `maxWaitSeconds` with status `TIMEOUT`.
    """
    return await create_session(request, parse_new_session(request.scope[BODY]))


async def create_session(request: Request, new: NewSession) -> Response:
    """The answer to a request that says this."""
    all_: Services = request.app.state.services
    headers: Mapping[str, str] = request.scope[HEADERS]
    caller = caller_of(request.scope)
    caller = all_.gate.acting_for(caller, new.owner_access_key)
    command_id = command_id_of(headers, caller)
    unregistered = all_.settings.unregistered_images
    command = request_session(new, caller, command_id, now(), all_.tail.directory, unregistered=unregistered)
    authorize(command, caller.identity, all_.tail.directory)
    if wanted := new.config.wanted():
        await known_at(request)  # a position that the request carries: its folders are looked up
    command = await with_mounts(command, wanted, caller, all_)
    command = await with_given(command, Given(new.config.environ or {}, new.bootstrap_script), command_id, caller, all_)
    is_async = wants_async(headers)
    started = None if new.enqueue_only or is_async else all_.tail.live.when_started(command.session_id)
    services = shown_services(
        command.spec.image, command.spec.architecture, all_.tail.directory, command.spec.preopen_ports
    )
    try:
        sent = await all_.writing.send(_CONTEXT, command, command_id, caller, headers.get("traceparent"))
        if is_async:
            return accepted_for_later(sent)
        result = await all_.writing.result(sent)
        if result is None:
            return accepted_for_later(sent)
        accepted(result)
        if result.verdict == "unneeded":
            return await _existing(result, all_, caller, services)
        status = _PENDING
        if started is not None:
            status = await _status_by_now(result, all_, caller, command) if result.repeated else _PENDING
            if status not in STARTED_OR_ENDED:
                status = await _started(request, started, new.max_wait_seconds)
        return json(_created(command, status, services), 201, result.position)
    finally:
        if started is not None:
            all_.tail.live.no_longer(command.session_id, started)


def _created(command: RequestSession, status: str, services: Sequence[Any]) -> dict[str, Any]:
    return {
        "sessionId": command.session_id,
        "sessionName": command.name,
        "status": status,
        "servicePorts": services,
        "created": True,
    }


async def _existing(result: Result, all_: Services, caller: Signer, services: Sequence[Any]) -> Response:
    """The living session that is as good. The reference spells its key `service_ports` here; both are there."""
    row = await _row_after(result, all_, caller, result.about or "")
    told: dict[str, Any] = {
        "sessionId": result.about,
        "sessionName": row.name if row else None,
        "status": row.status if row else _PENDING,
        "servicePorts": services,
        "service_ports": services,
        "created": False,
    }
    return json(told, 200, result.position)


async def _status_by_now(result: Result, all_: Services, caller: Signer, command: RequestSession) -> str:
    """Of a session that was made when this request was sent before, and may have started or ended since."""
    row = await _row_after(result, all_, caller, command.session_id)
    return row.status if row else _PENDING


async def _row_after(result: Result, all_: Services, caller: Signer, session_id: str) -> SessionRow | None:
    """As of all that this process has seen, the result included."""
    seen = all_.tail.seen(partition_of(all_.settings, events(_CONTEXT), caller.owner))
    await all_.known.wait_for(seen.merged(Position.parse(result.position)), all_.settings.read_timeout)
    return await all_.known.find(caller.owner, session_id)


async def _started(request: Request, started: asyncio.Future[str], wait_max: int) -> str:
    """Its status once it runs or has ended; `TIMEOUT` if that takes too long, or if nobody waits for it any more."""
    gone: asyncio.Future[str] = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait([started, gone], timeout=wait_max or None, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
    return started.result() if started.done() and not started.cancelled() else _TIMED_OUT


async def _disconnected(request: Request) -> str:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return _TIMED_OUT


@router.get("/session/{reference}")
async def show_session(reference: str, caller: Caller, all_: All, known: Known) -> Response:
    """A session by its id, its name, or the beginning of either. May be a moment old: send a position to be sure."""
    session, kernels = await _sought(reference, caller, all_, known.detail)
    return json(_detail(session, kernels, await known.measured(kernels)))


def _detail(session: SessionRow, kernels: Sequence[KernelRow], measured: Sequence[Measured]) -> dict[str, Any]:
    """The manual's five fields, and what a projection knows."""
    began = session.started_at or session.requested_at
    age = (session.ended_at or now()) - began
    return {
        "sessionId": session.session_id,
        "sessionName": session.name,
        "status": session.status,
        "reason": session.reason,
        "result": session.result,
        "exitCode": session.exit_code,
        "type": session.session_type,
        "image": session.image,
        "lang": session.image,
        "age": int(age.total_seconds() * 1000),
        "memoryLimit": session.slots.get("mem", 0) // 1024,
        "numQueriesExecuted": 0,
        "cpuCreditUsed": stats.of_session(measured)["cpu_used"],
        "resourceGroup": session.resource_group,
        "domain": session.domain,
        "group": session.project,
        "tag": session.tag,
        "ownerAccessKey": session.owner,
        "clusterMode": session.cluster_mode,
        "clusterSize": session.cluster_size,
        "occupyingSlots": show(session.slots),
        "resourceOpts": {"shmem": str(session.shm_bytes)} if session.shm_bytes else {},
        "runtimeClass": session.runtime_class,
        "preopenPorts": session.preopen_ports,
        "mounts": [mount["name"] for mount in session.mounts.values()],
        "vfolderMounts": [{"kernel_path": path, **mount} for path, mount in session.mounts.items()],
        "attempt": session.attempt,
        "requestedAt": session.requested_at,
        "startedAt": session.started_at,
        "endedAt": session.ended_at,
        "kernels": [
            {
                "kernelId": kernel.kernel_id,
                "clusterRole": kernel.role,
                "clusterIdx": kernel.index,
                "clusterHostname": kernel.hostname,
                "status": kernel.status,
                "reason": kernel.reason,
                "agent": kernel.agent_id,
                "devices": kernel.devices,
                "exitCode": kernel.exit_code,
                "message": kernel.message,
            }
            for kernel in kernels
        ],
    }


@router.patch("/session/{reference}", status_code=204)
async def restart(reference: str, request: Request, caller: Caller, all_: All) -> Response:
    """Start its kernels anew where they are; files, name and age stay."""
    session_id = await resolve(reference, caller, all_)
    command = RestartSession(at=now(), owner=caller.owner, session_id=session_id)
    result = await _write(command, request, caller, all_)
    return result if isinstance(result, Response) else Response(None, 204, {POSITION: result.position})


@router.delete("/session/{reference}")
async def terminate(
    reference: str,
    request: Request,
    caller: Caller,
    all_: All,
    forced: Annotated[bool, Query(description="Do not wait until its agents confirm.")] = False,
    recursive: Annotated[bool, Query(description="Also those that depend on it: there are none yet.")] = False,
) -> Response:
    """End it, at whatever stage it is. One that still waits is cancelled."""
    del recursive
    session_id = await resolve(reference, caller, all_)
    command = TerminateSession(at=now(), owner=caller.owner, session_id=session_id, forced=forced)
    result = await _write(command, request, caller, all_)
    if isinstance(result, Response):
        return result
    ended = {event.get("status") for event in result.events if event.get("type") == "SessionEnded"}
    status: Literal["cancelled", "terminated"] = "cancelled" if "CANCELLED" in ended else "terminated"
    return json({"stats": {"status": status, **await _used(caller.owner, session_id, all_)}}, 200, result.position)


async def _used(owner: str, session_id: str, all_: Services) -> dict[str, int]:
    """By its kernels so far. Ending it does not wait for that."""
    try:
        found = await all_.known.detail(owner, session_id)
        measured = await all_.known.measured(found[1]) if found else ()
    except Unavailable:
        measured = ()
    return stats.of_session(measured) if measured else {}


@router.post("/session/{reference}/rename", status_code=204)
async def rename(
    reference: str,
    request: Request,
    caller: Caller,
    all_: All,
    name: Annotated[str, Query(min_length=1, max_length=64)],
) -> Response:
    """Give a living session another name."""
    session_id = await resolve(reference, caller, all_)
    command = RenameSession(at=now(), owner=caller.owner, session_id=session_id, name=name)
    result = await _write(command, request, caller, all_)
    return result if isinstance(result, Response) else Response(None, 204, {POSITION: result.position})


# -- which session is meant --------------------------------------------------------------------------------------------


async def resolve(reference: str, caller: Signer, all_: Services) -> SessionId:
    """The id of the session a command is about. Raises `Problem` (404).

    What the tail has seen comes first, so that whoever just got an answer may use the name at once; the projection is
    asked for what is older or has ended, and once more when it has caught up.
    """
    if (card := all_.tail.live.named(caller.owner, reference)) is not None:
        return card.session_id
    if (card := all_.tail.live.card(reference)) is not None and card.owner == caller.owner:
        return card.session_id
    return SessionId((await found(reference, caller, all_)).session_id)


async def found(reference: str, caller: Signer, all_: Services) -> SessionRow:
    """The session as the projection knows it. Raises `Problem` (404)."""
    return await _sought(reference, caller, all_, all_.known.find)


async def _sought(reference: str, caller: Signer, all_: Services, find: Callable[[str, str], Awaitable[T | None]]) -> T:
    """What `find(owner, reference)` finds, at the latest once the projection has caught up with the tail."""
    if len(reference) > _REFERENCE_MAX:
        raise invalid("session", "length", f"a session's name or id has at most {_REFERENCE_MAX} characters")
    row = await find(caller.owner, reference)
    if row is None:
        seen = all_.tail.seen(partition_of(all_.settings, events(_CONTEXT), caller.owner))
        await all_.known.wait_for(seen, all_.settings.read_timeout)
        row = await find(caller.owner, reference)
    if row is None:
        raise session_not_found(reference)
    return row


async def _write(command: Command, request: Request, caller: Signer, all_: Services) -> Result | Response:
    """Send it and wait: its result, or the answer that it is on its way. Raises `Problem` where it is refused."""
    authorize(command, caller.identity, all_.tail.directory)
    headers: Mapping[str, str] = request.headers
    sent = await all_.writing.send(
        _CONTEXT, command, command_id_of(headers, caller), caller, headers.get("traceparent")
    )
    if wants_async(headers):
        return accepted_for_later(sent)
    result = await all_.writing.result(sent)
    return accepted_for_later(sent) if result is None else accepted(result)

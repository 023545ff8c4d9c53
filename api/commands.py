"""`/refold/commands`: any command its sender may give, as JSON, and what became of it."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Request
from pydantic import Discriminator, TypeAdapter
from starlette.responses import Response

from api.access.authority import authorize, is_superadmin
from api.http.answers import accepted_for_later, json
from api.http.deps import All, Body, Caller, Known
from api.http.problems import Problem, invalid
from api.sessions.commands import completed, with_ids
from api.sessions.environ import Given, apart, with_given
from api.sessions.mounting import told_mounts
from api.sessions.requests import refuse_nul
from api.writing import accepted, command_id_from, command_id_of, context_of, now, result_of, wants_async
from domain.directory.messages import AdministrativeCommands
from domain.messages import Command
from domain.scheduling.messages import ExcludeAgent, IncludeAgent, RemoveAgent
from domain.session.messages import (
    CancelSession,
    RenameSession,
    RequestSession,
    RestartSession,
    TerminateSession,
)

router = APIRouter(prefix="/refold", tags=["commands"])

GivenByPeople = Annotated[
    RequestSession
    | CancelSession
    | TerminateSession
    | RestartSession
    | RenameSession
    | RemoveAgent
    | ExcludeAgent
    | IncludeAgent
    | AdministrativeCommands,
    Discriminator("type"),
]
_GIVEN: TypeAdapter[Command] = TypeAdapter(GivenByPeople)


@router.post("/commands")
async def give(request: Request, body: Body, caller: Caller, all_: All) -> Response:
    """Send a command. The answer is its outcome; with `Prefer: respond-async`, or if it takes long, where that will be.

    Who may give which one: see `api.access.authority`. What it does not name is given by Refold itself.
    `at` is set here: nobody else's clock decides. So are the ids of a new session and its kernels. Its environment and
    its bootstrap script are given in clear, and sealed here.
    """
    command_id = command_id_of(request.headers, caller)
    command, given = _read(body, command_id)
    authorize(command, caller.identity, all_.tail.directory)
    if isinstance(command, RequestSession):
        unregistered = all_.settings.unregistered_images
        command = completed(command, caller, all_.tail.directory, unregistered=unregistered)
        command = await told_mounts(command, caller, all_)
        command = await with_given(command, given, command_id, caller, all_)
    sent = await all_.writing.send(
        context_of(command),
        command,
        command_id,
        caller,
        request.headers.get("traceparent"),
    )
    if wants_async(request.headers):
        return accepted_for_later(sent)
    result = await all_.writing.result(sent)
    if result is None:
        return accepted_for_later(sent)
    return json(accepted(result).shown, 200, result.position)


@router.get("/commands/{command_id}")
async def outcome(command_id: str, caller: Caller, all_: All, known: Known) -> Response:
    """What became of a command: `accepted` with its events, `refused`, `unneeded`, or still `pending` (202)."""
    del known  # asked for so that a position is waited for
    command_id = command_id_from(command_id)
    first = await all_.writing.recorded(command_id)
    if first is not None and (is_superadmin(caller.identity) or first.actor == caller.actor):
        result = result_of(first)
        return json(result.shown, 200, result.position)
    expected = all_.tail.outcomes.get(command_id)
    if first is None and expected is not None and expected.actor == caller.actor:
        return Response(b'{"status":"pending"}', 202, {"Retry-After": "1"}, "application/json")
    raise Problem(
        404,
        "command-not-found",
        "No such command",
        f"no command of yours with the id {command_id} is known (yet)",
        retryable=first is None,
    )


def _read(body: bytes, command_id: str) -> tuple[Command, Given]:
    """The command, and apart from it what is secret about a session. Raises `ValidationError`, `Problem`."""
    try:
        told = orjson.loads(refuse_nul(body))
    except orjson.JSONDecodeError as error:
        raise invalid("body", "json_invalid", f"the body is not JSON: {error}") from error
    if not isinstance(told, dict):
        raise invalid("body", "object", "the body must be a JSON object")
    given = Given()
    if told.get("type") == "RequestSession":
        told, given = apart(with_ids(told, command_id))
    return _GIVEN.validate_python({**told, "at": now()}), given

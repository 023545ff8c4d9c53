"""What routes ask for, as annotations, so that their signatures read as sentences. All but a body also by WebSocket."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import httpx
from fastapi import Depends, Request
from fastapi.requests import HTTPConnection

from api.access.auth import Caller as Signer
from api.access.auth import Gate
from api.access.ratelimit import Limiter
from api.access.signin import Client as Visitor
from api.access.signin import SignIns
from api.access.uses import Uses
from api.http import door
from api.http.problems import Problem, invalid, not_there_yet
from api.known import Known as KnownThings
from api.tail import Tail as LogTail
from api.writing import POSITION
from api.writing import Writing as Writes
from domain.directory.state import Directory as State
from infra.keyring import Keyring
from infra.log import BadPosition, Log, Position
from infra.sending import Sender
from infra.settings import Settings

if TYPE_CHECKING:
    from api.kernels.warm import WarmRunners  # which reaches kernels through these services


@dataclass(slots=True)
class Services:
    """Everything one api process has, made once."""

    settings: Settings
    log: Log
    tail: LogTail
    sender: Sender
    known: KnownThings
    writing: Writes
    keyring: Keyring
    gate: Gate
    limiter: Limiter
    sign_ins: SignIns
    uses: Uses
    http: httpx.AsyncClient
    warm_runners: "WarmRunners"
    database: asyncio.Event
    """Set once it has answered: it may be away again since, and much goes on then."""
    stopping: bool = False

    def admitted(self) -> Gate:
        """The gatekeeper. Raises `Problem` until the directory is whole: a revoked key must not slip in meanwhile."""
        if not self.tail.started.is_set():
            raise Problem(
                503,
                "starting",
                "Not ready yet",
                "the directory has not been read yet",
                retryable=True,
                retry_after=1,
            )
        return self.gate


async def _services(request: HTTPConnection) -> Services:
    services: Services = request.app.state.services
    return services


async def _caller(request: HTTPConnection) -> Signer:
    return door.caller_of(request.scope)


async def _client(request: HTTPConnection) -> Visitor:
    return door.client_of(request.scope)


async def _body(request: Request) -> bytes:
    body: bytes = request.scope[door.BODY]
    return body


async def known_at(request: HTTPConnection) -> KnownThings:
    """The projections, once they have reached the position that the request carries. Raises `Problem` (400, 504)."""
    services: Services = request.app.state.services
    position = _position(request)
    if position is not None and not await services.known.wait_for(position, services.settings.read_timeout):
        raise not_there_yet(str(position))
    return services.known


async def _directory_at(request: HTTPConnection) -> State:
    """The directory, as new as the position that the request carries. Raises `Problem` (400, 504)."""
    services: Services = request.app.state.services
    position = _position(request)
    if position is None:
        return services.tail.directory
    directory = await services.tail.directory_at(position, services.settings.read_timeout)
    if directory is None:
        raise not_there_yet(str(position))
    return directory


def _position(request: HTTPConnection) -> Position | None:
    text = request.headers.get(POSITION)
    try:
        return None if text is None else Position.parse(text)
    except BadPosition as error:
        raise invalid(POSITION, "position", str(error)) from error


All = Annotated[Services, Depends(_services)]
Caller = Annotated[Signer, Depends(_caller)]
Client = Annotated[Visitor, Depends(_client)]
Body = Annotated[bytes, Depends(_body)]
Known = Annotated[KnownThings, Depends(known_at)]
Directory = Annotated[State, Depends(_directory_at)]

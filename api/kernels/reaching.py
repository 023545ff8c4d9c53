"""Which kernel is meant, and a WebSocket to what its agent serves of it."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from api.access.auth import Caller
from api.http.deps import Services
from api.http.problems import Problem
from api.sessions.routes import found
from domain.messages import AgentId, KernelId, SessionId
from domain.session.status import SessionStatus
from infra.postgres import Unavailable
from infra.secrets import internal_token
from infra.topics import events, partition_of

_RUNNING: Final = frozenset({SessionStatus.RUNNING, SessionStatus.RUNNING_DEGRADED})
_OPEN_SECONDS: Final = 15.0  # an agent waits for 10 for a runner that has just been started
_CLOSE_SECONDS: Final = 2.0

_open: Counter[str] = Counter()

_log = structlog.get_logger("api.kernels")


class Unreachable(Problem):
    """What is asked for is there, and cannot be had now: its agent does not answer."""

    def __init__(self, agent_id: str) -> None:
        super().__init__(
            502,
            "agent-unreachable",
            "The agent cannot be reached",
            f"the agent {agent_id} does not answer for this session",
            retryable=True,
            retry_after=2,
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where the main kernel of a running session is."""

    session_id: SessionId
    kernel_id: KernelId
    agent_id: AgentId
    address: str
    image: str
    architecture: str
    resource_group: str
    preopen_ports: Sequence[int]


async def place_of(reference: str, caller: Caller, all_: Services) -> Place:
    """By the session's id, its name, or the beginning of either. Raises `Problem` (404, 409, 502)."""
    session = await found(reference, caller, all_)
    if session.status not in _RUNNING:  # as of the projection, which may be a moment behind what he was told
        seen = all_.tail.seen(partition_of(all_.settings, events("session"), caller.owner))
        await all_.known.wait_for(seen, all_.settings.read_timeout)
        session = await found(reference, caller, all_)
    if session.status not in _RUNNING:
        raise Problem(
            409,
            "session-not-running",
            "The session is not running",
            f"the session {session.name} is {session.status}",
            retryable=session.ended_at is None,
        )
    kernel = (await all_.known.kernels(session))[0]
    agent = None if kernel.agent_id is None else await all_.known.agent(kernel.agent_id)
    if agent is None:
        raise Unreachable(str(kernel.agent_id))
    return Place(
        SessionId(session.session_id),
        KernelId(kernel.kernel_id),
        AgentId(agent.agent_id),
        agent.address,
        session.image,
        session.architecture,
        session.resource_group,
        session.preopen_ports,
    )


@asynccontextmanager
async def connected(
    place: Place, what: str, caller: Caller, all_: Services, message_bytes_max: int
) -> AsyncIterator[ClientConnection]:
    """As `opened`, and counted as one of the caller's. Raises `Problem` (429, 501, 502)."""
    with counted(caller, all_):
        async with opened(place, what, all_, message_bytes_max) as socket:
            yield socket


async def present(place: Place, all_: Services) -> Place:
    """Where that kernel is reached now: an agent that was started again may be at another address."""
    with suppress(Unavailable):
        if (agent := await all_.known.agent(place.agent_id)) is not None:
            return replace(place, address=agent.address)
    return place


@contextmanager
def counted(caller: Caller, all_: Services) -> Iterator[None]:
    """One connection more of his, for the block. Raises `Problem` (429)."""
    key, limit = caller.access_key, all_.settings.kernel_connections_per_key_max
    if _open[key] >= limit:
        raise Problem(
            429,
            "too-many-connections",
            "Too many connections to sessions",
            f"an access key may have {limit} connections to its sessions open here",
            retryable=True,
            retry_after=2,
        )
    _open[key] += 1
    try:
        yield
    finally:
        _open[key] -= 1
        if not _open[key]:
            del _open[key]


@asynccontextmanager
async def opened(place: Place, what: str, all_: Services, message_bytes_max: int) -> AsyncIterator[ClientConnection]:
    """A WebSocket to `/kernels/{kernel_id}/{what}` of its agent, for the block. Raises `Problem` (501, 502).

    It is never pinged to death: whoever reads nothing for a while answers no ping, and may be right.
    """
    socket = await _opened(place, what, all_, message_bytes_max)
    try:
        yield socket
    finally:
        try:
            await socket.close()
        finally:
            socket.transport.abort()  # it stays where it cannot be flushed, or closing is cut short


async def _opened(place: Place, what: str, all_: Services, message_bytes_max: int) -> ClientConnection:
    try:
        return await connect(
            f"{place.address.rstrip('/').replace('http', 'ws', 1)}/kernels/{place.kernel_id}/{what}",
            additional_headers={
                "Authorization": f"Bearer {internal_token(all_.settings, place.agent_id, place.kernel_id)}"
            },
            compression=None,
            proxy=None,
            open_timeout=_OPEN_SECONDS,
            close_timeout=_CLOSE_SECONDS,
            ping_timeout=None,
            max_size=message_bytes_max,
            max_queue=4,
        )
    except InvalidStatus as error:
        if error.response.status_code == 404:
            raise Problem(
                501, "no-runner", "Not possible in this session", "nothing in this session can be asked for that"
            ) from error
        _log.warning("agent refused", agent=place.agent_id, what=what, status=error.response.status_code)
        raise Unreachable(place.agent_id) from error
    except (OSError, WebSocketException) as error:
        _log.warning("agent does not answer", agent=place.agent_id, what=what, error=repr(error))
        raise Unreachable(place.agent_id) from error

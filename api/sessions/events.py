"""`GET /events/session`: what happens to sessions, as server-sent events.

A subscription by name or id begins with that session's life so far; it may also be made before the session exists.
Every message has an id, from which the stream goes on without gap or repeat, across restarts of everything.
"""

from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from api.access.authority import is_superadmin
from api.http.deps import All, Caller
from api.http.problems import invalid
from api.http.sse import DOCUMENTED, check_room, is_public_client, streamed
from api.sessions.streams import Wish, open_stream

router = APIRouter(tags=["events"])

_SCOPES: Final = frozenset({"session", "kernel"})
_ANY: Final = frozenset({None, "", "*"})
_LENGTH_MAX: Final = 128

Text = Annotated[str | None, Query(max_length=_LENGTH_MAX)]


@router.get("/events/session", response_class=Response, responses=DOCUMENTED)
async def session_events(
    request: Request,
    caller: Caller,
    all_: All,
    session_name: Annotated[str | None, Query(alias="sessionName", max_length=_LENGTH_MAX)] = None,
    name: Text = None,
    session_id: Annotated[str | None, Query(alias="sessionId", max_length=_LENGTH_MAX)] = None,
    owner: Annotated[str | None, Query(alias="ownerAccessKey", max_length=_LENGTH_MAX)] = None,
    group: Text = None,
    scope: Annotated[str, Query(max_length=_LENGTH_MAX)] = "*",
    after: Annotated[str | None, Query(max_length=8192)] = None,
    bookmarks: bool = False,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Without a name or id: all sessions of the access key; superadmins get everybody's with `ownerAccessKey=*` or
    `group=*`.

    `scope` is `session`, `kernel`, both as a list, or `*`. `Last-Event-ID` (or `after`) resumes. With `bookmarks`, an
    idle stream also tells every 15 seconds how far it has read.
    """
    scopes = _SCOPES if scope == "*" else frozenset(scope.split(","))
    if not scopes <= _SCOPES:
        raise invalid("scope", "one_of", "scope must be *, session, kernel, or a list of the latter two")
    wanted_name = session_name or name
    named = wanted_name not in _ANY or session_id not in _ANY
    everybody = is_superadmin(caller.identity) and (owner == "*" or (group == "*" and owner is None and not named))
    if not everybody and owner not in _ANY:
        caller = all_.gate.acting_for(caller, owner)
    is_anybodys = everybody or (is_superadmin(caller.identity) and session_id not in _ANY and owner is None)
    wish = Wish(
        owner=None if is_anybodys else caller.owner,
        session_id=None if session_id in _ANY else session_id,
        name=None if wanted_name in _ANY else wanted_name,
        group=None if group in _ANY else group,
        sessions="session" in scopes,
        kernels="kernel" in scopes,
        bookmarks=bookmarks,
    )
    check_room(all_, caller)
    stream = await open_stream(all_, wish, last_event_id or after)
    return streamed(stream.chunks(), caller, all_, says_retry=not is_public_client(request))

"""Which kernels are placed on which agent, as the tail sees it: an order goes out with the event that says so, and its
agent asks at once, before any projection knows."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from domain.messages import AgentId, KernelId, SessionId
from infra.log import Record

_SESSIONS_MAX: Final = 50_000  # of about 500 bytes each; older ones are looked up in the projection
_HEARD: Final = frozenset(
    {"SessionRequested", "SessionScheduled", "SessionRestarted", "SessionRescheduled", "KernelEnded", "SessionEnded"}
)


@dataclass(slots=True)
class PlacedSession:
    """`kernels`: those that have a place, and have not ended. `incarnation`: all of them are started together."""

    owner: str
    image: str
    project_id: str | None
    kernels: dict[KernelId, AgentId] = field(default_factory=dict)
    incarnation: int = 0


class Placed:
    """The sessions that were requested since this process began to read, and live."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, PlacedSession] = OrderedDict()

    def session(self, session_id: SessionId) -> PlacedSession | None:
        return self._sessions.get(session_id)

    def take(self, record: Record, headers: Mapping[str, bytes]) -> None:
        """A record of the session's events topic."""
        kind = headers["ce_type"].decode()
        if kind not in _HEARD:
            return
        session_id, told = headers["ce_subject"].decode(), orjson.loads(record.value)
        if kind == "SessionRequested":
            spec = told["spec"]
            self._sessions[session_id] = PlacedSession(told["owner"], spec["image"], spec["project_id"])
            if len(self._sessions) > _SESSIONS_MAX:
                self._sessions.popitem(last=False)
        elif kind == "SessionEnded":
            self._sessions.pop(session_id, None)
        elif (session := self._sessions.get(session_id)) is None:
            return
        elif kind == "SessionScheduled":
            session.kernels = {each["kernel_id"]: each["agent_id"] for each in told["assignments"]}
            session.incarnation += 1
        elif kind == "SessionRestarted":
            session.incarnation += 1
        elif kind == "SessionRescheduled":
            session.kernels = {}
        elif told["incarnation"] == session.incarnation:  # and not the late end of one that was given up
            session.kernels.pop(told["kernel_id"], None)

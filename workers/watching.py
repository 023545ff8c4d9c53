"""Which agents have fallen silent? A window over their heartbeats; what it concludes are commands to the scheduler.

Nothing here is kept: a watch that starts anew gives every agent the full time before it calls it lost, and a command
that says what is known already is unneeded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.messages import AgentId, Cell
from domain.scheduling.messages import MarkAgentFound, MarkAgentLost
from domain.telemetry import Heartbeat


@dataclass(frozen=True)
class Known:
    """An agent as the projection has it."""

    agent_id: AgentId
    cell: Cell
    incarnation: int
    lost: bool


@dataclass
class _Heard:
    cell: Cell
    incarnation: int
    at: datetime
    called_lost: bool = False


class Watch:
    """Over the agents whose heartbeats this process reads. Times are those of this process' clock."""

    def __init__(self, lost_after: timedelta) -> None:
        self._lost_after = lost_after
        self._heard: dict[AgentId, _Heard] = {}

    def heard(self, beat: Heartbeat, now: datetime) -> Sequence[MarkAgentFound]:
        """Take in a heartbeat. A first one, or one after silence, says that the agent is there (again)."""
        last = self._heard.get(beat.agent_id)
        if last is not None and beat.incarnation < last.incarnation:
            return []  # a late word of an earlier life
        self._heard[beat.agent_id] = _Heard(beat.cell, beat.incarnation, now)
        if last is not None and last.incarnation == beat.incarnation and not last.called_lost:
            return []
        return [MarkAgentFound(at=now, cell=beat.cell, agent_id=beat.agent_id, incarnation=beat.incarnation)]

    def silent(self, known: Iterable[Known], now: datetime) -> Sequence[MarkAgentLost]:
        """Those not heard for too long, each told once. `known` must only hold agents this process would hear."""
        told = []
        for agent in known:
            last = self._heard.setdefault(agent.agent_id, _Heard(agent.cell, agent.incarnation, now))
            if last.called_lost or agent.lost or agent.incarnation > last.incarnation:
                continue
            if now - last.at >= self._lost_after:
                last.called_lost = True
                told.append(
                    MarkAgentLost(at=now, cell=agent.cell, agent_id=agent.agent_id, incarnation=last.incarnation)
                )
        return told

    def forget(self) -> None:
        """Other partitions are read now: what was heard of their agents, and when, is not known here."""
        self._heard.clear()

"""What follows from an event of the scheduler: words to sessions about their places, to agents that they are admitted,
and stops for strays.

Also, the directory is told of agents that are gone for good.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

from domain.context import PLACEMENTS, Alarm, Context, Send
from domain.directory.messages.images import ForgetAgent
from domain.messages import AgentId
from domain.placements import AdmitAgent, StopKernel
from domain.scheduling.decider import decide
from domain.scheduling.messages import (
    COMMANDS,
    EVENTS,
    AgentRegistered,
    AgentRemoved,
    PlacementDecided,
    SchedulingCommands,
    SchedulingEvents,
)
from domain.scheduling.state import Cell, evolve
from domain.session.messages import Assignment, LoseKernel, PlaceSession

NAME = "scheduling"


def consequences(event: SchedulingEvents, before: Cell) -> Sequence[Send]:
    match event:
        case PlacementDecided():
            return [_place(event, before)]
        case AgentRegistered():
            return [_admit(event), *_stop_strays(event)]
        case AgentRemoved():
            forget = Send("directory", ForgetAgent(at=event.at, agent_id=event.agent_id))
            return [*_lose_kernels(event, before), forget]
        case _:
            return []


def alarm(_event: SchedulingEvents, _before: Cell) -> Alarm | None:
    """Nothing here has a deadline: whoever waits has his own."""
    return None


def _place(event: PlacementDecided, before: Cell) -> Send:
    assignments = tuple(
        Assignment(
            kernel_id=placement.kernel_id,
            agent_id=placement.agent_id,
            devices=placement.devices,
            host=_host(before, placement.agent_id),
        )
        for placement in event.placements
    )
    return Send(
        "session",
        PlaceSession(
            at=event.at,
            owner=before.demands[(event.session_id, event.attempt)].claim.owner,
            session_id=event.session_id,
            attempt=event.attempt,
            assignments=assignments,
        ),
    )


def _host(before: Cell, agent_id: AgentId) -> str:
    agent = before.agent(agent_id)
    return "" if agent is None else urlsplit(agent.profile.address).hostname or ""


def _admit(event: AgentRegistered) -> Send:
    admitted = AdmitAgent(at=event.at, agent_id=event.agent_id, incarnation=event.incarnation, journal=event.journal)
    return Send(PLACEMENTS, admitted)


def _stop_strays(event: AgentRegistered) -> Sequence[Send]:
    return [
        Send(
            PLACEMENTS,
            StopKernel(
                at=event.at,
                agent_id=event.agent_id,
                owner=stray.owner,
                session_id=stray.session_id,
                kernel_id=stray.kernel_id,
                incarnation=stray.incarnation,
            ),
        )
        for stray in event.strays
    ]


def _lose_kernels(event: AgentRemoved, before: Cell) -> Sequence[Send]:
    agent = before.agent(event.agent_id)
    assert agent is not None
    return [
        Send(
            "session",
            LoseKernel(
                at=event.at,
                owner=owner,
                session_id=session_id,
                attempt=attempt,
                kernel_id=kernel_id,
                agent_id=event.agent_id,
            ),
        )
        for (session_id, attempt, kernel_id), owner in sorted(agent.kernels.items())
    ]


SCHEDULING: Context[SchedulingCommands, SchedulingEvents, Cell] = Context(
    name=NAME,
    commands=COMMANDS,
    events=EVENTS,
    empty=Cell(),
    decide=decide,
    evolve=evolve,
    consequences=consequences,
    alarm=alarm,
)

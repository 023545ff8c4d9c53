"""What follows from an event of the directory: the sessions of a keypair are told what they may do now."""

from collections.abc import Iterable, Sequence

from domain.context import Alarm, Context, Send
from domain.directory.decider import decide
from domain.directory.messages import (
    COMMANDS,
    EVENTS,
    DirectoryCommands,
    DirectoryEvents,
    KeypairCreated,
    KeypairModified,
    KeypairPolicyPut,
    UserModified,
)
from domain.directory.state import Directory, evolve
from domain.messages import AccessKey
from domain.session.messages import SetSessionLimits

NAME = "directory"


def consequences(event: DirectoryEvents, before: Directory) -> Sequence[Send]:
    now = evolve(before, event)
    return [
        Send("session", SetSessionLimits(at=event.at, owner=access_key, limits=now.limits(access_key)))
        for access_key in _concerned(event, before)
        if now.limits(access_key) != before.limits(access_key)
    ]


def alarm(_event: DirectoryEvents, _before: Directory) -> Alarm | None:
    """Nothing here has a deadline."""
    return None


def _concerned(event: DirectoryEvents, before: Directory) -> Iterable[AccessKey]:
    match event:
        case KeypairCreated() | KeypairModified():
            return [event.access_key]
        case UserModified():
            return before.users[event.user_id].keypairs
        case KeypairPolicyPut():
            return sorted(key for key, keypair in before.keypairs.items() if keypair.policy == event.name)
        case _:
            return []


DIRECTORY: Context[DirectoryCommands, DirectoryEvents, Directory] = Context(
    name=NAME,
    commands=COMMANDS,
    events=EVENTS,
    empty=Directory(),
    decide=decide,
    evolve=evolve,
    consequences=consequences,
    alarm=alarm,
)

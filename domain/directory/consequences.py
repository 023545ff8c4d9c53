"""What follows from an event of the directory: the sessions of a keypair are told what they may do now."""

from collections.abc import Iterable, Sequence

from domain.context import Alarm, Context, Send
from domain.directory.decider import decide
from domain.directory.folding import evolve
from domain.directory.messages import COMMANDS, EVENTS, DirectoryCommands, DirectoryEvents
from domain.directory.messages.keypairs import KeypairCreated, KeypairDeleted, KeypairModified
from domain.directory.messages.policies import KeypairPolicyPut
from domain.directory.messages.tenants import DomainModified
from domain.directory.messages.users import UserModified
from domain.directory.state import Directory
from domain.messages import AccessKey
from domain.session.messages import SetSessionLimits

NAME = "directory"


def consequences(event: DirectoryEvents, before: Directory) -> Sequence[Send]:
    concerned = list(_concerned(event, before))
    if not concerned:
        return []
    now = evolve(before, event)
    limits = {access_key: now.limits(access_key) for access_key in concerned}
    return [
        Send("session", SetSessionLimits(at=event.at, owner=access_key, limits=allowed))
        for access_key, allowed in limits.items()
        if allowed != before.limits(access_key)
    ]


def alarm(_event: DirectoryEvents, _before: Directory) -> Alarm | None:
    """Nothing here has a deadline: what has expired is seen to be so when it is asked for."""
    return None


def _concerned(event: DirectoryEvents, before: Directory) -> Iterable[AccessKey]:
    """Whose limits may be others now. Of a user that is purged, each keypair is deleted first."""
    match event:
        case KeypairCreated() | KeypairModified() | KeypairDeleted():
            return [event.access_key]
        case UserModified():
            return before.users[event.user_id].keypairs
        case KeypairPolicyPut():
            return sorted(key for key, each in before.keypairs.items() if each.spec.resource_policy == event.name)
        case DomainModified():
            users = sorted(user_id for user_id, user in before.users.items() if user.spec.domain == event.name)
            return [access_key for user_id in users for access_key in before.users[user_id].keypairs]
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

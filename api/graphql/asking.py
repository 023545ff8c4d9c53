"""What resolvers of one request have in common: who asks, what he sees, and how his commands are given."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid5

import strawberry
from pydantic import ValidationError

from api.access.auth import Caller
from api.access.authority import Sight, authorize, sight
from api.access.secrets import revealed
from api.graphql.loaders import Loaders
from api.http.deps import Services
from api.http.problems import Problem, from_error, not_there_yet
from api.writing import accepted, context_of
from domain.directory.messages.groups import GranteeKind
from domain.directory.state import Directory, ResourceGroup, User
from domain.messages import Command, ProjectId, Refused
from infra.log import Position
from infra.postgres import Connection

_SEEN_WITHIN_SECONDS: Final = 1.0
_AT_ONCE_MAX: Final = 200  # a tenth of what an api process has under way before it turns requests away


@dataclass(slots=True)
class Asking:
    """`command_id`: what the ids of this request's commands derive from. `reached`: where their outcomes stand."""

    services: Services
    caller: Caller
    command_id: str
    traceparent: str | None = None
    reached: Position = field(default_factory=lambda: Position({}))
    _loaders: Loaders | None = None
    _given: int = 0

    @property
    def directory(self) -> Directory:
        """As it is now; a mutation that was answered is in it."""
        return self.services.tail.directory

    @property
    def sight(self) -> Sight:
        return sight(self.caller.identity)

    @property
    def loaders(self) -> Loaders:
        if self._loaders is None:
            self._loaders = Loaders(self.db)
        return self._loaders

    @asynccontextmanager
    async def db(self) -> AsyncIterator[Connection]:
        """The projections, once they know what this request has done. Raises `Unavailable`, `Problem`."""
        known = self.services.known
        if self.reached.offsets and not await known.wait_for(self.reached, self.services.settings.read_timeout):
            raise not_there_yet(str(self.reached))
        async with known.connection() as connected:
            yield connected

    async def give(self, commands: Sequence[Command]) -> None:
        """Give the commands one after the other, if the caller may give all. Raises what says why not."""
        self.authorize(commands)
        for command in commands:
            await self._give(command)

    async def give_at_once(self, commands: Sequence[Command]) -> None:
        """As `give`, for commands of which none depends on another: all are given, also when one of them is refused."""
        self.authorize(commands)
        for first in range(0, len(commands), _AT_ONCE_MAX):
            some = map(self._give, commands[first : first + _AT_ONCE_MAX])
            for error in await asyncio.gather(*some, return_exceptions=True):
                if error is not None:
                    raise error

    def authorize(self, commands: Sequence[Command]) -> None:
        """Return if the caller may give all of them. Raises what says why not."""
        for command in commands:
            authorize(command, self.caller.identity, self.directory)

    async def _give(self, command: Command) -> None:
        command_id = self.next_id()
        self._given += 1
        context = context_of(command)
        sent = await self.services.writing.send(context, command, command_id, self.caller, self.traceparent)
        result = await self.services.writing.result(sent)
        if result is None:
            raise Problem(
                202,
                "pending",
                "Not decided yet",
                "the command is durable, and its outcome is not known yet",
                retryable=True,
                command_id=sent.command_id,
            )
        accepted(result)
        self.reached = self.reached.merged(Position.parse(result.position))
        self._loaders = None  # what was read before may be different now

    async def seen(self) -> None:
        """Wait a moment until lists show what was done: clients that know nothing of positions look at once."""
        if self.reached.offsets:
            await self.services.known.wait_for(self.reached, _SEEN_WITHIN_SECONDS)

    def next_id(self) -> str:
        """Of the command that is given next: the same one when the request is repeated under its key."""
        return str(uuid5(UUID(self.command_id), f"command {self._given}"))

    # -- what the caller sees ----------------------------------------------------------------------------------------

    def sees(self, domain: str, user_id: str | None) -> bool:
        """Whether what belongs to that user of that domain is there for him."""
        seen = self.sight
        return seen.tenant(domain) and seen.user_id in (None, user_id)

    def uses_group(self, name: str) -> bool:
        """Whether he, or the users he sees, may use the resource group."""
        group = self.directory.groups.get(name)
        seen = self.sight
        if group is None or seen.domain is None:
            return group is not None
        if not seen.own_only:
            return self._is_for_domain(group, seen.domain)
        me = self.caller.identity
        return any(
            group.is_granted(seen.domain, project_id, me.keypair.access_key) for project_id in (*me.user.projects, None)
        )

    def _is_for_domain(self, group: ResourceGroup, domain: str) -> bool:
        """Whether anybody in the domain may use it."""
        granted = group.is_granted(domain, None, None)
        return granted or any(self._domain_of(kind, grantee) == domain for kind, grantee in group.grantees)

    def _domain_of(self, kind: GranteeKind, grantee: str) -> str | None:
        directory = self.directory
        if kind is GranteeKind.PROJECT:
            project = directory.projects.get(ProjectId(grantee))
            return None if project is None else project.domain
        identity = directory.identity(grantee) if kind is GranteeKind.KEYPAIR else None
        return None if identity is None else identity.user.spec.domain

    async def own_secret_key(self, access_key: str) -> str | None:
        """None for a keypair that is not his own."""
        identity = self.directory.identity(access_key)
        if identity is None or identity.user.user_id != self.caller.identity.user.user_id:
            return None
        return await revealed(self.services, identity.keypair.secret_sealed, access_key)

    def user_of(self, email: str) -> User:
        """Raises `Refused`, in the same words whether he is not there or not seen."""
        user = self.directory.user_by_email(email)
        if user is None or not self.sight.user(user):
            raise Refused("unknown_user", f"no user {email[:254]}", "email")
        return user


Info = strawberry.Info[Asking, None]


def reason_of(error: Exception) -> str | None:
    """What a mutation tells when it was not done; None where that is no "no" but something that went wrong."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part not in {"spec", "changes"})
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    problem = from_error(error)
    if problem is None or problem.status >= 500 or problem.status in {202, 429}:
        return None
    return problem.detail

"""What mutations answer: whether it was done, why not, and what the thing is like afterwards."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import strawberry

from api.graphql import reading
from api.graphql.asking import Info, reason_of
from api.graphql.types import (
    Domain,
    Group,
    Keypair,
    KeypairPolicy,
    ProjectPolicy,
    ResourcePreset,
    ScalingGroup,
    User,
    UserPolicy,
)


@strawberry.type
class Done:
    """`msg`: why it was not done."""

    ok: bool
    msg: str
    key: strawberry.Private[str] = ""


@strawberry.type
class DomainDone(Done):
    @strawberry.field
    async def domain(self, info: Info) -> Domain | None:
        return await reading.domain(info.context, self.key) if self.ok else None


@strawberry.type
class GroupDone(Done):
    @strawberry.field
    async def group(self, info: Info) -> Group | None:
        return await reading.group(info.context, self.key) if self.ok else None


@strawberry.type
class UserDone(Done):
    @strawberry.field
    async def user(self, info: Info) -> User | None:
        return await reading.user(info.context, self.key) if self.ok else None


@strawberry.type
class KeypairDone(Done):
    """`secret_key`: in the one answer that tells it."""

    secret_key: strawberry.Private[str | None] = None

    @strawberry.field
    async def keypair(self, info: Info) -> Keypair | None:
        if not self.ok:
            return None
        keypair = await reading.keypair(info.context, self.key)
        if keypair is not None and self.secret_key is not None:
            keypair.told_secret = self.secret_key
        return keypair


@strawberry.type
class KeypairPolicyDone(Done):
    @strawberry.field
    async def resource_policy(self, info: Info) -> KeypairPolicy | None:
        return await reading.keypair_policy(info.context, self.key) if self.ok else None


@strawberry.type
class UserPolicyDone(Done):
    @strawberry.field
    async def resource_policy(self, info: Info) -> UserPolicy | None:
        return await reading.user_policy(info.context, self.key) if self.ok else None


@strawberry.type
class ProjectPolicyDone(Done):
    @strawberry.field
    async def resource_policy(self, info: Info) -> ProjectPolicy | None:
        return await reading.project_policy(info.context, self.key) if self.ok else None


@strawberry.type
class ScalingGroupDone(Done):
    @strawberry.field
    async def scaling_group(self, info: Info) -> ScalingGroup | None:
        return await reading.scaling_group(info.context, self.key) if self.ok else None


@strawberry.type
class PresetDone(Done):
    resource_group: strawberry.Private[str | None] = None

    @strawberry.field
    async def resource_preset(self, info: Info) -> ResourcePreset | None:
        return await reading.preset(info.context, self.key, self.resource_group) if self.ok else None


D = TypeVar("D", bound=Done)


async def done(payload: type[D], doing: Callable[[], Awaitable[str]]) -> D:
    """Do it; the answer is about what `doing` gives the key of. A "no" is told in `msg`, anything else is raised."""
    try:
        key = await doing()
    except Exception as error:
        reason = reason_of(error)
        if reason is None:
            raise
        return payload(ok=False, msg=reason)
    return payload(ok=True, msg="success", key=key)

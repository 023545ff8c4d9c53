"""What superadmins change: how much the folders of an owner may hold on one host."""

import strawberry

from api.graphql.asking import Asking, Info
from api.graphql.folders import reading
from api.graphql.folders.types import QuotaScope, QuotaScopeInput
from api.graphql.payloads import Done, done
from api.writing import now
from domain.messages import Refused
from domain.vfolder.messages.requests import SetQuota


@strawberry.type
class QuotaScopeDone(Done):
    """`key`: the owner's scope, `host`: where."""

    host: strawberry.Private[str] = ""

    @strawberry.field
    async def quota_scope(self, info: Info) -> QuotaScope | None:
        return await reading.quota_scope(info.context, self.key, self.host) if self.ok else None


@strawberry.type
class FolderMutations:
    @strawberry.mutation
    async def set_quota_scope(
        self, info: Info, quota_scope_id: str, storage_host_name: str, props: QuotaScopeInput
    ) -> QuotaScopeDone:
        """Instead of what the owner's policy says; without a limit, that counts again."""
        return await _set(info.context, quota_scope_id, storage_host_name, props.hard_limit_bytes)

    @strawberry.mutation
    async def unset_quota_scope(self, info: Info, quota_scope_id: str, storage_host_name: str) -> QuotaScopeDone:
        """What the owner's policy says counts again."""
        return await _set(info.context, quota_scope_id, storage_host_name, None)


async def _set(asking: Asking, scope: str, host: str, max_bytes: int | None) -> QuotaScopeDone:
    async def doing() -> str:
        command = SetQuota(at=now(), scope=scope, host=host, max_bytes=max_bytes)
        asking.authorize([command])
        if not reading.sees_owner(asking, scope):
            raise Refused("unknown_owner", f"no owner {scope}", "quota_scope_id")
        await asking.give([command])
        return scope

    payload = await done(QuotaScopeDone, doing)
    payload.host = host
    return payload

"""What is asked for: folders, storage volumes and quotas. Names and fields are the public client's."""

from datetime import datetime
from typing import Final

import strawberry

from api.folders.storage import Volume
from api.graphql.scalars import UUID, BigInt, JSONString
from projections.folders.listed import ListedFolder

_MIB: Final = 2**20
_INT_MAX: Final = 2**31 - 1


@strawberry.type
class VirtualFolder:
    """`permission`: what the caller may do there, or, where an admin lists folders of others, what members of its
    project may. `max_size`: its own quota in MiB. `num_files` and `cur_size` (bytes) are what was measured last.
    """

    id: UUID | None
    host: str | None
    quota_scope_id: str | None
    name: str | None
    user: UUID | None
    user_email: str | None
    group: UUID | None
    group_name: str | None
    creator: str | None
    status: str | None
    unmanaged_path: str | None
    usage_mode: str | None
    permission: str | None
    ownership_type: str | None
    max_files: int | None
    max_size: int | None
    created_at: datetime | None
    last_used: datetime | None
    num_files: int | None
    cur_size: BigInt | None
    cloneable: bool | None

    @classmethod
    def of(cls, row: ListedFolder) -> "VirtualFolder":
        return cls(
            id=UUID(row.folder_id),
            host=row.host,
            quota_scope_id=row.scope,
            name=row.name,
            user=None if row.user_id is None else UUID(row.user_id),
            user_email=row.user_email,
            group=None if row.project_id is None else UUID(row.project_id),
            group_name=row.project,
            creator=row.creator,
            status=row.status,
            unmanaged_path=row.unmanaged_path,
            usage_mode=row.usage_mode,
            permission=row.granted,
            ownership_type=row.ownership_type,
            max_files=0,
            max_size=None if row.quota_bytes is None else min(row.quota_bytes // _MIB, _INT_MAX),
            created_at=row.created_at,
            last_used=row.last_used,
            num_files=min(row.files, _INT_MAX),
            cur_size=BigInt(row.used_bytes),
            cloneable=row.cloneable,
        )


@strawberry.type
class QuotaDetails:
    """`hard_limit_bytes`: null where there is no limit."""

    usage_bytes: BigInt | None
    usage_count: BigInt | None
    hard_limit_bytes: BigInt | None


@strawberry.type
class QuotaScope:
    """What a user (`user:<id>`) or a project (`project:<id>`) has on a storage host, and may have."""

    id: strawberry.ID
    quota_scope_id: str
    storage_host_name: str
    details: QuotaDetails


@strawberry.input
class QuotaScopeInput:
    hard_limit_bytes: BigInt | None = None


@strawberry.type
class StorageVolume:
    """A storage host. Where its files lie on the machine of its storage service is not told."""

    id: strawberry.ID | None
    backend: str | None
    fsprefix: str | None
    path: str | None
    capabilities: list[str] | None
    hardware_metadata: JSONString | None
    performance_metric: JSONString | None
    usage: JSONString | None

    @classmethod
    def of(cls, host: str, volume: Volume) -> "StorageVolume":
        return cls(
            id=strawberry.ID(host),
            backend=volume.backend,
            fsprefix="",
            path="",
            capabilities=list(volume.capabilities),
            hardware_metadata=JSONString({"status": "healthy", "status_info": None, "metadata": {}}),
            performance_metric=JSONString({}),
            usage=JSONString({"capacity_bytes": volume.capacity_bytes, "used_bytes": volume.used_bytes}),
        )

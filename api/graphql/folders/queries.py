"""What can be asked about folders."""

import strawberry

from api.graphql.asking import Info
from api.graphql.folders import cards, reading
from api.graphql.folders.cards import ModelCard, ModelCards
from api.graphql.folders.types import QuotaScope, StorageVolume, VirtualFolder
from api.graphql.lists import PaginatedList, query_of
from api.graphql.scalars import UUID


@strawberry.type
class FolderQueries:
    @strawberry.field
    async def vfolder(self, info: Info, id: UUID) -> VirtualFolder | None:
        return await reading.folder(info.context, id)

    @strawberry.field
    async def vfolder_list(
        self,
        info: Info,
        limit: int,
        offset: int,
        filter: str | None = None,
        order: str | None = None,
        order_key: str | None = None,
        order_asc: bool | None = None,
        after: str | None = None,
        domain_name: str | None = None,
        group_id: UUID | None = None,
        access_key: str | None = None,
    ) -> PaginatedList[VirtualFolder] | None:
        """Of a user what he has in any way, also the models that are offered to everybody; of an admin what all have.

        `access_key`: those that belong to its user.
        """
        query = query_of(limit, offset, filter, order, order_key, order_asc, after)
        return await reading.folder_list(info.context, query, domain_name, group_id, access_key)

    @strawberry.field
    async def vfolder_own_list(
        self,
        info: Info,
        limit: int,
        offset: int,
        filter: str | None = None,
        order: str | None = None,
        after: str | None = None,
    ) -> PaginatedList[VirtualFolder] | None:
        query = query_of(limit, offset, filter, order, None, None, after)
        return await reading.seen_list(info.context, query, ["owner"])

    @strawberry.field
    async def vfolder_invited_list(
        self,
        info: Info,
        limit: int,
        offset: int,
        filter: str | None = None,
        order: str | None = None,
        after: str | None = None,
    ) -> PaginatedList[VirtualFolder] | None:
        """Folders of others that the caller has joined."""
        query = query_of(limit, offset, filter, order, None, None, after)
        return await reading.seen_list(info.context, query, ["member"])

    @strawberry.field
    async def vfolder_project_list(
        self,
        info: Info,
        limit: int,
        offset: int,
        filter: str | None = None,
        order: str | None = None,
        after: str | None = None,
    ) -> PaginatedList[VirtualFolder] | None:
        """Folders of the projects that the caller is in."""
        query = query_of(limit, offset, filter, order, None, None, after)
        return await reading.seen_list(info.context, query, ["project"])

    @strawberry.field
    async def quota_scope(self, info: Info, storage_host_name: str, quota_scope_id: str) -> QuotaScope | None:
        return await reading.quota_scope(info.context, quota_scope_id, storage_host_name)

    @strawberry.field
    async def storage_volume(self, info: Info, id: str) -> StorageVolume | None:
        return await reading.storage_volume(info.context, id)

    @strawberry.field
    async def storage_volume_list(
        self,
        info: Info,
        limit: int,
        offset: int,
        filter: str | None = None,
        order: str | None = None,
        after: str | None = None,
    ) -> PaginatedList[StorageVolume] | None:
        query = query_of(limit, offset, filter, order, None, None, after)
        return await reading.storage_volume_list(info.context, query)

    @strawberry.field
    async def model_card(self, info: Info, id: UUID) -> ModelCard | None:
        """`id`: of the folder in which the model lies."""
        return await cards.card(info.context, id)

    @strawberry.field
    async def model_cards(
        self,
        info: Info,
        filter: str | None = None,
        order: str | None = None,
        offset: int | None = None,
        after: str | None = None,
        first: int | None = None,
    ) -> ModelCards | None:
        """Of the models that the caller has, and that are offered to everybody. Filters are those of `vfolder_list`."""
        return await cards.card_list(info.context, filter, order, offset, after, first)

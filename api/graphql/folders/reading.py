"""Folders, as far as the caller sees them: users what they have, admins also what anybody in their domain has."""

from collections.abc import Sequence
from typing import Final

import strawberry

from api.access.authority import sees_project
from api.folders.storage import Storage
from api.graphql.asking import Asking
from api.graphql.folders.types import QuotaDetails, QuotaScope, StorageVolume, VirtualFolder
from api.graphql.lists import PaginatedList, listed
from api.graphql.scalars import BigInt
from api.http.problems import Problem
from api.known_folders import viewer_of
from domain.messages import ProjectId, UserId
from projections.folders import listed as folders
from projections.folders import seen
from projections.folders.listed import ListedFolder
from projections.folders.seen import Viewer
from projections.listing import Query
from projections.volumes import volumes

NONE: Final[PaginatedList[VirtualFolder]] = PaginatedList(items=[], total_count=0)


def viewer(asking: Asking) -> Viewer:
    return viewer_of(asking.caller.identity.user, asking.directory)


# -- folders -----------------------------------------------------------------------------------------------------------


async def row(asking: Asking, folder_id: str) -> ListedFolder | None:
    """What the caller has himself or, an admin, what anybody has that he sees."""
    async with asking.db() as db:
        own = await folders.seen_folder(db, viewer(asking), folder_id)
        if own is not None or asking.sight.own_only:
            return own
        found = await folders.folder(db, folder_id)
    is_there = found is not None and (asking.sight.everything or found.domain == asking.sight.domain)
    return found if is_there else None


async def folder(asking: Asking, folder_id: str) -> VirtualFolder | None:
    found = await row(asking, folder_id)
    return None if found is None else VirtualFolder.of(found)


async def folder_list(
    asking: Asking, query: Query, domain_name: str | None, project_id: str | None, access_key: str | None
) -> PaginatedList[VirtualFolder]:
    """Of a user all he has; of an admin all that there is, in his domain."""
    identity = None if access_key is None else asking.directory.identity(access_key)
    owner = None if identity is None else identity.user
    if access_key is not None and (owner is None or not asking.sight.user(owner)):
        return NONE
    if domain_name is not None and not asking.sight.tenant(domain_name):
        return NONE
    async with asking.db() as db:
        if asking.sight.own_only:
            relations = None if owner is None else ["owner"]
            page = await folders.seen(db, viewer(asking), query, relations=relations, project_id=project_id)
        else:
            page = await folders.everyones(
                db,
                query,
                domain=domain_name or asking.sight.domain,
                user_id=None if owner is None else owner.user_id,
                project_id=project_id,
            )
    return listed([VirtualFolder.of(each) for each in page.items], page)


async def seen_list(asking: Asking, query: Query, relations: Sequence[str]) -> PaginatedList[VirtualFolder]:
    """What the caller himself has, in one of these ways (`projections.folders.seen.NEAREST`)."""
    async with asking.db() as db:
        page = await folders.seen(db, viewer(asking), query, relations=relations)
    return listed([VirtualFolder.of(each) for each in page.items], page)


# -- how much owners may have ------------------------------------------------------------------------------------------


async def quota_scope(asking: Asking, scope: str, host: str) -> QuotaScope | None:
    if not sees_owner(asking, scope):
        return None
    async with asking.db() as db:
        owner = await seen.owner(db, scope)
        used = (await seen.usage(db, scope)).get(host)
    by_policy = (owner.limits or {}).get("max_bytes") or None
    return QuotaScope(
        id=strawberry.ID(f"{host}:{scope}"),
        quota_scope_id=scope,
        storage_host_name=host,
        details=QuotaDetails(
            usage_bytes=BigInt(used.used_bytes if used else 0),
            usage_count=BigInt(used.files if used else 0),
            hard_limit_bytes=owner.quotas.get(host, by_policy),
        ),
    )


def sees_owner(asking: Asking, scope: str) -> bool:
    kind, _, owner_id = scope.partition(":")
    if kind == "user":
        user = asking.directory.users.get(UserId(owner_id))
        return user is not None and asking.sight.user(user)
    project = asking.directory.projects.get(ProjectId(owner_id))
    return kind == "project" and project is not None and sees_project(asking.caller.identity, project)


# -- where folders lie -------------------------------------------------------------------------------------------------


def storage(asking: Asking) -> Storage:
    return Storage(asking.services.settings, asking.services.http)


async def storage_volume(asking: Asking, host: str) -> StorageVolume | None:
    _for_superadmins(asking)
    found = (await storage(asking).volumes()).get(host)
    return None if found is None else StorageVolume.of(host, found)


async def storage_volume_list(asking: Asking, query: Query) -> PaginatedList[StorageVolume]:
    """Those of the storage services that answer."""
    _for_superadmins(asking)
    there = await storage(asking).volumes()
    async with asking.db() as db:
        page = await volumes(db, query, {host: volume.backend for host, volume in there.items()})
    return listed([StorageVolume.of(each.host, there[each.host]) for each in page.items], page)


def _for_superadmins(asking: Asking) -> None:
    """Raises `Problem`."""
    if not asking.sight.everything:
        raise Problem(403, "generic-forbidden", "Forbidden operation", "storage volumes are for superadmins")

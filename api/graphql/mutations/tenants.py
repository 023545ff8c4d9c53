"""Domains and projects. `delete_…` switches them off, and `purge_…` takes them away."""

from collections.abc import Sequence

import strawberry

from api.access.authority import sees_project
from api.graphql.asking import Asking, Info
from api.graphql.inputs import (
    DomainInput,
    GroupInput,
    ModifyDomainInput,
    ModifyGroupInput,
    changes,
    ids,
    spec,
)
from api.graphql.mutations.doing import do
from api.graphql.payloads import (
    DomainDone,
    Done,
    GroupDone,
    done,
)
from api.graphql.scalars import UUID
from api.writing import now
from domain.directory.messages.tenants import (
    CreateDomain,
    CreateProject,
    DomainSpec,
    ModifyDomain,
    ModifyProject,
    ProjectSpec,
    ProjectType,
    PurgeDomain,
    PurgeProject,
)
from domain.directory.messages.users import (
    JoinProject,
    LeaveProject,
)
from domain.messages import Command, ProjectId, Refused, UserId


@strawberry.type
class TenantMutations:
    # -- domains -----------------------------------------------------------------------------------------------------

    @strawberry.mutation
    async def create_domain(self, info: Info, name: str, props: DomainInput) -> DomainDone:
        async def doing() -> str:
            await info.context.give([CreateDomain(at=now(), name=name, spec=DomainSpec(**spec(props)))])
            return name

        return await done(DomainDone, doing)

    @strawberry.mutation
    async def modify_domain(self, info: Info, name: str, props: ModifyDomainInput) -> DomainDone:
        async def doing() -> str:
            rename = props.name or None
            modify = ModifyDomain(at=now(), name=name, changes=changes(props), rename=rename)
            await info.context.give([modify])
            return rename or name

        return await done(DomainDone, doing)

    @strawberry.mutation
    async def delete_domain(self, info: Info, name: str) -> Done:
        return await do(info, lambda: ModifyDomain(at=now(), name=name, changes={"active": False}))

    @strawberry.mutation
    async def purge_domain(self, info: Info, name: str) -> Done:
        return await do(info, lambda: PurgeDomain(at=now(), name=name))

    # -- projects ----------------------------------------------------------------------------------------------------

    @strawberry.mutation
    async def create_group(self, info: Info, name: str, props: GroupInput) -> GroupDone:
        async def doing() -> str:
            told = spec(props)
            project_id = ProjectId(info.context.next_id())
            create = CreateProject(
                at=now(),
                project_id=project_id,
                name=name,
                domain=told.pop("domain"),
                project_type=_project_type(props.type),
                spec=ProjectSpec(**told),
            )
            await info.context.give([create])
            return project_id

        return await done(GroupDone, doing)

    @strawberry.mutation
    async def modify_group(self, info: Info, gid: UUID, props: ModifyGroupInput) -> GroupDone:
        async def doing() -> str:
            project_id = ProjectId(gid)
            given: list[Command] = []
            told = changes(props)
            _same_domain(info.context, project_id, told.pop("domain", None))
            if told or props.name:
                given.append(ModifyProject(at=now(), project_id=project_id, changes=told, rename=props.name or None))
            given += _members(props, project_id)
            await info.context.give(given or [ModifyProject(at=now(), project_id=project_id)])
            return project_id

        return await done(GroupDone, doing)

    @strawberry.mutation
    async def delete_group(self, info: Info, gid: UUID) -> Done:
        project_id = ProjectId(gid)
        return await do(info, lambda: ModifyProject(at=now(), project_id=project_id, changes={"active": False}))

    @strawberry.mutation
    async def purge_group(self, info: Info, gid: UUID) -> Done:
        return await do(info, lambda: PurgeProject(at=now(), project_id=ProjectId(gid)))


def _project_type(text: str | None) -> ProjectType:
    try:
        return ProjectType(text.lower().replace("_", "-")) if text else ProjectType.GENERAL
    except ValueError:
        raise Refused("unknown_value", f"type must be one of {', '.join(ProjectType)}", "type") from None


def _same_domain(asking: Asking, project_id: ProjectId, domain: str | None) -> None:
    """Who may not see the project learns nothing of this."""
    project = asking.directory.projects.get(project_id)
    if domain is None or project is None or not sees_project(asking.caller.identity, project):
        return
    if project.domain != domain:
        raise Refused("domain_fixed", "a project stays in its domain", "domain_name")


def _members(props: ModifyGroupInput, project_id: ProjectId) -> Sequence[Command]:
    """The users who come or go."""
    mode = props.user_update_mode or None
    if mode not in (None, "add", "remove"):
        raise Refused("unknown_value", "user_update_mode must be add or remove", "user_update_mode")
    if mode is None:
        return []
    command = JoinProject if mode == "add" else LeaveProject
    users = [UserId(each) for each in ids(props.user_uuids or None, "user_uuids")]
    return [command(at=now(), user_id=user_id, project_id=project_id) for user_id in users]

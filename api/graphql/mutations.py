"""Everything that can be changed, each as the commands it becomes.

`delete_…` of domains, groups and users switches them off, and `purge_…` takes them away; everything else is gone when
it is deleted.
"""

from collections.abc import Sequence
from typing import Any

import strawberry
from strawberry import UNSET

from api.authority import sees_project
from api.graphql.asking import Asking, Info
from api.graphql.images.mutations import ImageMutations
from api.graphql.inputs import (
    CreateGroupInput,
    CreateKeypairPolicyInput,
    CreateProjectPolicyInput,
    CreateResourcePresetInput,
    CreateUserPolicyInput,
    DomainInput,
    GroupInput,
    KeypairInput,
    ModifyDomainInput,
    ModifyGroupInput,
    ModifyGroupOptionsInput,
    ModifyKeypairInput,
    ModifyKeypairPolicyInput,
    ModifyProjectPolicyInput,
    ModifyResourcePresetInput,
    ModifyUserInput,
    ModifyUserPolicyInput,
    PurgeUserInput,
    UserInput,
    changes,
    ids,
    spec,
    user_changes,
)
from api.graphql.payloads import (
    DomainDone,
    Done,
    GroupDone,
    KeypairDone,
    KeypairPolicyDone,
    PresetDone,
    ProjectPolicyDone,
    ScalingGroupDone,
    UserDone,
    UserPolicyDone,
    done,
)
from api.graphql.scalars import UUID
from api.making import new_keypair
from api.passwords import LENGTH_MAX, hashed
from api.secrets import sealed
from api.writing import now
from domain.directory.messages.common import UserId
from domain.directory.messages.groups import (
    CreatePreset,
    CreateResourceGroup,
    DeletePreset,
    DeleteResourceGroup,
    Grantee,
    GranteeKind,
    GrantResourceGroup,
    ModifyPreset,
    ModifyResourceGroup,
    PresetSpec,
    ResourceGroupSpec,
    RevokeAllResourceGroups,
    RevokeResourceGroup,
)
from domain.directory.messages.keypairs import (
    CreateKeypair,
    DeleteKeypair,
    KeypairSpec,
    ModifyKeypair,
)
from domain.directory.messages.policies import (
    CreateKeypairPolicy,
    CreateProjectPolicy,
    CreateUserPolicy,
    DeleteKeypairPolicy,
    DeleteProjectPolicy,
    DeleteUserPolicy,
    KeypairPolicySpec,
    ModifyKeypairPolicy,
    ModifyProjectPolicy,
    ModifyUserPolicy,
    ProjectPolicySpec,
    UserPolicySpec,
)
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
    CreateUser,
    JoinProject,
    LeaveProject,
    ModifyUser,
    PurgeUser,
    Role,
    SetUserPassword,
    SetUserTotp,
    UserSpec,
    UserStatus,
)
from domain.messages import AccessKey, Command, ProjectId, Refused
from infra.secrets import salt_for


@strawberry.type
class Mutation(ImageMutations):
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
        return await _do(info, lambda: ModifyDomain(at=now(), name=name, changes={"active": False}))

    @strawberry.mutation
    async def purge_domain(self, info: Info, name: str) -> Done:
        return await _do(info, lambda: PurgeDomain(at=now(), name=name))

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
        return await _do(info, lambda: ModifyProject(at=now(), project_id=project_id, changes={"active": False}))

    @strawberry.mutation
    async def purge_group(self, info: Info, gid: UUID) -> Done:
        return await _do(info, lambda: PurgeProject(at=now(), project_id=ProjectId(gid)))

    # -- users -------------------------------------------------------------------------------------------------------

    @strawberry.mutation
    async def create_user(self, info: Info, email: str, props: UserInput) -> UserDone:
        """He gets a keypair with it, as main one."""

        async def doing() -> str:
            command_id = info.context.next_id()
            user_id = UserId(command_id)
            told = user_changes(props)
            told["username"] = told.get("username") or email  # the public client says "" where it says none
            projects = tuple(ProjectId(each) for each in ids(props.group_ids or None, "group_ids"))
            wanted = UserSpec(**told)
            is_admin = wanted.role in {Role.ADMIN, Role.SUPERADMIN}
            keypair, _ = await new_keypair(info.context.services, user_id, command_id, KeypairSpec(is_admin=is_admin))
            create = CreateUser(
                at=now(),
                user_id=user_id,
                email=email,
                spec=wanted,
                password_hash=await _hash_of(info.context, props.password),
                projects=projects,
                keypair=keypair,
            )
            await info.context.give([create])
            return user_id

        return await done(UserDone, doing)

    @strawberry.mutation
    async def modify_user(self, info: Info, email: str, props: ModifyUserInput) -> UserDone:
        async def doing() -> str:
            user_id = info.context.user_of(email).user_id
            told = user_changes(props)
            in_projects = None if props.group_ids in (None, UNSET) else ids(props.group_ids, "group_ids")
            projects = None if in_projects is None else tuple(ProjectId(each) for each in in_projects)
            given: list[Command] = []
            if told or projects is not None:
                given.append(ModifyUser(at=now(), user_id=user_id, changes=told, projects=projects))
            if props.password:
                password_hash = await _hash_of(info.context, props.password)
                given.append(SetUserPassword(at=now(), user_id=user_id, password_hash=password_hash))
            if props.totp_activated is False and info.context.directory.users[user_id].totp_secret is not None:
                given.append(SetUserTotp(at=now(), user_id=user_id, secret=None))
            await info.context.give(given or [ModifyUser(at=now(), user_id=user_id)])
            return user_id

        return await done(UserDone, doing)

    @strawberry.mutation
    async def delete_user(self, info: Info, email: str) -> Done:
        def command() -> Command:
            user_id = info.context.user_of(email).user_id
            return ModifyUser(at=now(), user_id=user_id, changes={"status": UserStatus.DELETED})

        return await _do(info, command)

    @strawberry.mutation
    async def purge_user(self, info: Info, email: str, props: PurgeUserInput | None = None) -> Done:
        del props  # about folders, which are not kept here yet
        return await _do(info, lambda: PurgeUser(at=now(), user_id=info.context.user_of(email).user_id))

    # -- keypairs ----------------------------------------------------------------------------------------------------

    @strawberry.mutation
    async def create_keypair(self, info: Info, user_id: str, props: KeypairInput) -> KeypairDone:
        """`user_id`: the user's email. The secret key is told this once."""
        secret: list[str] = []

        async def doing() -> str:
            user = info.context.user_of(user_id)
            wanted = KeypairSpec(**spec(props))
            new, secret_key = await new_keypair(info.context.services, user.user_id, info.context.next_id(), wanted)
            create = CreateKeypair(at=now(), user_id=user.user_id, **dict(new))
            await info.context.give([create])
            secret.append(secret_key)
            return create.access_key

        answer = await done(KeypairDone, doing)
        answer.secret_key = secret[0] if secret else None
        return answer

    @strawberry.mutation
    async def modify_keypair(self, info: Info, access_key: str, props: ModifyKeypairInput) -> KeypairDone:
        async def doing() -> str:
            key = AccessKey(access_key)
            await info.context.give([ModifyKeypair(at=now(), access_key=key, changes=changes(props))])
            return key

        return await done(KeypairDone, doing)

    @strawberry.mutation
    async def delete_keypair(self, info: Info, access_key: str) -> Done:
        return await _do(info, lambda: DeleteKeypair(at=now(), access_key=AccessKey(access_key)))

    # -- policies ----------------------------------------------------------------------------------------------------

    @strawberry.mutation
    async def create_keypair_resource_policy(
        self, info: Info, name: str, props: CreateKeypairPolicyInput
    ) -> KeypairPolicyDone:
        async def doing() -> str:
            await info.context.give([CreateKeypairPolicy(at=now(), name=name, spec=KeypairPolicySpec(**spec(props)))])
            return name

        return await done(KeypairPolicyDone, doing)

    @strawberry.mutation
    async def modify_keypair_resource_policy(
        self, info: Info, name: str, props: ModifyKeypairPolicyInput
    ) -> KeypairPolicyDone:
        async def doing() -> str:
            told = changes(props)
            await info.context.give([ModifyKeypairPolicy(at=now(), name=name, changes=told)])
            return name

        return await done(KeypairPolicyDone, doing)

    @strawberry.mutation
    async def delete_keypair_resource_policy(self, info: Info, name: str) -> Done:
        return await _do(info, lambda: DeleteKeypairPolicy(at=now(), name=name))

    @strawberry.mutation
    async def create_user_resource_policy(self, info: Info, name: str, props: CreateUserPolicyInput) -> UserPolicyDone:
        async def doing() -> str:
            await info.context.give([CreateUserPolicy(at=now(), name=name, spec=UserPolicySpec(**spec(props)))])
            return name

        return await done(UserPolicyDone, doing)

    @strawberry.mutation
    async def modify_user_resource_policy(self, info: Info, name: str, props: ModifyUserPolicyInput) -> UserPolicyDone:
        async def doing() -> str:
            told = changes(props)
            await info.context.give([ModifyUserPolicy(at=now(), name=name, changes=told)])
            return name

        return await done(UserPolicyDone, doing)

    @strawberry.mutation
    async def delete_user_resource_policy(self, info: Info, name: str) -> Done:
        return await _do(info, lambda: DeleteUserPolicy(at=now(), name=name))

    @strawberry.mutation
    async def create_project_resource_policy(
        self, info: Info, name: str, props: CreateProjectPolicyInput
    ) -> ProjectPolicyDone:
        async def doing() -> str:
            await info.context.give([CreateProjectPolicy(at=now(), name=name, spec=ProjectPolicySpec(**spec(props)))])
            return name

        return await done(ProjectPolicyDone, doing)

    @strawberry.mutation
    async def modify_project_resource_policy(
        self, info: Info, name: str, props: ModifyProjectPolicyInput
    ) -> ProjectPolicyDone:
        async def doing() -> str:
            told = changes(props)
            await info.context.give([ModifyProjectPolicy(at=now(), name=name, changes=told)])
            return name

        return await done(ProjectPolicyDone, doing)

    @strawberry.mutation
    async def delete_project_resource_policy(self, info: Info, name: str) -> Done:
        return await _do(info, lambda: DeleteProjectPolicy(at=now(), name=name))

    # -- resource groups ---------------------------------------------------------------------------------------------

    @strawberry.mutation
    async def create_scaling_group(self, info: Info, name: str, props: CreateGroupInput) -> ScalingGroupDone:
        async def doing() -> str:
            told = await _with_sealed_token(info.context, name, spec(props))
            await info.context.give([CreateResourceGroup(at=now(), name=name, spec=ResourceGroupSpec(**told))])
            return name

        return await done(ScalingGroupDone, doing)

    @strawberry.mutation
    async def modify_scaling_group(self, info: Info, name: str, props: ModifyGroupOptionsInput) -> ScalingGroupDone:
        async def doing() -> str:
            told = await _with_sealed_token(info.context, name, changes(props))
            await info.context.give([ModifyResourceGroup(at=now(), name=name, changes=told)])
            return name

        return await done(ScalingGroupDone, doing)

    @strawberry.mutation
    async def delete_scaling_group(self, info: Info, name: str) -> Done:
        return await _do(info, lambda: DeleteResourceGroup(at=now(), name=name))

    @strawberry.mutation
    async def associate_scaling_group_with_domain(self, info: Info, domain: str, scaling_group: str) -> Done:
        return await _grant(info, scaling_group, GranteeKind.DOMAIN, domain)

    @strawberry.mutation
    async def associate_scaling_group_with_user_group(self, info: Info, scaling_group: str, user_group: UUID) -> Done:
        return await _grant(info, scaling_group, GranteeKind.PROJECT, user_group)

    @strawberry.mutation
    async def associate_scaling_group_with_keypair(self, info: Info, access_key: str, scaling_group: str) -> Done:
        return await _grant(info, scaling_group, GranteeKind.KEYPAIR, access_key)

    @strawberry.mutation
    async def disassociate_scaling_group_with_domain(self, info: Info, domain: str, scaling_group: str) -> Done:
        return await _revoke(info, scaling_group, GranteeKind.DOMAIN, domain)

    @strawberry.mutation
    async def disassociate_scaling_group_with_user_group(self, info: Info, scaling_group: str, user_group: str) -> Done:
        return await _revoke(info, scaling_group, GranteeKind.PROJECT, user_group)

    @strawberry.mutation
    async def disassociate_scaling_group_with_keypair(self, info: Info, access_key: str, scaling_group: str) -> Done:
        return await _revoke(info, scaling_group, GranteeKind.KEYPAIR, access_key)

    @strawberry.mutation
    async def disassociate_all_scaling_groups_with_domain(self, info: Info, domain: str) -> Done:
        return await _revoke_all(info, GranteeKind.DOMAIN, domain)

    @strawberry.mutation
    async def disassociate_all_scaling_groups_with_group(self, info: Info, user_group: UUID) -> Done:
        return await _revoke_all(info, GranteeKind.PROJECT, user_group)

    # -- presets -----------------------------------------------------------------------------------------------------

    @strawberry.mutation
    async def create_resource_preset(self, info: Info, name: str, props: CreateResourcePresetInput) -> PresetDone:
        group = props.scaling_group_name or None

        async def doing() -> str:
            create = CreatePreset(at=now(), name=name, resource_group=group, spec=PresetSpec(**spec(props)))
            await info.context.give([create])
            return name

        answer = await done(PresetDone, doing)
        answer.resource_group = group
        return answer

    @strawberry.mutation
    async def modify_resource_preset(
        self, info: Info, name: str, props: ModifyResourcePresetInput, scaling_group_name: str | None = None
    ) -> PresetDone:
        async def doing() -> str:
            told = changes(props)
            await info.context.give(
                [ModifyPreset(at=now(), name=name, resource_group=scaling_group_name, changes=told)]
            )
            return name

        answer = await done(PresetDone, doing)
        answer.resource_group = scaling_group_name
        return answer

    @strawberry.mutation
    async def delete_resource_preset(self, info: Info, name: str, scaling_group_name: str | None = None) -> Done:
        return await _do(info, lambda: DeletePreset(at=now(), name=name, resource_group=scaling_group_name))


# -- how ---------------------------------------------------------------------------------------------------------------


async def _do(info: Info, command: Any) -> Done:
    async def doing() -> str:
        await info.context.give([command()])
        return ""

    return await done(Done, doing)


async def _grant(info: Info, group: str, kind: GranteeKind, grantee: str) -> Done:
    return await _do(info, lambda: GrantResourceGroup(at=now(), name=group, to=Grantee(kind=kind, id=grantee)))


async def _revoke(info: Info, group: str, kind: GranteeKind, grantee: str) -> Done:
    return await _do(info, lambda: RevokeResourceGroup(at=now(), name=group, to=Grantee(kind=kind, id=grantee)))


async def _revoke_all(info: Info, kind: GranteeKind, grantee: str) -> Done:
    return await _do(info, lambda: RevokeAllResourceGroups(at=now(), to=Grantee(kind=kind, id=grantee)))


async def _hash_of(asking: Asking, password: str) -> str:
    """Of a first password, which its owner is to change: as easy as whoever gives it likes."""
    if not 1 <= len(password) <= LENGTH_MAX:
        raise Refused("password_length", f"a password has 1 to {LENGTH_MAX} characters", "password")
    return await hashed(password, salt_for(asking.services.settings, asking.next_id()))


async def _with_sealed_token(asking: Asking, group: str, told: dict[str, Any]) -> dict[str, Any]:
    token = told.get("wsproxy_api_token")
    if not token:
        return told
    about = f"resource group {group}"
    return told | {"wsproxy_api_token": await sealed(asking.services, about, token, about, asking.next_id())}


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

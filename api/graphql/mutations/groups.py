"""Resource groups, who may use them, and presets."""

from typing import Any

import strawberry

from api.access.secrets import sealed
from api.graphql.asking import Asking, Info
from api.graphql.inputs import (
    CreateGroupInput,
    CreateResourcePresetInput,
    ModifyGroupOptionsInput,
    ModifyResourcePresetInput,
    changes,
    spec,
)
from api.graphql.mutations.doing import do
from api.graphql.payloads import (
    Done,
    PresetDone,
    ScalingGroupDone,
    done,
)
from api.graphql.scalars import UUID
from api.writing import now
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


@strawberry.type
class GroupMutations:
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
        return await do(info, lambda: DeleteResourceGroup(at=now(), name=name))

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
        return await do(info, lambda: DeletePreset(at=now(), name=name, resource_group=scaling_group_name))


async def _grant(info: Info, group: str, kind: GranteeKind, grantee: str) -> Done:
    return await do(info, lambda: GrantResourceGroup(at=now(), name=group, to=Grantee(kind=kind, id=grantee)))


async def _revoke(info: Info, group: str, kind: GranteeKind, grantee: str) -> Done:
    return await do(info, lambda: RevokeResourceGroup(at=now(), name=group, to=Grantee(kind=kind, id=grantee)))


async def _revoke_all(info: Info, kind: GranteeKind, grantee: str) -> Done:
    return await do(info, lambda: RevokeAllResourceGroups(at=now(), to=Grantee(kind=kind, id=grantee)))


async def _with_sealed_token(asking: Asking, group: str, told: dict[str, Any]) -> dict[str, Any]:
    token = told.get("wsproxy_api_token")
    if not token:
        return told
    about = f"resource group {group}"
    return told | {"wsproxy_api_token": await sealed(asking.services, about, token, about, asking.next_id())}

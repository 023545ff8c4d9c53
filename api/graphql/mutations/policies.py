"""What keypairs, users and projects may have at most."""

import strawberry

from api.graphql.asking import Info
from api.graphql.inputs import (
    CreateKeypairPolicyInput,
    CreateProjectPolicyInput,
    CreateUserPolicyInput,
    ModifyKeypairPolicyInput,
    ModifyProjectPolicyInput,
    ModifyUserPolicyInput,
    changes,
    spec,
)
from api.graphql.mutations.doing import do
from api.graphql.payloads import (
    Done,
    KeypairPolicyDone,
    ProjectPolicyDone,
    UserPolicyDone,
    done,
)
from api.writing import now
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


@strawberry.type
class PolicyMutations:
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
        return await do(info, lambda: DeleteKeypairPolicy(at=now(), name=name))

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
        return await do(info, lambda: DeleteUserPolicy(at=now(), name=name))

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
        return await do(info, lambda: DeleteProjectPolicy(at=now(), name=name))

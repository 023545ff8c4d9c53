"""Users and their keypairs. `delete_user` switches a user off, and `purge_user` takes him away."""

import strawberry
from strawberry import UNSET

from api.access.making import new_keypair
from api.access.passwords import LENGTH_MAX, hashed
from api.graphql.asking import Asking, Info
from api.graphql.inputs import (
    KeypairInput,
    ModifyKeypairInput,
    ModifyUserInput,
    PurgeUserInput,
    UserInput,
    changes,
    ids,
    spec,
    user_changes,
)
from api.graphql.mutations.doing import do
from api.graphql.payloads import (
    Done,
    KeypairDone,
    UserDone,
    done,
)
from api.writing import now
from domain.directory.messages.keypairs import (
    CreateKeypair,
    DeleteKeypair,
    KeypairSpec,
    ModifyKeypair,
)
from domain.directory.messages.users import (
    CreateUser,
    ModifyUser,
    PurgeUser,
    Role,
    SetUserPassword,
    SetUserTotp,
    UserSpec,
    UserStatus,
)
from domain.messages import AccessKey, Command, ProjectId, Refused, UserId
from infra.secrets import salt_for


@strawberry.type
class UserMutations:
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

        return await do(info, command)

    @strawberry.mutation
    async def purge_user(self, info: Info, email: str, props: PurgeUserInput | None = None) -> Done:
        del props  # about folders, which are not kept here yet
        return await do(info, lambda: PurgeUser(at=now(), user_id=info.context.user_of(email).user_id))

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
        return await do(info, lambda: DeleteKeypair(at=now(), access_key=AccessKey(access_key)))


async def _hash_of(asking: Asking, password: str) -> str:
    """Of a first password, which its owner is to change: as easy as whoever gives it likes."""
    if not 1 <= len(password) <= LENGTH_MAX:
        raise Refused("password_length", f"a password has 1 to {LENGTH_MAX} characters", "password")
    return await hashed(password, salt_for(asking.services.settings, asking.next_id()))

"""Keypairs. A user who has any has a main one."""

from datetime import datetime

from domain.directory.deciding import endings
from domain.directory.deciding.references import Events, changed, known_keypair, known_policy, known_user, proper_id
from domain.directory.messages.keypairs import (
    BootstrapScriptSet,
    CreateKeypair,
    DeleteKeypair,
    KeypairCommands,
    KeypairCreated,
    KeypairModified,
    ModifyKeypair,
    NewKeypair,
    SetBootstrapScript,
    SetSshKeypair,
    SshKeypairSet,
)
from domain.directory.messages.users import UserModified
from domain.directory.state import Directory, User
from domain.messages import AccessKey, Refused, UserId


def decide(command: KeypairCommands, state: Directory) -> Events:
    match command:
        case CreateKeypair():
            return _create(command, state)
        case ModifyKeypair():
            return _modify(command, state)
        case SetSshKeypair():
            return _set_ssh(command, state)
        case SetBootstrapScript():
            return _set_bootstrap_script(command, state)
        case DeleteKeypair():
            return _delete(command, state)


def _create(command: CreateKeypair, state: Directory) -> Events:
    user = known_user(command.user_id, state)
    if is_there(command, command.user_id, state):
        return []
    event = created(command, command.user_id, command.at, state)
    return [event] if user.keypairs else [event, _main(command.access_key, user, command)]


def is_there(keypair: NewKeypair, user_id: UserId, state: Directory) -> bool:
    """Whether the user has just this one."""
    there = state.keypairs.get(keypair.access_key)
    asked = (user_id, keypair.secret_sealed, keypair.spec)
    return there is not None and asked == (there.user_id, there.secret_sealed, there.spec)


def created(keypair: NewKeypair, user_id: UserId, at: datetime, state: Directory, within: str = "") -> KeypairCreated:
    """The user has it from now on. Raises `Refused`; `within`: what its field begins with."""
    proper_id(keypair.access_key, f"{within}access_key")
    if keypair.access_key in state.keypairs:
        reason = f"there is a keypair {keypair.access_key} already"
        raise Refused("access_key_taken", reason, f"{within}access_key")
    known_policy(keypair.spec.resource_policy, state.keypair_policies, f"{within}resource_policy")
    return KeypairCreated(
        at=at,
        access_key=keypair.access_key,
        user_id=user_id,
        secret_sealed=keypair.secret_sealed,
        spec=keypair.spec,
        ssh=keypair.ssh,
    )


def _modify(command: ModifyKeypair, state: Directory) -> Events:
    keypair = known_keypair(command.access_key, state)
    spec = changed(keypair.spec, command.changes)
    known_policy(spec.resource_policy, state.keypair_policies)
    if spec == keypair.spec:
        return []
    return [KeypairModified(at=command.at, access_key=command.access_key, spec=spec)]


def _set_ssh(command: SetSshKeypair, state: Directory) -> Events:
    if known_keypair(command.access_key, state).ssh == command.ssh:
        return []
    return [SshKeypairSet(at=command.at, access_key=command.access_key, ssh=command.ssh)]


def _set_bootstrap_script(command: SetBootstrapScript, state: Directory) -> Events:
    if known_keypair(command.access_key, state).bootstrap_script == command.script:
        return []
    return [BootstrapScriptSet(at=command.at, access_key=command.access_key, script=command.script)]


def _delete(command: DeleteKeypair, state: Directory) -> Events:
    user = state.users[known_keypair(command.access_key, state).user_id]
    gone = endings.keypair(command.access_key, command.at, state)
    if user.spec.main_access_key != command.access_key:
        return gone
    if len(user.keypairs) > 1:
        raise Refused("main_keypair", "it is his main one: make another one that first", "access_key")
    return [*gone, _main(None, user, command)]


def _main(access_key: AccessKey | None, user: User, command: CreateKeypair | DeleteKeypair) -> UserModified:
    spec = user.spec.model_copy(update={"main_access_key": access_key})
    return UserModified(at=command.at, user_id=user.user_id, spec=spec)

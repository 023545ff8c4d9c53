"""Keypairs."""

from dataclasses import replace

from domain.directory.folding.users import with_user
from domain.directory.messages.keypairs import (
    BootstrapScriptSet,
    KeypairCreated,
    KeypairDeleted,
    KeypairEvents,
    KeypairModified,
    SshKeypairSet,
)
from domain.directory.state import Directory, Keypair


def evolve(state: Directory, event: KeypairEvents) -> Directory:
    if isinstance(event, KeypairCreated):
        return _created(state, event)
    keypair = state.keypairs[event.access_key]
    match event:
        case KeypairModified():
            return _with_keypair(state, replace(keypair, spec=event.spec, modified_at=event.at))
        case SshKeypairSet():
            return _with_keypair(state, replace(keypair, ssh=event.ssh, modified_at=event.at))
        case BootstrapScriptSet():
            return _with_keypair(state, replace(keypair, bootstrap_script=event.script, modified_at=event.at))
        case KeypairDeleted():
            user = state.users[keypair.user_id]
            rest = tuple(each for each in user.keypairs if each != event.access_key)
            state = with_user(state, replace(user, keypairs=rest))
            return replace(state, keypairs=state.keypairs.delete(event.access_key))


def _created(state: Directory, event: KeypairCreated) -> Directory:
    keypair = Keypair(event.access_key, event.user_id, event.secret_sealed, event.spec, event.at, event.at, event.ssh)
    user = state.users[event.user_id]
    state = with_user(state, replace(user, keypairs=(*user.keypairs, event.access_key)))
    return _with_keypair(state, keypair)


def _with_keypair(state: Directory, keypair: Keypair) -> Directory:
    return replace(state, keypairs=state.keypairs.set(keypair.access_key, keypair))

"""What a kernel that starts is given: everything of it that is secret, or may have changed since it was asked for."""

from collections.abc import AsyncIterator

import structlog
from pydantic import SecretStr

from api.access.secrets import about_registry, revealed
from api.accounts.dotfiles import about_dotfile
from api.http.deps import Services
from api.http.problems import Problem
from api.sessions.environ import about, about_script, strange
from api.sessions.mounting import still_granted
from domain.directory.messages.personal import DotfileOwner, DotfileScope
from domain.directory.state import Directory, Identity
from domain.messages import SessionId
from domain.outfits import GivenFile, Outfit, Question, RegistryAccount, SshIdentity
from infra import ssh_keys
from infra.secrets import CannotUnseal, SecretError

_log = structlog.get_logger("api.hosts.outfits")


async def outfit_of(session_id: SessionId, question: Question, all_: Services) -> Outfit:
    """The answer. Opens what was sealed for this session, and nothing else of its owner's.

    Raises `Problem` (400, 403, 410), `Forgotten`, `Unavailable`.
    """
    directory = all_.tail.directory
    owner = directory.identity(question.owner)
    if owner is None:
        raise Problem(410, "owner-gone", "The owner is gone", f"there is no access key {question.owner[:80]}")
    return Outfit(
        environ={
            name: await _of_session(text, about(session_id, name), f"environ.{name}", all_)
            for name, text in question.environ.items()
        },
        bootstrap_script=None
        if question.bootstrap_script is None
        else await _of_session(question.bootstrap_script, about_script(session_id), "bootstrap_script", all_),
        dotfiles=tuple([file async for file in _dotfiles(owner, question, directory, all_)]),
        ssh=await _ssh(session_id, owner, all_),
        account=await account_of(question.image, all_),
        mounts=await still_granted(owner, question, all_),
    )


async def account_of(image: str, all_: Services) -> RegistryAccount | None:
    """For the registry that the image is of; None where anybody may pull from it, or its password is lost.

    Raises `Unavailable`.
    """
    directory = all_.tail.directory
    name = directory.registry_of(image)
    registry = directory.registries[name]
    if registry.username is None or registry.password is None:
        return None
    try:
        password = await revealed(all_, registry.password, about_registry(name))
    except SecretError as error:
        _log.warning("the password of a registry cannot be read", registry=name, reason=str(error))
        return None
    return RegistryAccount(username=registry.username, password=SecretStr(password))


async def _of_session(text: str, what: str, field: str, all_: Services) -> SecretStr:
    try:
        return SecretStr(await revealed(all_, text, what))
    except CannotUnseal as error:
        _log.warning("not sealed for this session", field=field, reason=str(error))
        raise strange(field) from error


async def _dotfiles(
    owner: Identity, question: Question, directory: Directory, all_: Services
) -> AsyncIterator[GivenFile]:
    """His own go before those of the project, and these before those of his domain."""
    owners = [(DotfileScope.KEYPAIR, str(owner.keypair.access_key))]
    if question.project_id is not None:
        owners.append((DotfileScope.PROJECT, str(question.project_id)))
    owners.append((DotfileScope.DOMAIN, owner.user.spec.domain))
    seen: set[str] = set()
    for scope, owner_id in owners:
        files = directory.dotfiles_of(scope, owner_id)
        for path in sorted(set(files) - seen):
            seen.add(path)
            try:
                content = await revealed(
                    all_, files[path].content, about_dotfile(DotfileOwner(scope=scope, id=owner_id), path)
                )
            except SecretError as error:
                _log.warning("a dotfile cannot be read", scope=scope, owner=owner_id, path=path, reason=str(error))
                continue
            yield GivenFile(path=path, mode=files[path].mode, content=SecretStr(content))


async def _ssh(session_id: SessionId, owner: Identity, all_: Services) -> SshIdentity:
    """The same for all kernels of a session, and in no log: both keys derive from the key of its owner."""
    seeds = await all_.keyring.derive(owner.user.user_id, f"ssh/{session_id}", 2 * ssh_keys.SEED_BYTES)
    user, host = ssh_keys.made(seeds[: ssh_keys.SEED_BYTES]), ssh_keys.made(seeds[ssh_keys.SEED_BYTES :])
    return SshIdentity(
        private=SecretStr(user.private),
        public=user.public,
        host_private=SecretStr(host.private),
        host_public=host.public,
        authorized=() if owner.keypair.ssh is None else (owner.keypair.ssh.public_key,),
    )

"""What a new installation needs before anybody can use it: topics, tables, and one administrator.

Running it again changes nothing: topics and tables that are there stay, and the administrator's commands have ids that
derive from what they create.
"""

import asyncio
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast
from uuid import NAMESPACE_URL, uuid5

from domain.directory.consequences import DIRECTORY
from domain.directory.deciding.references import HOST_PERMISSIONS
from domain.directory.messages import DirectoryEvents
from domain.directory.messages.common import KEY, DirectoryCommand
from domain.directory.messages.groups import CreateResourceGroup
from domain.directory.messages.images import LOCAL
from domain.directory.messages.keypairs import CreateKeypair, KeypairSpec, NewKeypair
from domain.directory.messages.policies import (
    CreateKeypairPolicy,
    CreateProjectPolicy,
    CreateUserPolicy,
    KeypairPolicySpec,
)
from domain.directory.messages.tenants import CreateDomain, CreateProject, DomainSpec
from domain.directory.messages.users import CreateUser, Role, UserSpec
from domain.directory.state import Directory
from domain.messages import AccessKey, Cell, ProjectId, UserId
from domain.outcomes import CommandOutcome, ShardOpened
from infra.decoding import read_event
from infra.kafka import KafkaLog
from infra.keyring import Keyring, PostgresKeys
from infra.log import Log, LogError, read_until
from infra.postgres import DatabaseError, migrate, open_pool
from infra.secrets import SecretError, hash_password, salt_for
from infra.sending import Sender
from infra.settings import Settings, settings
from infra.telemetry import configure_logging
from infra.topics import all_topics, events, partition_of

_POLICY = KeypairPolicySpec(max_concurrent_sessions=1000, max_containers_per_session=64, max_vfolder_count=1000)
"""What the first administrator may run at a time, and how many folders he may have."""

_PROJECT = ProjectId(str(uuid5(NAMESPACE_URL, "project/default")))


@dataclass(frozen=True)
class Admin:
    """The first administrator: how he signs in, and the keypair his requests are signed with."""

    email: str
    password: str
    access_key: str
    secret_key: str


async def set_up(settings: Settings, admin: Admin) -> None:
    """Create what is missing. Raises LogError or Unavailable when a server does not answer."""
    async with KafkaLog(settings) as log:
        await log.create_topics(all_topics(settings))
        async with open_pool(settings) as pool:
            async with pool.connection() as db:
                await migrate(db)
            directory = await _directory(settings, log)
            if AccessKey(admin.access_key) in directory.keypairs:
                return  # what was set up may have been changed since, and is not ours to reset
            administrator = await _administrator(settings, Keyring(settings, PostgresKeys(pool)), admin, directory)
        commands = [("directory", each, _id_of(settings, each)) for each in (*_bootstrap(settings), administrator)]
        await Sender(settings, log, "refold/setup").send_all(commands, "setup")


async def _directory(settings: Settings, log: Log) -> Directory:
    """The directory as it stands in the log."""
    place = partition_of(settings, events("directory"), KEY)
    state = Directory()
    async for batch in read_until(log, await log.starts([place]), await log.ends([place])):
        for record in batch:
            told = read_event(DIRECTORY, record)
            if not isinstance(told.event, ShardOpened | CommandOutcome):
                state = DIRECTORY.evolve(state, cast(DirectoryEvents, told.event))
    return state


def _bootstrap(settings: Settings) -> list[DirectoryCommand]:
    now = datetime.now(UTC)
    hosts = {settings.vfolder_host: tuple(sorted(HOST_PERMISSIONS))}
    return [
        CreateKeypairPolicy(at=now, name="default", spec=_POLICY),
        CreateUserPolicy(at=now, name="default"),
        CreateProjectPolicy(at=now, name="default"),
        CreateDomain(
            at=now, name="default", spec=DomainSpec(allowed_docker_registries=(LOCAL,), allowed_vfolder_hosts=hosts)
        ),
        CreateProject(at=now, project_id=_PROJECT, name="default", domain="default"),
        CreateResourceGroup(at=now, name="default", cell=Cell("default")),
    ]


async def _administrator(settings: Settings, keyring: Keyring, admin: Admin, there: Directory) -> DirectoryCommand:
    """He and his keypair; or, where he is there but has another one, this one too."""
    now = datetime.now(UTC)
    user_id = UserId(str(uuid5(NAMESPACE_URL, f"user/{admin.email}")))
    secret = await keyring.seal(user_id, admin.secret_key, admin.access_key, _id(settings, admin.access_key))
    keypair = NewKeypair(access_key=AccessKey(admin.access_key), secret_sealed=secret, spec=KeypairSpec(is_admin=True))
    if user_id in there.users:
        return CreateKeypair(at=now, user_id=user_id, **dict(keypair))
    return CreateUser(
        at=now,
        user_id=user_id,
        email=admin.email,
        spec=UserSpec(username=admin.email.partition("@")[0], role=Role.SUPERADMIN, domain="default"),
        password_hash=hash_password(admin.password, salt_for(settings, _id(settings, admin.email))),
        projects=(_PROJECT,),
        keypair=keypair,
    )


def _id_of(settings: Settings, command: DirectoryCommand) -> str:
    """One id for each thing set up here, so that a second set-up repeats commands instead of giving new ones."""
    return _id(settings, f"{type(command).__name__}/{command.subject}")


def _id(settings: Settings, thing: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"{settings.deployment}/setup/{thing}"))


def main() -> None:
    """Set up the installation the settings name, with the administrator of `ADMIN_*` and `BACKEND_*`."""
    names = ("ADMIN_EMAIL", "ADMIN_PASSWORD", "BACKEND_ACCESS_KEY", "BACKEND_SECRET_KEY")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        sys.exit(f"refold: set {', '.join(missing)}")
    configure_logging(settings(), "setup")
    try:
        asyncio.run(set_up(settings(), Admin(*(os.environ[name] for name in names))))
    except (LogError, DatabaseError, SecretError) as error:
        sys.exit(f"refold: {error}")


if __name__ == "__main__":
    main()

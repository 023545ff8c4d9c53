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
from domain.directory.messages import DirectoryEvents
from domain.directory.messages.common import KEY, DirectoryCommand, ProjectId, UserId
from domain.directory.messages.groups import CreateResourceGroup
from domain.directory.messages.keypairs import CreateKeypair, KeypairSpec
from domain.directory.messages.policies import (
    CreateKeypairPolicy,
    CreateProjectPolicy,
    CreateUserPolicy,
    KeypairPolicySpec,
)
from domain.directory.messages.tenants import CreateDomain, CreateProject
from domain.directory.messages.users import CreateUser, Role, UserSpec
from domain.directory.state import Directory
from domain.messages import AccessKey, Cell
from domain.outcomes import CommandOutcome, ShardOpened
from infra.decoding import read_event
from infra.kafka import KafkaLog
from infra.keyring import Keyring, PostgresKeys
from infra.log import Log, LogError, read_until
from infra.postgres import DatabaseError, migrate, open_pool
from infra.secrets import SecretError, hash_password
from infra.sending import Sender
from infra.settings import Settings, settings
from infra.telemetry import configure_logging
from infra.topics import all_topics, events, partition_of

_POLICY = KeypairPolicySpec(max_concurrent_sessions=1000, max_containers_per_session=64)
"""What the first administrator may run at a time."""


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
            if AccessKey(admin.access_key) in (await _directory(settings, log)).keypairs:
                return  # what was set up may have been changed since, and is not ours to reset
            user_id = UserId(str(uuid5(NAMESPACE_URL, f"user/{admin.email}")))
            keyring = Keyring(settings, PostgresKeys(pool))
            secret = await keyring.seal(user_id, admin.secret_key, admin.access_key)
        commands = [("directory", command, _id_of(settings, command)) for command in _bootstrap(admin, user_id, secret)]
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


def _bootstrap(admin: Admin, user_id: UserId, secret_sealed: str) -> list[DirectoryCommand]:
    now = datetime.now(UTC)
    access_key = AccessKey(admin.access_key)
    project_id = ProjectId(str(uuid5(NAMESPACE_URL, "project/default")))
    return [
        CreateKeypairPolicy(at=now, name="default", spec=_POLICY),
        CreateUserPolicy(at=now, name="default"),
        CreateProjectPolicy(at=now, name="default"),
        CreateDomain(at=now, name="default"),
        CreateProject(at=now, project_id=project_id, name="default", domain="default"),
        CreateResourceGroup(at=now, name="default", cell=Cell("default")),
        CreateUser(
            at=now,
            user_id=user_id,
            email=admin.email,
            spec=UserSpec(username=admin.email.partition("@")[0], role=Role.SUPERADMIN, domain="default"),
            password_hash=hash_password(admin.password),
            projects=(project_id,),
        ),
        CreateKeypair(
            at=now,
            access_key=access_key,
            user_id=user_id,
            secret_sealed=secret_sealed,
            spec=KeypairSpec(is_admin=True),
        ),
    ]


def _id_of(settings: Settings, command: DirectoryCommand) -> str:
    """One id for each thing set up here, so that a second set-up repeats commands instead of giving new ones."""
    return str(uuid5(NAMESPACE_URL, f"{settings.deployment}/setup/{type(command).__name__}/{command.subject}"))


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

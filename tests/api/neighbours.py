"""More people: a domain admin and a monitor beside ada and eve, and a domain next door with a user and its admin."""

import httpx

from domain.directory.messages.common import DirectoryCommand
from domain.directory.messages.keypairs import CreateKeypair, KeypairSpec
from domain.directory.messages.tenants import CreateDomain, CreateProject
from domain.directory.messages.users import CreateUser, Role, UserSpec
from domain.messages import AccessKey, ProjectId, UserId
from infra.keyring import Keyring
from infra.secrets import hash_password
from infra.signing import KeypairAuth
from tests.api.world import World
from tests.whole import now

HOME = ProjectId("00000000-0000-0000-0000-00000000000a")
NEXT_DOOR = ProjectId("00000000-0000-0000-0000-00000000000b")
PASSWORD = "correct horse battery"
_HASH = hash_password(PASSWORD)

PEOPLE = {
    "dora": ("default", Role.ADMIN, HOME),
    "mona": ("default", Role.MONITOR, HOME),
    "zoe": ("nextdoor", Role.USER, NEXT_DOOR),
    "zed": ("nextdoor", Role.ADMIN, NEXT_DOOR),
}


def keys_of(name: str) -> tuple[str, str]:
    return f"AK{name.upper()}", f"{name}-secret"


async def move_in(world: World) -> None:
    commands: list[DirectoryCommand] = [
        CreateDomain(at=now(), name="nextdoor"),
        CreateProject(at=now(), project_id=NEXT_DOOR, name="default", domain="nextdoor"),
        *[each for name in PEOPLE for each in await _person(world, name)],
    ]
    await directed(world, *commands)


async def _person(world: World, name: str) -> list[DirectoryCommand]:
    domain, role, project = PEOPLE[name]
    access_key, secret = keys_of(name)
    user_id = UserId(f"user-{name}")
    return [
        CreateUser(
            at=now(),
            user_id=user_id,
            email=f"{name}@example.org",
            spec=UserSpec(username=name, role=role, domain=domain),
            password_hash=_HASH,
            projects=(project,),
        ),
        CreateKeypair(
            at=now(),
            access_key=AccessKey(access_key),
            user_id=user_id,
            secret_sealed=await Keyring(world.settings, world.keys).seal(user_id, secret, access_key),
            spec=KeypairSpec(),
        ),
    ]


async def directed(world: World, *commands: DirectoryCommand) -> None:
    """By the administrator. The api knows of them when this returns."""
    async with world.client("admin") as admin:
        for command in commands:
            answer = await admin.post("/refold/commands", json=command.model_dump(mode="json", exclude={"at"}))
            assert answer.status_code == 200, answer.text


def client_of(world: World, name: str, **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=world.url, auth=KeypairAuth(*keys_of(name)), headers=headers, timeout=20)

"""Folders, volumes, quotas and model cards by GraphQL, with a real storage service and a real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
import pytest
import pytest_asyncio

from api.graphql.folders.cards import Definition, parsed
from domain.directory.messages.tenants import CreateProject, ProjectType
from domain.messages import ProjectId
from domain.vfolder.messages.common import FolderSpec, ScopeLimits
from domain.vfolder.messages.reports import SetScopeLimits
from domain.vfolder.messages.requests import CreateFolder
from domain.vfolder.mounts import UsageMode, project_scope
from tests.api.admin import HOME, AdminWorld, access_key, email, user_id
from tests.api.shelves import HOST as SHELF
from tests.api.shelves import folder_id
from tests.api.storing import HOST, storing
from tests.conftest import empty_database
from tests.whole import an_id, now

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

STORE: Final = ProjectId(an_id("project store"))
ADAS: Final = f"user:{user_id('ada')}"

DEFINITION: Final = """
models:
- name: speech-large
  model_path: /models
  metadata:
    title: Speech, large
    version: 2
    task: speech-to-text
    framework: [torch, onnx]
    label: audio
    min_resource: {cpu: 4, mem: 8g}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shelf(database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AdminWorld]:
    """With a storage service, and a store that offers three models: with a card, with a bad one, without one."""
    folder = tmp_path_factory.mktemp("shelf")
    async with (
        empty_database(database) as url,
        AdminWorld(folder, url).started() as world,
        storing(world.settings, world.log, folder) as storage,
    ):
        project = CreateProject(
            at=now(), project_id=STORE, name="store", domain="home", project_type=ProjectType.MODEL_STORE
        )
        await world.whole.give("directory", project)
        await world.settled()
        scope = project_scope(STORE)
        limits = ScopeLimits(hosts={HOST: ("create-vfolder",)})
        await world.whole.give("vfolder", SetScopeLimits(at=now(), scope=scope, limits=limits))
        spec = FolderSpec(host=HOST, usage_mode=UsageMode.MODEL, cloneable=True, creator="ada@example.org")
        for name in ("speech", "torn", "bare"):
            create = CreateFolder(at=now(), scope=scope, folder_id=folder_id(name), name=name, spec=spec)
            await world.whole.give("vfolder", create)
            await _ready(world, name)
        (storage.folder(folder_id("speech")) / "model-definition.yml").write_text(DEFINITION)
        (storage.folder(folder_id("speech")) / "README.md").write_text("# Speech\n")
        (storage.folder(folder_id("torn")) / "model-definition.yaml").write_text("models: [")
        yield world


async def _ready(world: AdminWorld, name: str) -> None:
    async with asyncio.timeout(10):
        while True:
            await world.settled()
            told = await world.ask("root", "query($id: UUID!) { vfolder(id: $id) { status } }", {"id": folder_id(name)})
            if told["vfolder"] == {"status": "ready"}:
                return
            await asyncio.sleep(0.02)


async def _error(world: AdminWorld, who: str, query: str) -> Any:
    response = await world.post(who, query)
    [error] = response.json()["errors"]
    return error["message"]


async def test_a_folder_is_shown_in_the_words_of_the_client(shelf: AdminWorld) -> None:
    fields = (
        "id host quota_scope_id name user user_email group group_name creator status unmanaged_path usage_mode"
        " permission ownership_type max_files max_size last_used num_files cur_size cloneable"
    )
    query = f"query($id: UUID!) {{ vfolder(id: $id) {{ {fields} }} }}"
    one = folder_id("folder-of-ada")
    told = (await shelf.ask("ada", query, {"id": one.replace("-", "")}))["vfolder"]
    assert told == {
        "id": one,
        "host": SHELF,
        "quota_scope_id": ADAS,
        "name": "folder-of-ada",
        "user": user_id("ada"),
        "user_email": email("ada"),
        "group": None,
        "group_name": None,
        "creator": "ada@example.org",
        "status": "ready",
        "unmanaged_path": None,
        "usage_mode": "general",
        "permission": "wd",
        "ownership_type": "user",
        "max_files": 0,
        "max_size": 1024,
        "last_used": None,
        "num_files": 3,
        "cur_size": 1000,
        "cloneable": False,
    }
    of_project = (await shelf.ask("boss", query, {"id": folder_id("folder-of-home")}))["vfolder"]
    assert (of_project["group"], of_project["group_name"], of_project["user"]) == (HOME, "home-project", None)
    assert (of_project["permission"], of_project["ownership_type"]) == ("rw", "group")


async def test_what_users_and_keypairs_have_is_told_with_them(shelf: AdminWorld) -> None:
    query = f"""{{ user(email: "{email("ada")}") {{ vfolders {{ name }} }}
        keypair(access_key: "{access_key("ada")}") {{ vfolders {{ name }} }} }}"""
    told = await shelf.ask("root", query)
    assert told["user"] == told["keypair"] == {"vfolders": [{"name": "folder-of-ada"}]}


async def test_models_of_a_store_are_offered_to_everybody_to_read(shelf: AdminWorld) -> None:
    query = "query($f: String) { vfolder_list(limit: 10, offset: 0, filter: $f) { items { name permission } } }"
    told = await shelf.ask("kim", query, {"f": '(name ilike "s%") & (usage_mode == "MODEL")'})
    assert told["vfolder_list"]["items"] == [{"name": "speech", "permission": "ro"}]
    told = await shelf.ask("lord", query, {"f": 'usage_mode == "MODEL"'})
    assert told["vfolder_list"]["items"] == []  # an admin is shown what belongs to his domain


async def test_lists_are_of_one_project_or_of_one_keypairs_user(shelf: AdminWorld) -> None:
    async def names(who: str, arguments: str) -> list[str]:
        told = await shelf.ask(who, f"{{ vfolder_list(limit: 10, offset: 0, {arguments}) {{ items {{ name }} }} }}")
        return [each["name"] for each in told["vfolder_list"]["items"]]

    for who in ("root", "boss", "ada"):
        assert await names(who, f'access_key: "{access_key("ada")}"') == ["folder-of-ada"]
        assert await names(who, f'group_id: "{HOME}"') == ["folder-of-home"]
    assert await names("kim", f'access_key: "{access_key("ada")}"') == []
    assert await names("boss", 'domain_name: "away"') == []
    assert await names("root", 'order: "-name", domain_name: "home"') == [
        "torn", "speech", "folder-of-home", "folder-of-ada", "bare",
    ]  # fmt: skip
    wrong = await _error(shelf, "ada", '{ vfolder_own_list(limit: 1, offset: 0, filter: "size > 3") { total_count } }')
    assert "size" in wrong


async def test_volumes_are_those_that_the_storage_services_have(shelf: AdminWorld) -> None:
    query = f'{{ storage_volume(id: "{HOST}") {{ id backend capabilities usage hardware_metadata path }} }}'
    volume = (await shelf.ask("root", query))["storage_volume"]
    assert volume["id"] == HOST
    assert orjson.loads(volume["usage"])["capacity_bytes"] > 0
    assert orjson.loads(volume["hardware_metadata"])["status"] == "healthy"
    assert volume["path"] == ""  # where it lies there is nobody's business here
    listing = "query($f: String) { storage_volume_list(limit: 10, offset: 0, filter: $f) { items { id } total_count } }"
    for filter_, ids in ((None, [{"id": HOST}]), ('id == "local:other"', [])):
        told = await shelf.ask("root", listing, {"f": filter_})
        assert told["storage_volume_list"] == {"items": ids, "total_count": len(ids)}
    assert (await shelf.ask("root", '{ storage_volume(id: "local:other") { id } }'))["storage_volume"] is None


async def test_a_quota_counts_instead_of_the_policy_until_it_is_unset(shelf: AdminWorld) -> None:
    about = f'quota_scope_id: "{ADAS}", storage_host_name: "{SHELF}"'
    details = "quota_scope { id quota_scope_id details { usage_bytes usage_count hard_limit_bytes } }"
    set_ = f"mutation {{ set_quota_scope({about}, props: {{hard_limit_bytes: 4096}}) {{ ok {details} }} }}"
    told = (await shelf.ask("root", set_))["set_quota_scope"]
    assert told == {
        "ok": True,
        "quota_scope": {
            "id": f"{SHELF}:{ADAS}",
            "quota_scope_id": ADAS,
            "details": {"usage_bytes": 1000, "usage_count": 3, "hard_limit_bytes": 4096},
        },
    }
    seen = (await shelf.ask("ada", f"{{ quota_scope({about}) {{ details {{ hard_limit_bytes }} }} }}"))["quota_scope"]
    assert seen == {"details": {"hard_limit_bytes": 4096}}
    told = await shelf.ask("root", f"mutation {{ unset_quota_scope({about}) {{ {details} }} }}")
    assert told["unset_quota_scope"]["quota_scope"]["details"]["hard_limit_bytes"] == 2**40


@pytest.mark.parametrize(
    ("scope", "host", "limit", "reason"),
    [
        ("user:nobody", HOST, 1, "no owner"),
        (f"user:{an_id('nobody')}", HOST, 1, "no owner"),
        (ADAS, "nowhere", 1, "host: "),
        (ADAS, HOST, -1, "max_bytes: "),
    ],
)
async def test_a_quota_that_cannot_be_is_refused_with_its_field(
    shelf: AdminWorld, scope: str, host: str, limit: int, reason: str
) -> None:
    arguments = f'quota_scope_id: "{scope}", storage_host_name: "{host}", props: {{hard_limit_bytes: {limit}}}'
    told = await shelf.ask("root", f"mutation {{ set_quota_scope({arguments}) {{ ok msg quota_scope {{ id }} }} }}")
    assert told["set_quota_scope"]["ok"] is False
    assert told["set_quota_scope"]["quota_scope"] is None
    assert told["set_quota_scope"]["msg"].startswith(reason)


async def test_a_models_card_says_what_its_definition_says(shelf: AdminWorld) -> None:
    fields = "name title version task framework label author min_resource readme error_msg vfolder { permission }"
    cards = f'model_cards(order: "name", first: $first) {{ count edges {{ node {{ {fields} }} }} }}'
    query = f"query($first: Int) {{ {cards} }}"
    told = (await shelf.ask("kim", query))["model_cards"]
    bare, speech, torn = [edge["node"] for edge in told["edges"]]
    assert told["count"] == 3
    assert speech == {
        "name": "speech-large",
        "title": "Speech, large",
        "version": "2",
        "task": "speech-to-text",
        "framework": ["torch", "onnx"],
        "label": ["audio"],
        "author": "ada@example.org",
        "min_resource": '{"cpu":"4","mem":"8g"}',
        "readme": "# Speech\n",
        "error_msg": None,
        "vfolder": {"permission": "ro"},
    }
    assert (bare["name"], bare["task"], bare["readme"], bare["error_msg"]) == ("bare", None, None, None)
    assert torn["error_msg"].startswith("the model definition cannot be read")
    assert len((await shelf.ask("kim", query, {"first": 1}))["model_cards"]["edges"]) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, Definition()),
        (b"\xff", "cannot be read"),
        (b"models: &a [*a]", "aliases are not allowed"),
        (b"[" * 60_000, "nested too deeply"),
        (b"a: 1", "names no models"),
        (b"models: []", "names no models"),
        (b"models: [{name: 3, metadata: 4}]", Definition()),
        (b"models: [{name: x}]", Definition(name="x")),
    ],
)
async def test_whatever_is_in_a_definition_it_is_no_error_of_the_list(content: bytes | None, said: Any) -> None:
    found = parsed(content)
    assert found == said if isinstance(said, Definition) else said in str(found.error)
    assert (found.text("title"), found.texts("label"), found.amounts("min_resource")) == (None, [], {})

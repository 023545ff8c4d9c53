"""What a scan finds, says and forgets, and that no registry can make it do anything else."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from aiohttp import web

from domain.directory.consequences import DIRECTORY
from domain.directory.messages import DirectoryCommands
from domain.directory.messages.common import DirectoryCommand
from domain.directory.messages.images import (
    CreateRegistry,
    ForgetImage,
    LocalImage,
    ModifyImage,
    RegisterImage,
    RegistrySpec,
    ReportAgentImages,
)
from domain.directory.messages.tasks import (
    ReportTaskEnd,
    ReportTaskProgress,
    ScanRegistries,
    StartTask,
    TaskEnd,
    TaskId,
)
from domain.directory.state import Directory
from domain.messages import AgentId
from tests.whole import an_id
from tests.workers.registry import CONFIG, MANIFEST, FakeRegistry, content, digest_of, status
from workers import scanning
from workers.registries import web as registry_web
from workers.scanning import Scan

NOW = datetime(2026, 11, 21, tzinfo=UTC)
NAME = "cr.example.org"


class Scans:
    """A directory with one registry, and scans of it. `passwords`: what those of registries are unsealed to."""

    def __init__(self, registry: FakeRegistry) -> None:
        self.registry = registry
        self.directory = Directory()
        self.said: list[DirectoryCommand] = []
        self.passwords: dict[str, str] = {}
        self._number = 0

    def give(self, command: DirectoryCommand) -> None:
        for event in DIRECTORY.decide(cast(DirectoryCommands, command), self.directory):
            self.directory = DIRECTORY.evolve(self.directory, event)

    def know(self, **spec: Any) -> None:
        """That there is the registry, with these properties."""
        given = RegistrySpec.model_validate({"url": self.registry.url, "ssl_verify": False} | spec)
        self.give(CreateRegistry(at=NOW, name=NAME, spec=given))

    def begin(self, *registries: str) -> Scan:
        self._number += 1
        task_id = TaskId(an_id(f"task {self._number}"))
        work = ScanRegistries(registries=registries or (NAME,))
        self.give(StartTask(at=NOW, task_id=task_id, work=work))
        self.said.clear()
        return Scan(self.directory.tasks[task_id], work, lambda: self.directory, self._tell, self._password)

    async def scan(self, *registries: str) -> ReportTaskEnd:
        """How it ended."""
        await self.begin(*registries).run()
        assert isinstance(self.said[-1], ReportTaskEnd)
        return self.said[-1]

    @property
    def images(self) -> set[tuple[str, str]]:
        """Those registered: reference and architecture."""
        return set(self.directory.images)

    async def _tell(self, commands: Sequence[DirectoryCommand]) -> None:
        self.said += commands
        for command in commands:
            self.give(command)

    async def _password(self, registry: str, sealed: str) -> str:
        return self.passwords.get(registry, f"clear {sealed}")


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    made = FakeRegistry()
    async with made.serving():
        yield made


@pytest.fixture
def scans(registry: FakeRegistry) -> Scans:
    return Scans(registry)


# -- what is found -----------------------------------------------------------------------------------------------------


async def test_every_tag_of_every_repository_is_registered_whatever_the_pages(scans: Scans) -> None:
    scans.registry.page = 2
    for number in range(5):
        for tag in ("1", "2", "3"):
            scans.registry.add(f"stable/python{number}", tag)
    scans.know()
    ended = await scans.scan()
    assert ended.end is TaskEnd.DONE
    assert "registered 15" in ended.message
    expected = {(f"{NAME}/stable/python{number}:{tag}", "x86_64") for number in range(5) for tag in "123"}
    assert scans.images == expected


async def test_an_image_is_registered_with_its_digest_its_size_and_its_labels(scans: Scans) -> None:
    label = {"ai.backend.resource.min.cpu": "2"}
    digest = scans.registry.add("stable/python", "3.11", **label)
    scans.know()
    await scans.scan()
    image = scans.directory.images[f"{NAME}/stable/python:3.11", "x86_64"]
    assert (image.facts.digest, image.facts.size_bytes, image.facts.labels) == (digest, 1000, label)
    assert image.minimum("cpu") == 2000


async def test_a_list_of_manifests_is_one_image_for_each_architecture(scans: Scans) -> None:
    scans.registry.add_list("stable/python", "3.11", ["amd64", "arm64"])
    scans.know()
    await scans.scan()
    assert {architecture for _, architecture in scans.images} == {"x86_64", "aarch64"}


async def test_only_the_projects_that_are_named_are_looked_through(scans: Scans) -> None:
    for repository in ("stable/python", "stabler/python", "other/python"):
        scans.registry.add(repository, "1")
    scans.know(projects=("stable",))
    await scans.scan()
    assert scans.images == {(f"{NAME}/stable/python:1", "x86_64")}


async def test_where_there_is_no_catalog_projects_name_the_repositories(scans: Scans) -> None:
    scans.registry.add("stable/python", "1")
    scans.registry.instead["/v2/_catalog"] = status(401)
    scans.know(projects=("stable/python",))
    await scans.scan()
    assert scans.images == {(f"{NAME}/stable/python:1", "x86_64")}


async def test_harbor_is_asked_for_its_projects_and_introduced_to(scans: Scans) -> None:
    scans.registry.add("stable/python", "1")
    scans.registry.add("community/r", "1")
    scans.know(registry_type="harbor2", username="robot", password="c2VhbGVk")
    await scans.scan()
    assert {reference for reference, _ in scans.images} == {f"{NAME}/stable/python:1", f"{NAME}/community/r:1"}
    [(_, headers), *_] = [each for each in scans.registry.asked if each[0].startswith("/api/")]
    assert headers["Authorization"].startswith("Basic ")
    assert not scans.registry.paths("_catalog")


async def test_tokens_are_fetched_for_each_scope_with_the_unsealed_password(scans: Scans) -> None:
    scans.registry.account = ("robot", "clear c2VhbGVk")
    scans.registry.add("stable/python", "1")
    scans.registry.add("stable/python", "2")
    scans.know(username="robot", password="c2VhbGVk")
    ended = await scans.scan()
    assert ended.end is TaskEnd.DONE
    assert len(scans.images) == 2
    assert len({*scans.registry.paths("/token")}) == 2  # for the catalog, and for the repository
    assert "clear" not in json.dumps([each.model_dump(mode="json") for each in scans.said])


async def test_wrong_credentials_fail_the_scan_and_say_so(scans: Scans) -> None:
    scans.registry.account = ("robot", "another")
    scans.know(username="robot", password="c2VhbGVk", projects=("stable/python",))
    ended = await scans.scan()
    assert ended.end is TaskEnd.FAILED
    assert "token service" in ended.message


# -- what is repeated and what is forgotten ----------------------------------------------------------------------------


async def test_what_is_known_already_is_not_said_again(scans: Scans) -> None:
    scans.registry.add("stable/python", "1")
    scans.know()
    await scans.scan()
    await scans.scan()
    assert not [each for each in scans.said if isinstance(each, RegisterImage | ForgetImage)]
    assert len(scans.registry.paths("/blobs/")) == 1, "a configuration that is known is not read again"


async def test_what_the_registry_no_longer_has_is_forgotten_and_rules_stay(scans: Scans) -> None:
    scans.registry.add("stable/python", "1")
    scans.registry.add("stable/python", "2")
    scans.know()
    await scans.scan()
    kept, gone = f"{NAME}/stable/python:1", f"{NAME}/stable/python:2"
    scans.give(ModifyImage(at=NOW, reference=kept, architecture="x86_64", changes={"accelerators": ("cuda",)}))
    scans.registry.remove("stable/python", "2")
    ended = await scans.scan()
    assert "forgotten 1" in ended.message
    assert scans.images == {(kept, "x86_64")}
    assert scans.directory.images[kept, "x86_64"].accelerators == {"cuda"}
    assert gone not in {reference for reference, _ in scans.images}


async def test_nothing_is_forgotten_for_what_could_not_be_read(scans: Scans) -> None:
    for tag in ("1", "2"):
        scans.registry.add("stable/python", tag, of=tag)
    scans.registry.add("stable/r", "1")
    scans.know()
    await scans.scan()
    before = scans.images
    scans.registry.instead["/v2/stable/python/manifests/1"] = status(500)
    scans.registry.instead["/v2/stable/r/tags/list"] = status(403)
    ended = await scans.scan()
    assert ended.end is TaskEnd.DONE
    assert "not readable 2" in ended.message
    assert scans.images == before


async def test_a_registry_that_shows_nothing_any_more_loses_nothing(scans: Scans) -> None:
    scans.registry.add("stable/python", "1")
    scans.know()
    await scans.scan()
    before = scans.images
    scans.registry.instead["/v2/_catalog"] = content(b'{"repositories": []}')
    ended = await scans.scan()
    assert (ended.end, scans.images) == (TaskEnd.FAILED, before)


async def test_the_local_registry_is_what_agents_have_and_no_other_registry_offers(scans: Scans) -> None:
    scans.know()
    mine, theirs = "docker.io/refold/base:1", f"{NAME}/stable/python:1"
    here = tuple(LocalImage(reference=each, architecture="x86_64") for each in (mine, theirs))
    scans.give(ReportAgentImages(at=NOW, agent_id=AgentId("a1"), come=here))
    await scans.scan("local")
    assert scans.images == {(mine, "x86_64")}
    scans.give(ReportAgentImages(at=NOW, agent_id=AgentId("a1"), afresh=True))
    await scans.scan("local")
    assert not scans.images


async def test_one_registry_that_fails_does_not_keep_the_others_from_being_read(
    scans: Scans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_web, "_PAUSE_SECONDS", 0.0)
    scans.registry.add("stable/python", "1")
    scans.know()
    nowhere = RegistrySpec(url="http://127.0.0.1:9")
    scans.give(CreateRegistry(at=NOW, name="nowhere.example.org", spec=nowhere))
    ended = await scans.scan("nowhere.example.org", NAME)
    assert ended.end is TaskEnd.FAILED
    assert "nowhere.example.org: 127.0.0.1 cannot be reached" in ended.message
    assert len(scans.images) == 1


# -- what registries may answer ----------------------------------------------------------------------------------------

_DIGEST = digest_of(b"nothing")


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[" * 100_000,
        b'{"schemaVersion": 1, "fsLayers": []}',
        b'{"mediaType": 7}',
        json.dumps({"mediaType": MANIFEST, "config": {"digest": "sha256:../..", "size": 1}}).encode(),
        json.dumps({"mediaType": MANIFEST, "config": {"digest": _DIGEST, "size": -1}}).encode(),
        json.dumps(
            {"mediaType": MANIFEST, "config": {"mediaType": CONFIG, "digest": _DIGEST, "size": 2**60}, "layers": []}
        ).encode(),
        json.dumps({"mediaType": MANIFEST, "config": {"mediaType": CONFIG, "digest": _DIGEST, "size": 1}}).encode(),
        json.dumps({"mediaType": MANIFEST, "manifests": [{"digest": _DIGEST, "size": 1}], "config": {}}).encode(),
    ],
)
async def test_a_bad_manifest_is_told_and_passed_over(scans: Scans, manifest: bytes) -> None:
    scans.registry.add("stable/python", "good")
    scans.registry.put("stable/python", "bad", manifest, kind="application/json")
    scans.know()
    ended = await scans.scan()
    assert ended.end is TaskEnd.DONE
    assert f"{NAME}/stable/python:bad: " in ended.message
    assert scans.images == {(f"{NAME}/stable/python:good", "x86_64")}


async def test_a_configuration_that_is_not_what_its_digest_says_is_not_believed(scans: Scans) -> None:
    digest = scans.registry.add("stable/python", "1")
    forged = content(b'{"architecture": "amd64", "config": {"Labels": {"ai.backend.role": "forged"}}}')
    scans.registry.instead[f"/v2/stable/python/blobs/{digest}"] = forged
    scans.know()
    ended = await scans.scan()
    assert "is not what its digest says" in ended.message
    assert not scans.images


async def test_one_bad_manifest_in_a_list_does_not_hide_the_others(scans: Scans) -> None:
    scans.registry.add_list("stable/python", "1", ["amd64", "arm64"])
    scans.know()
    await scans.scan()
    digest = scans.registry.paths("/manifests/sha256:")[0]
    scans.registry.instead[digest] = content(b"{}")
    ended = await scans.scan()
    assert "is not what its digest says" in ended.message
    assert len(scans.images) == 2, "and what was known of it is kept"


async def test_what_is_no_image_is_passed_over_in_silence(scans: Scans) -> None:
    chart = {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": _DIGEST, "size": 1}
    scans.registry.put("charts/chart", "1", json.dumps({"mediaType": MANIFEST, "config": chart}).encode())
    scans.know()
    ended = await scans.scan()
    assert ended.message == "registered 0, forgotten 0"


async def test_labels_that_are_too_many_or_no_texts_are_left_out(scans: Scans) -> None:
    many = {f"label{number}": "x" * 1000 for number in range(300)}
    bad = {"nul\0": "x", "long": "x" * 20_000, "number": 7, "": "empty"}
    config = {"architecture": "amd64", "config": {"Labels": many | bad | {"ai.backend.role": "COMPUTE"}}}
    body = json.dumps(config).encode()
    digest = digest_of(body)
    manifest = {"mediaType": MANIFEST, "config": {"mediaType": CONFIG, "digest": digest, "size": len(body)}}
    scans.registry.put("stable/python", "1", json.dumps(manifest).encode())
    scans.registry.instead[f"/v2/stable/python/blobs/{digest}"] = content(body)
    scans.know()
    await scans.scan()
    [image] = scans.directory.images.values()
    assert image.facts.labels["ai.backend.role"] == "COMPUTE"
    assert not image.facts.labels.keys() & bad.keys()
    assert sum(len(name) + len(value) for name, value in image.facts.labels.items()) <= 65536


@pytest.mark.parametrize(
    "names", [["../../etc", "a//b", "A/b", "a" * 300, "ok/python", 7], ["ok/python", "x\r\nHost: y", "ok/python?n=1"]]
)
async def test_names_that_are_none_are_never_asked_for(scans: Scans, names: list[Any]) -> None:
    scans.registry.add("ok/python", "1")
    scans.registry.instead["/v2/_catalog"] = content(json.dumps({"repositories": names}).encode())
    scans.know()
    await scans.scan()
    assert {path.partition("?")[0] for path in scans.registry.paths("/tags/")} == {"/v2/ok/python/tags/list"}


async def test_an_answer_without_end_is_not_read_to_the_end(scans: Scans) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)
            sent += 65536

    scans.registry.add("stable/python", "1")
    scans.registry.instead["/v2/stable/python/manifests/1"] = endless
    scans.know()
    ended = await scans.scan()
    assert "larger than" in ended.message
    assert sent < 64 * 2**20


async def test_an_answer_that_trickles_is_given_up(scans: Scans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_web, "_REQUEST_SECONDS_MAX", 0.1)
    monkeypatch.setattr(registry_web, "_PAUSE_SECONDS", 0.0)

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    scans.registry.instead["/v2/_catalog"] = trickle
    scans.know()
    ended = await scans.scan()
    assert ended.end is TaskEnd.FAILED
    assert "does not answer within" in ended.message


async def test_a_page_that_names_itself_as_the_next_ends_the_scan(scans: Scans) -> None:
    scans.registry.instead["/v2/_catalog"] = content(b'{"repositories": []}', Link='<?n=100>; rel="next"')
    scans.know()
    ended = await scans.scan()
    assert (ended.end, len(scans.registry.asked)) == (TaskEnd.FAILED, 1)


async def test_a_registry_that_is_busy_is_asked_again(scans: Scans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_web, "_PAUSE_SECONDS", 0.0)
    scans.registry.add("stable/python", "1")

    async def busy(_: web.Request) -> web.Response:
        del scans.registry.instead["/v2/_catalog"]
        return web.Response(status=429, headers={"Retry-After": "0"})

    scans.registry.instead["/v2/_catalog"] = busy
    scans.know()
    assert (await scans.scan()).end is TaskEnd.DONE
    assert len(scans.images) == 1


async def test_a_registry_gets_only_so_many_requests_at_once(scans: Scans) -> None:
    now, most = 0, 0

    async def slow(_: web.Request) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return web.Response(status=404)

    for number in range(50):
        scans.registry.add("stable/python", str(number))
        scans.registry.instead[f"/v2/stable/python/manifests/{number}"] = slow
    scans.know()
    await scans.scan()
    assert 1 < most <= scanning._AT_ONCE


async def test_while_it_goes_on_it_tells_how_far_it_is(scans: Scans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_TELL_SECONDS", 0.01)

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(0.05)
        return web.Response(status=404)

    for number in range(40):
        scans.registry.add("stable/python", str(number))
        scans.registry.instead[f"/v2/stable/python/manifests/{number}"] = slow
    scans.know()
    await scans.scan()
    told = [(each.done, each.total) for each in scans.said if isinstance(each, ReportTaskProgress)]
    assert told[-1] == (40, 40)
    assert any(0 < done < total == 40 for done, total in told)


# -- where credentials go ----------------------------------------------------------------------------------------------


async def test_a_redirect_to_another_host_carries_no_credentials(scans: Scans) -> None:
    digest = scans.registry.add("stable/python", "1")
    elsewhere = FakeRegistry()
    elsewhere.add("stable/python", "1")
    blob = f"/v2/stable/python/blobs/{digest}"
    scans.registry.account = ("robot", "clear c2VhbGVk")
    async with elsewhere.serving():
        scans.registry.instead[blob] = status(307, Location=f"{elsewhere.url}{blob}", Set_Cookie="a=b")
        scans.know(username="robot", password="c2VhbGVk")
        ended = await scans.scan()
    assert ended.end is TaskEnd.DONE
    assert len(scans.images) == 1
    [(_, headers)] = elsewhere.asked
    assert not {"Authorization", "Cookie"} & headers.keys()
    [asked] = [headers for path, headers in scans.registry.asked if path == blob]
    assert asked["Authorization"].startswith("Bearer ")

"""A scan and a pull against a registry that others wrote."""

import io
import json
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiodocker
import httpx
import pytest

from agents.docker.commits import config_alone, image_archive
from agents.docker.runtime import DockerRuntime
from agents.runtime import Account, ImageUnavailable, PushFailed, no_progress
from domain.directory.messages.images import CreateRegistry, RegistrySpec
from domain.directory.messages.tasks import TaskEnd
from infra.embedded.folder import CannotStart, ports
from infra.embedded.registry import PASSWORD, USERNAME, EmbeddedRegistry
from tests.agents.worlds import DOCKER_SOCKET
from tests.workers.registry import LIST, FakeRegistry
from tests.workers.test_scanning import NOW, Scans

pytestmark = pytest.mark.docker

REPOSITORY = "stable/python"
ACCOUNT = Account(USERNAME, PASSWORD)


@asynccontextmanager
async def running(folder: Path, *, private: bool) -> AsyncIterator[EmbeddedRegistry]:
    if not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket, which pushes the images")
    registry = EmbeddedRegistry(folder, ports(folder, "registry")["registry"], private=private)
    try:
        await registry.start()
    except CannotStart as error:
        pytest.skip(str(error))
    try:
        await registry.ready()
        yield registry
    finally:
        await registry.stop()


@asynccontextmanager
async def agents_docker(folder: Path) -> AsyncIterator[DockerRuntime]:
    runtime = DockerRuntime(DOCKER_SOCKET, folder / "agent", deployment="test")
    try:
        yield runtime
    finally:
        await runtime.close()


async def build(docker: aiodocker.Docker, name: str, content: str = "x") -> str:
    """A small image; its id."""
    context = io.BytesIO()
    recipe = "FROM scratch\nLABEL ai.backend.role=COMPUTE\nCOPY file /\n"
    with tarfile.open(fileobj=context, mode="w:gz") as tar:
        for file, text in (("Dockerfile", recipe), ("file", content)):
            info = tarfile.TarInfo(file)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    context.seek(0)
    await docker.images.build(fileobj=context, encoding="gzip", tag=name, labels={})
    return str((await docker.images.inspect(name))["Id"])


async def push(registry: EmbeddedRegistry, *tags: str, content: str = "x") -> str:
    """A small image, built and pushed under each tag; its id. Nothing of it stays with the daemon."""
    name = f"{registry.address}/{REPOSITORY}"
    account = {"username": USERNAME, "password": PASSWORD, "serveraddress": registry.address}
    async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
        image_id = ""
        for tag in tags:
            image_id = await build(docker, f"{name}:{tag}", content)
            await docker.images.push(name, tag=tag, auth=account if registry.private else None)
        for tag in tags:
            await docker.images.delete(f"{name}:{tag}")
    return image_id


async def test_a_scan_of_a_real_registry_finds_what_docker_pushed(tmp_path: Path) -> None:
    async with running(tmp_path, private=True) as registry:
        image_id = await push(registry, "3.11", "3.12")
        scans = Scans(FakeRegistry())
        spec = RegistrySpec(url=f"http://{registry.address}", username=USERNAME, password="c2VhbGVk")
        scans.give(CreateRegistry(at=NOW, name=registry.address, spec=spec))
        scans.passwords = {registry.address: PASSWORD}
        ended = await scans.scan(registry.address)
        assert (ended.end, ended.message) == (TaskEnd.DONE, "registered 2, forgotten 0")
        image = scans.directory.images[f"{registry.address}/{REPOSITORY}:3.11", "x86_64"]
        assert image.facts.digest == image_id
        assert image.facts.labels == {"ai.backend.role": "COMPUTE"}
        scans.passwords = {registry.address: "wrong"}
        assert (await scans.scan(registry.address)).end is TaskEnd.FAILED
        assert len(scans.images) == 2


async def test_a_list_of_manifests_in_a_real_registry_is_one_image_for_each(tmp_path: Path) -> None:
    async with running(tmp_path, private=False) as registry:
        await push(registry, "single")
        manifests = f"http://{registry.address}/v2/{REPOSITORY}/manifests"
        async with httpx.AsyncClient() as client:
            kind = "application/vnd.docker.distribution.manifest.v2+json"
            one = await client.get(f"{manifests}/single", headers={"Accept": kind})
            digest, size = one.headers["Docker-Content-Digest"], len(one.content)
            platform = {"architecture": "amd64", "os": "linux"}
            listed = [{"mediaType": kind, "digest": digest, "size": size, "platform": platform}]
            body = json.dumps({"schemaVersion": 2, "mediaType": LIST, "manifests": listed})
            put = await client.put(f"{manifests}/list", content=body, headers={"Content-Type": LIST})
            assert put.status_code == 201
        scans = Scans(FakeRegistry())
        spec = RegistrySpec(url=f"http://{registry.address}")
        scans.give(CreateRegistry(at=NOW, name=registry.address, spec=spec))
        await scans.scan(registry.address)
        name = f"{registry.address}/{REPOSITORY}"
        assert scans.images == {(f"{name}:single", "x86_64"), (f"{name}:list", "x86_64")}


async def test_what_a_scan_found_is_what_an_agent_pulls_and_pushes_with_our_account(tmp_path: Path) -> None:
    async with running(tmp_path, private=True) as registry, agents_docker(tmp_path) as runtime:
        image_id = await push(registry, "3.11")
        reference = f"{registry.address}/{REPOSITORY}:3.11"
        for account in (None, Account(USERNAME, "wrong")):
            with pytest.raises(ImageUnavailable):
                await runtime.pull(reference, no_progress, account)
        assert not await runtime.has_image(reference)
        await runtime.pull(reference, no_progress, ACCOUNT)
        [here] = [image for image in await runtime.images() if image.reference == reference]
        assert (here.digest, here.labels, here.has_origin) == (image_id, {"ai.backend.role": "COMPUTE"}, True)

        copy = f"{registry.address}/customized/python:3.11"
        async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
            image = await docker.images.inspect(reference)
            await docker.images.import_image(
                image_archive(image, copy, config_alone(image["Config"], {"made": "here"}))
            )
        with pytest.raises(PushFailed):
            await runtime.push(copy, no_progress, Account(USERNAME, "wrong"))
        [made] = [image for image in await runtime.images() if image.reference == copy]
        assert not made.has_origin
        for _ in range(2):  # what is there is pushed already
            await runtime.push(copy, no_progress, ACCOUNT)
        [made] = [image for image in await runtime.images() if image.reference == copy]
        assert made.has_origin
        for name in (copy, reference):
            await runtime.remove_image(name)
        await runtime.pull(copy, no_progress, ACCOUNT)
        [back] = [image for image in await runtime.images() if image.reference == copy]
        assert back.labels == {"ai.backend.role": "COMPUTE", "made": "here"}
        await runtime.remove_image(copy)


async def test_a_fresh_image_takes_the_name_and_the_place_of_the_old_one(tmp_path: Path) -> None:
    async with running(tmp_path, private=False) as registry, agents_docker(tmp_path) as runtime:
        new = await push(registry, "1", content="new")
        reference, other = f"{registry.address}/{REPOSITORY}:1", f"{registry.address}/other:1"
        async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
            old = await build(docker, reference, content="old")
            await runtime.pull(reference, no_progress)
            assert await runtime.has_image(old), "what is here needs no registry"
            await runtime.pull(reference, no_progress, afresh=True)
            [here] = [image for image in await runtime.images() if image.reference == reference]
            assert here.digest == new
            assert not await runtime.has_image(old)
            await build(docker, reference, content="old")
            await docker.images.tag(reference, other.rpartition(":")[0], tag="1")
            await runtime.pull(reference, no_progress, afresh=True)
            assert await runtime.has_image(other), "it has another name"
        for name in (reference, other):
            await runtime.remove_image(name)

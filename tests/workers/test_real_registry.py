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

from agents.docker import DockerRuntime
from domain.directory.messages.images import CreateRegistry, RegistrySpec
from domain.directory.messages.tasks import TaskEnd
from infra.embedded.folder import CannotStart, ports
from infra.embedded.registry import PASSWORD, USERNAME, EmbeddedRegistry
from tests.agents.worlds import DOCKER_SOCKET
from tests.workers.registry import LIST, FakeRegistry
from tests.workers.test_scanning import NOW, Scans

pytestmark = pytest.mark.docker

REPOSITORY = "stable/python"


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


async def push(registry: EmbeddedRegistry, *tags: str) -> str:
    """A small image, built and pushed under each tag; its id. Nothing of it stays with the daemon."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w:gz") as tar:
        for name, text in (("Dockerfile", "FROM scratch\nLABEL ai.backend.role=COMPUTE\nCOPY file /\n"), ("file", "x")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    name = f"{registry.address}/{REPOSITORY}"
    account = {"username": USERNAME, "password": PASSWORD, "serveraddress": registry.address}
    async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
        image_id = ""
        for tag in tags:
            context.seek(0)
            await docker.images.build(fileobj=context, encoding="gzip", tag=f"{name}:{tag}", labels={})
            image_id = (await docker.images.inspect(f"{name}:{tag}"))["Id"]
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


async def test_what_a_scan_found_is_what_an_agent_pulls_and_has(tmp_path: Path) -> None:
    async with running(tmp_path, private=False) as registry:
        image_id = await push(registry, "3.11")
        reference = f"{registry.address}/{REPOSITORY}:3.11"
        runtime = DockerRuntime(DOCKER_SOCKET, tmp_path / "agent", deployment="test")
        try:
            assert not await runtime.has_image(reference)
            await runtime.pull(reference, lambda *_: None)
            [here] = [image for image in await runtime.images() if image.reference == reference]
            assert (here.digest, here.labels) == (image_id, {"ai.backend.role": "COMPUTE"})
            await runtime.remove_image(reference)
            assert not await runtime.has_image(reference)
        finally:
            await runtime.close()

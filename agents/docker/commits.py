"""How an image is made of a container.

The daemon puts the container's whole configuration into the image: the environment, in which a kernel finds its owner's
secrets, the runner as its program, and our labels. What is given along with the order to commit goes before that, name
by name, but nothing can be left out; and the container's own is kept beside it, for the record. So what it makes gets
no name, and only its layers are used: the image is loaded anew, with a configuration of our own and the layers that are
there already. (Where containerd keeps the daemon's images this cannot be done, and need not: there is no such record.
Of what the kernel was given, the names remain then, with empty values.)

What is mounted is not in an image: the kernel's home, and all that the agent put into it.
"""

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiodocker
import orjson

from agents.docker.answers import UNREACHABLE, answering, unless_missing
from agents.docker.container import LABEL
from agents.docker.containers import DockerContainers
from agents.runtime import BASE_ENVIRONMENT, CommitFailed, ImageHere

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Docker's own where an image says nothing."""

_HARMLESS: Final = {**BASE_ENVIRONMENT, "PATH": _PATH}
_UNFINISHED: Final = LABEL + "unfinished"
"""On what the daemon made, until it is an image: whose it is, by the deployment."""


class DockerCommits:
    def __init__(self, docker: aiodocker.Docker, containers: DockerContainers, deployment: str) -> None:
        self._docker = docker
        self._containers = containers
        self._deployment = deployment

    async def commit(self, kernel_id: str, reference: str, labels: Mapping[str, str]) -> ImageHere:
        """Takes as long as the files need that were changed in the container. See `agents.runtime.Runtime`."""
        async with answering():
            running = await self._containers.running(kernel_id)
            if not running:
                raise CommitFailed(f"no kernel {kernel_id} runs here")
            try:
                await self._commit(running[0], reference, labels)
                image = await self._docker.images.inspect(reference)
            except aiodocker.DockerError as error:
                if error.status == UNREACHABLE:
                    raise
                raise CommitFailed(error.message) from error
        kept = image["Config"]["Labels"] or {}
        return ImageHere(reference, image["Architecture"], image["Id"], image["Size"], kept)

    async def _commit(self, container: Mapping[str, Any], reference: str, labels: Mapping[str, str]) -> None:
        base = (await self._docker.images.inspect(container["Image"]))["Config"] or {}
        config = committed_config(base, container["Config"], labels)
        changed = self._docker.containers.container(container["Id"])
        if await self._is_of_containerd():
            repository, _, tag = reference.rpartition(":")
            await changed.commit(repository=repository, tag=tag, config=config)
            return
        await self._delete_unfinished()
        unfinished = {**config["Labels"], _UNFINISHED: self._deployment}
        made = (await changed.commit(config={**config, "Labels": unfinished}))["Id"]
        try:
            image = await self._docker.images.inspect(made)
            await self._docker.images.import_image(image_archive(image, reference, config_alone(base, labels)))
        finally:
            with unless_missing():
                await self._docker.images.delete(made)

    async def _is_of_containerd(self) -> bool:
        status = (await self._docker.system.info()).get("DriverStatus") or ()
        return any(name == "driver-type" and "containerd" in value for name, value in status)

    async def _delete_unfinished(self) -> None:
        """What an agent left that died: there may be secrets in it."""
        filters = {"label": [f"{_UNFINISHED}={self._deployment}"]}
        for left in await self._docker.images.list(filters=filters):
            with unless_missing():
                await self._docker.images.delete(left["Id"])


def committed_config(
    base: Mapping[str, Any], container: Mapping[str, Any], labels: Mapping[str, str]
) -> dict[str, Any]:
    """With what to commit a container whose image has the configuration `base`: like that, but for empty texts where
    the container says more."""
    environ = _variables(base.get("Env") or ())
    given = _variables(container.get("Env") or ()).keys() - environ.keys()
    ours = {name: "" for name in container["Labels"] or {} if name.startswith(LABEL)}
    environ |= {name: _HARMLESS.get(name, "") for name in given}
    return {
        **base,
        "Env": [f"{name}={value}" for name, value in environ.items()],
        "Labels": {**ours, **(base.get("Labels") or {}), **labels},
        # Said by an empty list, or the container's would count.
        "Entrypoint": base.get("Entrypoint") or [],
        "Cmd": base.get("Cmd") or [],
        "User": base.get("User") or "root",
    }


def config_alone(base: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """The configuration of an image that comes from one with `base`."""
    return {**base, "Labels": {**(base.get("Labels") or {}), **labels}}


def image_archive(image: Mapping[str, Any], reference: str, config: Mapping[str, Any]) -> bytes:
    """An image of the layers of one that the daemon has, without these: it passes over those it knows."""
    layers = image["RootFS"]["Layers"]
    described = orjson.dumps(
        {
            "architecture": image["Architecture"],
            "os": image["Os"],
            "created": image["Created"],
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": layers},
        }
    )
    name = f"{hashlib.sha256(described).hexdigest()}.json"
    places = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = orjson.dumps([{"Config": name, "RepoTags": [reference], "Layers": places}])
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in ((name, described), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def _variables(environ: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (each.partition("=") for each in environ)}

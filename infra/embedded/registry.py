"""A container registry of our own for tests: Debian's `docker-registry`, over one data folder."""

import json
from pathlib import Path

import httpx

from infra.embedded import debian
from infra.embedded.folder import CannotStart
from infra.embedded.server import Server
from infra.supervise import Child

PACKAGES = {"docker-registry": "docker-registry"}
USERNAME = "refold"
PASSWORD = "correct horse"
_HASH = "$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"
"""Bcrypt of the password, in the form of Apache's htpasswd; no library of ours makes it."""


class EmbeddedRegistry(Server):
    """A real registry at `127.0.0.1:port`. A private one wants to see its one account, for reading too."""

    name = "registry"

    def __init__(self, data_dir: Path, port: int, *, private: bool) -> None:
        super().__init__(data_dir)
        self.port = port
        self.private = private

    @property
    def address(self) -> str:
        """What references of its images begin with."""
        return f"127.0.0.1:{self.port}"

    async def prepare(self) -> None:
        """Installs it where it is missing, and writes its settings."""
        if not debian.possible():
            raise CannotStart("a registry can only be installed on Debian and as root")
        self.folder.mkdir(parents=True, exist_ok=True)
        await debian.install(PACKAGES, self.folder / "install.log")
        (self.folder / "htpasswd").write_text(f"{USERNAME}:{_HASH}\n")
        settings = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")}},
            "http": {"addr": self.address, "relativeurls": True},
            "auth": {"htpasswd": {"realm": "refold", "path": str(self.folder / "htpasswd")}} if self.private else {},
        }
        (self.folder / "config.yml").write_text(json.dumps(settings))  # JSON is YAML

    def child(self) -> Child:
        return Child(
            "registry", ("/usr/bin/docker-registry", "serve", str(self.folder / "config.yml")), cwd=self.folder
        )

    async def answers(self) -> bool:
        try:
            async with httpx.AsyncClient() as client:
                return (await client.get(f"http://{self.address}/v2/", timeout=5)).status_code in (200, 401)
        except httpx.TransportError:
            return False

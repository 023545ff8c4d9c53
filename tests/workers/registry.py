"""A container registry in this process: it behaves as it is told, also badly, and remembers what it was asked."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class FakeRegistry:
    """`page`: names on one page at most. `instead`: by path, what it answers there instead of what is right.

    `account`: the username and password that its token service wants to see; None: everybody may read.
    """

    def __init__(self) -> None:
        self.page = 1000
        self.account: tuple[str, str] | None = None
        self.instead: dict[str, Answering] = {}
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.url = ""
        self._manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._tags: dict[str, set[str]] = {}
        self._blobs: dict[str, bytes] = {}

    # -- what it has ---------------------------------------------------------------------------------------------------

    def add(self, repository: str, tag: str, *, architecture: str = "amd64", **labels: str) -> str:
        """An image; the digest of its configuration."""
        manifest, config = self._image(architecture, labels)
        self.put(repository, tag, manifest)
        return config

    def add_list(self, repository: str, tag: str, architectures: Sequence[str], **labels: str) -> None:
        """One image an architecture, and a statement about them that is no image."""
        listed = []
        for architecture in architectures:
            manifest, _ = self._image(architecture, labels)
            digest = self.put(repository, None, manifest)
            platform = {"architecture": architecture, "os": "linux"}
            listed.append({"mediaType": MANIFEST, "digest": digest, "size": len(manifest), "platform": platform})
        unknown = {"architecture": "unknown", "os": "unknown"}
        listed.append({"mediaType": MANIFEST, "digest": digest_of(b""), "size": 1, "platform": unknown})
        self.put(repository, tag, json.dumps({"schemaVersion": 2, "mediaType": LIST, "manifests": listed}).encode())

    def put(self, repository: str, tag: str | None, manifest: bytes, kind: str = MANIFEST) -> str:
        """Any manifest, under its digest and the tag; its digest."""
        digest = digest_of(manifest)
        self._manifests[repository, digest] = kind, manifest
        if tag is not None:
            self._manifests[repository, tag] = kind, manifest
            self._tags.setdefault(repository, set()).add(tag)
        return digest

    def remove(self, repository: str, tag: str) -> None:
        self._tags[repository].discard(tag)
        del self._manifests[repository, tag]

    def _image(self, architecture: str, labels: Mapping[str, str]) -> tuple[bytes, str]:
        config = json.dumps({"architecture": architecture, "os": "linux", "config": {"Labels": labels}}).encode()
        digest = digest_of(config)
        self._blobs[digest] = config
        described = {"mediaType": CONFIG, "digest": digest, "size": len(config)}
        layer = {"digest": digest_of(b"layer"), "size": 1000 - len(config)}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": [layer]}
        return json.dumps(manifest).encode(), digest

    # -- what it answers -----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its URL."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self.answer)
        async with TestServer(app) as server:
            self.url = str(server.make_url("")).rstrip("/")
            yield self.url

    def paths(self, part: str) -> list[str]:
        """What was asked for, of what has this in its path."""
        return [path for path, _ in self.asked if part in path]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """What is right there, unless it was told otherwise."""
        self.asked.append((request.path_qs, dict(request.headers)))
        if request.path in self.instead:
            return await self.instead[request.path](request)
        if request.path == "/token":
            return self._token(request)
        if self.account is not None and request.headers.get("Authorization") != f"Bearer {self._token_for(request)}":
            challenge = f'Bearer realm="{self.url}/token",service="fake",scope="{_scope(request)}"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        match request.path.strip("/").split("/"):
            case ["v2", "_catalog"]:
                return self._listed(request, "repositories", sorted(self._tags))
            case ["v2", *repository, "tags", "list"]:
                return self._listed(request, "tags", sorted(self._tags.get("/".join(repository), ())))
            case ["v2", *repository, "manifests", reference]:
                kind, body = self._manifests.get(("/".join(repository), reference), ("", b""))
                return web.Response(body=body, content_type=kind) if kind else web.Response(status=404)
            case ["v2", *_, "blobs", digest] if digest in self._blobs:
                return web.Response(body=self._blobs[digest], content_type="application/octet-stream")
            case ["api", "v2.0", "projects"]:
                projects = sorted({name.partition("/")[0] for name in self._tags})
                return web.json_response([{"name": name} for name in projects])
            case ["api", "v2.0", "projects", project, "repositories"]:
                names = [name for name in sorted(self._tags) if name.startswith(f"{project}/")]
                return web.json_response([{"name": name} for name in names])
        return web.Response(status=404)

    def _listed(self, request: web.Request, field: str, names: Sequence[str]) -> web.Response:
        """The page after `last`, and a link to the next."""
        after = [name for name in names if name > request.query.get("last", "")]
        count = min(self.page, int(request.query["n"]))
        headers = {}
        if len(after) > count:
            headers["Link"] = f'<{request.path}?n={count}&last={after[count - 1]}>; rel="next"'
        return web.json_response({field: after[:count]}, headers=headers)

    def _token(self, request: web.Request) -> web.Response:
        assert self.account is not None
        basic = "Basic " + base64.b64encode(":".join(self.account).encode()).decode()
        if request.headers.get("Authorization") != basic:
            return web.Response(status=401)
        return web.json_response({"token": f"for-{request.query['scope']}"})

    def _token_for(self, request: web.Request) -> str:
        return f"for-{_scope(request)}"


def _scope(request: web.Request) -> str:
    match request.path.strip("/").split("/"):
        case ["v2", "_catalog"]:
            return "registry:catalog:*"
        case ["v2", *repository, "tags", _] | ["v2", *repository, "manifests", _] | ["v2", *repository, "blobs", _]:
            return f"repository:{'/'.join(repository)}:pull"
    return "none"


def status(code: int, **headers: str) -> Answering:
    """Answers that."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=code, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return answer


def content(body: bytes, **headers: Any) -> Answering:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, headers=headers)

    return answer

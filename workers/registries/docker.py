"""Images in a registry that speaks the Docker Registry v2 API, which the OCI has taken over: what is said of each is in
the configuration that its manifest names."""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from domain.directory import found
from domain.directory.messages.images import Architecture, Digest
from workers.registries.names import all_names, in_projects, is_repository
from workers.registries.web import Answer, BadAnswer, Denied, NotThere, RegistryError, Web

_PAGE: Final = 100
"""Names asked for at once: every registry gives so many."""

_CATALOG: Final = "registry:catalog:*"

_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

_LISTS: Final = (
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
_MANIFESTS: Final = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)
_CONFIGS: Final = (
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.oci.image.config.v1+json",
)
"""A manifest may name another kind of thing, a chart or a signature, which is no image."""

M = TypeVar("M", bound=BaseModel)


class _Descriptor(BaseModel):
    media_type: str = Field("", alias="mediaType")
    digest: Digest
    size: int = Field(ge=0, le=2**53)


class _Platform(BaseModel):
    architecture: str = ""
    os: str = ""


class _Listed(_Descriptor):
    platform: _Platform = _Platform()


class _Manifest(BaseModel):
    """Of an image (`config`, `layers`), or the list of those for several architectures (`manifests`)."""

    media_type: str = Field("", alias="mediaType")
    config: _Descriptor | None = None
    layers: list[_Descriptor] = Field([], max_length=1000)
    manifests: list[_Listed] = Field([], max_length=100)


class _Settings(BaseModel):
    labels: dict[str, Any] | None = Field(None, alias="Labels")


class _Config(BaseModel):
    architecture: str
    config: _Settings | None = None


@dataclass(frozen=True)
class Config:
    """What is known of a configuration by its digest: it never changes."""

    architecture: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Found:
    """An image under a tag. `digest` is its configuration's, `size_bytes` what has to be fetched."""

    repository: str
    tag: str
    architecture: str
    digest: str
    size_bytes: int
    labels: Mapping[str, str]


class DockerRegistry:
    """Reads one registry. `configs`: those known already, by digest; what is read is added to them."""

    def __init__(self, web: Web, configs: dict[str, Config]) -> None:
        self._web = web
        self._configs = configs

    async def repositories(self, projects: Collection[str]) -> Sequence[str]:
        """Those of the projects: a repository of that name, and those below it. No projects: all.

        A registry may show nobody what it has (Docker Hub); then the projects have to be the repositories themselves.
        Raises `RegistryError`.
        """
        url = self._web.url("/v2/_catalog")
        try:
            names = await all_names(self._web, url, _CATALOG, {"n": _PAGE}, partial(_names, field="repositories"))
        except (Denied, NotThere) as error:
            if not projects:
                raise Denied("it shows no catalog, so its repositories have to be named as projects") from error
            return sorted({name for name in projects if is_repository(name)})
        return sorted(name for name in names if is_repository(name) and in_projects(name, projects))

    async def tags(self, repository: str) -> Sequence[str]:
        """Empty where the repository is not there any more, or all its tags are gone. Raises `RegistryError`."""
        url = self._web.url(f"/v2/{repository}/tags/list")
        try:
            tags = await all_names(self._web, url, _pull(repository), {"n": _PAGE}, partial(_names, field="tags"))
        except NotThere:
            return []
        return sorted(tag for tag in tags if _TAG.fullmatch(tag))

    async def images(self, repository: str, tag: str) -> tuple[Sequence[Found], Sequence[RegistryError]]:
        """One image an architecture, and what is wrong with others. None of both: it is no image, or gone.

        Raises `RegistryError`.
        """
        try:
            manifest = await self._manifest(repository, tag)
        except NotThere:
            return [], []
        if not manifest.manifests:
            image = await self._image(repository, tag, manifest)
            return ([image] if image else []), []
        by_architecture: dict[str, Found] = {}
        wrong: list[RegistryError] = []
        for listed in manifest.manifests:
            if listed.platform.os not in ("", "linux"):  # `unknown`: a statement about the image, not an image
                continue
            try:
                one = await self._manifest(repository, listed.digest)
                if one.manifests:
                    raise BadAnswer(f"{repository}:{tag} is a list of lists")
                if image := await self._image(repository, tag, one):
                    by_architecture.setdefault(image.architecture, image)
            except (BadAnswer, NotThere) as error:
                wrong.append(error)
        return list(by_architecture.values()), wrong

    async def _manifest(self, repository: str, reference: str) -> _Manifest:
        url = self._web.url(f"/v2/{repository}/manifests/{reference}")
        answer = await self._web.get(url, _pull(repository), ", ".join((*_LISTS, *_MANIFESTS)))
        if ":" in reference:
            _prove(answer, reference)
        manifest = _read(_Manifest, answer)
        kind = manifest.media_type or answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if kind not in (*_LISTS, *_MANIFESTS):
            raise BadAnswer(f"{url.path} is a manifest of a kind we do not know: {kind[:100]}")
        if manifest.manifests and manifest.config:
            raise BadAnswer(f"{url.path} is an image and a list of images at once")
        return manifest

    async def _image(self, repository: str, tag: str, manifest: _Manifest) -> Found | None:
        described = manifest.config
        if described is None or described.media_type not in _CONFIGS:
            return None
        config = self._configs.get(described.digest)
        if config is None:
            config = self._configs[described.digest] = await self._config(repository, described.digest)
        size = described.size + sum(layer.size for layer in manifest.layers)
        return Found(repository, tag, config.architecture, described.digest, min(size, 2**53), config.labels)

    async def _config(self, repository: str, digest: str) -> Config:
        answer = await self._web.get(self._web.url(f"/v2/{repository}/blobs/{digest}"), _pull(repository), "*/*")
        _prove(answer, digest)
        read = _read(_Config, answer)
        labels = read.config.labels if read.config and read.config.labels else {}
        architecture = found.architecture(read.architecture)
        if not _is_architecture(architecture):
            raise BadAnswer(f"{answer.url.path} is for no architecture we know")
        return Config(architecture, found.labels(labels))


def _names(page: Any, field: str) -> list[str]:
    names = page.get(field) if isinstance(page, dict) else None
    if names is None and isinstance(page, dict) and field in page:
        return []  # how a registry says that a repository has no tags
    if not isinstance(names, list):
        raise BadAnswer(f"a page without {field}")
    return [name for name in names if isinstance(name, str)]


def _read(model: type[M], answer: Answer) -> M:
    try:
        return model.model_validate(answer.json())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BadAnswer(f"{answer.url.path}: {where}: {first['msg']}") from error


def _prove(answer: Answer, digest: str) -> None:
    """That it is what the digest names."""
    algorithm, _, stated = digest.partition(":")
    if algorithm not in ("sha256", "sha512") or hashlib.new(algorithm, answer.body).hexdigest() != stated:
        raise BadAnswer(f"{answer.url.path} is not what its digest says")


def _pull(repository: str) -> str:
    return f"repository:{repository}:pull"


_ARCHITECTURE: TypeAdapter[str] = TypeAdapter(Architecture)


def _is_architecture(text: str) -> bool:
    try:
        _ARCHITECTURE.validate_python(text)
    except ValidationError:
        return False
    return True

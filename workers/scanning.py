"""One scan: look through registries, and say which images to register and which to forget.

What a scan has sent stays true whatever becomes of it, so whoever begins it anew repeats it harmlessly. Registries are
strangers: what cannot be read is told and passed over, and nothing is forgotten for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

from pydantic import ValidationError

from domain.directory.images import Image, ImageKey
from domain.directory.messages.common import DirectoryCommand
from domain.directory.messages.images import (
    LOCAL,
    ForgetImage,
    ImageFacts,
    LocalImage,
    RegisterImage,
    RegistrySpec,
    RegistryType,
)
from domain.directory.messages.tasks import ReportTaskEnd, ReportTaskProgress, ScanRegistries, TaskEnd
from domain.directory.state import Directory
from domain.directory.tasks import Task
from workers.registries import harbor
from workers.registries.docker import Config, DockerRegistry, Found
from workers.registries.names import in_projects
from workers.registries.web import Credentials, RegistryError, Unreachable, Web, open_web

_AT_ONCE: Final = 8
"""Requests that a registry gets at the same time."""

_TELL_SECONDS: Final = 2.0
"""How often progress is told: it stays in the log for ever."""

_TAGS_MAX: Final = 20_000
"""Of one registry: every process keeps all images in memory."""

_COMPLAINTS_MAX: Final = 10
"""Told with their reason; of more than these only how many there are."""

_MESSAGE_MAX: Final = 2000

T = TypeVar("T")

Tell = Callable[[Sequence[DirectoryCommand]], Awaitable[None]]
"""Sends commands, in order, until they are durable."""

Password = Callable[[str, str], Awaitable[str]]
"""What a registry's sealed password is; raises `RegistryError`."""


class Scan:
    """Carries out a task. `run` returns once the end of it is told; cancelled, it just stops."""

    def __init__(
        self, task: Task, work: ScanRegistries, directory: Callable[[], Directory], tell: Tell, password: Password
    ) -> None:
        """`directory` gives what is known at the moment."""
        self._task = task
        self._registries = work.registries
        self._directory = directory
        self._tell = tell
        self._password = password
        self._said: list[DirectoryCommand] = []
        self._done = self._total = 0
        self._counts = {"registered": 0, "forgotten": 0}
        self._failures: list[str] = []
        self._complaints: list[str] = []
        self._reading = ""

    async def run(self) -> None:
        telling = asyncio.create_task(self._keep_telling())
        try:
            for name in self._registries:
                self._reading = name
                await self._look_through(name)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        self._said.append(self._progress())
        end = TaskEnd.FAILED if self._failures else TaskEnd.DONE
        self._said.append(ReportTaskEnd(at=_now(), task_id=self._task.task_id, end=end, message=self._message()))
        await self._send()

    async def _look_through(self, name: str) -> None:
        spec = self._directory().registries.get(name)
        try:
            if spec is None:
                raise RegistryError("there is no such registry any more")
            if spec.registry_type is RegistryType.LOCAL:
                self._look_at_agents()
                return
            credentials = await self._credentials(name, spec)
            async with open_web(spec.url, credentials, ssl_verify=spec.ssl_verify, at_once=_AT_ONCE) as web:
                await self._look_at_registry(name, spec, web)
        except* RegistryError as errors:
            self._failures.append(f"{name}: {_plain(str(_first(errors)))}")

    async def _credentials(self, name: str, spec: RegistrySpec) -> Credentials | None:
        if spec.username is None:
            return None
        return Credentials(spec.username, "" if spec.password is None else await self._password(name, spec.password))

    # -- a registry ----------------------------------------------------------------------------------------------------

    async def _look_at_registry(self, name: str, spec: RegistrySpec, web: Web) -> None:
        known = [image for image in self._directory().images.values() if image.registry == name]
        registry = DockerRegistry(web, _configs(known))
        if spec.registry_type is RegistryType.HARBOR:
            repositories = await harbor.repositories(web, spec.projects)
        else:
            repositories = await registry.repositories(spec.projects)
        found: set[ImageKey] = set()
        unread: set[str] = set()
        tagged: list[tuple[str, str]] = []

        async def list_tags(repository: str) -> None:
            try:
                tagged.extend((repository, tag) for tag in await registry.tags(repository))
            except Unreachable:
                raise
            except RegistryError as error:
                unread.add(repository)
                self._complain(f"{name}/{repository}", error)
            if len(tagged) > _TAGS_MAX:
                raise RegistryError(f"it has more than {_TAGS_MAX} tags; name projects to look through less")

        async def read(place: tuple[str, str]) -> None:
            repository, tag = place
            try:
                images, wrong = await registry.images(repository, tag)
            except Unreachable:
                raise
            except RegistryError as error:
                images, wrong = (), [error]
            for each in wrong:
                unread.add(f"{repository}:{tag}")
                self._complain(f"{name}/{repository}:{tag}", each)
            for image in images:
                if (key := self._register(name, image)) is not None:
                    found.add(key)
            self._done += 1

        await _each(repositories, list_tags)
        self._total += len(tagged)
        await _each(sorted(tagged), read)
        if unread and not found:
            raise RegistryError("nothing of it could be read; what was known is kept")
        if known and not found:
            # More likely it hides them from us, as a registry does whose rights were changed, than that all are gone.
            raise RegistryError("it shows no image at all; what was known is kept")
        for image in known:
            path = image.reference.removeprefix(f"{name}/")
            repository = path.rpartition(":")[0]
            looked_at = in_projects(repository, spec.projects) and not unread & {path, repository}
            if looked_at and image.key not in found:
                self._forget(image)

    def _register(self, registry: str, image: Found) -> ImageKey | None:
        reference = f"{registry}/{image.repository}:{image.tag}"
        try:
            facts = ImageFacts(
                registry=registry, digest=image.digest, size_bytes=image.size_bytes, labels=dict(image.labels)
            )
            self._put(reference, image.architecture, facts)
        except ValidationError as error:
            self._complain(reference, RegistryError(str(error.errors(include_url=False)[0]["msg"])))
            return None
        return reference, image.architecture

    # -- what agents have ----------------------------------------------------------------------------------------------

    def _look_at_agents(self) -> None:
        """Every image that an agent has and no registry offers."""
        directory = self._directory()
        here: dict[ImageKey, LocalImage] = {}
        for agent_id in sorted(directory.agent_images):
            for key, image in directory.images_of(agent_id).items():
                if directory.registry_of(image.reference) == LOCAL:
                    here.setdefault(key, image)
        self._total += len(here)
        for (reference, architecture), image in sorted(here.items()):
            facts = ImageFacts(
                registry=LOCAL, digest=image.digest, size_bytes=image.size_bytes, labels=dict(image.labels)
            )
            self._put(reference, architecture, facts)
            self._done += 1
        for known in directory.images.values():
            if known.registry == LOCAL and known.key not in here:
                self._forget(known)

    # -- what is said --------------------------------------------------------------------------------------------------

    def _put(self, reference: str, architecture: str, facts: ImageFacts) -> None:
        """Raises `ValidationError`."""
        known = self._directory().images.get((reference, architecture))
        if known is None or known.facts != facts:
            self._said.append(RegisterImage(at=_now(), reference=reference, architecture=architecture, facts=facts))
            self._counts["registered"] += 1

    def _forget(self, image: Image) -> None:
        self._said.append(ForgetImage(at=_now(), reference=image.reference, architecture=image.architecture))
        self._counts["forgotten"] += 1

    def _complain(self, about: str, error: RegistryError) -> None:
        self._complaints.append(f"{about}: {_plain(str(error))}" if len(self._complaints) < _COMPLAINTS_MAX else "")

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(_TELL_SECONDS)
            self._said.append(self._progress())
            await self._send()

    async def _send(self) -> None:
        """What is not known to have arrived is said again: it has the same ids then."""
        said = list(self._said)
        await self._tell(said)
        del self._said[: len(said)]

    def _progress(self) -> ReportTaskProgress:
        message = f"reading {self._reading}"
        if self._complaints:
            message += f"; not readable so far: {len(self._complaints)}"
        return ReportTaskProgress(
            at=_now(), task_id=self._task.task_id, done=self._done, total=self._total, message=message[:_MESSAGE_MAX]
        )

    def _message(self) -> str:
        told = [*self._failures, ", ".join(f"{name} {count}" for name, count in self._counts.items())]
        if self._complaints:
            told.append(f"not readable {len(self._complaints)}")
            told += filter(None, self._complaints)
        return "; ".join(told)[:_MESSAGE_MAX]


async def _each(items: Iterable[T], do: Callable[[T], Awaitable[None]]) -> None:
    """For each of them, some at the same time."""
    left = iter(items)

    async def work() -> None:
        for item in left:
            await do(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(work())


def _configs(images: Iterable[Image]) -> dict[str, Config]:
    """What need not be read again."""
    return {
        image.facts.digest: Config(image.architecture, image.facts.labels) for image in images if image.facts.digest
    }


def _first(errors: BaseExceptionGroup[RegistryError]) -> BaseException:
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


def _plain(text: str) -> str:
    """On one line: some of it was written by a registry."""
    return "".join(each if each.isprintable() else " " for each in text)[:300]


def _now() -> datetime:
    return datetime.now(UTC)

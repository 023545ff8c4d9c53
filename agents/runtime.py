"""What an agent asks of whatever runs its kernels. The docstrings of `Runtime` are the contract; one suite
of tests (`tests/agents/test_runtime_contract.py`) holds every implementation to it:

- `agents/fake/runtime.py`: nothing runs, everything is remembered. Can be told to be slow, to fail, to lose things.
- `agents/process/runtime.py`: native processes, for a machine without a container engine.
- `agents/docker/runtime.py`: containers.

A kernel is named by its id and its incarnation: a kernel that is started again is the next incarnation. That
pair is what makes an order that arrives twice act once, so it is written where it survives the agent: a
label, a folder's name.

What can go wrong, as a tree:

    RuntimeFailure
    ├── ImageUnavailable      the image is not here and cannot be fetched
    ├── ImageInUse            a kernel was started from it, so it cannot be deleted
    ├── CommitFailed          no image could be made of a kernel
    ├── PushFailed            its registry did not take an image
    ├── StartFailed           it was tried; nothing of it runs, nothing of it is left
    ├── MountRefused          a folder of it cannot be had, on whatever host; nothing of it runs
    ├── AlreadyEnded          it ran before, to its end; `.ended` says how
    └── RuntimeUnavailable    whoever runs kernels does not answer; what runs goes on, ask again later
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol

from agents.devices.plugin import Given
from domain.outfits import Outfit
from domain.placements import Peer, RuntimeClass


class RuntimeFailure(Exception):
    """Anything a runtime can answer instead of doing what was asked."""


class ImageUnavailable(RuntimeFailure):
    """The image is not on this host and could not be fetched."""


class ImageInUse(RuntimeFailure):
    """A kernel runs from the image."""


class CommitFailed(RuntimeFailure):
    """No image could be made: no such kernel runs here, there are no images at all, or the disk is full."""


class PushFailed(RuntimeFailure):
    """The registry does not take the image, or is not there; it stays on this host."""


class StartFailed(RuntimeFailure):
    """The kernel was tried and did not come up. Nothing of it runs, so it may be tried again."""


class MountRefused(RuntimeFailure):
    """A folder that the kernel is to have cannot be mounted, here or elsewhere. Nothing of it runs."""


class AlreadyEnded(RuntimeFailure):
    """This incarnation already ran to its end and is never run a second time."""

    def __init__(self, ended: "Ended") -> None:
        super().__init__(f"ran already and ended at {ended.at.isoformat()} ({ended.reason}, code {ended.exit_code})")
        self.ended = ended


class RuntimeUnavailable(RuntimeFailure):
    """The container engine does not answer. Nothing is known to have changed; asking again later is right."""


@dataclass(frozen=True)
class Task:
    """What to run: one incarnation of one kernel."""

    kernel_id: str
    incarnation: int
    session_id: str
    image: str
    """Canonical reference. The process runtime has no images and ignores it."""
    command: Sequence[str] | None
    """The program and its arguments. None is what the image does by itself; where there is no image: wait
    for a stop."""
    environ: Mapping[str, str]
    hostname: str
    cpu_millis: int
    """1000 is one core, 0 is no limit."""
    mem_bytes: int
    """0 is no limit."""
    pids_max: int = 4096
    devices: Given = field(default_factory=dict)
    """Slot → device id → units, e.g. `{"cuda.device": {"GPU-5a…": 1000}}`."""
    runtime_class: RuntimeClass | None = None
    shm_bytes: int = 0
    """0 is the runtime's default."""
    peers: Sequence[Peer] = ()
    """All kernels of a cluster session, this one included; else none."""
    preopen_ports: Sequence[int] = ()
    outfit: Outfit = field(default_factory=Outfit)
    """What else it is given, its folders among it; its environment is part of `environ` already."""


Reason = Literal["exited", "killed", "oom", "gone"]


@dataclass(frozen=True)
class Ended:
    """How a kernel ended."""

    exit_code: int | None
    """None where it cannot be known. A death by signal is 128 + the signal's number, as shells and Docker
    say it."""
    at: datetime
    """When it truly ended, in UTC, also if no agent was there. For `gone`: when that was noticed."""
    reason: Reason
    """`exited` by itself, `killed` because `stop` was called, `oom` for lack of memory, `gone` without
    leaving word."""


@dataclass(frozen=True)
class Running:
    """One kernel that runs, or ran a moment ago."""

    kernel_id: str
    incarnation: int
    session_id: str
    runtime_id: str
    """What the host calls it: a container id, a process id."""
    started_at: datetime
    """By the host's clock; never later than its end."""


@dataclass(frozen=True)
class ImageHere:
    """An image on this host, under one of its names. `reference` is canonical: registry, path and tag.

    `digest` is its configuration's. `has_origin`: a registry had it, too, so it could be fetched again.
    """

    reference: str
    architecture: str
    digest: str | None = None
    size_bytes: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    has_origin: bool = False


@dataclass(frozen=True)
class ImageSpace:
    """Bytes that all images take together, what they share counted once; and of the disk they are on."""

    images: int
    disk: int
    free: int


@dataclass(frozen=True)
class Account:
    """Who we are at a registry."""

    username: str
    password: str = field(repr=False)


Progress = Callable[[int, int], None]
"""Told `(done, total)` bytes, as far as they are known."""


def no_progress(_done: int, _total: int) -> None:
    """For whom it is enough that it ends."""


class Runtime(Protocol):
    """Small on purpose, and every call may be repeated: an agent that restarts asks again.

    Any call may raise `RuntimeUnavailable`, except `wait`, which goes on once the runtime is back.
    """

    name: str

    async def has_image(self, image: str) -> bool:
        """Whether a kernel of this image could start now, without `pull`."""

    async def pull(
        self, image: str, progress: Progress, account: Account | None = None, *, afresh: bool = False
    ) -> None:
        """Bring the image here; nothing to do if it is, unless `afresh`: then what its registry has under
        that name now.

        Raises ImageUnavailable.
        """

    async def images(self) -> Sequence[ImageHere]:
        """Those that are here and have a name, once for each name. Empty where there is no such thing as an image."""

    async def remove_image(self, image: str) -> None:
        """Take a name from an image, and delete it with the last one. Done already if it is not here.

        Raises ImageInUse.
        """

    async def commit(self, kernel_id: str, reference: str, labels: Mapping[str, str]) -> ImageHere:
        """Make an image of a kernel that runs, as its files are now: its processes are held meanwhile. Whatever had the
        name before loses it. `labels` come to those of the image that the kernel was started from.

        Nothing that the kernel was given is in it: neither values of its environment nor its home.

        Raises CommitFailed.
        """

    async def push(self, image: str, progress: Progress, account: Account | None = None) -> None:
        """Bring an image that is here to the registry in its name. Done already if it is there.

        Raises ImageUnavailable where it is not here, and PushFailed.
        """

    async def image_space(self) -> ImageSpace | None:
        """How much room images take; None where there is no such thing as an image."""

    async def start(self, task: Task) -> Running:
        """Returns once it runs. What already runs is left as it is and returned as it is.

        Raises ImageUnavailable, StartFailed, MountRefused, and AlreadyEnded for a task that ran to its end before (as
        long as it was not removed): it is never run a second time.
        """

    async def stop(self, kernel_id: str, incarnation: int, grace: timedelta) -> None:
        """SIGTERM, and SIGKILL once the grace is over. Returns once it is gone, with everything it started.

        Stopping what is not there is done already. A stop that has begun is carried through if the agent
        dies.
        """

    async def list(self) -> Sequence[Running]:
        """All that runs here now, whichever agent process started it."""

    async def wait(self, kernel_id: str, incarnation: int) -> Ended:
        """Returns when it has ended, at once if it has already; `gone` if nothing is known of it.

        Also for what an earlier agent process started: the time and the exit code are the true ones wherever
        the host knows them.
        """

    async def remove(self, kernel_id: str, incarnation: int) -> None:
        """Forget an incarnation that ended; what still runs is left as it is. The output stays."""

    async def capabilities(self) -> Sequence[str]:
        """What it can do that not every one can, in the words of `AgentProfile.capabilities`."""

    async def capacity(self) -> Mapping[str, str]:
        """Slots measured on the host, e.g. `{"cpu": "8", "mem": "17179869184"}`."""

    async def output(self, kernel_id: str) -> bytes:
        """The latest output (stdout and stderr) of all incarnations, oldest first, cut at the front to what
        is kept.

        Outlives the kernel and `remove`. Empty if there was none.
        """

    def runner(self, kernel_id: str) -> Path | None:
        """The Unix socket of the kernel's runner (`agents/runner`) on this host, which may be there only in a moment.
        None where there is no such kernel, or it has no runner."""

    async def address(self, kernel_id: str) -> str | None:
        """Where the kernel's TCP ports are reached from this host. None where there is no such kernel, or no way."""

    async def tidy(self, before: datetime, keep: Collection[str]) -> Collection[str]:
        """Delete the output and the files of kernels to which nothing was written since `before`, but for those to
        `keep`; the ids of the kernels that are forgotten now."""

    async def close(self) -> None:
        """Let go without touching what runs: kernels survive the agent."""


def utc_now() -> datetime:
    """The host's clock. Ends are facts about the world, so runtimes read the real time, not a given one."""
    return datetime.now(UTC)


BASE_ENVIRONMENT: Mapping[str, str] = {
    "TERM": "xterm",
    "LANG": "C.UTF-8",
    "SHELL": "/bin/bash",
    "USER": "work",
}
"""What every kernel finds in its environment, unless its task says otherwise. Nothing of the agent's own
leaks in."""

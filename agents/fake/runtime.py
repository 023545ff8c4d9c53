"""A runtime in which nothing runs and everything is remembered: for demonstrations, simulations and fault
tests.

Its world is two append-only files, folded when the runtime opens, so its kernels live on while no agent is
there:

- `starts.jsonl`: one line for each kernel that began to run (`kernel_id`, `incarnation`, `called_at` when
  the call came, `at` when it ran, and when and how it will end by itself). A repeated call that finds it
  running adds no line, so a pair of kernel and incarnation that stands there twice is a kernel that ran
  twice: anyone can check.
- `acts.jsonl`: stops and removals.

One `write` makes a line, so a process killed at any moment leaves whole lines; the files are not synced to
disk.

What a kernel does follows from its image (see `plan`): `fake/exit:3`, `fake/exit:0-1.5` (after 1.5 s),
`fake/oom:1`, `fake/gone:1`, `fake/fail-start`, `fake/pull-fail`; with any other image from its command, read
as a very small shell script (`echo`, `seq`, `sleep`, `exit`, `true`, `false`, `trap '' TERM`); without a
command it runs until stopped.
"""

import asyncio
import json
import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any, cast

from agents.docker.references import canonical
from agents.fake.images import FakeImages
from agents.runtime import (
    Account,
    AlreadyEnded,
    CommitFailed,
    Ended,
    ImageHere,
    ImageInUse,
    ImageSpace,
    Progress,
    Reason,
    Running,
    StartFailed,
    Task,
    utc_now,
)

IMAGE = re.compile(r"(?:^|/)fake/(exit|oom|gone|fail-start|pull-fail)(?::(\d+)?(?:-([\d.]+))?)?$")


@dataclass(frozen=True)
class Plan:
    """What a kernel will do when left alone."""

    seconds: float = inf
    exit_code: int | None = 0
    reason: Reason = "exited"
    heeds_sigterm: bool = True
    prints: Sequence[tuple[float, str]] = ()
    """Lines, each with the seconds after the start at which it is printed."""


def plan(image: str, command: Sequence[str] | None) -> Plan:
    """What a kernel of this image and command does by itself. Pure."""
    if match := IMAGE.search(image):
        kind, number, seconds = match.group(1), int(match.group(2) or 0), float(match.group(3) or 0)
        match kind:
            case "exit":
                return Plan(seconds=seconds, exit_code=number)
            case "oom":
                return Plan(seconds=number, exit_code=137, reason="oom")
            case "gone":
                return Plan(seconds=number, exit_code=None, reason="gone")
    if command is None:
        return Plan()
    words = list(command)
    if len(words) == 3 and Path(words[0]).name in ("sh", "bash") and words[1] in ("-c", "-lc"):
        words = list(shlex.shlex(words[2], posix=True, punctuation_chars=True))
        words = [word for word in words if word not in ("\n", "(", ")")]
    return _script(words)


def _script(words: Sequence[str]) -> Plan:
    now, code, heeds, prints = 0.0, 0, True, list[tuple[float, str]]()
    statements: list[list[str]] = [[]]
    for word in words:
        if word in (";", "&&"):
            statements.append([])
        else:
            statements[-1].append(word)
    for statement in statements:
        match statement:
            case ["sleep", seconds]:
                now, code = now + float(seconds), 0
            case ["exit", *rest]:
                code = int(rest[0]) if rest else code
                break
            case ["echo", *rest]:
                prints.append((now, " ".join(rest) + "\n"))
                code = 0
            case ["seq", count]:
                prints.append((now, "".join(f"{number}\n" for number in range(1, int(count) + 1))))
                code = 0
            case ["trap", "", "TERM"]:
                heeds = False
            case ["false"]:
                code = 1
            case _:
                code = 0
    return Plan(seconds=now, exit_code=code, heeds_sigterm=heeds, prints=prints)


@dataclass
class _Kernel:
    session_id: str
    image: str
    plan: Plan
    started_at: datetime
    ends: Ended | None
    """How it ends when left alone; None if never."""
    stopped: Ended | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def ended(self, now: datetime) -> Ended | None:
        ends = [end for end in (self.ends, self.stopped) if end is not None and end.at <= now]
        return min(ends, key=lambda end: end.at, default=None)


class FakeRuntime:
    """Remembers kernels in a folder. All delays are seconds; `…_every` = n lets each nth one fail, 0 none."""

    name = "fake"

    def __init__(
        self,
        folder: Path,
        *,
        capacity: Mapping[str, str] | None = None,
        capabilities: Sequence[str] = ("cluster:single-node", "cluster:multi-node"),
        images: Collection[ImageHere] = (),
        pull_seconds: float = 0.0,
        start_seconds: float = 0.0,
        stop_seconds: float = 0.0,
        lifetime: float | None = None,
        fail_pull_every: int = 0,
        fail_start_every: int = 0,
        lose_every: int = 0,
        lose_after: float = 0.0,
        log_bytes_max: int = 1024 * 1024,
    ) -> None:
        """`images` are here from the beginning. `lifetime` ends kernels that would run until stopped (code 0); each
        `lose_every`th one vanishes without word `lose_after` seconds after its start."""
        self._folder = folder
        self._capacity = {"cpu": "8", "mem": str(16 << 30)} if capacity is None else dict(capacity)
        self._capabilities = tuple(capabilities)
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._lifetime = lifetime
        self._fail_start_every = fail_start_every
        self._lose_every = lose_every
        self._lose_after = lose_after
        self._log_bytes_max = log_bytes_max
        self._starts = 0
        self._images = FakeImages(images, pull_seconds, fail_pull_every)
        self._kernels = dict[tuple[str, int], _Kernel]()
        self._printed = dict[str, list[_Kernel]]()
        folder.mkdir(parents=True, exist_ok=True)
        for line in _read(folder / "starts.jsonl"):
            self._began(line)
        for line in _read(folder / "acts.jsonl"):
            self._acted(line)

    async def has_image(self, image: str) -> bool:
        """Images are here once pulled; a new runtime object has only those it was given."""
        return self._images.has(image)

    async def pull(
        self,
        image: str,
        progress: Progress,
        account: Account | None = None,  # noqa: ARG002
        *,
        afresh: bool = False,
    ) -> None:
        """Takes `pull_seconds`."""
        await self._images.pull(image, progress, afresh=afresh)

    async def images(self) -> Sequence[ImageHere]:
        """Those it was given, and those that were pulled or committed."""
        return self._images.all()

    async def remove_image(self, image: str) -> None:
        """As long as no kernel runs from it."""
        now = utc_now()
        if any(kernel.image == canonical(image) and not kernel.ended(now) for kernel in self._kernels.values()):
            raise ImageInUse(f"a kernel runs from {image}")
        self._images.remove(image)

    async def commit(self, kernel_id: str, reference: str, labels: Mapping[str, str]) -> ImageHere:
        """At once."""
        now = utc_now()
        for (known, _), kernel in self._kernels.items():
            if known == kernel_id and not kernel.ended(now):
                return self._images.commit(kernel.image, reference, labels)
        raise CommitFailed(f"no kernel {kernel_id} runs here")

    async def push(self, image: str, progress: Progress, account: Account | None = None) -> None:  # noqa: ARG002
        """At once."""
        self._images.push(image, progress)

    async def image_space(self) -> ImageSpace | None:
        """As if there were nothing but images."""
        return self._images.space()

    async def start(self, task: Task) -> Running:
        """Takes `start_seconds`; then one line in `starts.jsonl`, and it runs."""
        called_at = utc_now()
        if self._start_seconds and (task.kernel_id, task.incarnation) not in self._kernels:
            await asyncio.sleep(self._start_seconds)
        now = utc_now()
        if kernel := self._kernels.get((task.kernel_id, task.incarnation)):
            if ended := kernel.ended(now):
                raise AlreadyEnded(ended)
            return self._running(task.kernel_id, task.incarnation)
        self._starts += 1
        if "fake/fail-start" in task.image or _nth(self._starts, self._fail_start_every):
            raise StartFailed("the fake runtime was told to fail")
        planned = plan(task.image, task.command)
        seconds, code, reason = planned.seconds, planned.exit_code, planned.reason
        if seconds == inf and self._lifetime is not None:
            seconds = self._lifetime
        if _nth(self._starts, self._lose_every) and self._lose_after < seconds:
            seconds, code, reason = self._lose_after, None, "gone"
        line = {
            "kernel_id": task.kernel_id,
            "incarnation": task.incarnation,
            "session_id": task.session_id,
            "called_at": called_at.isoformat(),
            "at": now.isoformat(),
            "image": task.image,
            "command": None if task.command is None else list(task.command),
            "ends_at": None if seconds == inf else (now + timedelta(seconds=seconds)).isoformat(),
            "exit_code": code,
            "reason": reason,
        }
        self._write("starts.jsonl", line)
        self._began(line)
        return self._running(task.kernel_id, task.incarnation)

    async def stop(self, kernel_id: str, incarnation: int, grace: timedelta) -> None:
        """Ends it after `stop_seconds`, or after the grace where the script ignores SIGTERM."""
        kernel = self._kernels.get((kernel_id, incarnation))
        if kernel is None or kernel.ended(utc_now()):
            return
        heeds = kernel.plan.heeds_sigterm and self._stop_seconds <= grace.total_seconds()
        at = utc_now() + (timedelta(seconds=self._stop_seconds) if heeds else grace)
        if kernel.stopped is None or at < kernel.stopped.at:
            line = {
                "act": "stop",
                "kernel_id": kernel_id,
                "incarnation": incarnation,
                "at": at.isoformat(),
                "exit_code": 143 if heeds else 137,
            }
            self._write("acts.jsonl", line)
            self._acted(line)
        await self.wait(kernel_id, incarnation)

    async def list(self) -> Sequence[Running]:
        """All kernels whose end has not come."""
        now = utc_now()
        return [self._running(*here) for here, kernel in self._kernels.items() if kernel.ended(now) is None]

    async def wait(self, kernel_id: str, incarnation: int) -> Ended:
        """Sleeps until the recorded end, or until a stop moves it."""
        while True:
            now = utc_now()
            kernel = self._kernels.get((kernel_id, incarnation))
            if kernel is None:
                return Ended(None, now, "gone")
            if ended := kernel.ended(now):
                return ended
            coming = [end.at for end in (kernel.ends, kernel.stopped) if end is not None]
            seconds = (min(coming) - now).total_seconds() if coming else None
            kernel.stopping.clear()
            try:
                async with asyncio.timeout(seconds):
                    await kernel.stopping.wait()
            except TimeoutError:
                continue

    async def remove(self, kernel_id: str, incarnation: int) -> None:
        """Forgets it; the lines in the files stay."""
        kernel = self._kernels.get((kernel_id, incarnation))
        if kernel is None or kernel.ended(utc_now()) is None:
            return
        line = {"act": "remove", "kernel_id": kernel_id, "incarnation": incarnation}
        self._write("acts.jsonl", line)
        self._acted(line)

    async def capabilities(self) -> Sequence[str]:
        """What it was told to pretend."""
        return self._capabilities

    async def capacity(self) -> Mapping[str, str]:
        """What it was told to have."""
        return self._capacity

    async def output(self, kernel_id: str) -> bytes:
        """What the scripts have printed until now."""
        now = utc_now()
        text = list[str]()
        for kernel in self._printed.get(kernel_id, []):
            ended = kernel.ended(now)
            until = ((ended.at if ended else now) - kernel.started_at).total_seconds()
            text += [line for seconds, line in kernel.plan.prints if seconds <= until]
        return "".join(text).encode()[-self._log_bytes_max :]

    def runner(self, kernel_id: str) -> Path | None:  # noqa: ARG002
        """Nothing runs here."""
        return None

    async def address(self, kernel_id: str) -> str | None:  # noqa: ARG002
        """Nothing runs here."""
        return None

    async def tidy(self, before: datetime, keep: Collection[str]) -> Collection[str]:  # noqa: ARG002
        """What is remembered is all there is, and tests want to see it."""
        return ()

    async def close(self) -> None:
        """Nothing is held open."""

    def _running(self, kernel_id: str, incarnation: int) -> Running:
        kernel = self._kernels[kernel_id, incarnation]
        return Running(
            kernel_id, incarnation, kernel.session_id, _runtime_id(kernel_id, incarnation), kernel.started_at
        )

    def _began(self, line: Mapping[str, Any]) -> None:
        ends_at = line["ends_at"]
        kernel = _Kernel(
            session_id=line["session_id"],
            image=canonical(line["image"]),
            plan=plan(line["image"], line["command"]),
            started_at=datetime.fromisoformat(line["at"]),
            ends=ends_at and Ended(line["exit_code"], datetime.fromisoformat(ends_at), line["reason"]),
        )
        self._kernels[line["kernel_id"], line["incarnation"]] = kernel
        if kernel.plan.prints:
            self._printed.setdefault(line["kernel_id"], []).append(kernel)

    def _acted(self, line: Mapping[str, Any]) -> None:
        match line["act"]:
            case "stop":
                kernel = self._kernels[line["kernel_id"], line["incarnation"]]
                kernel.stopped = Ended(line["exit_code"], datetime.fromisoformat(line["at"]), "killed")
                kernel.stopping.set()
            case "remove":
                self._kernels.pop((line["kernel_id"], line["incarnation"]), None)

    def _write(self, name: str, line: Mapping[str, Any]) -> None:
        # Opened each time: thousands of these runtimes in one process would run out of file descriptors
        # otherwise.
        file = os.open(self._folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, json.dumps(line).encode() + b"\n")
        finally:
            os.close(file)


def _read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file. A torn last one is cut off: what it would have told did not happen."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    return [cast(dict[str, Any], json.loads(line)) for line in whole.splitlines()]


def _nth(count: int, every: int) -> bool:
    return every > 0 and count % every == 0


def _runtime_id(kernel_id: str, incarnation: int) -> str:
    return f"fake-{kernel_id}-{incarnation}"

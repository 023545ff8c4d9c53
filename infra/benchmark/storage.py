"""The storage service: bytes in and out against a copy within the machine and against nginx, many small operations, a
large directory, and what it takes in memory."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import httpx
import orjson

from domain.vfolder.mounts import FolderId, FolderRef, folder_path
from infra.benchmark.installation import Installation
from infra.benchmark.load import Load
from infra.benchmark.measures import Figures, Say
from infra.benchmark.processes import resident_bytes
from infra.benchmark.transfers import brought, copied, fetched, nginx
from infra.embedded.folder import ports
from infra.storage_passes import DOWNLOAD_SECONDS, DownloadPass, ManagePass, StoragePass, UploadPass, make_pass

_MIB: Final = 1024 * 1024
_PAIRS: Final = 3
_TRANSFERS: Final = 50
_SAMPLE_SECONDS: Final = 0.05
_CONNECTIONS: Final = 16
_OPERATIONS_MAX: Final = 20_000
_PAGE: Final = 10_000
_BODY: Final = "body.bin"
_SMALL: Final = "small.bin"

MEANINGS: Final[Mapping[str, tuple[str, str]]] = {
    "storage_upload_mib_per_second": ("", "one large file by TUS, in requests of 16 MiB, until it is on disk"),
    "storage_upload_to_copy_ratio": ("", "of the rate at which the file is copied beside it, until it is on disk"),
    "storage_download_mib_per_second": ("", "one large file"),
    "storage_download_to_nginx_ratio": ("≥ 0.5", "of the rate at which nginx serves the same file"),
    "storage_download_to_copy_ratio": ("", "of the rate at which the file is copied beside it"),
    "storage_operations_per_second": (
        "",
        "directories made, renamed and deleted, 16 connections, each told to the audit",
    ),
    "storage_list_seconds": ("", "a directory of `storage_list_files` files, page by page"),
    "storage_list_to_scandir_ratio": ("", "of that time to the one that reading the same from disk takes"),
    "storage_memory_mib": ("", "of the service before anything was asked of it"),
    "storage_memory_at_50_transfers_mib": ("", "the most while 25 files come and 25 go"),
    "storage_50_transfers_mib_per_second": ("", "all of them together"),
}
"""Goal and meaning of each figure, as the README has them."""


def rows(figures: Figures) -> list[str]:
    """For the README."""
    head = ["| figure | measured | goal | what it is |", "|---|---|---|---|"]
    told = ((name, goal, what) for name, (goal, what) in MEANINGS.items() if name in figures)
    return head + [f"| `{name}` | {_text(figures[name])} | {goal} | {what} |" for name, goal, what in told]


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


async def storage(here: Installation, size_mib: int, files: int, seconds: float, say: Say) -> Figures:
    """`size_mib`: of the one large file; `files`: how many there are in the large directory; `seconds`: how long small
    operations are asked for."""
    await here.start("api.storage", called="storage")
    await _ready(here)
    pid = here.running["storage"].pid
    figures: Figures = {"storage_memory_mib": resident_bytes(pid) / _MIB}
    bench = await _Bench.made(here)
    bench.fill(_BODY, size_mib)
    bench.fill(_SMALL, max(1, size_mib // 8))
    figures |= await _large_file(bench, here, size_mib, say)
    figures |= await _transfers(bench, pid, max(1, size_mib // 8), say)
    figures |= await _operations(bench, seconds, say)
    figures |= await _list(bench, files, say)
    return figures


async def _ready(here: Installation) -> None:
    url = f"{here.settings.storage[here.settings.storage_name]['internal']}/ready"
    async with asyncio.timeout(60), httpx.AsyncClient() as client:
        while True:
            try:
                if (await client.get(url)).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)


@dataclass(frozen=True)
class _Bench:
    """A folder, and how to get into it."""

    here: Installation
    folder: FolderRef
    root: Path

    @classmethod
    async def made(cls, here: Installation) -> "_Bench":
        async with here.client() as client:
            answer = await client.post("/folders", json={"name": "bench"})
            if answer.status_code != 201:
                raise RuntimeError(f"no folder is made: {answer.status_code} {answer.text}")
            user = (await client.get("/folders/bench")).json()
        identity = answer.json()["id"]
        text = "-".join((identity[:8], identity[8:12], identity[12:16], identity[16:20], identity[20:]))
        host = here.settings.vfolder_host
        volume = Path(here.settings.storage_volumes[host.partition(":")[2]])
        folder = FolderRef(scope=f"user:{user['user']}", folder_id=FolderId(text), host=host)
        return cls(here, folder, volume / folder_path(folder.folder_id))

    def fill(self, name: str, size_mib: int) -> None:
        """What no disk makes smaller than it is."""
        piece = os.urandom(_MIB)
        with (self.root / name).open("wb") as file:
            for _ in range(size_mib):
                file.write(piece)

    def token(self, what: StoragePass) -> str:
        return make_pass(self.here.settings, self.here.settings.storage_name, what, DOWNLOAD_SECONDS)

    def upload(self, path: str, size: int) -> str:
        """Where to bring it."""
        given = UploadPass(folder=self.folder, actor="bench", path=path, size=size)
        return f"{self._service['client']}/upload?token={self.token(given)}"

    def download(self, path: str) -> str:
        given = DownloadPass(folder=self.folder, actor="bench", path=path)
        return f"{self._service['client']}/download?token={self.token(given)}"

    @property
    def internal(self) -> str:
        return self._service["internal"]

    @property
    def authorization(self) -> dict[str, str]:
        given = ManagePass(folder=self.folder, actor="bench", writes=True)
        return {"Authorization": f"Bearer {self.token(given)}"}

    @property
    def _service(self) -> Mapping[str, str]:
        return self.here.settings.storage[self.here.settings.storage_name]


async def _timed(work: Callable[[], int]) -> float:
    """Bytes a second."""
    began = time.monotonic()
    size = await asyncio.to_thread(work)
    return size / (time.monotonic() - began)


async def _large_file(bench: _Bench, here: Installation, size_mib: int, say: Say) -> Figures:
    """All ways in turn, so that what else the machine does meets them alike."""
    file, beside = bench.root / _BODY, here.settings.data_dir / "copy.bin"
    port = ports(here.settings.data_dir, "nginx")["nginx"]
    up: list[tuple[float, float]] = []
    down: list[tuple[float, float, float]] = []
    async with nginx(here.settings.data_dir / "nginx", bench.root, port) as url:
        if url is None:
            say("there is no nginx here to measure against")
        for number in range(-1, _PAIRS):
            to = bench.upload(f"up-{number}.bin", size_mib * _MIB)
            pair = (
                await _timed(lambda to=to: brought(to, file)),  # type: ignore[misc]  # mypy sees no type of a default
                await _timed(lambda: copied(file, beside, durable=True)),
            )
            (bench.root / f"up-{number}.bin").unlink()
            three = (
                await _timed(lambda: fetched(bench.download(_BODY))),
                await _timed(lambda: fetched(f"{url}/{_BODY}")) if url else float("nan"),
                await _timed(lambda: copied(file, beside, durable=False)),
            )
            if number >= 0:  # the first round warms all up
                up.append(pair)
                down.append(three)
    for name, rates in (("up, copy", up), ("down, nginx, copy", down)):
        each = ["/".join(f"{rate / _MIB:,.0f}" for rate in measured) for measured in rates]
        say(f"{name}: {', '.join(each)} MiB/s")
    figures = {
        "storage_upload_mib_per_second": median(ours for ours, _ in up) / _MIB,
        "storage_upload_to_copy_ratio": median(ours / copy for ours, copy in up),
        "storage_download_mib_per_second": median(ours for ours, _, _ in down) / _MIB,
        "storage_download_to_copy_ratio": median(ours / copy for ours, _, copy in down),
    }
    return figures | (
        {"storage_download_to_nginx_ratio": median(ours / theirs for ours, theirs, _ in down)} if url else {}
    )


async def _transfers(bench: _Bench, pid: int, size_mib: int, say: Say) -> Figures:
    file, size = bench.root / _SMALL, size_mib * _MIB
    works: list[Callable[[], int]] = []
    for number in range(_TRANSFERS // 2):
        to, of = bench.upload(f"many-{number}.bin", size), bench.download(_SMALL)
        works += [lambda to=to: brought(to, file), lambda of=of: fetched(of)]  # type: ignore[misc]
    loop, most = asyncio.get_running_loop(), 0
    began = time.monotonic()
    with ThreadPoolExecutor(_TRANSFERS) as threads:
        under_way = asyncio.gather(*(loop.run_in_executor(threads, work) for work in works))
        while not under_way.done():
            most = max(most, resident_bytes(pid))
            await asyncio.wait([under_way], timeout=_SAMPLE_SECONDS)
        moved = sum(await under_way)
    took = time.monotonic() - began
    for number in range(_TRANSFERS // 2):
        (bench.root / f"many-{number}.bin").unlink()
    say(f"{_TRANSFERS} transfers of {size_mib} MiB within {took:.1f} s, at most {most / _MIB:.0f} MiB of memory")
    return {
        "storage_memory_at_50_transfers_mib": most / _MIB,
        "storage_50_transfers_mib_per_second": moved / _MIB / took,
    }


async def _operations(bench: _Bench, seconds: float, say: Say) -> Figures:
    """Directories are made, then renamed, then deleted, a third of the time each at most."""
    steps: list[tuple[str, Callable[[int], object]]] = [
        ("mkdir", lambda number: {"path": f"d{number}"}),
        ("rename", lambda number: {"path": f"d{number}", "new_name": f"e{number}"}),
        ("delete", lambda number: {"files": [f"e{number}"], "recursive": True}),
    ]
    host, _, port = bench.internal.removeprefix("http://").partition(":")
    numbers, took, count = list(range(_OPERATIONS_MAX)), 0.0, 0
    async with Load(host, int(port), _CONNECTIONS) as load:
        for step, body in steps:
            requests = [_request(step, bench.authorization, body(number)) for number in numbers]
            answers = await load.as_fast_as_answered(requests, seconds / len(steps))
            done = answers.accepted()
            say(f"{step}: {answers.rate():,.0f}/s, {len(answers.all) - len(done)} refused")
            numbers = [numbers[answer.number] for answer in done]
            took += answers.seconds
            count += len(done)
    return {"storage_operations_per_second": count / took}


def _request(step: str, headers: Mapping[str, str], body: object) -> bytes:
    content = orjson.dumps(body)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /{step} HTTP/1.1\r\nHost: bench\r\n{lines}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def _list(bench: _Bench, files: int, say: Say) -> Figures:
    many = bench.root / "many"
    many.mkdir()
    for number in range(files):
        os.close(os.open(many / f"file-{number:06}.bin", os.O_WRONLY | os.O_CREAT))
    await asyncio.sleep(3)  # a directory that has just changed is read anew for each page
    ours, bare = [], []
    for _ in range(_PAIRS):
        began = time.monotonic()
        count = await _listed(bench)
        ours.append(time.monotonic() - began)
        if count != files:
            raise RuntimeError(f"{count} of {files} files are listed")
        began = time.monotonic()
        await asyncio.to_thread(_read, many)
        bare.append(time.monotonic() - began)
    say(f"{', '.join(f'{each:.2f}' for each in ours)} s, and to read it {', '.join(f'{each:.2f}' for each in bare)} s")
    return {
        "storage_list_files": float(files),
        "storage_list_seconds": median(ours),
        "storage_list_to_scandir_ratio": median(mine / theirs for mine, theirs in zip(ours, bare, strict=True)),
    }


async def _listed(bench: _Bench) -> int:
    count, after = 0, None
    async with httpx.AsyncClient(base_url=bench.internal, headers=bench.authorization, timeout=60) as client:
        while True:
            asked = {"path": "many", "limit": str(_PAGE)} | ({"after": after} if after else {})
            told = orjson.loads((await client.get("/files", params=asked)).raise_for_status().content)
            count += len(told["files"])
            if (after := told["next"]) is None:
                return count


def _read(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return len([entry.stat(follow_symlinks=False) for entry in entries])

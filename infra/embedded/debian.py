"""Programs that Debian packages, installed where they are missing. Needs Debian and root."""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console

from infra.embedded.folder import CannotStart

console = Console(stderr=True, highlight=False)
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_POLICY = Path("/usr/sbin/policy-rc.d")


def possible() -> bool:
    """Whether anything can be installed here."""
    return Path("/etc/debian_version").exists() and os.geteuid() == 0


async def install(packages: Mapping[str, str], log: Path) -> None:
    """What is missing of these: the package by the program it brings. Raises CannotStart."""
    missing = [package for program, package in packages.items() if shutil.which(program, path=PATH) is None]
    if not missing:
        return
    command = ("apt-get", "install", "-y", "-q", "--no-install-recommends", *missing)
    with step(f"Installing {', '.join(missing)}"), _no_services_started():
        try:
            await run(log, *command)
        except CannotStart:  # the package lists are missing or old
            await run(log, "apt-get", "update", "-q")
            await run(log, *command)


async def run(log: Path, *argv: str) -> str:
    """What the program printed; its complaints go to the log. Raises CannotStart with its last line if it failed."""
    program = shutil.which(argv[0], path=PATH)
    if program is None:
        raise CannotStart(f"{argv[0]} is not installed")
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            program,
            *argv[1:],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environ(),
        )
        try:
            printed, complaints = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        file.write(complaints)
    if process.returncode:
        said = (complaints.strip() or printed.strip()).decode(errors="replace")
        lines = said.splitlines() or ["no reason"]
        raise CannotStart(f"{argv[0]} failed: {lines[-1]}")
    return printed.decode(errors="replace")


def environ() -> dict[str, str]:
    """In which Debian's programs are run."""
    return {**os.environ, "PATH": PATH, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Says what takes long: a moving line with the time on a terminal, one line before and after
    elsewhere."""
    begun = time.monotonic()
    with console.status(text) if console.is_terminal else contextlib.nullcontext():
        yield
    console.print(f"{text}: {time.monotonic() - begun:.0f} s")


@contextlib.contextmanager
def _no_services_started() -> Iterator[None]:
    """Debian asks this file before a freshly installed package starts its service. The host may have its
    own."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()

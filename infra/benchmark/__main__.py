"""`infra/bench`: measurements one after the other, on servers and data of their own.

infra/bench            the log, the api, the shards and the projections
infra/bench agent      what a user does inside a session, and hosts: many of them, and full ones
infra/bench storage    files that come and go, and many small operations on them
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from infra.benchmark import measures
from infra.benchmark.containers import docker_session
from infra.benchmark.fleet import fleet
from infra.benchmark.full_host import full_host
from infra.benchmark.installation import ROOT, installation
from infra.benchmark.interactive import interactive
from infra.benchmark.measures import Figures
from infra.benchmark.storage import rows, storage
from infra.embedded.docker import PrivateDocker
from infra.embedded.folder import CannotStart
from infra.embedded.storage import own_storage
from infra.settings import Settings

console = Console(highlight=False, soft_wrap=True)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Part(StrEnum):
    """What is measured."""

    CORE = "core"
    AGENT = "agent"
    STORAGE = "storage"


@app.command()
def main(
    part: Annotated[Part, typer.Argument(help="What is measured.")] = Part.CORE,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures there.")] = None,
    seconds: Annotated[float, typer.Option(help="Length of each measurement under load.", min=2)] = 10.0,
    commands: Annotated[int, typer.Option(help="What shards, folds and rebuild work on.", min=1000)] = 20_000,
    docker: Annotated[bool, typer.Option(help="Also measure sessions on a private Docker Engine.")] = False,
    agents: Annotated[int, typer.Option(help="How many simulated agents there are.", min=1)] = 2000,
    containers: Annotated[int, typer.Option(help="How many containers one agent looks after.", min=1)] = 200,
    mib: Annotated[int, typer.Option(help="How large the file is that comes and goes.", min=16)] = 256,
    files: Annotated[
        int, typer.Option(help="How many files there are in a directory that is listed.", min=1)
    ] = 100_000,
) -> None:
    """Measure everything and print it as a table. Absolute times mean little on a shared machine: compare runs."""
    try:
        with tempfile.TemporaryDirectory(prefix="refold-bench-") as folder:
            match part:
                case Part.CORE:
                    measuring = _measure(Path(folder), seconds, commands, docker)
                case Part.AGENT:
                    Path(folder).chmod(0o711)  # native kernels walk through it to their home
                    measuring = _measure_agent(Path(folder), seconds, agents, containers if docker else 0)
                case Part.STORAGE:
                    measuring = _measure_storage(Path(folder), seconds, mib, files)
            figures = asyncio.run(measuring)
    except CannotStart as error:
        console.print(f"infra/bench: {error}", style="red", markup=False)
        raise typer.Exit(1) from None
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.1f}" if value >= 10 else f"{value:.2f}")
    console.print(table)
    if part is Part.STORAGE:
        for line in rows(figures):
            console.print(line, markup=False)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


class _Steps:
    """One measurement after the other, each told when it is done."""

    def __init__(self) -> None:
        self.figures: Figures = {}

    async def __call__(self, name: str, measured: Callable[[], Awaitable[Figures]]) -> None:
        console.print(f"[bold]{name}[/]")
        began = time.monotonic()
        found = await measured()
        self.figures.update(found)
        for key, value in found.items():
            console.print(f"  {key} = {value:,.2f}")
        console.print(f"  done in {time.monotonic() - began:.1f} s")


def say(text: str) -> None:
    """Something about the measurement that is under way."""
    console.print(f"  {text}", markup=False)


async def _measure(folder: Path, seconds: float, commands: int, docker: bool) -> Figures:
    step = _Steps()
    await step("machine", measures.machine)
    async with installation(folder) as here:
        await step("shards", lambda: measures.shard_commands(here, commands, say))
        await step("takeover", lambda: measures.takeover(here, say))
        await step("live fold", lambda: measures.live_fold(here, min(commands, 5000), say))
        await step("rebuild", lambda: measures.rebuild(here, say))
        await here.start("workers", "--part", "shards")
        await here.start("workers", "--part", "handlers", called="handlers")
        await here.start("agents")
        await here.start("api")
        await here.api_ready()
        await step("accept to start", lambda: measures.accept_to_start(here, 20, seconds, say))
        await step("visible", lambda: measures.visible(here, 500, seconds, say))
        if docker:
            engine = PrivateDocker(ROOT / ".refold")
            try:
                socket = await engine.start()
                image = await engine.base_image()
                await step("docker", lambda: docker_session(here, socket, image, say))
            finally:
                await engine.stop()
        await step("signed requests", lambda: measures.signed_requests(here, seconds, say))
        await step("accepts", lambda: measures.accepts(here, seconds, say))
        for crash in here.crashes:
            say(crash)
    return step.figures


async def _measure_agent(folder: Path, seconds: float, agents: int, containers: int) -> Figures:
    """`containers`: none are started where it is 0."""
    step = _Steps()
    await step("machine", measures.machine)
    async with installation(folder) as here:
        await here.start("workers", "--part", "shards")
        await here.start("workers", "--part", "handlers", called="handlers")
        await here.start("api")
        await here.api_ready()
        await step("inside a session", lambda: interactive(here, seconds, say))
        await step("fleet", lambda: fleet(here, agents, seconds, say))
        if containers:
            engine = PrivateDocker(ROOT / ".refold")
            try:
                socket = await engine.start()
                image = await engine.base_image()
                await step("docker", lambda: docker_session(here, socket, image, say))
                await step("full host", lambda: full_host(here, socket, image, containers, seconds, say))
            finally:
                await engine.stop()
        for crash in here.crashes:
            say(crash)
    return step.figures


async def _measure_storage(folder: Path, seconds: float, mib: int, files: int) -> Figures:
    step = _Steps()
    await step("machine", measures.machine)
    async with installation(folder, **own_storage(folder, Settings())) as here:
        await here.start("workers", "--part", "shards")
        await here.start("workers", "--part", "handlers", called="handlers")
        await here.start("api")
        await here.api_ready()
        await step("storage", lambda: storage(here, mib, files, seconds, say))
        for crash in here.crashes:
            say(crash)
    return step.figures


if __name__ == "__main__":
    app()

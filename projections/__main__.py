"""`python -m projections`: set up, rebuild, verify and look at the projections."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as Grid

from infra.decoding import Unreadable
from infra.kafka import KafkaLog
from infra.log import Log, LogError
from infra.postgres import DatabaseError, Pool, connection, open_pool
from infra.settings import Settings, settings
from infra.telemetry import configure_logging
from projections.catalogue import PROJECTIONS
from projections.rebuild import rebuild as rebuild_one
from projections.rebuild import set_up as set_up_all
from projections.rebuild import verify as verify_one
from projections.shadow import Progress as Told
from projections.store import read_checkpoints
from projections.table import Projection

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="The tables that answer queries, folded from the log. Settings: REFOLD_* (see README).",
)

Names = Annotated[list[str] | None, typer.Argument(help=f"Any of: {', '.join(PROJECTIONS)}.", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="Every projection there is.")]

Work = Callable[[Settings, Log, Pool], Awaitable[int]]


@app.command("set-up")
def set_up() -> None:
    """Create what is missing, and build anew what has changed since it was built."""

    async def work(config: Settings, log: Log, pool: Pool) -> int:
        outdated = await set_up_all(config, log, pool)
        _console.print("made: " + ", ".join(outdated) if outdated else "everything is there")
        return 0

    _run(work)


@app.command()
def rebuild(names: Names = None, everything: All = False) -> None:
    """Build projections anew from the log beside the live tables, then swap. Reads are served, workers may run on."""
    chosen = _chosen(names, everything)

    async def work(config: Settings, log: Log, pool: Pool) -> int:
        for projection in chosen:
            with _bar(projection.name) as progress:
                done = await rebuild_one(config, log, pool, projection, progress)
            _console.print(
                f"{projection.name}: {done.events} events in {done.seconds:.1f} s"
                f" ({done.events / max(done.seconds, 0.001):.0f}/s)"
            )
        return 0

    _run(work)


@app.command()
def verify(names: Names = None, everything: All = False) -> None:
    """Fold the log afresh and compare it with the live tables. Exit code 1 if any differs."""
    chosen = _chosen(names, everything)

    async def work(config: Settings, log: Log, pool: Pool) -> int:
        identical = True
        for projection in chosen:
            with _bar(projection.name) as progress:
                verdict = await verify_one(config, log, pool, projection, progress)
            for table, hashed in verdict.live.items():
                same = hashed == verdict.fresh[table]
                _console.print(f"{table}: {hashed} {'identical' if same else f'DIFFERS from {verdict.fresh[table]}'}")
            if not verdict.command_offsets_agree:
                _console.print(f"{projection.name}: the commands it says it reflects DIFFER")
            identical = identical and verdict.identical
        return 0 if identical else 1

    _run(work)


@app.command()
def status() -> None:
    """How far each projection is, by partition."""

    async def work(_config: Settings, log: Log, pool: Pool) -> int:
        async with connection(pool) as db:
            checkpoints = await read_checkpoints(db, PROJECTIONS)
        ends = await log.ends(sorted({partition for _, partition in checkpoints}, key=str))
        grid = Grid("projection", "partition", "folded up to", "end of the log", "passed over")
        for (projection, partition), checkpoint in checkpoints.items():
            skipped = ", ".join(sorted(checkpoint.skipped))
            grid.add_row(projection, str(partition), str(checkpoint.next_offset), str(ends[partition]), skipped)
        _console.print(grid)
        return 0

    _run(work)


_console = Console()


def _chosen(names: Sequence[str] | None, everything: bool) -> list[Projection]:
    if everything:
        return list(PROJECTIONS.values())
    unknown = [name for name in names or () if name not in PROJECTIONS]
    if unknown or not names:
        what = f"there is no projection {unknown[0]}" if unknown else "name a projection, or give --all"
        raise typer.BadParameter(f"{what}; there are {', '.join(PROJECTIONS)}")
    return [PROJECTIONS[name] for name in names]


def _run(work: Work) -> None:
    configure_logging(settings(), "projections")

    async def connected() -> int:
        config = settings()
        async with KafkaLog(config) as log, open_pool(config) as pool:
            return await work(config, log, pool)

    try:
        code = uvloop.run(connected())
    except (LogError, DatabaseError, Unreadable) as error:
        _console.print(f"[red]{type(error).__name__}[/]: {error}", highlight=False)
        code = 1
    except asyncio.CancelledError:
        code = 130
    sys.exit(code)


@contextmanager
def _bar(name: str) -> Iterator[Told]:
    """A progress bar in offsets; nothing where nobody looks."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console, transient=True, disable=not _console.is_terminal) as progress:
        task = progress.add_task(name)
        yield lambda done, total: progress.update(task, completed=done, total=total)


if __name__ == "__main__":
    app()

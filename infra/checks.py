"""`infra/test`: everything a change must pass, in one command, with the servers the tests need started for them.

Tests find the servers in REFOLD_TEST_KAFKA, REFOLD_TEST_DATABASE and REFOLD_TEST_DOCKER, and skip with a reason where
one is missing. Every step runs even when one before it failed: one run tells everything that is wrong.
"""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from infra.embedded import debian, stack
from infra.embedded.docker import PrivateDocker
from infra.embedded.folder import CannotStart, make_folder
from infra.supervise import Supervisor

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / ".refold"  # what is slow to fetch or build, and the same for every run
BIN = Path(sys.executable).parent
PYTHON = (sys.executable, "-m")

STATIC_CHECKS = {
    "ruff format": (*PYTHON, "ruff", "format", "--check", "."),
    "ruff check": (*PYTHON, "ruff", "check", "."),
    "mypy": (*PYTHON, "mypy"),
    "lint-imports": (str(BIN / "lint-imports"),),
}
SIDE_BY_SIDE = ("-n", str(min(4, (os.cpu_count() or 1) + 1)), "--dist", "loadfile", "--no-loadscope-reorder")
"""Each file in one process, because its tests share what they have started; the long ones come early. One process more
than there are processors: many tests wait for others."""
BROWSER = {"chromium": "chromium"}
"""What Debian packages of it; tests that open pages skip where it is missing."""
NEEDS_NO_SERVER = "not cluster and not docker and not chaos"

app = typer.Typer(add_completion=False)
console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Result:
    """How one step ended."""

    name: str
    failed: bool
    seconds: float


async def step(name: str, argv: Sequence[str], environ: Mapping[str, str]) -> Result:
    """Runs one program to its end, its output going where ours goes."""
    console.rule(name, align="left")
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, env=environ)
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        raise
    return Result(name, code != 0, time.monotonic() - started)


@contextlib.asynccontextmanager
async def servers(chosen: stack.Stack, folder: Path) -> AsyncIterator[dict[str, str]]:
    """Kafka and Postgres for the tests; gives the variables that lead there."""
    async with Supervisor(folder / "logs", report=lambda crash: console.print(str(crash), markup=False)) as supervisor:
        await chosen.start(supervisor)
        yield {name.replace("REFOLD_", "REFOLD_TEST_"): value for name, value in chosen.addresses().items()}


@contextlib.asynccontextmanager
async def docker() -> AsyncIterator[dict[str, str]]:
    """A Docker Engine of our own for the tests, with the image they start."""
    engine = PrivateDocker(KEPT)
    try:
        socket = await engine.start()
        yield {"REFOLD_TEST_DOCKER": str(socket), "REFOLD_TEST_DOCKER_IMAGE": await engine.base_image()}
    finally:
        await engine.stop()


async def check(
    chosen: stack.Stack | None, folder: Path, with_docker: bool, pytest_args: Sequence[str]
) -> list[Result]:
    """Every step, in the order of how soon each can fail."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    environ = dict(os.environ)
    results = [await step(name, argv, environ) for name, argv in STATIC_CHECKS.items()]
    async with contextlib.AsyncExitStack() as running:
        started = time.monotonic()
        try:
            if with_docker:
                console.rule("Docker Engine and a browser", align="left")
                environ |= await running.enter_async_context(docker())
                await debian.install(BROWSER, KEPT / "install.log")
            if chosen is not None:
                console.rule("Kafka and Postgres", align="left")
                environ |= await running.enter_async_context(servers(chosen, folder))
        except CannotStart as error:
            console.print(str(error), style="red", markup=False)
            results.append(Result("servers for the tests", True, time.monotonic() - started))
        else:
            results.append(Result("servers for the tests", False, time.monotonic() - started))
        # Also without all the servers: the tests that need none have something to say.
        results.append(await step("pytest", (*PYTHON, "pytest", *SIDE_BY_SIDE, *pytest_args), environ))
    return results


@app.command()
def main(
    pytest_args: Annotated[list[str] | None, typer.Argument(help="Arguments for pytest (after --).")] = None,
    docker: Annotated[bool, typer.Option(help="Also a private Docker Engine and a browser (Debian, root).")] = False,
    fast: Annotated[bool, typer.Option(help="Only what needs no server.")] = False,
) -> None:
    """Runs every check: format, lint, types, imports, tests. Starts the servers that the tests need."""
    args = [*(["-m", NEEDS_NO_SERVER] if fast else []), *(pytest_args or [])]
    try:
        with tempfile.TemporaryDirectory(prefix="refold-test-") as folder:
            chosen = None if fast else _choose(Path(folder))
            results = asyncio.run(check(chosen, Path(folder), docker and not fast, args))
    except CannotStart as error:
        console.print(f"infra/test: {error}", style="red", markup=False)
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(130) from None
    console.rule()
    for result in results:
        colour, mark = ("red", "FAILED") if result.failed else ("green", "ok")
        console.print(f"[{colour}]{mark:7}[/] {result.name:24} {result.seconds:7.1f} s")
    raise typer.Exit(1 if any(result.failed for result in results) else 0)


def _choose(folder: Path) -> stack.Stack:
    given = {name.replace("_TEST", ""): value for name, value in os.environ.items() if name.startswith("REFOLD_TEST_")}
    return stack.choose(make_folder(folder), given, jars_dir=KEPT / "jars")


if __name__ == "__main__":
    app(prog_name="infra/test")

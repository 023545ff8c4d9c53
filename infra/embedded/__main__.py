"""`python -m infra.embedded`: only the two servers, in the foreground, for development."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from infra.embedded import stack
from infra.embedded.folder import CannotStart, held, make_folder
from infra.supervise import Supervisor

console = Console(stderr=True, highlight=False, soft_wrap=True)


async def serve(servers: stack.Stack, logs: Path) -> None:
    """Runs both until SIGINT or SIGTERM. Prints how to reach them on stdout once they answer."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with Supervisor(logs, report=lambda crash: console.print(str(crash))) as supervisor:
        await servers.start(supervisor)
        for name, value in servers.addresses().items():
            print(f"{name}={value}", flush=True)
        await stopped.wait()


def main(
    data_dir: Annotated[Path, typer.Option(help="Folder of their data.")] = Path(".refold"),
    kafka_port: Annotated[int, typer.Option(help="0: the one used last time, or a free one.")] = 0,
    postgres_port: Annotated[int, typer.Option(help="0: the one used last time, or a free one.")] = 0,
) -> None:
    """Runs a real Kafka and a real Postgres until Ctrl-C, and prints how to reach them."""
    try:
        data_dir = make_folder(data_dir)
        with held(data_dir):
            chosen = stack.choose(data_dir, {}, kafka_port=kafka_port, postgres_port=postgres_port)
            asyncio.run(serve(chosen, data_dir / "logs"))
    except CannotStart as error:
        console.print(f"infra.embedded: {error}", style="red")
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)

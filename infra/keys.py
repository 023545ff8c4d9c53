"""`python -m infra.keys`: new master keys, keys of agents and storage services, and subjects to be forgotten."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from domain.messages import AgentId
from infra.keyring import Keyring, PostgresKeys
from infra.postgres import DatabaseError, migrate, open_pool
from infra.secrets import SecretError, agent_key, new_key
from infra.settings import settings
from infra.storage_passes import storage_key

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help=__doc__)

_Work = Callable[[Keyring, PostgresKeys], Awaitable[int]]


@app.command()
def new() -> None:
    """Print a random master key."""
    typer.echo(new_key())


@app.command()
def agent(agent_id: Annotated[str, typer.Argument(metavar="ID", help="As its REFOLD_AGENT_ID.")]) -> None:
    """Print the REFOLD_AGENT_KEY of one agent. With it instead of REFOLD_INTERNAL_KEY, it can only be this agent."""
    try:
        typer.echo(agent_key(settings(), AgentId(agent_id)))
    except SecretError as error:
        sys.exit(f"refold: {error}")


@app.command()
def storage(name: Annotated[str, typer.Argument(metavar="NAME", help="As its REFOLD_STORAGE_NAME.")]) -> None:
    """Print the REFOLD_STORAGE_KEY of one storage service. With it, it needs no REFOLD_INTERNAL_KEY."""
    try:
        typer.echo(storage_key(settings(), name))
    except SecretError as error:
        sys.exit(f"refold: {error}")


@app.command()
def rotate() -> None:
    """Wrap every subject's key with REFOLD_MASTER_KEY anew.

    First start all processes with the new key in REFOLD_MASTER_KEY and the present one in REFOLD_MASTER_KEY_OLD; run
    this with the same; then REFOLD_MASTER_KEY_OLD may go. What is in the log stays as it is.
    """

    async def work(keyring: Keyring, keys: PostgresKeys) -> int:
        return await keys.rewrap(keyring)

    typer.echo(f"{_run(work)} keys wrapped anew")


@app.command()
def forget(
    subject: Annotated[str, typer.Argument(help="A user's id: what was sealed for him can never be read again.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete the keys of a subject. Nothing brings them back."""
    if not yes:
        typer.confirm(f"Everything that was sealed for {subject} will be unreadable for ever. Go on?", abort=True)

    async def work(keyring: Keyring, _: PostgresKeys) -> int:
        return await keyring.forget(subject)

    count = _run(work)
    typer.echo(f"{count} keys deleted")
    if not count:
        raise typer.Exit(1)


def _run(work: _Work) -> int:
    async def connected() -> int:
        config = settings()
        async with open_pool(config, size_max=1) as pool:
            async with pool.connection() as db:
                await migrate(db)
            keys = PostgresKeys(pool)
            return await work(Keyring(config, keys), keys)

    try:
        return asyncio.run(connected())
    except (DatabaseError, SecretError) as error:
        sys.exit(f"refold: {error}")


if __name__ == "__main__":
    app()

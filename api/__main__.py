"""`python -m api`: the HTTP API, until it is told to stop."""

from typing import Annotated

import typer

from api.app import make_app
from api.http.server import serve
from infra.secrets import BadKey
from infra.settings import settings
from infra.telemetry import configure_logging

main_app = typer.Typer(add_completion=False)


@main_app.command()
def main(
    host: Annotated[str | None, typer.Option(help="Address to listen on; REFOLD_API_HOST if left out.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; REFOLD_API_PORT if left out, 0 takes a free one.")] = None,
) -> None:
    """Serve the HTTP API. Any number of these may run beside each other. Settings: REFOLD_* (see README)."""
    configure_logging(settings(), "api")
    try:
        serve(make_app(settings()), host or settings().api_host, settings().api_port if port is None else port)
    except BadKey as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    main_app()

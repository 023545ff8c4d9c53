"""`python -m api.proxy`: the app proxy, until it is told to stop."""

from typing import Annotated

import typer

from api.http.server import serve
from api.proxy.app import make_proxy
from infra.secrets import BadKey
from infra.settings import settings
from infra.telemetry import configure_logging

main_app = typer.Typer(add_completion=False)


@main_app.command()
def main(
    host: Annotated[str | None, typer.Option(help="Address to listen on; REFOLD_PROXY_HOST if left out.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; REFOLD_PROXY_PORT if left out, 0 takes a free one.")] = None,
) -> None:
    """Lead browsers to what listens in sessions. Settings: REFOLD_PROXY_* (see README)."""
    configure_logging(settings(), "proxy")
    try:
        serve(
            make_proxy(settings()),
            host or settings().proxy_host,
            settings().proxy_port if port is None else port,
        )
    except (BadKey, ValueError) as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    main_app()

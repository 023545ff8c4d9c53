"""The one line that `infra/up` keeps on the terminal: what is up, what was restarted, how many sessions there are."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import httpx
from rich.console import Console
from rich.live import Live
from rich.text import Text

from infra.supervise import Supervisor

REFRESH_SECONDS = 2.0


async def show(console: Console, supervisor: Supervisor, names: Sequence[str], endpoint: str) -> None:
    """Keeps the line until cancelled. Where there is no terminal nothing is drawn."""
    started = time.monotonic()
    async with httpx.AsyncClient(base_url=endpoint, timeout=REFRESH_SECONDS) as api:
        with Live(console=console, transient=True, auto_refresh=False) as live:
            while True:
                live.update(line(supervisor, names, await _sessions(api), time.monotonic() - started), refresh=True)
                await asyncio.sleep(REFRESH_SECONDS)


def line(supervisor: Supervisor, names: Sequence[str], sessions: Mapping[str, int] | None, seconds: float) -> Text:
    """The line itself."""
    text = Text(no_wrap=True, overflow="ellipsis")
    for name in names:
        text.append("● ", "green" if supervisor.is_up(name) else "red")
        text.append(name)
        if restarts := supervisor.restarts(name):
            text.append(f" ({restarts} restart{'s' if restarts > 1 else ''})", "yellow")
        text.append("  ")
    if sessions is not None:
        text.append(
            "│ " + (", ".join(f"{n} {status.lower()}" for status, n in sessions.items()) or "no sessions") + "  "
        )
    hours, minutes = divmod(int(seconds) // 60, 60)
    text.append(f"│ up {hours}:{minutes:02}  │ Ctrl-C stops", "dim")
    return text


async def _sessions(api: httpx.AsyncClient) -> Mapping[str, int] | None:
    """Sessions by status, as `GET /refold/status` counts them; None where it cannot say."""
    try:
        counts = (await api.get("/refold/status")).raise_for_status().json()["sessions"]
        return {str(status): int(count) for status, count in counts.items()}
    except (httpx.HTTPError, ValueError, KeyError, AttributeError, TypeError):
        return None

"""uvicorn, as every process of ours that speaks HTTP runs it."""

import gc
import logging
import signal
import socket
from types import FrameType
from typing import Final

import structlog
import uvicorn
from fastapi import FastAPI

from api.http.deps import Services
from api.http.sockets import MESSAGE_BYTES_MAX, PING_SECONDS, SILENCE_SECONDS

_log = structlog.get_logger("api")

_STOP_SECONDS: Final = 15  # longest time a request under way gets; event streams are told to end at once


def serve(app: FastAPI, host: str, port: int) -> None:
    """Until SIGINT or SIGTERM."""
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    server = _Server(
        app,
        uvicorn.Config(
            app,
            host,
            port,
            loop="uvloop",
            http="httptools",
            ws="websockets-sansio",
            ws_max_size=MESSAGE_BYTES_MAX,
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=SILENCE_SECONDS,
            ws_per_message_deflate=False,  # what sessions print and get told is not worth two windows of memory each
            access_log=False,
            server_header=False,
            proxy_headers=False,
            date_header=True,
            log_config=None,
            timeout_graceful_shutdown=_STOP_SECONDS,
            timeout_keep_alive=75,  # longer than a load balancer keeps its end
        ),
    )
    server.run()


def _is_news(record: logging.LogRecord) -> bool:
    """uvicorn takes a WebSocket that we refuse with an answer for one that we have forgotten."""
    return "without completing handshake" not in str(record.msg)


class _Server(uvicorn.Server):
    """Says where it listens, and lets event streams end when it is told to stop: their clients come back elsewhere."""

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is there now stays; looking through it again and again is time that requests need.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        for listening in (each for server in self.servers for each in server.sockets):
            address, port = listening.getsockname()[:2]
            _log.info("listening", app=self._app.title, url=f"http://{address}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal stops it in order, the second at once. Exit code 0: to be stopped is no failure."""
        del frame
        _log.info("stopping", app=self._app.title, signal=signal.Signals(sig).name)
        services: Services | None = getattr(self._app.state, "services", None)
        if services is not None:
            services.stopping = True
            services.tail.live.wake_all()
        self.force_exit = self.should_exit
        self.should_exit = True

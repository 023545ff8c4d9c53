"""A request of a browser and what an app answers, carried over through one tunnel."""

import asyncio
from contextlib import suppress
from typing import Any

import h11

from api.http.problems import Problem
from api.proxy.browsing import HEAD_BYTES_MAX, Browser, Leaving, carry
from api.proxy.circuits import Circuit
from api.proxy.heads import from_app
from api.proxy.leading import Tunnel


class Way:
    """A tunnel to the app, with the HTTP of what is at its other end."""

    def __init__(self, circuit: Circuit, browser: Browser, tunnel: Tunnel) -> None:
        self.circuit = circuit
        self._browser = browser
        self._tunnel = tunnel
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)

    @property
    def is_over(self) -> bool:
        """Whether it carries no further request."""
        return self._http.our_state is not h11.IDLE or not self._tunnel.is_open

    async def exchange(self, request: h11.Request) -> bool:
        """The request and its answer. Whether the browser may send another. Raises `Leaving`, `Problem`."""
        try:
            await self._tunnel.write(self._http.send(request))
        except ConnectionResetError as error:
            raise _hung_up() from error
        answering, asking = asyncio.create_task(self._answer()), asyncio.create_task(self._ask())
        leaving = asyncio.create_task(self._browser.left())
        going: set[asyncio.Task[Any]] = {answering, asking, leaving}
        try:
            while not answering.done():
                done, going = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {answering}:
                    task.result()
                if leaving in done and not answering.done():
                    raise Leaving
            switched, asked = answering.result(), asking.done()
        finally:
            for task in (answering, asking, leaving):
                task.cancel()
            await asyncio.gather(answering, asking, leaving, return_exceptions=True)
        if switched:
            ahead = self._browser.http.trailing_data[0], self._http.trailing_data[0]
            await carry(self._browser, self._tunnel, ahead)
            return False
        if not asked or self._browser.http.their_state is not h11.DONE or self._browser.http.our_state is not h11.DONE:
            return False  # it was answered before it was all said
        with suppress(h11.ProtocolError):
            self._http.start_next_cycle()
        return True

    async def _ask(self) -> None:
        """What follows the head of a request. Raises `Leaving`, `h11.ProtocolError`.

        An app that hangs up meanwhile has mostly said why: whoever waits for its answer finds out.
        """
        with suppress(ConnectionResetError):
            while True:
                event = await self._browser.event()
                if not isinstance(event, h11.Data | h11.EndOfMessage):
                    return
                if data := self._http.send(_as_sent(event)):
                    await self._tunnel.write(data)
                if isinstance(event, h11.EndOfMessage):
                    return

    async def _answer(self) -> bool:
        """Whether another protocol follows. Raises `Leaving`, `Problem`."""
        while True:
            event = await self._event()
            match event:
                case h11.InformationalResponse(status_code=101):
                    await self._browser.send(
                        h11.InformationalResponse(status_code=101, headers=from_app([*event.headers], switches=True))
                    )
                    return True
                case h11.InformationalResponse(status_code=100):
                    await self._browser.send(h11.InformationalResponse(status_code=100, headers=[]))
                case h11.InformationalResponse():
                    pass
                case h11.Response():
                    headers = from_app([*event.headers])
                    await self._browser.send(
                        h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)
                    )
                case h11.Data():
                    await self._browser.send(h11.Data(data=event.data))
                case h11.EndOfMessage():
                    await self._browser.send(_as_sent(event))
                    return False
                case _:
                    raise _hung_up()

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._tunnel.read())
        except h11.RemoteProtocolError as error:
            if self._browser.http.our_state is not h11.SEND_RESPONSE:
                raise Leaving from error  # the answer has begun: all that is left is to break it off
            raise _hung_up() from error
        return event


def _as_sent(event: h11.Data | h11.EndOfMessage) -> h11.Data | h11.EndOfMessage:
    """Without how it was cut into pieces: that is each side's own affair."""
    return h11.Data(data=event.data) if isinstance(event, h11.Data) else h11.EndOfMessage(headers=[*event.headers])


def _hung_up() -> Problem:
    return Problem(
        502, "app-silent", "The app does not answer", "the app hung up, or does not speak HTTP/1.1", retryable=True
    )

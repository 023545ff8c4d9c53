"""The short cut by which messages are handed on behaves like the waiting it replaces."""

import asyncio
from contextlib import suppress

import pytest

from workers.faust_transport import _go_on


async def test_a_coroutine_begun_by_hand_goes_on_where_it_waited() -> None:
    gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def waits_twice() -> int:
        first = await gate
        await asyncio.sleep(0)
        return first + 1

    begun = waits_twice()
    rest = asyncio.create_task(_go_on(begun, begun.send(None)))
    await asyncio.sleep(0)
    gate.set_result(41)
    assert await rest == 42


async def test_cancelling_the_rest_cancels_the_coroutine_where_it_waits() -> None:
    cancelled = asyncio.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    begun = waits()
    rest = asyncio.create_task(_go_on(begun, begun.send(None)))
    await asyncio.sleep(0)
    rest.cancel()
    with suppress(asyncio.CancelledError):
        await rest
    assert cancelled.is_set()


async def test_an_error_after_the_wait_is_raised() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("after the wait")

    begun = fails()
    with pytest.raises(LookupError):
        await _go_on(begun, begun.send(None))

"""Connections to runners that stay open for a moment, as `POST /session/{id}` uses them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from api.kernels import runner as runners
from api.kernels import warm
from tests.api.kernels import Kernels


class Counted:
    """Runs code, and counts how often a connection to a runner is opened for it."""

    def __init__(self, kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kernels = kernels
        self.opened = 0
        find = kernels.runners.runner

        def counting(kernel_id: str) -> Path | None:
            self.opened += 1
            return find(kernel_id)

        monkeypatch.setattr(kernels.runners, "runner", counting)

    async def run(self, code: str, session: str = "mysess", expected: int = 200) -> Any:
        async with self.kernels.world.client() as ada:
            answer = await ada.post(f"/session/{session}", json={"mode": "query", "code": code})
        assert answer.status_code == expected, answer.text
        return answer.json()


@pytest.fixture
async def counted(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> Counted:
    await kernels.session()
    return Counted(kernels, monkeypatch)


async def test_whoever_asks_again_soon_asks_over_the_same_connection(counted: Counted) -> None:
    for number in range(3):
        told = await counted.run(f"print({number})")
        assert told["result"]["console"] == [["stdout", f"{number}\n"]]
    assert counted.opened == 1


async def test_those_who_ask_at_once_share_one_connection(counted: Counted) -> None:
    told = await asyncio.gather(*(counted.run(f"print({number})") for number in range(5)))
    assert [each["result"]["console"] for each in told] == [[["stdout", f"{number}\n"]] for number in range(5)]
    assert counted.opened == 1


async def test_a_connection_that_broke_is_not_used_again(counted: Counted) -> None:
    await counted.run("x = 1")
    [connection] = counted.kernels.world.services.warm_runners._connections.values()
    await counted.kernels.close_door()
    await counted.kernels.open_door()
    async with asyncio.timeout(10):
        while not connection.runner.is_over:
            await asyncio.sleep(0.01)
    assert (await counted.run("print(x)"))["result"]["console"] == [["stdout", "1\n"]]
    assert counted.opened == 2


async def test_a_connection_on_which_nothing_is_answered_is_not_used_again(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    await counted.run("1")
    with monkeypatch.context() as impatient:
        impatient.setattr(runners, "_ANSWER_SECONDS", -10.0)
        await counted.run("2", expected=504)
    await counted.run("3")
    assert counted.opened == 2


async def test_a_connection_that_nobody_uses_is_closed_after_a_moment(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "_IDLE_SECONDS", 0.05)
    for _ in range(2):
        await counted.run("1")
        await asyncio.sleep(0.2)
    assert counted.opened == 2


async def test_of_the_connections_that_nobody_uses_the_latest_are_kept(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "_IDLE_MAX", 1)
    await counted.kernels.session("other")
    for session in ("mysess", "other", "other", "mysess"):
        await counted.run("1", session)
    assert counted.opened == 3

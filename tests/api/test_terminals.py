"""Terminals by WebSocket: `/stream/session/{id}/pty`."""

import asyncio
import base64
import re
from typing import Any

import pytest

from tests.api.kernels import Denied, Kernels, Line, line


def stream(session: str = "mysess") -> str:
    return f"/stream/session/{session}/pty"


class Screen:
    """A terminal as one of its viewers sees it."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.text = ""
        self.errors: list[str] = []

    async def type(self, text: str) -> None:
        await self.line.say({"type": "stdin", "chars": base64.b64encode(text.encode()).decode()})

    async def hear(self) -> None:
        frame = await self.line.hear()
        assert frame.keys() == {"type", "data"}
        if frame["type"] == "out":
            self.text += base64.b64decode(frame["data"], validate=True).decode()
        else:
            assert frame["type"] == "error"
            self.errors.append(frame["data"])

    async def until(self, pattern: str) -> re.Match[str]:
        """It is there to see; the cursor is behind it then."""
        async with asyncio.timeout(20):
            while (match := re.search(pattern, self.text)) is None:
                await self.hear()
        self.text = self.text[match.end() :]
        return match

    async def until_error(self) -> str:
        async with asyncio.timeout(20):
            while not self.errors:
                await self.hear()
        return self.errors.pop()


async def test_a_terminal_is_a_shell_with_job_control_in_the_size_it_is_given(kernels: Kernels) -> None:
    async with line(kernels.world, stream(await kernels.session())) as ada:
        screen = Screen(ada)
        await ada.say({"type": "resize", "rows": 25, "cols": 81})
        await screen.type("stty size; tty\n")
        await screen.until("25 81\r\n/dev/pts/")
        await screen.type("sh -c 'echo be''gan; exec sleep 100'\n")
        await screen.until("began")
        await screen.type("\x1a")
        await screen.until("Stopped")
        await screen.type("echo 'gr''ün'\n")
        await screen.until("grün\r\n")


async def test_a_ping_is_use_of_the_session_and_looking_on_is_not(kernels: Kernels) -> None:
    session = await kernels.session()
    async with line(kernels.world, stream(session)) as ada:
        screen = Screen(ada)
        await screen.type("echo be''gun; sleep 0.2; echo la''ter; sleep 0.2; echo mo''re\n")
        await screen.until("begun")
        before = kernels.uses.last(session)
        await screen.until("more")
        assert kernels.uses.last(session) == before, "it looks on all the time"
        await ada.say({"type": "ping"})
        async with asyncio.timeout(10):
            while kernels.uses.last(session) == before:
                await asyncio.sleep(0.01)


async def test_who_comes_back_sees_what_was_there_and_goes_on(kernels: Kernels) -> None:
    session = await kernels.session()
    async with line(kernels.world, stream(session)) as ada:
        await ada.say({"type": "resize", "rows": 25, "cols": 81})
        await Screen(ada).type("x=for''ty-two; echo th''ere\n")
        await Screen(ada).until("there")
    async with line(kernels.world, stream(session)) as ada:
        screen = Screen(ada)
        await screen.until("there")
        await screen.type("echo =$x; stty size\n")
        await screen.until("=forty-two\r\n25 81\r\n")


async def test_several_see_one_terminal(kernels: Kernels) -> None:
    session = await kernels.session()
    async with line(kernels.world, stream(session)) as ada, line(kernels.world, stream(session)) as other:
        await Screen(ada).type("echo bo''th\n")
        for viewer in (ada, other):
            await Screen(viewer).until("both")


async def test_a_shell_that_ends_is_followed_by_another_one_for_all_who_look(kernels: Kernels) -> None:
    session = await kernels.session()
    async with line(kernels.world, stream(session)) as ada, line(kernels.world, stream(session)) as other:
        first, second = Screen(ada), Screen(other)
        pids = []
        for _ in range(2):
            await first.type("echo pid=$$=\n")
            pids.append((await first.until(r"pid=(\d+)=")).group(1))
            assert (await second.until(r"pid=(\d+)=")).group(1) == pids[-1]
            await first.type("exit\n")
            await first.until(r"exit\r\n[^$#]*[$#] ")  # the next one asks
        assert pids[0] != pids[1]


async def test_a_restart_ends_what_runs(kernels: Kernels) -> None:
    async with line(kernels.world, stream(await kernels.session())) as ada:
        screen = Screen(ada)
        await screen.type("trap '' INT HUP; echo o''n; sleep 1000\n")
        await screen.until("on\r\n")
        await ada.say({"type": "restart"})
        await screen.type("echo o''ff\n")
        await screen.until("off\r\n")


async def test_what_is_no_frame_is_told_and_the_terminal_goes_on(kernels: Kernels) -> None:
    async with line(kernels.world, stream(await kernels.session())) as ada:
        screen = Screen(ada)
        wrong: dict[Any, str] = {
            "nonsense": "JSON",
            "[]": "",
            '{"type": "dance"}': "dance",
            '{"type": "stdin", "chars": "%%"}': "base64",
            '{"type": "stdin"}': "required",
            '{"type": "resize", "rows": 0, "cols": 80}': "greater than",
        }
        for frame, word in wrong.items():
            await ada.say(frame)
            assert word in await screen.until_error()
        await ada.socket.send_bytes(b"x")
        assert "text" in await screen.until_error()
        await ada.say({"type": "ping"})
        await screen.type("echo st''ill\n")
        await screen.until("still")


async def test_a_terminal_goes_on_when_its_agent_was_away(kernels: Kernels) -> None:
    async with line(kernels.world, stream(await kernels.session())) as ada:
        screen = Screen(ada)
        await screen.type("echo be''fore; sleep 0.3; echo mean''while; cat\n")
        await screen.until("before\r\n")
        await kernels.close_door()
        await asyncio.sleep(0.5)
        await kernels.open_door()
        await screen.until("meanwhile\r\n")
        await screen.type("after\n")
        await screen.until("after\r\nafter\r\n")
    assert screen.errors == []


async def test_much_output_waits_for_who_is_slow_and_comes_whole(kernels: Kernels) -> None:
    async with line(kernels.world, stream(await kernels.session())) as ada:
        screen = Screen(ada)
        await screen.type("PS1=; stty -onlcr; echo be''gin; head -c 3000000 /dev/zero | tr '\\0' x; echo e''nd\n")
        await screen.until("begin\n")
        await asyncio.sleep(1)
        await screen.until("x{3000000}end\n")
    assert screen.errors == []


async def test_who_is_slower_than_another_viewer_is_told_what_he_missed(kernels: Kernels) -> None:
    session = await kernels.session()
    async with line(kernels.world, stream(session)) as ada, line(kernels.world, stream(session)) as slow:
        quick, screen = Screen(ada), Screen(slow)
        await quick.type("echo o''n\n")
        await screen.until("on\r\n")
        await quick.type("head -c 40000000 /dev/zero | tr '\\0' x; echo e''nd\n")
        while "end\r\n" not in quick.text:
            quick.text = quick.text[-10:]
            await quick.hear()
        await screen.until("end\r\n")
    assert all("bytes were not shown" in error for error in screen.errors)
    assert screen.errors


async def test_a_service_that_is_no_terminal_is_refused(kernels: Kernels) -> None:
    session = await kernels.session()
    with pytest.raises(Denied) as denied:
        async with line(kernels.world, stream(session) + "?app=jupyter"):
            pass
    assert (denied.value.response.status_code, denied.value.response.json()["field"]) == (404, "app")

"""Reads from the directory in memory: as new as the position they carry, or an honest 504."""

import asyncio
from pathlib import Path

import pytest

from infra.log import Partition, Position
from tests.api.holding import Held
from tests.api.neighbours import move_in
from tests.api.world import World

SUNDAY = {"enabled": True, "message": "Sunday"}


async def test_a_read_waits_until_the_directory_is_as_new_as_the_write(world: World) -> None:
    slow = Held(world.log)
    async with world.client("admin") as admin, world.elsewhere(log=slow) as there:
        slow.reading.clear()
        written = await admin.post("/manager/announcement", json=SUNDAY)
        headers = {"X-Refold-Position": written.headers["X-Refold-Position"]}
        reading = asyncio.create_task(there.get("/manager/announcement", headers=headers))
        # Who brings no position gets what is known.
        assert (await there.get("/manager/announcement")).json() == {"enabled": False, "message": ""}
        assert not reading.done()
        slow.reading.set()
        assert (await reading).json() == SUNDAY


async def test_a_position_that_is_not_reached_in_time_is_a_504(tmp_path: Path) -> None:
    async with World(tmp_path, read_timeout=0.1).started() as world:
        place = next(place for place in world.services.tail.places if place.topic.endswith("directory.events"))
        far = str(Position({place: 10**6}))
        async with world.client() as ada:
            answer = await ada.get("/user-config/dotfiles", headers={"X-Refold-Position": far})
            assert answer.status_code == 504
            assert (answer.json()["type"].rpartition("/")[2], answer.json()["retryable"]) == (
                "position-not-reached",
                True,
            )


async def test_a_position_in_other_contexts_does_not_concern_the_directory(world: World) -> None:
    far = str(Position({Partition(world.settings.topic_prefix + "session.events", 0): 10**6}))
    async with world.client() as ada:
        answer = await ada.get("/manager/announcement", headers={"X-Refold-Position": far})
    assert answer.status_code == 200


async def test_a_position_among_the_commands_is_reached_with_their_outcome(world: World) -> None:
    await move_in(world)
    async with world.client("admin", Prefer="respond-async") as admin:
        for number in range(5):
            later = await admin.post("/manager/announcement", json={"enabled": True, "message": f"{number}"})
            assert later.status_code == 202
            headers = {"X-Refold-Position": later.headers["X-Refold-Position"]}
            assert (await admin.get("/manager/announcement", headers=headers)).json()["message"] == str(number)


@pytest.mark.parametrize("text", ["x", "!!", "e30x", "WzFd"])
async def test_what_is_no_position_is_refused(world: World, text: str) -> None:
    async with world.client() as ada:
        answer = await ada.get("/manager/announcement", headers={"X-Refold-Position": text})
    assert (answer.status_code, answer.json()["field"]) == (400, "X-Refold-Position")

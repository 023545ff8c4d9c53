"""What is remembered of dot-folders is never older than the log."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from api.folders.dotted import DotFolders
from domain.messages import UserId
from infra.log import Partition, Position, Record
from infra.postgres import Unavailable

ADA = UserId("ada")


class Shelf:
    """Known things, of which only dot-folders are: `rows` is what the projection has, `reached` how far it is."""

    def __init__(self) -> None:
        self.folders = self
        self.rows: list[Any] = []
        self.asked = 0
        self.waited: list[Position] = []
        self.reached = True

    async def automatic(self, user_id: str) -> Sequence[Any]:
        assert user_id == ADA
        self.asked += 1
        return list(self.rows)

    async def wait_for(self, position: Position, timeout: float) -> bool:
        assert timeout == 0
        self.waited.append(position)
        return self.reached


def happens(dotted: DotFolders, kind: str, offset: int, scope: str = "user:ada") -> None:
    headers = {"ce_type": kind.encode()}
    dotted.take(Record(Partition("vfolder.events", 3), offset, scope.encode(), tuple(headers.items()), b"{}"), headers)


async def of(dotted: DotFolders, shelf: Shelf) -> Sequence[Any]:
    known: Any = shelf
    return await dotted.of(ADA, known)


async def test_it_is_read_once_until_something_changes_or_a_minute_is_over() -> None:
    now = 0.0
    dotted, shelf = DotFolders(lambda: now), Shelf()
    assert [await of(dotted, shelf) for _ in range(3)] == [[], [], []]
    happens(dotted, "FolderMounted", 1)
    happens(dotted, "FolderCreated", 2, scope="user:eve")
    await of(dotted, shelf)
    assert shelf.asked == 1
    now = 61.0
    await of(dotted, shelf)
    assert shelf.asked == 2


async def test_after_a_change_it_is_read_again() -> None:
    dotted, shelf = DotFolders(lambda: 0.0), Shelf()
    await of(dotted, shelf)
    shelf.rows = ["dot"]
    happens(dotted, "FolderReady", 7)
    assert await of(dotted, shelf) == ["dot"]
    assert shelf.waited == [Position({Partition("vfolder.events", 3): 8})]


async def test_a_database_that_does_not_answer_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.folders.dotted._PATIENCE_SECONDS", 0.01)
    dotted, shelf = DotFolders(lambda: 0.0), Shelf()
    monkeypatch.setattr(shelf, "automatic", lambda _: asyncio.sleep(600))
    with pytest.raises(Unavailable):
        await of(dotted, shelf)


async def test_what_a_projection_behind_the_log_says_is_not_remembered() -> None:
    dotted, shelf = DotFolders(lambda: 0.0), Shelf()
    happens(dotted, "FolderReady", 7)
    shelf.reached = False
    assert await of(dotted, shelf) == []
    shelf.reached, shelf.rows = True, ["dot"]
    assert await of(dotted, shelf) == ["dot"]


async def test_what_changes_while_it_is_read_is_not_forgotten() -> None:
    dotted, shelf = DotFolders(lambda: 0.0), Shelf()
    read = shelf.automatic

    async def automatic(user_id: str) -> Sequence[Any]:
        rows = await read(user_id)
        happens(dotted, "FolderReady", 9)
        shelf.rows = ["dot"]
        return rows

    shelf.automatic = automatic  # type: ignore[method-assign]
    assert await of(dotted, shelf) == []
    shelf.automatic = read  # type: ignore[method-assign]
    assert await of(dotted, shelf) == ["dot"]

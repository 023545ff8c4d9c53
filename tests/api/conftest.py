"""An api with everything behind it, in memory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from api.hosts import routes as internal
from tests.api.admin import AdminWorld
from tests.api.kernels import Kernels
from tests.api.world import World
from tests.conftest import empty_database


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path).started() as started:
        yield started


@pytest.fixture
async def kernels(world: World, tmp_path: Path) -> AsyncIterator[Kernels]:
    """The same with an agent, and sessions in which something runs."""
    async with Kernels(world, tmp_path / "kernels").started() as started:
        yield started


@pytest.fixture
def any_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """May ask for whatever it likes, for tests about what it is told (to whom: `test_agent_rights.py`)."""

    async def allow(*_: object) -> None:
        pass

    for requirement in ("require_kernel", "require_part"):
        monkeypatch.setattr(internal, requirement, allow)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AdminWorld]:
    """One for the tests of a module, which see what those before have done."""
    async with empty_database(database) as url, AdminWorld(tmp_path_factory.mktemp("admin"), url).started() as started:
        yield started

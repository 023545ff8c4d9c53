from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.storage.service import OneVolume, Service, service


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Service]:
    async with service(OneVolume(tmp_path)) as opened:
        yield opened
